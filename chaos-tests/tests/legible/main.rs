//! What an operator reads: metrics, status, logs, traces, and the pages that explain them.

mod logs;
mod metrics;
mod pages;
mod status;
mod traces;
mod watch;
