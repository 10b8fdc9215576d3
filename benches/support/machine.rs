//! What a figure depends on and a reader cannot guess: processor, cores, kernel, and when.

use std::fs;
use std::thread;

use serde_json::{Value, json};

/// The machine as a JSON object; what the system does not say is "unknown".
pub(crate) fn describe() -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": cpu,
        "cores": thread::available_parallelism().map_or(0, usize::from),
        "kernel": if kernel.is_empty() { "unknown" } else { kernel.trim() },
        "measured_at": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    })
}
