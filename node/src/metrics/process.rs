//! The process, under the names that Prometheus' own libraries give such figures.
//!
//! Read from `/proc` at each scrape; what cannot be read is left out, as those libraries do.

use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Linux tells user space of processor time in these, whatever the kernel was built with.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the process' figures at each scrape.
#[derive(Debug)]
pub struct ProcessMetrics {
    started: f64,
}

impl ProcessMetrics {
    /// Of this process; the first call takes now for its start.
    pub fn new() -> Self {
        static STARTED: OnceLock<f64> = OnceLock::new();
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        ProcessMetrics { started: *STARTED.get_or_init(now) }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut out: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&stat) {
            let (name, help) = ("process_cpu_seconds", "Processor time, of user and system, in seconds");
            let descriptor = out.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(descriptor)?;
        }
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", kib(&status, "VmRSS:")),
            ("process_virtual_memory_bytes", "Virtual memory", kib(&status, "VmSize:")),
            ("process_threads", "Threads", field(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors", open),
            ("process_max_fds", "The most file descriptors that may be open", most_files(&limits)),
            ("process_start_time_seconds", "When the process started, since 1970", Some(self.started)),
        ] {
            let Some(value) = value else { continue };
            ConstGauge::new(value).encode(out.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// User and system time, the 14th and 15th field of `/proc/<pid>/stat`; the second holds the name
/// in brackets, which may contain spaces.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut after = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (after.next()?.parse().ok()?, after.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn kib(status: &str, name: &str) -> Option<f64> {
    field(status, name).map(|kib| kib * 1024.0)
}

fn most_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_the_kernel_writes() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 12345 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        let status = "Name:\ttrow\nVmSize:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t9\n";
        assert_eq!(kib(status, "VmRSS:"), Some(1024.0 * 1024.0));
        assert_eq!(field(status, "Threads:"), Some(9.0));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n";
        assert_eq!(most_files(limits), Some(1024.0));
        assert_eq!(most_files("Max open files unlimited unlimited files"), None);
        assert_eq!((cpu_seconds(""), kib("", "VmRSS:")), (None, None));
    }
}
