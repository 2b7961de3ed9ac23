//! `trow node-config`: what it prints, what it writes, and what it leaves alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::run::trow;

fn json(arguments: &[&str], code: i32) -> serde_json::Value {
    serde_json::from_str(&trow(arguments).expect(code).out).unwrap()
}

#[test]
fn several_files_are_shown_with_their_paths_and_one_as_it_is() {
    let run = trow(&["node-config", "containerd", "--upstream", "quay.io,ghcr.io"]).expect(0);
    let quay = "# /etc/containerd/certs.d/quay.io/hosts.toml\n# Made by";
    assert!(
        run.out.starts_with(quay) && run.out.contains("\n\n# /etc/containerd/certs.d/ghcr.io/hosts.toml\n"),
        "{}",
        run.out
    );
    // The whole of it can still be read by a parser, file by file.
    for part in run.out.split("# /etc/").skip(1) {
        let text = part.split_once('\n').unwrap().1;
        assert!(toml::from_str::<toml::Table>(text).unwrap().contains_key("host"));
    }
    assert!(run.err.contains("config_path"), "{}", run.err);

    let run = trow(&["node-config", "docker"]).expect(0);
    let read: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(read["registry-mirrors"][0], "http://127.0.0.1:5000/f/docker.io");
    assert!(
        run.err.contains("/etc/docker/daemon.json") && run.err.contains("systemctl reload docker"),
        "{}",
        run.err
    );
    let run = trow(&["node-config", "crio"]).expect(0);
    assert!(toml::from_str::<toml::Table>(&run.out).unwrap().contains_key("registry"));

    let read = json(&["node-config", "crio", "--output", "json"], 0);
    assert_eq!(read["files"][0]["path"], "/etc/containers/registries.conf.d/50-trow.conf");
    assert_eq!(read["files"][0]["content"].as_str().unwrap(), run.out);
    assert!(read["files"][0].get("written").is_none() && read["to_do"][0].as_str().is_some());
}

#[test]
fn files_of_others_are_left_alone_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let write = |mirror: &str, more: &[&str]| {
        let line =
            ["node-config", "containerd", "--upstream", "quay.io,ghcr.io", "--write", at, "--mirror", mirror];
        trow(&[&line[..], more].concat())
    };
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    let run = write("http://a:1", &[]).expect(0);
    assert!(run.out.starts_with(&format!("wrote      {at}/quay.io/hosts.toml\n")), "{}", run.out);
    assert_eq!(mode(&dir.path().join("quay.io/hosts.toml")), 0o644);
    let run = write("http://a:1", &[]).expect(0);
    assert_eq!(run.out.matches("unchanged").count(), 2, "{}", run.out);

    // Ours is replaced by ours. Another's stops everything.
    write("http://b:2", &[]).expect(0);
    assert!(read("quay.io/hosts.toml").contains("http://b:2"));
    fs::write(dir.path().join("ghcr.io/hosts.toml"), "server = \"https://ghcr.io\"\n").unwrap();
    let run = write("http://c:3", &[]).expect(1);
    assert!(run.err.contains("ghcr.io/hosts.toml") && run.err.contains("--force"), "{}", run.err);
    assert!(
        read("quay.io/hosts.toml").contains("http://b:2") && !read("ghcr.io/hosts.toml").contains("host")
    );
    write("http://c:3", &["--force"]).expect(0);
    assert!(read("ghcr.io/hosts.toml").contains("http://c:3"));

    // A file that holds a password is its owner's alone, also where it was not before.
    let password = dir.path().join("password");
    fs::write(&password, "secret").unwrap();
    let user = ["--user", "u", "--password-file", password.to_str().unwrap()];
    write("http://c:3", &user).expect(0);
    assert_eq!(mode(&dir.path().join("quay.io/hosts.toml")), 0o600);
    trow(&["node-config", "crio", "--mirror", "nowhere"]).expect(2);
    trow(&["node-config", "docker", "--upstream", "quay.io"]).expect(2);
}

#[test]
fn what_else_is_in_a_daemon_json_stays() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let file = dir.path().join("daemon.json");
    let line = ["node-config", "docker", "--mirror", "http://a:1", "--write", at, "--output", "json"];
    assert_eq!(json(&line, 0)["files"][0]["written"], true);
    assert_eq!(json(&line, 0)["files"][0]["written"], false);
    fs::write(&file, r#"{"log-driver": "local"}"#).unwrap();
    trow(&line).expect(1);
    assert_eq!(json(&[&line[..], &["--force"]].concat(), 0)["files"][0]["written"], true);
    let said: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        (said["log-driver"].as_str(), said["registry-mirrors"][0].as_str()),
        (Some("local"), Some("http://a:1/f/docker.io"))
    );
    fs::write(&file, "no JSON").unwrap();
    trow(&[&line[..], &["--force"]].concat()).expect(1);
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}
