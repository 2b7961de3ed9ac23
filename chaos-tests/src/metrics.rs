//! Reading a node's `/metrics`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::Node;

/// The sum of the samples of `name` whose labels contain each of `labels` (`key="value"`).
pub async fn read(node: &Node, name: &str, labels: &[&str]) -> Result<f64> {
    Ok(sum(&scrape(&node.ops).await?, name, labels))
}

/// The whole page of the ops listener at `address`.
pub async fn scrape(address: &str) -> Result<String> {
    let url = format!("http://{address}/metrics");
    let reply = crate::client::http(Duration::from_secs(5)).get(url).send().await?;
    Ok(reply.error_for_status()?.text().await?)
}

/// One number, and what it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name with its suffix: `x_total`, `x_bucket`.
    pub name: String,
    /// By key.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// A family of metrics as the page describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: String,
    /// What it says of itself.
    pub help: String,
    /// Its numbers.
    pub samples: Vec<Sample>,
}

/// The families of a page, by name.
///
/// # Errors
/// It is not what OpenMetrics says: a sample belongs to the family described last.
pub fn families(page: &str) -> Result<BTreeMap<String, Family>> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut last = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let text = words.next().unwrap_or_default().to_owned();
            match what {
                "HELP" => families.entry(name.to_owned()).or_default().help = text,
                "TYPE" => families.entry(name.to_owned()).or_default().kind = text,
                _ => continue,
            }
            last = name.to_owned();
            continue;
        }
        let sample = sample(line).with_context(|| format!("not a sample: {line:?}"))?;
        match families.get_mut(&last) {
            Some(family) if sample.name.starts_with(&last) => family.samples.push(sample),
            _ => bail!("{line:?} follows the description of {last:?}"),
        }
    }
    Ok(families)
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut found = BTreeMap::new();
    let mut rest = labels.strip_suffix('}')?;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (text, after) = after.split_once('"')?;
        found.insert(key.to_owned(), text.to_owned());
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Sample { name: name.to_owned(), labels: found, value: value.parse().ok()? })
}

fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let wanted = samples.filter(|(series, _)| {
        let (base, rest) = series.split_once('{').unwrap_or((series, ""));
        base == name && labels.iter().all(|label| rest.contains(label))
    });
    wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_chosen_by_name_and_labels() {
        let text = "# TYPE x counter\nx{a=\"1\",b=\"2\"} 3\nx{a=\"1\",b=\"4\"} 5\nxy{a=\"1\"} 7\nz 9\n";
        assert_eq!(sum(text, "x", &["a=\"1\""]), 8.0);
        assert_eq!(sum(text, "x", &["b=\"4\""]), 5.0);
        assert_eq!(sum(text, "z", &[]), 9.0);
    }

    #[test]
    fn a_page_is_read_by_family() {
        let page =
            "# HELP x Some.\n# TYPE x counter\nx_total{a=\"1\",b=\"/2\"} 3\n# TYPE y gauge\ny 0.5\n# EOF\n";
        let families = families(page).unwrap();
        let x = &families["x"];
        assert_eq!((x.kind.as_str(), x.help.as_str(), x.samples[0].value), ("counter", "Some.", 3.0));
        assert_eq!(x.samples[0].labels.get("b").map(String::as_str), Some("/2"));
        assert_eq!(families["y"].samples[0].name, "y");
        assert!(super::families("# TYPE x gauge\nz 1\n").is_err());
        assert!(super::families("# TYPE x gauge\nx{a=1} 1\n").is_err());
    }
}
