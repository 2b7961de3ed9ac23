//! The ext4 ioctl that ends a file system as a power loss would: what was not synced is gone.
//!
//! The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use rustix::io::Result;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)` in the kernel's `fs/ext4/ext4.h`.
const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`: neither data nor journal are written first.
const NO_LOG_FLUSH: u32 = 2;

/// Cuts the power of the ext4 file system on which `directory` lies. It takes root.
pub(crate) fn cut(directory: &Path) -> std::io::Result<()> {
    let directory = File::open(directory)?;
    shutdown(&directory)?;
    Ok(())
}

fn shutdown(directory: &File) -> Result<()> {
    // SAFETY: the kernel reads a u32 through the pointer that `Setter` passes, as this opcode asks, and
    // writes nothing through it.
    unsafe { ioctl(directory, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }
}
