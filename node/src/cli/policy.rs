//! `trow policy`: which images may run.
//!
//! Always holds: what is printed by `get` can be set again; what no quorum confirmed is marked, and ends with 3. Never
//! does: decide anything that the server or the library does not.

mod diff;
mod offline;
mod refused;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use trow_api::policy::{self as language, LENGTH_MAX, Policy as Rules};

use super::client::Client;
use super::{
    Failure, Output, Server, Table, Unanswered, block_on, counted, note, print, print_json, print_line,
};
use crate::admin::document::policy::{
    DecisionDocument, ExplainDocument, ExplainRequest, PolicyDocument, PolicySetDocument,
};
use crate::admin::policy::DEFAULT_NAMESPACE;

/// What the first line of a printed policy begins with; it is left out when one is read.
const REVISION: &str = "# revision: ";

/// Who gets an answer that no quorum confirmed is told so.
const STALE: &str = "no quorum: this is what the node remembers, and it may have been replaced since; `trow cluster \
    status` names the nodes to start";

/// `trow policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Print the policy, with its revision as a comment in the first line
    #[command(after_help = WITHOUT_QUORUM)]
    Get {
        #[command(flatten)]
        common: Common,
    },
    /// Set the policy; when this returns, every node that can be reached decides by it
    #[command(after_help = "\
An invalid policy is refused as a whole, and every wrong place is named with its line and column; with --output \
json also as {\"errors\":[{\"field\",\"line\",\"column\",\"why\"}]}. A configuration of Trow before version 1 with an \
image_validation block is converted. docs/policy.md describes the language.

To change what somebody else may be changing too: `trow policy get > policy.yaml`, edit it, look at it with `trow \
policy diff policy.yaml`, and set it with --revision and the number in its first line. If somebody was faster, exit \
code 1, and nothing changes.

Without a quorum nothing is set: exit code 3. If the quorum is lost while it sets, it says that nobody knows whether \
the policy was set. Setting the same policy again does no harm; with --revision N that is refused if the first attempt \
took effect.")]
    Set {
        /// The policy, YAML or JSON; - for standard input
        file: PathBuf,
        /// Only if this is the current revision; 0 if there is to be none
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Show in which lines a file differs from the policy that is set: - is there now, + is in the file
    #[command(after_help = WITHOUT_QUORUM)]
    Diff {
        /// The policy, YAML or JSON; - for standard input
        file: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Say of each image whether it may run; exit code 1 when any is denied, 2 when the file is no policy
    #[command(after_help = "\
A denial counts in every mode, also where images run all the same since the mode is warn or audit.

With --file no server is needed: `trow policy test --file policy.yaml --config trow.toml IMAGE…` tests a policy in CI. \
--config and --hostname say what this registry is called, so that images that come through it are decided about as \
the cluster decides; name there also the addresses of nodes by which machines pull. What only the registry knows, \
whether an image exists, its tag resolves, it is replicated or signed, is not looked up: the output says that it is \
needed, and the image counts as allowed. With --assume what is named is taken to be so, everything else not to be so, \
and the image is denied for want of it.

Exit codes: 0 all are allowed; 1 any is denied; 2 the file is no policy, or something was typed wrongly; 3 no server \
answers, or no quorum confirmed what was printed. A script that wants a denial compares with 1.")]
    Test {
        /// As a Pod names them: nginx, quay.io/org/app:1.2, registry.k8s.io/pause@sha256:…
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Decide by this policy, without a server; - for standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        known: offline::Known,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        common: Common,
    },
    /// Say which rule decides about an image, and what to do; exit code 0 whatever that is
    #[command(after_help = WITHOUT_QUORUM)]
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

/// What those that only ask say of it.
const WITHOUT_QUORUM: &str = "\
Without a quorum a node answers from what it remembers: marked as stale, with exit code 3. The webhook decides by that \
for webhook.max_staleness, 5 minutes unless it is set, and then denies.";

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
            Policy::Test { images, file, known, place, common } => {
                test(images, file.as_deref(), &known, place, &common)
            }
            Policy::Explain { image, place, common } => explain(image, place, &common),
            Policy::Convert { file } => convert(&file),
            Policy::Schema => {
                let schema = serde_json::to_string_pretty(&language::schema());
                print_line(&schema.map_err(|error| Failure::Failed(format!("write JSON: {error}")))?)
            }
        }
    }
}

/// How long the line with the revision may be.
const HEAD_MAX: usize = 256;

/// The text of a file, without the revision that `get` put before it.
fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    // What is too long stays so without the line that `get` put before it.
    let limit = (LENGTH_MAX + HEAD_MAX) as u64 + 1;
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(limit).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    let unusable = |why: String| Failure::Usage(format!("{}: {why}", named(file)));
    read.map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with(REVISION) && first.len() < HEAD_MAX => Ok(rest.to_owned()),
        _ => Ok(text),
    }
}

fn named(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

/// The end of a command that has printed its answer: of one that is stale another than of what is so.
fn ended(printed: Result<(), Failure>, stale: bool) -> Result<(), Failure> {
    if stale { Err(Failure::Unanswered(STALE.to_owned()).after(printed)) } else { printed }
}

fn current(client: &Client) -> Result<PolicyDocument, Failure> {
    block_on(async { Ok(client.ask(Method::GET, "policy").await?) })
}

fn get(common: &Common) -> Result<(), Failure> {
    let policy = current(&common.server.client()?)?;
    let stale = if policy.stale { ", stale: no quorum confirmed it" } else { "" };
    let printed = match (common.output, &policy.document) {
        (Output::Json, _) => print_json(&policy),
        (Output::Table, Some(document)) => {
            let revision = policy.revision.unwrap_or_default();
            let end = if document.ends_with('\n') { "" } else { "\n" };
            print(format!("{REVISION}{revision}{stale}\n{document}{end}").as_bytes())
        }
        (Output::Table, None) => print_line(&format!("# no policy is set: every image is allowed{stale}")),
    };
    ended(printed, policy.stale)
}

fn set(file: &Path, revision: Option<u64>, common: &Common) -> Result<(), Failure> {
    let text = read(file)?;
    let client = common.server.client()?;
    let path = revision.map_or_else(|| "policy".to_owned(), |revision| format!("policy?revision={revision}"));
    let set = block_on(async { Ok(client.send::<PolicySetDocument>(Method::PUT, &path, text).await) })?;
    let set = set.map_err(|error| match error {
        Unanswered::Invalid(wrong) => {
            Failure::Failed(refused::text(file, &wrong)).after(refused::print(common.output, &wrong))
        }
        other => refused::otherwise(common.output, other),
    })?;
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
    let wrong = |wrong| refused::unusable(file, wrong, common.output);
    // Compared is what would be set.
    let text = language::convert(&text).map_err(wrong)?.unwrap_or(text);
    Rules::parse(&text).map_err(wrong)?;
    let policy = current(&common.server.client()?)?;
    let lines = diff::lines(policy.document.as_deref().unwrap_or_default(), &text);
    let printed = match common.output {
        Output::Json => print_json(&serde_json::json!({
            "revision": policy.revision,
            "differs": !lines.is_empty(),
            "lines": lines,
            "stale": policy.stale,
        })),
        Output::Table if lines.is_empty() => Ok(()),
        Output::Table => print_line(&lines.join("\n")),
    };
    ended(printed, policy.stale)
}

fn ask(client: &Client, images: Vec<String>, place: Place) -> Result<ExplainDocument, Failure> {
    let request = ExplainRequest { images, namespace: Some(place.namespace) };
    let question = serde_json::to_string(&request).map_err(|error| Failure::Failed(error.to_string()))?;
    block_on(async { Ok(client.send(Method::POST, "policy/explain", question).await?) })
}

fn test(
    images: Vec<String>,
    file: Option<&Path>,
    known: &offline::Known,
    place: Place,
    common: &Common,
) -> Result<(), Failure> {
    let decided = match file {
        Some(file) => {
            let wrong = |wrong| refused::unusable(file, wrong, common.output);
            let policy = Rules::parse(&read(file)?).map_err(wrong)?;
            policy.warnings().iter().for_each(|warning| note(&format!("warning: {warning}")));
            known.decide(policy, &images, place.namespace)?
        }
        None => ask(&common.server.client()?, images, place)?,
    };
    match common.output {
        Output::Json => print_json(&decided)?,
        Output::Table => print_line(&shown(&decided.decisions).to_string())?,
    }
    match verdict(&decided) {
        // It would be another code.
        Err(denied) if decided.stale => {
            note(&denied);
            ended(Ok(()), true)
        }
        verdict => ended(verdict, decided.stale),
    }
}

/// Whether all are allowed.
fn verdict(decided: &ExplainDocument) -> Result<(), Failure> {
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
    let printed = match (common.output, decided.decisions.as_slice()) {
        (Output::Table, [decision]) => print_line(&explained(&decided, decision)),
        _ => print_json(&decided),
    };
    ended(printed, decided.stale)
}

fn explained(decided: &ExplainDocument, decision: &DecisionDocument) -> String {
    let revision = decided.revision.map_or_else(|| "-".to_owned(), |revision| revision.to_string());
    let stale = if decided.stale { ", stale: no quorum confirmed it" } else { "" };
    format!(
        "image      {}\nnamespace  {}\nverdict    {}\nmode       {}\nrule       {}\nwhy        {}\nrevision   {revision}{stale}",
        decision.name, decided.namespace, decision.verdict, decision.mode, decision.rule, decision.why,
    )
}

fn convert(file: &Path) -> Result<(), Failure> {
    let text = read(file)?;
    match language::convert(&text).map_err(|wrong| refused::unusable(file, wrong, Output::Table))? {
        Some(converted) => print(converted.as_bytes()),
        None => Err(Failure::Failed(format!("{}: there is no image_validation block in it", named(file)))),
    }
}
