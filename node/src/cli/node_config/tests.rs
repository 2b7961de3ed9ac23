//! What the files say, read as the programs read them.

use clap::Parser as _;
use toml::Value;

use super::*;
use crate::cli::{Action, Cli};

fn typed(line: &str) -> NodeConfig {
    let words = ["trow", "node-config"].into_iter().chain(line.split(' '));
    match Cli::try_parse_from(words).unwrap().command {
        Action::NodeConfig(typed) => typed,
        other => panic!("{other:?}"),
    }
}

fn made(line: &str) -> Vec<Made> {
    let typed = typed(line);
    typed.runtime.files(&typed.wanted().unwrap()).unwrap()
}

fn toml(file: &Made) -> Value {
    toml::from_str(&file.content).unwrap()
}

/// A certificate of our own.
fn ca(dir: &Path) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    let file = dir.join("ca.pem");
    std::fs::write(&file, &pem).unwrap();
    (file.display().to_string(), pem)
}

#[test]
fn containerd_asks_the_mirrors_in_order_and_then_the_registry_itself() {
    let files = made(
        "containerd --mirror http://10.0.0.1:30500 --mirror https://trow.example/ --upstream \
         docker.io,localhost:5001 --upstream http://plain:80 --upstream _default",
    );
    let paths: Vec<&str> = files.iter().map(|file| file.path.to_str().unwrap()).collect();
    assert_eq!(
        paths,
        ["docker.io/hosts.toml", "localhost:5001/hosts.toml", "plain:80/hosts.toml", "_default/hosts.toml"]
    );
    let servers =
        [Some("https://registry-1.docker.io"), Some("https://localhost:5001"), Some("http://plain:80"), None];
    for (file, server) in files.iter().zip(servers) {
        let hosts = toml(file);
        assert_eq!(hosts.get("server").and_then(Value::as_str), server);
        assert!(hosts.get("capabilities").is_none(), "not the registry's own");
        // A parser that keeps no order says which there are, the text says which is first.
        let table = hosts["host"].as_table().unwrap();
        assert_eq!(table.len(), 2);
        for mirror in ["http://10.0.0.1:30500", "https://trow.example"] {
            let host = table[mirror].as_table().unwrap();
            let capabilities: Vec<&str> =
                host["capabilities"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(capabilities, ["pull", "resolve"]);
            assert_eq!(host["dial_timeout"].as_str(), Some("1s"));
            assert_eq!(host.len(), 2, "{host:?}");
        }
        let at = |text: &str| file.content.find(text).unwrap();
        assert!(at("10.0.0.1") < at("trow.example"));
        assert!(!file.secret && file.content.starts_with(MARK));
    }
}

#[test]
fn without_a_word_the_public_registries_are_pulled_through_a_node_on_this_machine() {
    let files = made("containerd");
    assert_eq!(files.len(), UPSTREAMS.len());
    for (file, host) in files.iter().zip(UPSTREAMS) {
        assert_eq!(file.path, Path::new(host).join("hosts.toml"));
        assert!(toml(file)["host"].get("http://127.0.0.1:5000").is_some());
    }
    let conf = toml(&made("crio")[0]);
    assert_eq!(conf["registry"].as_array().unwrap().len(), UPSTREAMS.len());
}

#[test]
fn a_ca_is_copied_beside_what_names_it_and_a_password_is_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, pem) = ca(dir.path());
    let password = dir.path().join("password");
    std::fs::write(&password, "wonder\"land\n").unwrap();
    let line = format!(
        "containerd --mirror https://t:1 --mirror http://u:2 --upstream quay.io --ca {ca} --user alice --password-file {}",
        password.display()
    );
    let [copy, hosts] = made(&line).try_into().unwrap();
    assert_eq!((copy.path.to_str(), &copy.content), (Some("quay.io/trow-ca.crt"), &pem));
    assert!(hosts.secret && !copy.secret);
    let hosts = toml(&hosts);
    assert_eq!(hosts["host"]["https://t:1"]["ca"].as_str(), Some("trow-ca.crt"));
    assert!(hosts["host"]["http://u:2"].get("ca").is_none());
    for mirror in ["https://t:1", "http://u:2"] {
        // alice:wonder"land
        let said = hosts["host"][mirror]["header"]["Authorization"].as_str();
        assert_eq!(said, Some("Basic YWxpY2U6d29uZGVyImxhbmQ="));
    }
    for runtime in ["crio", "docker"] {
        let files = made(&format!(
            "{runtime} --mirror https://t:1 --mirror http://u:2 --upstream docker.io --ca {ca}"
        ));
        assert_eq!(files[0].path, Path::new("certs.d/t:1/trow-ca.crt"));
        assert_eq!((files.len(), &files[0].content), (2, &pem));
    }
    let nothing = dir.path().join("nothing.pem");
    std::fs::write(&nothing, "x").unwrap();
    let refused = typed(&format!("crio --ca {}", nothing.display())).wanted().unwrap_err();
    assert!(
        matches!(refused, Failure::Usage(_)) && refused.to_string().contains("no certificate"),
        "{refused}"
    );
}

#[test]
fn crio_finds_the_registry_in_the_path_and_the_registry_itself_last() {
    let files = made(
        "crio --mirror http://10.0.0.1:30500,https://t --upstream docker.io --upstream http://127.0.0.1:5001",
    );
    let [conf] = files.try_into().unwrap();
    assert_eq!(conf.path, Path::new("registries.conf.d/50-trow.conf"));
    let conf = toml(&conf);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let insecure = |value: &Value| value.get("insecure").and_then(Value::as_bool).unwrap_or(false);
    let seen: Vec<_> = conf["registry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|registry| {
            let mirrors: Vec<_> = registry["mirror"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| (text(m, "location"), insecure(m)))
                .collect();
            (text(registry, "prefix"), text(registry, "location"), insecure(registry), mirrors)
        })
        .collect();
    let own = |text: &str| text.to_owned();
    assert_eq!(
        seen,
        [
            (
                own("docker.io"),
                own("docker.io"),
                false,
                vec![(own("10.0.0.1:30500/f/docker.io"), true), (own("t/f/docker.io"), false)]
            ),
            (
                own("127.0.0.1:5001"),
                own("127.0.0.1:5001"),
                true,
                vec![(own("10.0.0.1:30500/f/127.0.0.1__5001"), true), (own("t/f/127.0.0.1__5001"), false)]
            ),
        ]
    );
}

#[test]
fn docker_keeps_what_else_its_file_says() {
    let [file] = made("docker --mirror http://10.0.0.1:30500 --mirror https://t").try_into().unwrap();
    let json: serde_json::Value = serde_json::from_str(&file.content).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"registry-mirrors": ["http://10.0.0.1:30500/f/docker.io", "https://t/f/docker.io"], "insecure-registries": ["10.0.0.1:30500"]})
    );
    let there =
        r#"{"log-driver": "local", "registry-mirrors": ["https://old"], "insecure-registries": ["own:1"]}"#;
    let merged: serde_json::Value =
        serde_json::from_str(&docker::merged(there, &file.content).unwrap()).unwrap();
    assert_eq!(
        merged,
        serde_json::json!({"log-driver": "local", "registry-mirrors": ["http://10.0.0.1:30500/f/docker.io", "https://t/f/docker.io"], "insecure-registries": ["own:1", "10.0.0.1:30500"]})
    );
    assert_eq!(docker::merged(&file.content, &file.content).unwrap(), file.content);
    assert!(docker::merged("[]", &file.content).is_err());
}

#[test]
fn what_a_runtime_cannot_do_is_refused() {
    for line in ["docker --upstream quay.io", "docker --upstream _default", "crio --upstream _default"] {
        let typed = typed(line);
        assert!(typed.runtime.files(&typed.wanted().unwrap()).is_err(), "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "x").unwrap();
    for runtime in ["docker", "crio"] {
        let typed = typed(&format!("{runtime} --user u --password-file {}", password.display()));
        let refused = typed.runtime.files(&typed.wanted().unwrap()).unwrap_err();
        assert!(refused.contains("--user is for containerd"), "{refused}");
    }
    for mirror in ["10.0.0.1:30500", "ftp://a", "http://a/v2", "http://u:p@a", "http://a?x", ""] {
        assert!(mirror.parse::<Mirror>().is_err(), "{mirror:?}");
    }
    for upstream in ["", "a/b", "ftp://a", "_other", "http://"] {
        assert!(upstream.parse::<Upstream>().is_err(), "{upstream:?}");
    }
}
