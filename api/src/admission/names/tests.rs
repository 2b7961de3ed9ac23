//! Images in every way in which they can be written, and what they stand for.

use super::*;

fn names() -> Names {
    let hostnames = ["trow.example.com".to_owned(), "trow.test:5000".to_owned()];
    let prefixes = Prefixes::from([("hub".parse().unwrap(), "docker.io".parse().unwrap())]);
    Names::new(&hostnames, &prefixes)
}

fn meant(image: &str) -> Meant {
    names().meant(&image.parse().unwrap(), &["10.0.0.1:5000".to_owned()]).unwrap()
}

#[test]
fn what_comes_through_us_is_judged_as_what_it_is() {
    for (image, judged) in [
        ("nginx", "docker.io/library/nginx"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("trow.example.com/f/docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("trow.example.com/f/docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("TROW.example.com/f/index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("trow.example.com:443/f/quay.io/a:1", "quay.io/a:1"),
        ("trow.example.com:5000/f/quay.io/a:1", "quay.io/a:1"),
        ("trow.test:5000/hub/acme/app:1", "docker.io/acme/app:1"),
        ("10.0.0.1:5000/f/quay.io/a:1", "quay.io/a:1"),
        ("trow.example.com/f/localhost__5001/a:1", "localhost:5001/a:1"),
        ("trow.example.com/f/10.0.0.1__5000/f/quay.io/a:1", "quay.io/a:1"),
        ("quay.io:443/a:1", "quay.io/a:1"),
        ("trow.example.com/f/quay.io__443/a:1", "quay.io/a:1"),
        ("registry-1.docker.io:443/nginx:1", "docker.io/library/nginx:1"),
        // Ours, and others'.
        ("trow.example.com/app:1", "trow.example.com/app:1"),
        ("trow.example.com/a/f/docker.io/x:1", "trow.example.com/a/f/docker.io/x:1"),
        ("trow.test/f/quay.io/a:1", "trow.test/f/quay.io/a:1"),
        ("trow.example.com.evil.test/f/quay.io/a:1", "trow.example.com.evil.test/f/quay.io/a:1"),
        ("10.0.0.1:5001/f/quay.io/a:1", "10.0.0.1:5001/f/quay.io/a:1"),
        // Who knows who listens there.
        ("trow.example.com:31000/f/quay.io/a:1", "trow.example.com:31000/f/quay.io/a:1"),
        ("trow.example.com:31000/hub/a:1", "trow.example.com:31000/hub/a:1"),
        ("trow.example.com:31000/app:1", "trow.example.com:31000/app:1"),
    ] {
        let want: ImageName = judged.parse().unwrap();
        assert_eq!(meant(image).judged, want, "{image}");
    }
}

#[test]
fn tags_and_digests_stay() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let through = meant(&format!("trow.example.com/f/docker.io/library/nginx:1@{digest}"));
    assert_eq!(through.judged, format!("docker.io/library/nginx:1@{digest}").parse().unwrap());
}

#[test]
fn other_spellings_are_known() {
    let spelled = |image: &str, other: &str| {
        let (meant, other) = (meant(image), other.parse().unwrap());
        assert!(meant.spellings.contains(&other), "{image}: {:?} without {other:?}", meant.spellings);
        assert!(!meant.spellings.contains(&meant.judged));
    };
    spelled("trow.example.com/app:1", "trow.test:5000/app:1");
    spelled("trow.test:5000/app:1", "trow.example.com/app:1");
    spelled("trow.example.com:5000/app:1", "trow.example.com/app:1");
    spelled("10.0.0.1:5000/app:1", "trow.example.com/app:1");
    spelled("trow.example.com/f/quay.io/a:1", "trow.example.com/f/quay.io/a:1");
    spelled("trow.test:5000/f/quay.io/a:1", "trow.example.com/f/quay.io/a:1");
    spelled("quay.io:443/a:1", "quay.io:443/a:1");
    spelled("trow.example.com:31000/f/quay.io/a:1", "quay.io/a:1");
    spelled("trow.example.com:31000/f/quay.io/a:1", "trow.test:5000/f/quay.io/a:1");
    spelled("trow.example.com:31000/f/10.0.0.1__5000/app:1", "trow.test:5000/app:1");
    spelled("trow.example.com:31000/app:1", "trow.test:5000/app:1");
    assert_eq!(meant("quay.io/a:1").spellings, []);
}

#[test]
fn the_names_that_an_upstreams_image_has_here_are_known() {
    let here =
        |image: &str| -> Vec<String> { meant(image).here.iter().map(|here| here.name.to_string()).collect() };
    let of_nginx = here("nginx:1");
    for path in ["f/docker.io/library/nginx", "f/docker.io/nginx", "hub/library/nginx", "hub/nginx"] {
        for host in ["trow.example.com", "trow.test:5000", "10.0.0.1:5000"] {
            assert!(of_nginx.contains(&format!("{host}/{path}:1")), "{host}/{path}: {of_nginx:?}");
        }
    }
    assert_eq!(of_nginx.len(), 12);
    for same in ["trow.test:5000/hub/nginx:1", "docker.io:443/nginx:1", "trow.example.com:31000/hub/nginx:1"]
    {
        assert_eq!(here(same), of_nginx, "{same}");
    }
    assert_eq!(here("localhost:5001/a:1")[0], "trow.example.com/f/localhost__5001/a:1");
    assert_eq!(here("trow.example.com/app:1"), [""; 0]);
    // The longest name is as long here as it is anywhere.
    assert_eq!(here(&format!("quay.io/{}:1", ["a"; 126].join("/"))), [""; 0]);
}

#[test]
fn a_pattern_for_an_upstream_is_told_from_one_for_whatever_is_here() {
    let meant = meant("nginx:1");
    for (path, pattern, is_meant) in [
        ("f/docker.io/nginx", "trow.example.com/f/docker.io/**", true),
        ("f/docker.io/nginx", "trow.example.com/f/docker.io/nginx:1", true),
        ("f/docker.io/nginx", "*/f/*.io/**", true),
        ("f/docker.io/nginx", "trow.example.com/f/**", false),
        ("f/docker.io/nginx", "trow.example.com/**/nginx", false),
        ("f/docker.io/nginx", "trow.example.com/*/*/nginx", false),
        ("f/docker.io/nginx", "**/f/docker.io/nginx", false),
        ("f/docker.io/nginx", "**", false),
        ("hub/nginx", "trow.example.com/hub/**", true),
        ("hub/nginx", "trow.example.com/hub/nginx", true),
        ("hub/nginx", "trow.example.com/*/nginx", false),
        ("hub/nginx", "trow.example.com/**", false),
    ] {
        let here = meant.here.iter().find(|here| here.name.path.as_str() == path).unwrap();
        assert_eq!(here.is_meant_by(pattern), is_meant, "{path} {pattern}");
    }
}

#[test]
fn a_name_that_nodes_read_in_two_ways_is_refused() {
    let read = |image: &str| names().meant(&image.parse().unwrap(), &[]);
    for image in [
        "quay.io/f/quay.io/acme/app:1",
        "QUAY.io/f/quay.io/acme/app:1",
        "quay.io:443/f/quay.io__443/acme/app:1",
        "docker.io/f/docker.io/nginx:1",
        "f/docker.io/nginx:1",
        "index.docker.io/f/registry-1.docker.io/nginx:1",
        "trow.example.com/f/quay.io/f/quay.io/acme/app:1",
    ] {
        let why = read(image).unwrap_err();
        assert!(why.contains("gets quay.io") || why.contains("gets docker.io"), "{image}: {why}");
    }
    for image in ["quay.io/f/ghcr.io/app:1", "quay.io/f/app:1", "quay.io/a/f/quay.io/app:1", "f/app:1"] {
        assert!(read(image).is_ok(), "{image}");
    }
}

#[test]
fn names_below_a_registry_that_name_nothing_are_refused() {
    for image in [
        "trow.example.com/f/docker.io",
        "trow.example.com/f/a__0/x",
        "trow.example.com/hub:1",
        "trow.example.com/f/trow.example.com/app:1",
    ] {
        assert!(names().meant(&image.parse().unwrap(), &[]).is_err(), "{image}");
    }
}

#[test]
fn a_name_too_long_for_this_registry_is_still_judged() {
    let long = format!("{}.example/{}:1", ["a"; 90].join("."), ["a"; 126].join("/"));
    let meant = meant(&long);
    assert_eq!((meant.judged, meant.whose), (long.parse().unwrap(), Whose::Elsewhere));
}

#[test]
fn the_port_of_https_hides_no_name_however_long_it_is() {
    let path = ["a"; 126].join("/");
    let host = format!("{}.example", ["a"; 90].join("."));
    let plain = format!("{host}/{path}:1").parse().unwrap();
    assert_eq!(meant(&format!("{host}:443/{path}:1")).judged, plain);
    // One that docker.io cannot have, since it is too long below library/.
    let long = format!("registry-1.docker.io:443/{}:1", "a".repeat(250));
    assert!(names().meant(&long.parse().unwrap(), &[]).is_err());
}

#[test]
fn whose_it_is_says_where_it_comes_from() {
    assert_eq!(meant("trow.example.com/app:1").whose, Whose::Own("app".parse().unwrap()));
    for image in ["nginx:1", "trow.example.com/f/docker.io/nginx:1", "trow.test:5000/hub/nginx"] {
        let Whose::Upstream(name) = meant(image).whose else { panic!("{image} is ours") };
        assert_eq!(name.local().as_str(), "f/docker.io/library/nginx");
    }
}
