//! Several nodes' caches in one process, over real stores, and an upstream that speaks HTTP over loopback.

mod arrive;
mod cluster;
mod durable;
mod fail;
mod grow;
mod private;
mod space;
mod upstream;
