//! `trow policy`: which images may run.
//!
//! Always holds: what is printed by `get` can be set again. Never does: decide anything that the server or the
//! library does not.

mod diff;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use trow_api::policy::{self as language, Invalid, LENGTH_MAX, Policy as Rules};

use super::client::Client;
use super::{Failure, Output, Server, Table, block_on, counted, note, print, print_json, print_line};
use crate::admin::document::policy::{
    DecisionDocument, ExplainDocument, ExplainRequest, PolicyDocument, PolicySetDocument,
};
use crate::admin::policy::{DEFAULT_NAMESPACE, by_name};

/// What the first line of a printed policy begins with; it is left out when one is read.
const REVISION: &str = "# revision: ";

/// `trow policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Print the policy, with its revision as a comment in the first line
    Get {
        #[command(flatten)]
        common: Common,
    },
    /// Set the policy; when this returns, every node that can be reached decides by it
    #[command(after_help = "\
An invalid policy is refused as a whole, and every wrong place is named with its line and column. A configuration \
of Trow before version 1 with an image_validation block is converted. docs/policy.md describes the language.")]
    Set {
        /// The policy, YAML or JSON; - for standard input
        file: PathBuf,
        /// Only if this is the current revision; 0 if there is to be none
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Show in which lines a file differs from the policy that is set
    Diff {
        /// The policy, YAML or JSON; - for standard input
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Say of each image whether it may run; exit code 1 when any is denied, 2 when the file is no policy
    #[command(after_help = "\
With --file no server is needed. What only a registry knows, whether an image exists, is replicated or is signed, is \
then not looked up: the output says what must hold, and the image counts as allowed. A denial counts in every mode, \
also where images run all the same since the mode is warn or audit.")]
    Test {
        /// As a Pod names them: nginx, quay.io/org/app:1.2, registry.k8s.io/pause@sha256:…
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Decide by this policy, without a server; - for standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Say which rule decides about an image, and what to do; exit code 0 whatever that is
    Explain {
        /// As a Pod names it
        image: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Print what the image_validation block of a configuration of Trow before version 1 means now
    Convert {
        /// The configuration; - for standard input
        file: PathBuf,
    },
    /// Print the JSON Schema of policies, for editors
    Schema,
}

/// What every command takes that asks a server.
#[derive(Debug, Args)]
pub struct Common {
    /// Text for people, or one line of JSON for programs
    #[arg(long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// Where images would run.
#[derive(Debug, Args)]
pub struct Place {
    /// The namespace in which they would run
    #[arg(long, value_name = "NS", default_value = DEFAULT_NAMESPACE)]
    namespace: String,
}

impl Policy {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Policy::Get { common } => get(&common),
            Policy::Set { file, revision, common } => set(&file, revision, &common),
            Policy::Diff { file, common } => difference(&file, &common),
            Policy::Test { images, file, place, common } => test(images, file.as_deref(), place, &common),
            Policy::Explain { image, place, common } => explain(image, place, &common),
            Policy::Convert { file } => convert(&file),
            Policy::Schema => {
                let schema = serde_json::to_string_pretty(&language::schema());
                print_line(&schema.map_err(|error| Failure::Failed(format!("write JSON: {error}")))?)
            }
        }
    }
}

/// The text of a file, without the revision that `get` put before it.
fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let limit = LENGTH_MAX as u64 + 1;
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(limit).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    let unusable = |why: String| Failure::Usage(format!("{}: {why}", named(file)));
    read.map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(REVISION) => Ok(rest.to_owned()),
        _ => Ok(text),
    }
}

fn named(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// Every wrong place of a file. A file that cannot be used ends otherwise than what is denied by one that can.
fn invalid(file: &Path, invalid: &[Invalid]) -> Failure {
    let places: Vec<String> = invalid.iter().map(|invalid| format!("{}: {invalid}", named(file))).collect();
    Failure::Usage(places.join("\n"))
}

fn current(client: &Client) -> Result<PolicyDocument, Failure> {
    block_on(async { Ok(client.ask(Method::GET, "policy").await?) })
}

fn get(common: &Common) -> Result<(), Failure> {
    let policy = current(&common.server.client()?)?;
    match (common.output, &policy.document) {
        (Output::Json, _) => print_json(&policy),
        (Output::Table, Some(document)) => {
            let revision = policy.revision.unwrap_or_default();
            let end = if document.ends_with('\n') { "" } else { "\n" };
            print(format!("{REVISION}{revision}\n{document}{end}").as_bytes())
        }
        (Output::Table, None) => print_line("# no policy is set: every image is allowed"),
    }
}

fn set(file: &Path, revision: Option<u64>, common: &Common) -> Result<(), Failure> {
    let text = read(file)?;
    let client = common.server.client()?;
    let path = revision.map_or_else(|| "policy".to_owned(), |revision| format!("policy?revision={revision}"));
    let set: PolicySetDocument = block_on(async { Ok(client.send(Method::PUT, &path, text).await?) })?;
    match common.output {
        Output::Json => print_json(&set),
        Output::Table => {
            set.warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
            let how = if set.converted {
                ", converted from image_validation: `trow policy get` prints it"
            } else {
                ""
            };
            print_line(&format!("the policy has revision {} now{how}", set.revision))
        }
    }
}

fn difference(file: &Path, common: &Common) -> Result<(), Failure> {
    let text = read(file)?;
    let wrong = |wrong: Vec<Invalid>| invalid(file, &wrong);
    // Compared is what would be set.
    let text = language::convert(&text).map_err(wrong)?.unwrap_or(text);
    Rules::parse(&text).map_err(wrong)?;
    let policy = current(&common.server.client()?)?;
    let lines = diff::lines(policy.document.as_deref().unwrap_or_default(), &text);
    match common.output {
        Output::Json => print_json(&serde_json::json!({
            "revision": policy.revision,
            "differs": !lines.is_empty(),
            "lines": lines,
        })),
        Output::Table if lines.is_empty() => Ok(()),
        Output::Table => print_line(&lines.join("\n")),
    }
}

fn ask(client: &Client, images: Vec<String>, place: Place) -> Result<ExplainDocument, Failure> {
    let request = ExplainRequest { images, namespace: Some(place.namespace) };
    let question = serde_json::to_string(&request).map_err(|error| Failure::Failed(error.to_string()))?;
    block_on(async { Ok(client.send(Method::POST, "policy/explain", question).await?) })
}

fn test(images: Vec<String>, file: Option<&Path>, place: Place, common: &Common) -> Result<(), Failure> {
    let decided = match file {
        Some(file) => {
            let policy = Rules::parse(&read(file)?).map_err(|wrong| invalid(file, &wrong))?;
            policy.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
            let namespace = place.namespace;
            let decisions = images.iter().map(|image| by_name(&policy, image, &namespace)).collect();
            ExplainDocument { revision: None, namespace, decisions }
        }
        None => ask(&common.server.client()?, images, place)?,
    };
    match common.output {
        Output::Json => print_json(&decided)?,
        Output::Table => print_line(&shown(&decided.decisions).to_string())?,
    }
    let denied: Vec<&str> = decided
        .decisions
        .iter()
        .filter(|decision| decision.verdict == "deny")
        .map(|decision| decision.image.as_str())
        .collect();
    if denied.is_empty() {
        return Ok(());
    }
    let all = counted(decided.decisions.len() as u64, "image");
    Err(Failure::Failed(format!("{} of {all} denied: {}", denied.len(), denied.join(", "))))
}

fn shown(decisions: &[DecisionDocument]) -> Table {
    let mut table = Table::new(["IMAGE", "VERDICT", "MODE", "RULE", "WHY"]);
    for decision in decisions {
        table.row([
            decision.name.clone(),
            decision.verdict.clone(),
            decision.mode.clone(),
            decision.rule.clone(),
            decision.why.clone(),
        ]);
    }
    table
}

fn explain(image: String, place: Place, common: &Common) -> Result<(), Failure> {
    let decided = ask(&common.server.client()?, vec![image], place)?;
    match (common.output, decided.decisions.as_slice()) {
        (Output::Table, [decision]) => print_line(&explained(&decided, decision)),
        _ => print_json(&decided),
    }
}

fn explained(decided: &ExplainDocument, decision: &DecisionDocument) -> String {
    let revision = decided.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
    format!(
        "image      {}\nnamespace  {}\nverdict    {}\nmode       {}\nrule       {}\nwhy        {}\nrevision   {revision}",
        decision.name, decided.namespace, decision.verdict, decision.mode, decision.rule, decision.why,
    )
}

fn convert(file: &Path) -> Result<(), Failure> {
    let text = read(file)?;
    match language::convert(&text).map_err(|wrong| invalid(file, &wrong))? {
        Some(converted) => print(converted.as_bytes()),
        None => Err(Failure::Failed(format!("{}: there is no image_validation block in it", named(file)))),
    }
}
