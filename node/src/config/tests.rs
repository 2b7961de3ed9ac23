//! Settings from flags, variables and the file; the sample and the reference hold all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::reader::{FlagValue, Reader};
use super::{Config, Sources};
use crate::upstream::HostSettings;

const SAMPLE: &str = include_str!("../../../docs/trow.toml");

fn load(
    toml: &str,
    env: &[(&str, &str)],
    flags: Vec<FlagValue>,
) -> Result<(Config, Vec<String>), Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trow.toml");
    std::fs::write(&file, toml).unwrap();
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let loaded = Config::load(Sources { flags, env, file: Some(file) });
    loaded.map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn flag(key: &'static str, flag: &'static str, values: &[&str]) -> FlagValue {
    FlagValue { key, flag, values: values.iter().map(|v| (*v).to_owned()).collect() }
}

#[test]
fn sample_states_the_defaults() {
    let (sample, idle) = load(SAMPLE, &[], vec![]).unwrap();
    assert_eq!(idle, Vec::<String>::new(), "defaults need no warning");
    let (mut defaults, idle) = load("", &[], vec![]).unwrap();
    assert_eq!(idle, Vec::<String>::new());
    // The sample shows one upstream, which is there because it is named.
    assert_eq!(sample.upstream.hosts.values().collect::<Vec<_>>(), [&HostSettings::default()]);
    defaults.upstream.hosts = sample.upstream.hosts.clone();
    assert_eq!(sample, defaults);
}

/// What marks a setting, or a whole section, of a capability that this version does not have.
const LATER: &str = "(not yet)";

/// Keys of the sample, with those that are commented out; each with whether it is marked as [`LATER`].
fn sample_keys() -> BTreeMap<String, bool> {
    let (mut section, mut all_later) = (String::new(), false);
    let mut keys = BTreeMap::new();
    for line in SAMPLE.lines() {
        let later = line.contains(LATER);
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            (section, all_later) = (format!("{name}."), later);
        } else if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.'))
        {
            keys.insert(format!("{section}{key}"), later || all_later);
        }
    }
    keys
}

#[test]
fn sample_and_reference_hold_every_setting_and_say_which_have_no_effect_yet() {
    let mut reader = Reader::new(vec![], BTreeMap::new(), String::new(), SAMPLE.parse().unwrap());
    Config::read(&mut reader);
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    let keys = sample_keys();
    for key in reader.asked() {
        let is_later = super::effect::is_later(&key);
        let below = format!("{key}.");
        let mut shown = keys.iter().filter(|(k, _)| **k == key || k.starts_with(&below)).peekable();
        assert!(shown.peek().is_some(), "docs/trow.toml does not have {key}");
        assert!(shown.all(|(_, later)| *later == is_later), "{LATER} of {key} in docs/trow.toml");
        let general = format!("| `{}` |", key.replace("\"docker.io\"", "<host>"));
        let row = reference.lines().find(|line| line.starts_with(&general));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md does not have {general}"));
        assert_eq!(row.contains(LATER), is_later, "{LATER} of {key} in docs/configuration.md");
    }
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let toml = "[cluster]\nname = \"file\"\nzone = \"file\"\npeer_listen = \"127.0.0.1:1\"";
    let env = [("TROW_CLUSTER_NAME", "variable"), ("TROW_CLUSTER_ZONE", "variable")];
    let (config, _) = load(toml, &env, vec![flag("cluster.name", "--name", &["flag"])]).unwrap();
    assert_eq!((config.cluster.name.as_str(), config.cluster.zone.as_str()), ("flag", "variable"));
    assert_eq!(config.cluster.peer_listen.port(), 1);
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let toml = "data_dir = 7\n[raft]\nheartbeat = \"soon\"\nhartbeat = \"1s\"\n[replication]\nfactor = 0\n";
    let env = [("TROW_UPLOADS_MAX_BYTES", "many"), ("TROW_REGISTRY_SPARCE", "true")];
    let problems = load(toml, &env, vec![flag("server.listen", "--listen", &["5000"])]).unwrap_err();
    let all = problems.join("\n");
    for part in [
        "data_dir",
        "raft.heartbeat",
        "raft.hartbeat",
        "replication.factor",
        "TROW_UPLOADS_MAX_BYTES",
        "TROW_REGISTRY_SPARCE",
        "--listen",
    ] {
        assert!(all.contains(part), "{part} is missing in:\n{all}");
    }
    assert_eq!(problems.len(), 7, "{all}");
}

#[test]
fn every_section_can_be_set_by_variables() {
    let env = [
        ("TROW_DATA_DIR", "/d"),
        ("TROW_CLUSTER_DIAL", "{ n2 = \"127.0.0.1:7002\" }"),
        ("TROW_RAFT_ELECTION", "1s..2s"),
        ("TROW_REGISTRY_SPARSE", "true"),
        ("TROW_REPLICATION_FACTOR", "5"),
        ("TROW_SERVER_HOSTNAMES", "a.example, b.example"),
    ];
    let (config, idle) = load("", &env, vec![]).unwrap();
    assert_eq!(config.cluster.dial["n2"], "127.0.0.1:7002");
    assert_eq!(config.raft.election, Duration::from_secs(1)..Duration::from_secs(2));
    assert!(config.registry.sparse);
    assert_eq!(config.factor, 5);
    assert_eq!(config.server.hostnames, ["a.example", "b.example"]);
    assert_eq!(idle, Vec::<String>::new());
}

#[test]
fn variables_of_kubernetes_services_are_not_settings() {
    let env = [
        ("TROW_SERVICE_HOST", "10.0.0.1"),
        ("TROW_WEBHOOK_SERVICE_PORT_HTTPS", "443"),
        ("TROW_WEBHOOK_PORT_443_TCP_ADDR", "10.0.0.1"),
        ("TROW_REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("TROW_SERVER", "http://127.0.0.1:5000"),
    ];
    load("", &env, vec![]).unwrap();
}

#[test]
fn settings_without_effect_are_named_when_they_differ_from_their_defaults() {
    let toml = "[gc]\ngrace = \"24h\"\ninterval = \"2h\"\n[cache]\nhigh = \"95%\"\n\
                [prefixes]\nhub = \"docker.io\"\n";
    let (_, idle) = load(toml, &[("TROW_SCRUB_RATE", "1MiB/s")], vec![]).unwrap();
    let expected = ["gc.interval", "scrub.rate"];
    assert_eq!(idle, expected);
}

#[test]
fn broken_rules_name_where_the_setting_was_given() {
    let env = [("TROW_REPLICATION_FACTOR", "0")];
    let listen = vec![flag("ops.listen", "--ops-listen", &["127.0.0.1:5000"])];
    let problems = load("[uploads]\nexpiry = \"0s\"", &env, listen).unwrap_err().join("\n");
    for part in
        ["replication.factor (TROW_REPLICATION_FACTOR)", "ops.listen (--ops-listen)", "uploads.expiry ("]
    {
        assert!(problems.contains(part), "{part} is missing in:\n{problems}");
    }
}

#[test]
fn the_marks_of_the_cache_are_shares_with_the_low_one_below() {
    let (config, _) = load("[cache]\nhigh = \"50%\"\nlow = \"0%\"\n", &[], vec![]).unwrap();
    assert_eq!((config.cache.high.0, config.cache.low.0), (50, 0));
    for (high, low, key) in [
        ("50%", "60%", "cache.low"),
        ("50%", "50%", "cache.low"),
        ("0%", "0%", "cache.low"),
        ("101%", "80%", "cache.high"),
        ("-1%", "80%", "cache.high"),
        ("90", "80%", "cache.high"),
        ("90%", "a lot", "cache.low"),
    ] {
        let toml = format!("[cache]\nhigh = \"{high}\"\nlow = \"{low}\"\n");
        let problems = load(&toml, &[], vec![]).unwrap_err().join("\n");
        assert!(problems.contains(key), "{high} {low}: {problems}");
    }
    // A low mark that is left as it is counts as well.
    assert!(load("[cache]\nhigh = \"70%\"\n", &[], vec![]).unwrap_err().join("\n").contains("cache.low"));
}

#[test]
fn listening_beyond_loopback_without_users_must_be_meant() {
    let listen = || vec![flag("server.listen", "--listen", &["0.0.0.0:5000"])];
    let problems = load("", &[], listen()).unwrap_err();
    assert!(problems[0].starts_with("auth.anonymous_push"), "{problems:?}");
    load("", &[("TROW_AUTH_ANONYMOUS_PUSH", "true")], listen()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("{ALICE}\n")).unwrap();
    load("", &[("TROW_AUTH_HTPASSWD", users.to_str().unwrap())], listen()).unwrap();
}

const ALICE: &str = "alice:$2y$05$QCwViqGzgBLto1iwk6PA0.oO2aMraA4Cd4kKgGuyDXl5.tiApTw9u";

#[test]
fn every_line_that_is_no_user_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("{ALICE}\nbob:secret\nadmin{}\n", &ALICE[5..])).unwrap();
    let env = [("TROW_AUTH_HTPASSWD", users.to_str().unwrap())];
    let problems = load("", &env, vec![]).unwrap_err();
    let setting = format!("auth.htpasswd (TROW_AUTH_HTPASSWD): {}", users.display());
    assert!(problems[0].starts_with(&format!("{setting} line 2: ")), "{problems:?}");
    assert!(problems[1].starts_with(&format!("{setting} line 3: admin is ")), "{problems:?}");
    assert!(problems.iter().all(|problem| !problem.contains("secret") && !problem.contains('$')));
    std::fs::remove_file(&users).unwrap();
    let missing = load("", &env, vec![]).unwrap_err();
    assert!(missing[0].starts_with(&setting) && missing[0].contains("cannot be read"), "{missing:?}");
}

#[test]
fn pushing_without_pulling_is_a_contradiction() {
    let toml = "auth.anonymous_pull = false\n";
    load(toml, &[], vec![]).unwrap();
    let problems = load(&format!("{toml}auth.anonymous_push = true"), &[], vec![]).unwrap_err();
    assert!(problems[0].starts_with("auth.anonymous_pull"), "{problems:?}");
}

#[test]
fn files_that_are_no_certificate_and_key_are_both_named() {
    let env = [("TROW_SERVER_TLS_CERT", "/dev/null"), ("TROW_SERVER_TLS_KEY", "/nowhere")];
    let problems = load("", &env, vec![]).unwrap_err();
    assert!(problems[0].starts_with("server.tls.cert (TROW_SERVER_TLS_CERT): /dev/null"), "{problems:?}");
    assert!(problems[1].starts_with("server.tls.key (TROW_SERVER_TLS_KEY): /nowhere"), "{problems:?}");
}

#[test]
fn joining_needs_a_cluster_directory() {
    let problems = load("[cluster]\njoin = [\"a:1\"]\ndir = \"/nowhere\"", &[], vec![]).unwrap_err();
    assert!(problems[0].starts_with("cluster.dir"), "{problems:?}");
}

#[test]
fn one_half_of_a_certificate_is_a_problem() {
    let problems = load("server.tls.cert = \"/dev/null\"", &[], vec![]).unwrap_err();
    assert!(problems[0].starts_with("server.tls.key"), "{problems:?}");
}

#[test]
fn a_file_that_is_no_toml_is_one_problem_with_its_line() {
    let problems = load("[server]\nlisten = ", &[], vec![]).unwrap_err();
    assert!(problems[0].contains("line 2"), "{problems:?}");
}

#[test]
fn a_host_has_what_everybody_has_unless_it_says_otherwise() {
    let toml = "[upstream]\nfreshness = \"1m\"\nrate = \"5\"\nallow = [\"docker.io/**\"]\n\
                [upstream.\"index.docker.io\"]\nfreshness = \"2m\"\nallow = [\"library/*\"]\n\
                [prefixes]\nhub = \"docker.io\"\n";
    let env = [("TROW_UPSTREAM_CONCURRENCY", "7")];
    let (config, _) = load(toml, &env, vec![]).unwrap();
    let of = |host: &str| config.upstream.of(&host.parse().unwrap()).clone();
    let (docker, quay) = (of("docker.io"), of("quay.io"));
    assert_eq!((docker.freshness, quay.freshness), (Duration::from_secs(120), Duration::from_secs(60)));
    assert_eq!((docker.rate, docker.concurrency, quay.rate, quay.concurrency), (5, 7, 5, 7));
    assert_eq!(docker.repositories.allow, ["library/*".parse().unwrap()]);
    assert!(config.upstream.prefixes["hub"].is_docker());
}

#[test]
fn every_bad_value_of_upstreams_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "hunter2").unwrap();
    let file = file.display();
    let toml = format!(
        "[upstream]\nallow = [\"Docker.io/*\"]\nauth_file = \"{file}\"\ntimeout = \"0s\"\n\
         [upstream.\"a.example\"]\nendpoint = \"http://a.example\"\nca = \"{file}\"\nconcurrency = 0\n\
         [upstream.\"b.example\"]\nendpoint = \"https://user:hunter2@b.example\"\nca = \"{file}x\"\n\
         realms = [\"https://x\"]\nauth_file = \"{file}x\"\n\
         [upstream.\"not a host\"]\ninsecure = true\n\
         [upstream.\"docker.io\"]\ninsecure = true\n[upstream.\"index.docker.io\"]\ninsecure = true\n\
         [prefixes]\nf = \"docker.io\"\nA = \"docker.io\"\nhub = \"https://docker.io\"\n"
    );
    let problems = load(&toml, &[], vec![]).unwrap_err();
    let all = problems.join("\n");
    for part in [
        "upstream.allow ",
        "upstream.auth_file ",
        "upstream.timeout ",
        "upstream.\"a.example\".endpoint ",
        "upstream.\"a.example\".ca ",
        "upstream.\"a.example\".concurrency ",
        "upstream.\"b.example\".endpoint ",
        "upstream.\"b.example\".ca ",
        "upstream.\"b.example\".realms ",
        "upstream.\"b.example\".auth_file ",
        "upstream.not a host: ",
        "is docker.io, which has another table",
        "prefixes.f ",
        "prefixes.A ",
        "prefixes.hub ",
    ] {
        assert!(all.contains(part), "{part} is missing in:\n{all}");
    }
    assert_eq!(problems.len(), 15, "{all}");
    assert!(!all.contains("hunter2"), "{all}");
}

#[test]
fn every_wrong_name_of_an_upstream_is_a_problem() {
    let toml = r#"
[server]
hostnames = ["trow.example.com", "localhost:5000"]
[upstream]
deny = ["a/**/**/b***", "fine/**", "/"]
[upstream."bad host"]
[prefixes]
own = "Trow.Example.com"
too = "localhost:5000"
hub = "docker.io"
"#;
    let problems = load(toml, &[], vec![]).unwrap_err();
    let all = problems.join("\n");
    for part in ["\"a/**/**/b***\": ", "\"/\": ", "upstream.bad host: ", "prefixes.own (", "prefixes.too ("] {
        assert!(all.contains(part), "{part} is missing in:\n{all}");
    }
    assert!(!all.contains("fine") && !all.contains("hub"), "{all}");
}
