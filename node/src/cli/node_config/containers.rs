//! CRI-O, podman and skopeo: one file that is read beside `registries.conf`.
//!
//! Always holds: the registry itself stays what is asked last. These programs do not say which registry a
//! mirror is asked for, so that it is part of the path.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::asked::Upstream;
use super::{MARK, Made, Replaces, Wanted};

pub(super) const DIRECTORY: &str = "/etc/containers";

pub(super) const TO_DO: [&str; 2] = [
    "podman and skopeo read these files each time; CRI-O when told: systemctl reload crio",
    "where these registries are in another file of /etc/containers/registries.conf.d or in registries.conf, the \
     file whose name comes last wins, for a registry as a whole",
];

pub(super) fn files(wanted: &Wanted) -> Result<Vec<Made>, String> {
    if wanted.authorization.is_some() {
        return Err("--user is for containerd: CRI-O and podman take a mirror's credentials from an auth file, \
                    which `podman login --authfile FILE MIRROR` writes and global_auth_file in crio.conf names"
            .to_owned());
    }
    let mut text = format!("{MARK}, which overwrites it when it is run again.\n");
    for upstream in &wanted.upstreams {
        let Upstream::Of { host, plain } = upstream else {
            return Err(
                "--upstream _default is for containerd: CRI-O and podman have no mirrors of registries \
                        that are not named"
                    .to_owned(),
            );
        };
        let _ = write!(text, "\n[[registry]]\nprefix = \"{host}\"\nlocation = \"{host}\"\n");
        if *plain {
            text.push_str("insecure = true\n");
        }
        // A path has no colon.
        let path = host.to_string().replace(':', "__");
        for mirror in &wanted.mirrors {
            let _ = write!(text, "\n[[registry.mirror]]\nlocation = \"{}/f/{path}\"\n", mirror.address);
            if !mirror.tls {
                text.push_str("insecure = true\n");
            }
        }
    }
    let conf = Made::new("registries.conf.d/50-trow.conf", text, Replaces::Marked);
    Ok(cas(wanted).chain([conf]).collect())
}

/// A copy of the CA for each mirror with TLS: both families of programs look for it in the same way.
pub(super) fn cas(wanted: &Wanted) -> impl Iterator<Item = Made> {
    let of_mirror = |address: &str, pem: &String| {
        Made::new(PathBuf::from("certs.d").join(address).join("trow-ca.crt"), pem.clone(), Replaces::Any)
    };
    let tls = wanted.mirrors.iter().filter(|mirror| mirror.tls);
    tls.filter_map(move |mirror| Some(of_mirror(&mirror.address, wanted.ca.as_ref()?)))
}
