//! The pure part of array-walk: arguments, where the arrays lie, what their words contain.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

const PAGE: u64 = 4096;
/// Where the first array begins.
pub const BASE: u64 = 0x10_0000_0000;
/// Arrays larger than this leave the space set aside for them.
const MAX_SIZE: u64 = 1 << 33;

/// What to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    /// Share of each array that the next thread's array covers, 0 to 1.
    pub overlap: f64,
    /// Passes over the array.
    pub iterations: u64,
    /// Bytes per array, a multiple of the page size.
    pub size: u64,
    /// Write, not only read.
    pub write: bool,
    /// The arrays lie in memory of each node's own, which pagers need not agree about. Needs overlap 0.
    pub local: bool,
    /// Every thread touches its pages before what is measured: what a walk costs where no fault costs anything.
    pub touched: bool,
    /// A thread on every CPU, not only on every node.
    pub per_cpu: bool,
}

/// What is wrong with the arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgumentError<'a> {
    /// No such option.
    Unknown(&'a str),
    /// The option's value is missing or out of its range.
    Value(&'static str, &'a str),
    /// Memory of a node's own cannot be shared.
    Shared,
}

impl fmt::Display for ArgumentError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "array-walk: unknown argument {word}"),
            Self::Value(option, value) => write!(f, "array-walk: {option} does not take {value:?}"),
            Self::Shared => f.write_str("array-walk: --local needs --overlap 0"),
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (1..=MAX_SIZE).contains(&bytes).then(|| bytes.next_multiple_of(PAGE))
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`ArgumentError`].
    pub fn parse(arguments: &str) -> Result<Self, ArgumentError<'_>> {
        let mut options = Self {
            overlap: 0.0,
            iterations: 1,
            size: 50 << 20,
            write: false,
            local: false,
            touched: false,
            per_cpu: false,
        };
        // `--size 2M` and `--size=2M` are the same.
        let separator = |c: char| c.is_ascii_whitespace() || c == '=';
        let mut words = arguments.split(separator).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let mut value = |name, ok: &mut dyn FnMut(&str) -> Option<()>| {
                let text = words.next().unwrap_or("");
                ok(text).ok_or(ArgumentError::Value(name, text))
            };
            match word {
                "--write" => options.write = true,
                "--local" => options.local = true,
                "--touched" => options.touched = true,
                "--per-cpu" => options.per_cpu = true,
                "--overlap" => value("--overlap", &mut |text| {
                    options.overlap = text.parse().ok().filter(|overlap| (0.0..=1.0).contains(overlap))?;
                    Some(())
                })?,
                "--iterations" => value("--iterations", &mut |text| {
                    options.iterations = text.parse().ok().filter(|&iterations| iterations > 0)?;
                    Some(())
                })?,
                "--size" => value("--size", &mut |text| {
                    options.size = size(text)?;
                    Some(())
                })?,
                other => return Err(ArgumentError::Unknown(other)),
            }
        }
        if options.local && options.overlap != 0.0 { Err(ArgumentError::Shared) } else { Ok(options) }
    }

    /// Bytes from the start of one array to that of the next, rounded to pages.
    pub fn stride(&self) -> u64 {
        let pages = (self.size / PAGE) as f64 * (1.0 - self.overlap);
        (pages + 0.5) as u64 * PAGE
    }
    /// What the overlap became by rounding.
    pub fn actual_overlap(&self) -> f64 {
        1.0 - self.stride() as f64 / self.size as f64
    }
    /// Where the array of a thread begins.
    pub fn start(&self, thread: u64) -> u64 {
        BASE + thread * self.stride()
    }
    /// Bytes of all arrays of so many threads together.
    pub fn total(&self, threads: u64) -> u64 {
        threads.saturating_sub(1) * self.stride() + self.size
    }
    /// The lowest thread whose array contains the address.
    pub fn owner(&self, threads: u64, address: u64) -> u64 {
        (0..threads).find(|&k| address < self.start(k) + self.size).unwrap_or(0)
    }
}

/// Whether a thread walks upwards in an iteration: even threads begin upwards, odd ones downwards, and all turn round.
pub const fn upwards(thread: u64, iteration: u64) -> bool {
    (thread + iteration).is_multiple_of(2)
}

/// The word at an address in a phase: different for every word and every phase, and never zero for the fill phase.
pub const fn word(address: u64, phase: u32) -> u32 {
    ((address >> 2) as u32).wrapping_mul(0x9e37_79b1).wrapping_add(phase.wrapping_mul(0x85eb_ca6b)) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let options = Options::parse("--overlap=0.5 --iterations 4 --size=2M --write").unwrap();
        let (local, touched, per_cpu) = (false, false, false);
        let expected =
            Options { overlap: 0.5, iterations: 4, size: 2 << 20, write: true, local, touched, per_cpu };
        assert_eq!(options, expected);
        let all = Options::parse("--local --touched --per-cpu").unwrap();
        assert!(all.local && all.touched && all.per_cpu);
        assert_eq!(Options::parse("--local --overlap 0.1"), Err(ArgumentError::Shared));
        assert_eq!(Options::parse("").unwrap().size, 50 << 20);
        assert_eq!(Options::parse("--size 5000").unwrap().size, 8192);
        for bad in [
            "--overlap 1.1",
            "--overlap",
            "--overlap NaN",
            "--iterations 0",
            "--size 0",
            "--size x",
            "--size 99G",
        ] {
            assert!(matches!(Options::parse(bad), Err(ArgumentError::Value(..))), "{bad}");
        }
        assert_eq!(Options::parse("--fast"), Err(ArgumentError::Unknown("--fast")));
    }

    #[test]
    fn geometry() {
        let options =
            |overlap| Options { overlap, iterations: 1, size: 100 << 12, ..Options::parse("").unwrap() };
        assert_eq!(options(0.0).total(2), 200 << 12);
        assert_eq!(options(1.0).total(4), 100 << 12);
        let third = options(1.0 / 3.0);
        assert_eq!(third.stride(), 67 << 12);
        assert!((third.actual_overlap() - 0.33).abs() < 1e-9);
        assert_eq!(third.owner(2, BASE + (99 << 12)), 0);
        assert_eq!(third.owner(2, BASE + (100 << 12)), 1);
        assert!(upwards(0, 0) && !upwards(1, 0) && !upwards(0, 1));
        assert_ne!(word(BASE, 1), word(BASE, 2));
    }
}
