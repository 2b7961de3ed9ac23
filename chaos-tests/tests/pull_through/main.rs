//! Images of other registries through three nodes: fetched once, streamed as they arrive, kept, and served when
//! the registry is gone.
//!
//! The registry is one of the test's own ([`chaos_tests::upstream`]), which counts what it is asked; no client
//! and no node reaches more than loopback.

mod arriving;
mod clients;
mod cold;
mod cri;
mod fresh;
mod hostile;
mod kubelet;
mod logins;
mod names;
mod private;
mod registries;
mod settings;
mod site;
mod space;
mod tls;
mod warm;
mod way;
