//! Known-bad histories, each of which must be caught, and a good one that must pass.

use super::*;
use crate::history::parse;

const LENIENT: Expect = Expect { no_failed_reads: true, faults: 0, acknowledged: 0 };

/// A history written as `t proc type f digest log_id status`, one event a line; `-` for none.
fn history(text: &str) -> Vec<Event> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let json = lines.map(|line| {
        let w: Vec<&str> = line.split_whitespace().collect();
        let tag = if w[3].ends_with("tag") { r#","tag":"latest""# } else { "" };
        let digest = if w[4] == "-" { String::new() } else { format!(r#","digest":"{}""#, w[4]) };
        let log_id = if w[5] == "-" { String::new() } else { format!(r#","log_id":{}"#, w[5]) };
        let status = if w[6] == "-" { String::new() } else { format!(r#","status":{}"#, w[6]) };
        format!(
            r#"{{"t":{},"proc":{},"node":"n1","type":"{}","f":"{}","repo":"r"{tag}{digest}{log_id}{status}}}"#,
            w[0], w[1], w[2], w[3]
        )
    });
    parse(&json.collect::<Vec<_>>().join("\n")).expect("a history")
}

fn check_finds(text: &str, rule: &str) {
    let found = check(&history(text), LENIENT);
    assert!(found.iter().any(|violation| violation.rule == rule), "{rule} was not found, but {found:?}");
}

const GOOD: &str = "
    1  1 invoke put-tag d1 -  -
    2  1 ok     put-tag d1 10 201
    3  2 invoke get-tag -  -  -
    4  3 invoke put-tag d2 -  -
    5  2 ok     get-tag d1 10 200
    6  3 info   put-tag d2 -  503
    7  4 invoke get-tag -  -  -
    8  4 ok     get-tag d2 12 200
    9  5 invoke push-blob b1 - -
    10 5 ok     push-blob b1 - 201
    11 5 invoke pull-blob b1 - -
    12 5 ok     pull-blob b1 - 200";

#[test]
fn a_right_history_passes() {
    assert_eq!(check(&history(GOOD), LENIENT), []);
}

#[test]
fn a_write_of_unknown_outcome_may_take_effect_or_not() {
    let never = GOOD.replace("ok     get-tag d2 12", "ok     get-tag d1 10");
    assert_eq!(check(&history(&never), LENIENT), []);
}

#[test]
fn a_stale_read_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 1 invoke put-tag d2 - -
         4 1 ok put-tag d2 11 201
         5 2 invoke get-tag - - -
         6 2 ok get-tag d1 10 200",
        "real-time order",
    );
}

#[test]
fn a_read_that_goes_back_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 3 invoke put-tag d2 - -
         4 2 invoke get-tag - - -
         5 2 ok get-tag d2 11 200
         6 2 invoke get-tag - - -
         7 2 ok get-tag d1 10 200
         8 3 ok put-tag d2 11 201",
        "real-time order",
    );
}

#[test]
fn an_acknowledged_tag_that_is_not_found_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 2 invoke get-tag - - -
         4 2 fail get-tag - - 404",
        "acknowledged tags are found",
    );
}

#[test]
fn a_digest_nobody_wrote_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 2 invoke get-tag - - -
         4 2 ok get-tag d9 12 200",
        "reads return writes",
    );
}

#[test]
fn a_refused_write_that_took_effect_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 fail put-tag d1 - 400
         3 2 invoke get-tag - - -
         4 2 ok get-tag d1 10 200",
        "reads return writes",
    );
}

#[test]
fn two_digests_under_one_log_id_are_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 2 invoke put-tag d2 - -
         3 1 ok put-tag d1 10 201
         4 2 ok put-tag d2 10 201",
        "one digest per log id",
    );
}

#[test]
fn a_write_applied_twice_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 1 invoke put-tag d2 - -
         4 1 ok put-tag d2 10 201",
        "one move per log id",
    );
}

#[test]
fn a_write_ordered_before_what_was_seen_is_caught() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 ok put-tag d1 10 201
         3 2 invoke put-tag d2 - -
         4 2 ok put-tag d2 9 201",
        "real-time order",
    );
}

#[test]
fn wrong_bytes_are_caught() {
    check_finds("1 1 invoke pull-blob b1 - -\n2 1 ok pull-blob b2 - 200", "bytes match their digest");
}

#[test]
fn a_lost_blob_is_caught() {
    check_finds(
        "1 1 invoke push-blob b1 - -
         2 1 ok push-blob b1 - 201
         3 1 invoke pull-blob b1 - -
         4 1 fail pull-blob - - 404",
        "acknowledged content is found",
    );
}

#[test]
fn a_read_that_fails_while_a_holder_lives_is_caught_and_may_be_expected() {
    let text = "1 1 invoke push-blob b1 - -
         2 1 ok push-blob b1 - 201
         3 1 invoke pull-blob b1 - -
         4 1 info pull-blob - - 503";
    check_finds(text, "reads by digest do not fail");
    assert_eq!(check(&history(text), Expect { no_failed_reads: false, ..LENIENT }), []);
}

#[test]
fn a_killed_node_is_excused_until_it_is_ready_again() {
    let text = "1 1 invoke push-blob b1 - -
         2 1 ok push-blob b1 - 201
         4 1 invoke pull-blob b1 - -
         6 1 info pull-blob - - -
         8 2 invoke pull-blob b1 - -
         9 2 ok pull-blob b1 - 200";
    let mut events = history(text);
    for (t, what) in [(5, "kill"), (6, "restart"), (7, "ready")] {
        let mut fault = Event::new(0, "n1", Kind::Info, Op::Fault, what);
        fault.t = t;
        events.push(fault);
    }
    assert_eq!(check(&events, LENIENT), []);
    events[4].t = 10;
    (events[5].t, events[5].kind) = (11, Kind::Info);
    assert_eq!(check(&events, LENIENT).len(), 1);
}

#[test]
fn a_proc_that_goes_on_after_an_unknown_outcome_is_a_broken_harness() {
    check_finds(
        "1 1 invoke put-tag d1 - -
         2 1 info put-tag d1 - 503
         3 1 invoke put-tag d2 - -",
        "well-formed",
    );
}

#[test]
fn faults_that_never_fired_and_traffic_that_never_was_are_caught() {
    let found = check(&history(GOOD), Expect { faults: 1, ..LENIENT });
    assert_eq!(found.len(), 1);
    let found = check(&history(GOOD), Expect { acknowledged: 2, ..LENIENT });
    assert!(found.iter().all(|violation| violation.rule == "coverage") && !found.is_empty());
}
