//! `trow node-config`: the files by which container runtimes pull through this registry.
//!
//! Always holds: what is printed is what would be written; with several files each is shown below its
//! path. Never does: ask a server, or start anything anew.

mod asked;
mod containerd;
mod containers;
mod docker;
mod written;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{Failure, Output, note, print, print_json, print_line};
use asked::{Mirror, Upstream};
use written::Written;

/// The upstreams that most clusters pull from.
const UPSTREAMS: [&str; 7] =
    ["docker.io", "quay.io", "ghcr.io", "registry.k8s.io", "gcr.io", "mcr.microsoft.com", "public.ecr.aws"];
/// How the files begin that can have comments: by this they are known again.
const MARK: &str = "# Made by `trow node-config`";

const EXAMPLES: &str = "\
Examples, to be run on each machine that pulls images:

  trow node-config containerd --mirror http://10.0.0.11:5000,http://10.0.0.12:5000 \\
      --write /etc/containerd/certs.d
  trow node-config crio --mirror https://trow.example.com --ca ca.crt --write /etc/containers
  trow node-config docker --mirror http://10.0.0.11:5000 --write /etc/docker --force

It says what is left to do; docs/mirror.md says more.";

/// `trow node-config`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct NodeConfig {
    /// What pulls images on the machine
    runtime: Runtime,
    /// A node of Trow as the machine reaches it, without a path; repeated, they are tried in this order
    #[arg(long, value_name = "URL", value_delimiter = ',', default_value = "http://127.0.0.1:5000")]
    mirror: Vec<Mirror>,
    /// A registry to pull through Trow, http://HOST if it has no TLS; with containerd _default stands for
    /// all that are not named [default: docker.io, quay.io, ghcr.io, registry.k8s.io, gcr.io,
    /// mcr.microsoft.com, public.ecr.aws]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    upstream: Vec<Upstream>,
    /// The CA of the mirrors' certificates, PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Have containerd ask the mirrors as this user
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// A file that has the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Write the files below this directory instead of printing them: /etc/containerd/certs.d,
    /// /etc/containers or /etc/docker on the machine itself
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Also overwrite files that this command did not make; what else a daemon.json says stays
    #[arg(long, requires = "write")]
    force: bool,
    /// Text for people, or one line of JSON for programs
    #[arg(long, default_value = "table")]
    output: Output,
}

/// What pulls images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// hosts.toml of each upstream
    Containerd,
    /// registries.conf, of podman and skopeo too
    #[value(alias = "podman")]
    Crio,
    /// daemon.json; of docker.io alone
    Docker,
}

/// What the files are made of.
#[derive(Debug)]
struct Wanted {
    mirrors: Vec<Mirror>,
    upstreams: Vec<Upstream>,
    /// The PEM text.
    ca: Option<String>,
    /// The header's value.
    authorization: Option<String>,
}

/// A file for the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    /// Below the runtime's directory.
    path: PathBuf,
    content: String,
    /// It holds credentials: nobody but its owner may read it.
    secret: bool,
    /// Which file in its place it may overwrite.
    replaces: Replaces,
}

/// Which file a new one may take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaces {
    /// One that begins with [`MARK`].
    Marked,
    /// Any, since its name says whose it is.
    Any,
    /// None: what is there is kept, and ours added to it.
    Nothing,
}

impl Made {
    fn new(path: impl Into<PathBuf>, content: String, replaces: Replaces) -> Self {
        Made { path: path.into(), content, secret: false, replaces }
    }
}

impl Runtime {
    /// Where it looks for its files.
    fn directory(self) -> &'static Path {
        Path::new(match self {
            Runtime::Containerd => containerd::DIRECTORY,
            Runtime::Crio => containers::DIRECTORY,
            Runtime::Docker => docker::DIRECTORY,
        })
    }

    fn files(self, wanted: &Wanted) -> Result<Vec<Made>, String> {
        match self {
            Runtime::Containerd => Ok(containerd::files(wanted)),
            Runtime::Crio => containers::files(wanted),
            Runtime::Docker => docker::files(wanted),
        }
    }

    /// What is left to do, and what is to be known.
    fn to_do(self) -> &'static [&'static str] {
        match self {
            Runtime::Containerd => &containerd::TO_DO,
            Runtime::Crio => &containers::TO_DO,
            Runtime::Docker => &docker::TO_DO,
        }
    }
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Document {
    files: Vec<FileDocument>,
    to_do: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct FileDocument {
    path: PathBuf,
    content: String,
    /// Absent unless it was to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<bool>,
}

impl NodeConfig {
    pub(super) fn run(self) -> Result<(), Failure> {
        let wanted = self.wanted()?;
        let files = self.runtime.files(&wanted).map_err(Failure::Usage)?;
        let to_do = self.runtime.to_do();
        match self.write {
            None => {
                let at = self.runtime.directory();
                let files = files.into_iter().map(|file| (at.join(file.path), file.content, None));
                show(self.output, files.collect(), to_do)
            }
            Some(dir) => {
                let written = written::all(&dir, files, self.force).map_err(Failure::Failed)?;
                let files = written
                    .into_iter()
                    .map(|Written { path, content, changed }| (path, content, Some(changed)));
                show(self.output, files.collect(), to_do)
            }
        }
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        let read = |flag: &str, file: &Path| {
            let text = std::fs::read_to_string(file);
            text.map_err(|error| Failure::Usage(format!("{flag} {}: {error}", file.display())))
        };
        let upstreams = match self.upstream.is_empty() {
            true => {
                UPSTREAMS.iter().map(|host| host.parse()).collect::<Result<_, _>>().map_err(Failure::Usage)?
            }
            false => self.upstream.clone(),
        };
        let ca = self.ca.as_deref().map(|file| read("--ca", file)).transpose()?;
        if let (Some(file), Some(pem)) = (&self.ca, &ca)
            && !reqwest::Certificate::from_pem_bundle(pem.as_bytes()).is_ok_and(|found| !found.is_empty())
        {
            return Err(Failure::Usage(format!("--ca {}: there is no certificate in PEM", file.display())));
        }
        let authorization = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => {
                let pair = format!("{user}:{}", read("--password-file", file)?.trim());
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
            }
            _ => None,
        };
        Ok(Wanted {
            mirrors: self.mirror.clone(),
            upstreams: of_runtime(self.runtime, once(upstreams), self.upstream.is_empty()),
            ca,
            authorization,
        })
    }
}

/// Each of them once, where it was named first.
fn once(upstreams: Vec<Upstream>) -> Vec<Upstream> {
    let mut seen = Vec::new();
    for upstream in upstreams {
        if !seen.contains(&upstream) {
            seen.push(upstream);
        }
    }
    seen
}

/// Docker has mirrors of docker.io alone; other names are an error only if somebody typed them.
fn of_runtime(runtime: Runtime, mut upstreams: Vec<Upstream>, by_default: bool) -> Vec<Upstream> {
    if runtime == Runtime::Docker && by_default {
        upstreams.retain(Upstream::is_docker);
    }
    upstreams
}

/// One file that is only shown goes to the output as it is, to be redirected; its path is said beside it.
fn show(
    output: Output,
    files: Vec<(PathBuf, String, Option<bool>)>,
    to_do: &'static [&'static str],
) -> Result<(), Failure> {
    if output == Output::Json {
        let file = |(path, content, written)| FileDocument { path, content, written };
        return print_json(&Document { files: files.into_iter().map(file).collect(), to_do });
    }
    match files.as_slice() {
        [(path, content, None)] => {
            note(&format_args!("this belongs into {}", path.display()));
            print(content.as_bytes())?;
        }
        files => {
            for (index, (path, content, written)) in files.iter().enumerate() {
                let path = path.display();
                match written {
                    None => {
                        let gap = if index == 0 { "" } else { "\n" };
                        print(format!("{gap}# {path}\n{content}").as_bytes())?;
                    }
                    Some(true) => print_line(&format!("wrote      {path}"))?,
                    Some(false) => print_line(&format!("unchanged  {path}"))?,
                }
            }
        }
    }
    to_do.iter().for_each(|what| note(what));
    Ok(())
}

#[cfg(test)]
mod tests;
