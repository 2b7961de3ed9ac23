//! Does one durable step of log or state in a directory, says `done`, and stands still until it is
//! killed: `storage_probe DIR prepare|append|vote|truncate|checkpoint|read`. `TROW_PLANTED` chooses the
//! fsync to leave out.

use std::io::Write;

use trow_raft::Planted;
use trow_raft::probe::{Error, Probe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, step] = arguments.as_slice() else { return Err("storage_probe DIR STEP".into()) };
    let mut probe = Probe::open(dir.as_ref(), Planted::from_env()?)?;
    let mut said = "done".to_owned();
    match step.as_str() {
        "prepare" => probe.prepare().await?,
        "append" => probe.append().await?,
        "vote" => probe.vote().await?,
        "truncate" => probe.truncate().await?,
        "checkpoint" => probe.checkpoint()?,
        "read" => {
            let (term, last, applied) = probe.read().await?;
            said = format!(r#"{{"term":{term},"last":{last},"applied":{applied}}}"#);
        }
        other => return Err(format!("no such step: {other}").into()),
    }
    writeln!(std::io::stdout(), "{said}")?;
    // Ending would close the files, and closing syncs.
    std::future::pending().await
}
