//! Physical memory as the loader sees it: a trait, so that the tests bring their own.

use skerry_abi::boot::{BootInfo, Range};

/// Physical memory that the loader has allocated and may write.
pub trait Memory {
    /// Copies bytes to `address`.
    fn write(&mut self, address: u64, bytes: &[u8]);
    /// Fills a range with zeros.
    fn zero(&mut self, range: Range);
    /// Reads the word at `address`, a multiple of 8.
    fn word(&self, address: u64) -> u64;
    /// Writes the word at `address`, a multiple of 8.
    fn set_word(&mut self, address: u64, value: u64);
    /// Copies the boot information to `address`, which is page-aligned.
    fn write_boot_info(&mut self, address: u64, info: &BootInfo);
}
