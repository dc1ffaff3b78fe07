//! The loader's own words on the kernel command line. All others belong to somebody else and are left alone.

use skerry_abi::boot::BootInfo;
use skerry_topology::Mode;

use crate::Error;

/// Timer period without `tick=`.
pub const DEFAULT_TICK_NS: u64 = 10_000_000;
/// Longer periods are a typing error.
const MAX_TICK_NS: u64 = 10_000_000_000;

/// What the command line asks the loader to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `clusters=per-node|one|per-cpu`.
    pub mode: Mode,
    /// `tick=<n>us|ms`, in nanoseconds.
    pub tick_ns: u64,
}

impl Options {
    /// Reads the command line that `info` holds.
    ///
    /// # Errors
    /// [`Error::Clusters`] or [`Error::Tick`] if a value is not one of those that exist.
    pub fn read(info: &BootInfo) -> Result<Self, Error> {
        let mode = match info.option("clusters") {
            Some(value) => value.parse().map_err(|()| Error::Clusters)?,
            None => Mode::default(),
        };
        let tick_ns = match info.option("tick") {
            Some(value) => tick(value).ok_or(Error::Tick)?,
            None => DEFAULT_TICK_NS,
        };
        Ok(Self { mode, tick_ns })
    }
}

fn tick(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix("us") {
        Some(digits) => (digits, 1_000),
        None => (text.strip_suffix("ms")?, 1_000_000),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `parse` would take a sign
    }
    let ns = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=MAX_TICK_NS).contains(&ns).then_some(ns)
}
