//! What is measured of cached blobs at the moment somebody asks.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::Cache;

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl Collector for Cache {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.stats();
        let help = "Blobs of upstream registries that are arriving here";
        let gauge = ConstGauge::new(i64::try_from(stats.filling).unwrap_or(i64::MAX));
        gauge.encode(out.encode_descriptor(
            "trow_cache_fills_in_flight",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        let help = "Blobs of upstream registries fetched here, by what became of them";
        let mut family = out.encode_descriptor("trow_cache_fills", help, None, MetricType::Counter)?;
        for (result, count) in stats.fills {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        let help = "Reads of blobs of upstream registries through this node, by where their bytes were";
        let mut family = out.encode_descriptor("trow_cache_blob_reads", help, None, MetricType::Counter)?;
        for (source, count) in stats.reads {
            ConstCounter::new(count).encode(family.encode_family(&[("source", source)])?)?;
        }
        Ok(())
    }
}
