//! `trow policy test --file`: what is known without a server, and the decisions made of it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use trow_api::admission::{Assumed, Offline};
use trow_api::policy::Policy as Rules;
use trow_api::pull::{Host, Prefixes};

use super::super::Failure;
use crate::admin::document::policy::{DecisionDocument, ExplainDocument};
use crate::config::{Config, Sources};

/// What is known where no server is asked.
#[derive(Debug, Default, Args)]
pub struct Known {
    /// With --file: read this registry's own names, server.hostnames and [prefixes], from a node's configuration; other files that it names need not be here
    #[arg(long, value_name = "FILE", requires = "file")]
    config: Option<PathBuf>,
    /// With --file: a name under which this registry is itself, beside those of --config; repeatable
    #[arg(long = "hostname", value_name = "NAME", requires = "file")]
    hostnames: Vec<Host>,
    /// With --file: what is so of all images, and nothing else is: exists, resolves, replicated, signedBy=KEY, or none; repeatable, or with commas
    #[arg(long, value_name = "FACT", requires = "file", value_delimiter = ',')]
    assume: Vec<Stated>,
}

/// Something that is said to be so.
#[derive(Clone, Debug)]
enum Stated {
    None,
    Exists,
    Resolves,
    Replicated,
    SignedBy(String),
}

impl FromStr for Stated {
    type Err = String;

    fn from_str(text: &str) -> Result<Stated, String> {
        match text.split_once('=') {
            None if text == "none" => Ok(Stated::None),
            None if text == "exists" => Ok(Stated::Exists),
            None if text == "resolves" => Ok(Stated::Resolves),
            None if text == "replicated" => Ok(Stated::Replicated),
            Some(("signedBy", key)) if !key.is_empty() => Ok(Stated::SignedBy(key.to_owned())),
            _ => Err("expected exists, resolves, replicated, signedBy=KEY or none".to_owned()),
        }
    }
}

impl Known {
    /// What `policy` decides about the images.
    pub(super) fn decide(
        &self,
        policy: Rules,
        images: &[String],
        namespace: String,
    ) -> Result<ExplainDocument, Failure> {
        let assumed = self.assumed(&policy)?;
        let (mut hostnames, prefixes) = match &self.config {
            Some(file) => Config::names(Sources::of_process(Vec::new(), Some(file.clone())))
                .map_err(|problems| Failure::Usage(problems.to_string()))?,
            None => (Vec::new(), Prefixes::default()),
        };
        hostnames.extend(self.hostnames.iter().map(ToString::to_string));
        let offline = Offline::new(policy, &hostnames, &prefixes);
        let offline = match assumed {
            Some(assumed) => offline.assuming(assumed),
            None => offline,
        };
        let decided = images.iter().map(|image| {
            let (decision, unchecked) = offline.decide(image, &namespace);
            DecisionDocument::new(image, &decision, unchecked)
        });
        let decisions = decided.collect();
        Ok(ExplainDocument { revision: None, namespace, decisions, stale: false })
    }

    fn assumed(&self, policy: &Rules) -> Result<Option<Assumed>, Failure> {
        if self.assume.is_empty() {
            return Ok(None);
        }
        let mut assumed = Assumed::default();
        for stated in &self.assume {
            match stated {
                Stated::None => {}
                Stated::Exists => assumed.exists = true,
                Stated::Resolves => assumed.resolves = true,
                Stated::Replicated => assumed.replicated = true,
                Stated::SignedBy(key) if policy.keys().any(|(name, _)| name == key) => {
                    assumed.signed_by.push(key.clone());
                }
                Stated::SignedBy(key) => {
                    let keys: Vec<&str> = policy.keys().map(|(name, _)| name).collect();
                    let has = if keys.is_empty() { "no keys".to_owned() } else { keys.join(", ") };
                    let why = format!("--assume signedBy={key}: the policy has no such key; it has {has}");
                    return Err(Failure::Usage(why));
                }
            }
        }
        Ok(Some(assumed))
    }
}
