//! What is typed, the variables around it, and where the output goes.

use std::process::Stdio;

use crate::dev::Dev;
use crate::run::{ask, command, trow_with, until};

/// Every variable that is not a setting, as a template writes those that it has no value for.
const EMPTY: [(&str, &str); 7] = [
    ("TROW_CONFIG", ""),
    ("TROW_LOG", ""),
    ("TROW_LOG_FORMAT", ""),
    ("TROW_OTLP_ENDPOINT", ""),
    ("TROW_SERVER", ""),
    ("TROW_TOKEN_FILE", ""),
    ("TROW_CA_FILE", ""),
];
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn empty_variables_count_as_not_set() {
    trow_with(&EMPTY, &["serve", "--check"]).expect(0);
    trow_with(&EMPTY, &["cluster", "status", "--server", NOBODY]).expect(3);
    // The default server is one that can be asked; it is not, for want of the file.
    let refused = trow_with(&EMPTY, &["cluster", "status", "--token-file", "/nowhere"]).expect(2);
    assert!(refused.err.contains("--token-file /nowhere"), "{}", refused.err);
}

#[test]
fn a_collector_that_cannot_be_one_is_named_by_what_named_it() {
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4317");
    let dir = tempfile::tempdir().unwrap();
    let dev = ["dev", "--data-dir", dir.path().to_str().unwrap()];
    for line in [&["serve", "--check"][..], &dev] {
        let refused = trow_with(&[all], line).expect(2);
        let said = "OTEL_EXPORTER_OTLP_ENDPOINT: traces go without TLS, to an address such as ";
        assert!(refused.err.contains(said), "{line:?}: {}", refused.err);
        assert!(refused.err.contains("; set TROW_OTLP_ENDPOINT to another"), "{line:?}: {}", refused.err);
        let own = [all, ("TROW_OTLP_ENDPOINT", "127.0.0.1:4317")];
        let refused = trow_with(&own, line).expect(2);
        assert!(refused.err.contains("(TROW_OTLP_ENDPOINT): traces go"), "{line:?}: {}", refused.err);
    }
    trow_with(&[all], &["serve", "--check", "--otlp-endpoint", "http://127.0.0.1:1"]).expect(0);
    trow_with(&[all], &["serve", "--check", "--otlp-endpoint", ""]).expect(0);
    trow_with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], &["serve", "--check"]).expect(0);
}

/// A pipe whose reader has gone.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn output_that_nobody_reads_ends_a_command_without_a_word() {
    for line in ["completions bash", "--help", "serve --check"] {
        let ended = command().args(line.split(' ')).stdin(Stdio::null()).stdout(unread()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), said.as_ref()), (Some(0), ""), "{line}");
    }
    let typed = ["cluster", "status", "--server", NOBODY];
    let ended = command().args(typed).stdin(Stdio::null()).stderr(unread()).output().unwrap();
    assert_eq!(ended.status.code(), Some(3), "that the failure is not read does not make it another");
}

#[test]
fn a_node_whose_log_nobody_reads_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let any = "127.0.0.1:0";
    let mut node = command()
        .args(["--log", "trace", "serve", "--data-dir", data_dir.to_str().unwrap(), "--listen", any])
        .args(["--peer-listen", any, "--ops-listen", any])
        .stdin(Stdio::null())
        .stdout(unread())
        .stderr(unread())
        .spawn()
        .unwrap();
    // It logs long before it has made its cluster's directory, and goes on to make it.
    until("the node to make its cluster directory", || {
        assert!(node.try_wait().unwrap().is_none(), "it ended");
        data_dir.join("cluster/admin.token").exists().then_some(())
    });
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[test]
fn what_dev_is_told_of_logs_and_traces_goes_to_its_nodes_which_say_that_nobody_takes_traces() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there; flags win over variables.
    let collector = "http://127.0.0.1:1";
    let variables = [
        ("TROW_LOG", "error"),
        ("TROW_OTLP_ENDPOINT", "http://127.0.0.1:2"),
        ("TROW_CONFIG", "/nowhere"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let told = ["--log", "debug", "--log-format", "json", "--otlp-endpoint", collector];
    let dev = Dev::start_with(dir.path(), 1, &variables, &told);
    let command: Vec<&str> =
        dev.nodes[0]["serve_command"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    assert!(command.ends_with(&told), "{command:?}");
    assert!(command.iter().all(|word| !word.contains("TROW_")), "{command:?}");
    let log = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.path().join("dev/n1.log")).unwrap();
        // The last line may not be whole yet.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    assert!(log().iter().any(|line| line["level"] == "DEBUG"));

    ask(dev.field(0, "client"), "GET", "/v2/", None).unwrap();
    let said = || {
        let lines = log().into_iter().filter(|line| line["collector"] == collector);
        Some(lines.collect::<Vec<_>>()).filter(|lines| !lines.is_empty())
    };
    let said = until("a word on the collector", said);
    assert_eq!((said.len(), &said[0]["level"]), (1, &"WARN".into()), "{said:?}");
    assert!(said[0]["message"].as_str().unwrap().contains("mend --otlp-endpoint"), "{said:?}");
    dev.terminate();
}
