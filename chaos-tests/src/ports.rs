//! Ports on loopback that nobody else uses, for tests that run at once in many processes.
//!
//! A [`Ports`] is a block of ports below the kernel's ephemeral range, held by a locked file for as
//! long as the value lives, so that a node which is killed finds its ports free when it comes back.

use std::fs::File;
use std::net::TcpListener;

use rand::Rng;

/// Ports in a block; room for ten nodes of ten ports each.
const BLOCK: u16 = 100;
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// A block of ports that are this value's alone among the processes that ask this way.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    _held: File,
}

impl Ports {
    /// Takes a block.
    ///
    /// # Panics
    /// None is free after many tries.
    pub fn take() -> Self {
        for _ in 0..500 {
            let base = FIRST + BLOCK * rand::rng().random_range(0..(LAST - FIRST) / BLOCK);
            let file = std::env::temp_dir().join(format!("trow-ports-{base}.lock"));
            let Ok(held) = File::options().create(true).truncate(false).write(true).open(&file) else {
                continue;
            };
            if held.try_lock().is_err() {
                continue;
            }
            let free = (base..base + BLOCK)
                .step_by(10)
                .all(|port| (0..4).all(|offset| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()));
            if free {
                return Ports { base, _held: held };
            }
        }
        panic!("no block of {BLOCK} free ports between {FIRST} and {LAST}");
    }

    /// The first port of the block.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// Node `index`'s (from 0) port number `offset` (0 clients, 1 peers, 2 ops, 3 webhook).
    pub fn of(&self, index: usize, offset: u16) -> u16 {
        self.base + 10 * index as u16 + offset
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(std::env::temp_dir().join(format!("trow-ports-{}.lock", self.base)));
    }
}
