//! Whose an image is, and under which names it is judged.
//!
//! One image has more than one name where a registry mirrors another: `trow.example.com/f/docker.io/library/nginx`
//! is Docker Hub's nginx. Always holds: content of an upstream is judged as that upstream's, however it is asked
//! for, so that a rule for our own names allows nothing of theirs; and no other spelling of a name, be it as it
//! is written, with the port 443, or by another of our host names, escapes a rule that denies. Never does: look
//! anything up.

use trow_raft::RepoName;

use crate::pull::resolve::{Named, Namespace, Resolver};
use crate::pull::{Host, ImageName, Prefixes, UpstreamName};

/// The names under which this registry is itself, and what others mean here.
#[derive(Clone, Debug)]
pub(super) struct Names {
    resolver: Resolver,
    hostnames: Vec<String>,
}

/// Whose content it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Own(RepoName),
    Upstream(UpstreamName),
    /// Another registry's, whose name is too long together with the repository's for one of ours.
    Elsewhere,
}

/// What an image stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// The name under which it is judged.
    pub(super) judged: ImageName,
    /// Its other names: what is denied under one of them is denied.
    pub(super) spellings: Vec<ImageName>,
    /// Where its content comes from.
    pub(super) whose: Whose,
}

/// The port that a host without one has.
const DEFAULT_PORT: &str = ":443";

impl Names {
    pub(super) fn new(hostnames: &[String], prefixes: &Prefixes) -> Names {
        Names { resolver: Resolver::new(hostnames, prefixes), hostnames: hostnames.to_vec() }
    }

    /// What `image` stands for; `others` are names of ours that the settings do not have.
    ///
    /// # Errors
    /// It is below a name that stands for registries, and names nothing there; or it is too long without the port
    /// that its registry has anyway.
    pub(super) fn meant(&self, image: &ImageName, others: &[String]) -> Result<Meant, String> {
        let own = |host: &Host| self.hostnames.iter().chain(others).any(|name| is(name, host));
        let mut spellings = Vec::new();
        let mut name = image.clone();
        // Each name that is left behind is longer than the one it stands for.
        let whose = loop {
            if !own(&name.host) {
                let upstream = UpstreamName::new(name.host.clone(), &name.path);
                break upstream.map_or(Whose::Elsewhere, Whose::Upstream);
            }
            let named = self.resolver.resolve(&name.path, &Namespace::Own);
            match named.map_err(|error| error.message().to_owned())? {
                Named::Own(repo) => break Whose::Own(repo),
                Named::Upstream(upstream) => {
                    spellings.extend(self.aliases(&name, others));
                    name = of(&name, &upstream);
                }
            }
        };
        if let Whose::Own(_) = whose {
            spellings.extend(self.aliases(&name, others));
        }
        let judged = plain(&name)?;
        spellings.push(name);
        spellings.retain(|spelling| *spelling != judged);
        spellings.dedup();
        Ok(Meant { judged, spellings, whose })
    }

    /// A name of ours, by each of our host names.
    fn aliases(&self, name: &ImageName, others: &[String]) -> Vec<ImageName> {
        let hosts = self.hostnames.iter().chain(others).filter_map(|host| host.parse().ok());
        let by_host = hosts.map(|host| ImageName { host, ..name.clone() });
        std::iter::once(name.clone()).chain(by_host).collect()
    }
}

/// Whether `name` of ours is that host: whole, or on any port when it says none.
fn is(name: &str, host: &Host) -> bool {
    let bare = |text: &str| text.strip_suffix(DEFAULT_PORT).unwrap_or(text).to_ascii_lowercase();
    let host = host.as_str();
    let without_port = host.split(':').next().unwrap_or(host);
    bare(name) == bare(host) || name.eq_ignore_ascii_case(without_port)
}

/// The image of an upstream that `name` asks for.
fn of(name: &ImageName, upstream: &UpstreamName) -> ImageName {
    ImageName { host: upstream.host().clone(), path: upstream.repo().clone(), ..name.clone() }
}

/// Without the port that every host has anyway.
fn plain(name: &ImageName) -> Result<ImageName, String> {
    let Some(host) = name.host.as_str().strip_suffix(DEFAULT_PORT) else { return Ok(name.clone()) };
    let host: Host = host.parse().map_err(|why| format!("{host}: {why}"))?;
    let path = host.full(&name.path).ok_or("the name is too long")?;
    Ok(ImageName { host, path, ..name.clone() })
}

#[cfg(test)]
mod tests {
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
        assert_eq!(meant("quay.io/a:1").spellings, []);
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
}
