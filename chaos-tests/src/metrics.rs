//! Reading a node's `/metrics`.

use std::time::Duration;

use anyhow::Result;

use crate::process::Node;

/// The sum of the samples of `name` whose labels contain each of `labels` (`key="value"`).
pub async fn read(node: &Node, name: &str, labels: &[&str]) -> Result<f64> {
    let url = format!("http://{}/metrics", node.ops);
    let text = crate::client::http(Duration::from_secs(5)).get(url).send().await?.text().await?;
    Ok(sum(&text, name, labels))
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
}
