//! The alerts, the dashboard and their page speak of metrics that there are, and of all of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chaos_tests::exposed::METRICS;
use serde_json::Value;

fn page(name: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operations").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Whatever in `text` looks like the name of a metric.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("trow_") || word.starts_with("process_")).collect()
}

fn exposed() -> BTreeSet<String> {
    METRICS.iter().flat_map(|metric| metric.samples()).collect()
}

/// What is not the name of a sample.
fn strange(text: &str) -> Vec<&str> {
    let exposed = exposed();
    names(text).into_iter().filter(|name| !exposed.contains(*name)).collect()
}

#[test]
fn the_page_names_every_metric_and_no_other() {
    let text = page("monitoring.md");
    // It names a histogram, not its samples.
    let families: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| match metric.kind {
            "histogram" => metric.name.to_owned(),
            _ => metric.samples().remove(0),
        })
        .collect();
    let named: BTreeSet<String> = names(&text).into_iter().map(str::to_owned).collect();
    assert_eq!(named.difference(&families).collect::<Vec<_>>(), Vec::<&String>::new(), "not shown by nodes");
    assert_eq!(families.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "not on the page");
    for metric in METRICS.iter().filter(|metric| !metric.labels.is_empty()) {
        let keys: Vec<&str> = metric.labels.iter().map(|(key, _)| *key).collect();
        let name =
            if metric.kind == "histogram" { metric.name.to_owned() } else { metric.samples().remove(0) };
        let written = format!("`{name}{{{}}}`", keys.join(","));
        assert!(text.contains(&written), "the page does not say {written}");
    }
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard: Value = serde_json::from_str(&page("grafana-dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut queries = 0;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            assert!(!names(query).is_empty(), "{} asks for no metric: {query}", panel["title"]);
            assert_eq!(strange(query), Vec::<&str>::new(), "{}", panel["title"]);
            queries += 1;
        }
    }
    assert!(queries > 20, "only {queries} queries were found");
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "two panels have one id");
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        assert_eq!(strange(query), Vec::<&str>::new(), "{}", variable["name"]);
    }
}

#[test]
fn each_alert_names_metrics_that_there_are_and_what_to_do() {
    let text = page("alerts.yml");
    // What PROMETHEUS' own tool checks is the form; here it is what the rules speak of.
    let alerts: Vec<&str> = text.split("- alert: ").skip(1).collect();
    for wanted in [
        "TrowNotScraped",
        "TrowNoQuorum",
        "TrowUnderReplicated",
        "TrowLostBlobs",
        "TrowDiskNearlyFull",
        "TrowNodeDown",
        "TrowCertificateExpires",
        "TrowFsyncSlow",
        "TrowUploadsNearLimit",
        "TrowServerErrors",
    ] {
        assert!(alerts.iter().any(|alert| alert.lines().next() == Some(wanted)), "there is no {wanted}");
    }
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        let expression = alert.split("expr: ").nth(1).and_then(|rest| rest.split("labels:").next());
        let expression = expression.unwrap_or_else(|| panic!("{name} has no expression"));
        // Whether a node is scraped at all is Prometheus' own to say.
        let asks = !names(expression).is_empty() || name == "TrowNotScraped" && expression.contains("up{");
        assert!(asks, "{name} asks for no metric");
        assert_eq!(strange(alert), Vec::<&str>::new(), "{name}");
        let said = |key: &str| alert.split(key).nth(1).is_some_and(|text| text.trim().len() > 20);
        assert!(said("summary: ") && said("description: >-"), "{name} does not say what to do");
    }
}
