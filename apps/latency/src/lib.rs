//! The pure part of latency: arguments, where the lists lie, which phase is which.
//!
//! A list is a chain of words at a fixed distance, each the address of the next, the last one that of the first. There is one in the memory
//! of every node that has a CPU, and a thread on the first of them walks each, at several sizes. Every load has to wait for
//! the one before, so no prefetcher helps (the thesis behind Skerry measured its machine in the same way).
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use skerry_abi::boot::MAX_NODES;
use skerry_abi::marker;

const PAGE: u64 = 4096;
/// Where the first list begins.
pub const BASE: u64 = 0x10_0000_0000;
/// From one list to the next, and the largest size.
pub const SPACING: u64 = 1 << 30;
/// Sizes at most.
pub const MAX_SIZES: usize = 8;
/// Phases at most: places times sizes.
pub const MAX_PHASES: usize = 32;
/// Loads of each phase at least: whole rounds.
const LOADS: u64 = 1 << 16;

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    sizes: [u64; MAX_SIZES],
    count: usize,
    /// Bytes from one word of a list to the next.
    pub stride: u64,
}

/// What is wrong with the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArgumentError<'a>(pub &'a str);

impl fmt::Display for ArgumentError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "latency: {:?} is not --sizes BYTES,… (4096 to 1G, at most {MAX_SIZES}) or --stride BYTES (8 to 4096)",
            self.0
        )
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn parse(arguments: &str) -> Result<Self, ArgumentError<'_>> {
        let mut options = Self { sizes: [0; MAX_SIZES], count: 0, stride: 64 };
        for word in arguments.split_ascii_whitespace() {
            let wrong = ArgumentError(word);
            match word.split_once('=').ok_or(wrong)? {
                ("--stride", value) => {
                    options.stride = value.parse().map_err(|_| wrong)?;
                    if !options.stride.is_power_of_two() || !(8..=PAGE).contains(&options.stride) {
                        return Err(wrong);
                    }
                }
                ("--sizes", list) => {
                    options.count = 0;
                    for value in list.split(',') {
                        let size: u64 = value.parse().map_err(|_| wrong)?;
                        if !size.is_multiple_of(PAGE) || !(PAGE..=SPACING).contains(&size) {
                            return Err(wrong);
                        }
                        *options.sizes.get_mut(options.count).ok_or(wrong)? = size;
                        options.count += 1;
                    }
                }
                _ => return Err(wrong),
            }
        }
        if options.count == 0 {
            options.sizes[0] = 16 << 20;
            options.count = 1;
        }
        Ok(options)
    }

    /// The sizes of the lists.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes[..self.count]
    }
    /// The largest one.
    pub fn largest(&self) -> u64 {
        self.sizes().iter().copied().max().unwrap_or(PAGE)
    }
    /// Loads that a list of this size gives in a phase.
    pub fn loads(&self, size: u64) -> u64 {
        LOADS.next_multiple_of((size / self.stride).max(1))
    }
    /// The phase in which the list of a place is walked at one of the sizes.
    pub fn phase(&self, place: usize, size: usize) -> u16 {
        marker::OWN + (place * self.count + size) as u16
    }
    /// Whether there are phases enough for so many places.
    pub fn fits(&self, places: usize) -> bool {
        places <= MAX_NODES && places * self.count <= MAX_PHASES
    }
}

/// Where the list of a place begins.
pub const fn list(place: usize) -> u64 {
    BASE + place as u64 * SPACING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let options = Options::parse("--sizes=4096,1048576 --stride=128").unwrap();
        assert_eq!(
            (options.sizes(), options.stride, options.largest()),
            (&[4096, 1 << 20][..], 128, 1 << 20)
        );
        assert_eq!(Options::parse("").unwrap().sizes(), [16 << 20]);
        for bad in
            ["--sizes=1", "--sizes=", "--sizes=4096,x", "--stride=100", "--stride=8192", "--size=4096", "x"]
        {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
        assert!(Options::parse("--sizes=4096,4096,4096,4096,4096,4096,4096,4096,4096").is_err());
    }

    #[test]
    fn phases_are_whole_rounds_and_different() {
        let options = Options::parse("--sizes=4096,8192").unwrap();
        assert_eq!((options.phase(0, 1), options.phase(1, 0)), (17, 18));
        assert_eq!((options.loads(4096), options.loads(3 * 4096)), (1 << 16, 192 * 342));
        assert!(options.fits(16) && !options.fits(17));
    }
}
