//! What an operator reads: metrics, status, logs, and the pages that explain them.

mod logs;
mod metrics;
mod pages;
mod status;
mod watch;
