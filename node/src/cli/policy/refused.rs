//! What is said of a policy that is refused: for people, and for programs.
//!
//! Always holds: whoever asked for JSON gets it on standard output, beside the sentences on standard error.

use std::path::Path;

use serde::Serialize;
use trow_api::policy::Invalid;

use super::super::{Failure, Output, Unanswered, print_json};
use super::named;

/// For programs.
#[derive(Serialize)]
struct Document<'w> {
    errors: Vec<Place<'w>>,
}

/// A wrong place of a document; without a place when it is not about the document.
#[derive(Default, Serialize)]
struct Place<'w> {
    field: Option<&'w str>,
    line: Option<u64>,
    column: Option<u64>,
    why: &'w str,
}

impl<'w> Place<'w> {
    fn of(wrong: &'w Invalid) -> Place<'w> {
        let Invalid { field, line, column, why } = wrong;
        Place { field: Some(field), line: Some(*line), column: Some(*column), why }
    }
}

/// Every wrong place of a file, a line each.
pub(super) fn text(file: &Path, wrong: &[Invalid]) -> String {
    let places: Vec<String> = wrong.iter().map(|wrong| format!("{}: {wrong}", named(file))).collect();
    places.join("\n")
}

/// The same for programs, if one asks.
pub(super) fn print(output: Output, wrong: &[Invalid]) -> Result<(), Failure> {
    said(output, wrong.iter().map(Place::of).collect())
}

/// A file that cannot be used ends otherwise than what is denied by one that can.
pub(super) fn unusable(file: &Path, wrong: Vec<Invalid>, output: Output) -> Failure {
    Failure::Usage(text(file, &wrong)).after(print(output, &wrong))
}

/// Not for what is written in it.
pub(super) fn otherwise(output: Output, error: Unanswered) -> Failure {
    let why = error.to_string();
    Failure::from(error).after(said(output, vec![Place { why: &why, ..Place::default() }]))
}

fn said(output: Output, errors: Vec<Place<'_>>) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(&Document { errors }),
        Output::Table => Ok(()),
    }
}
