//! The pure part of unmap: arguments, and where the pages lie.
//!
//! A thread on the first place takes pages of a global region away that a chosen number of places have touched. What the others do
//! meanwhile decides how they hear of it: a CPU that sleeps is woken by an interrupt, one that works is interrupted.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use skerry_abi::boot::MAX_NODES;

/// Where the pages begin.
pub const BASE: u64 = 0x10_0000_0000;
/// Pages in a call with `--batch`: what fits into a message.
pub const BATCH: u64 = 63;
/// Rounds before those that are measured.
pub const WARM_UP: u64 = 16;
/// Rounds that are measured.
pub const ROUNDS: u64 = 64;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Places (nodes with CPUs) that have touched each page, the caller's included.
    pub sharers: usize,
    /// Many pages per call.
    pub batch: bool,
    /// The threads of the other places work while their pages go; otherwise they sleep.
    pub polling: bool,
}

/// What is wrong with the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArgumentError<'a>(pub &'a str);

impl fmt::Display for ArgumentError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unmap: {:?} is not --sharers=N (1 to {MAX_NODES}), --batch or --polling", self.0)
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn parse(arguments: &str) -> Result<Self, ArgumentError<'_>> {
        let mut options = Self { sharers: 1, batch: false, polling: false };
        for word in arguments.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("--sharers", count)) => {
                    let count = count.parse().ok().filter(|count| (1..=MAX_NODES).contains(count));
                    options.sharers = count.ok_or(ArgumentError(word))?;
                }
                None if word == "--batch" => options.batch = true,
                None if word == "--polling" => options.polling = true,
                _ => return Err(ArgumentError(word)),
            }
        }
        Ok(options)
    }

    /// Pages of one round.
    pub const fn pages_per_round(&self) -> u64 {
        if self.batch { BATCH } else { 1 }
    }
    /// All pages.
    pub const fn pages(&self) -> u64 {
        (WARM_UP + ROUNDS) * self.pages_per_round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(Options::parse(""), Ok(Options { sharers: 1, batch: false, polling: false }));
        let all = Options::parse("--sharers=8 --batch --polling");
        assert_eq!(all, Ok(Options { sharers: 8, batch: true, polling: true }));
        assert_eq!(all.unwrap().pages(), 80 * 63);
        for bad in ["--sharers=0", "--sharers=129", "--sharers", "--batch=1", "8", "--sharers=-1"] {
            assert_eq!(Options::parse(bad), Err(ArgumentError(bad)));
        }
    }
}
