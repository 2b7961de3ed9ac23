//! The clients that people use, as they use them, against three nodes: each pushes through one node,
//! pulls through another and deletes through the third.
//!
//! Clients are Debian's packages, or built from source by `.ci/run`. What comes back is checked by digest
//! against what went in, and what was deleted must be gone on every node. Of a client that has no verb to
//! delete with, the harness deletes the work. No client reaches more than loopback.
//!
//! `TROW_LAYER_MIB` is how big the one big layer is: 16 unless said; a full run uses 1024 and takes 5 GiB
//! of the disk until it is done. docs/clients.md shows the same commands to people.

mod buildah;
mod containerd;
mod cosign;
mod crane;
mod documented;
mod helm;
mod oras;
mod podman;
mod regctl;
mod site;
mod skopeo;
mod tls;
