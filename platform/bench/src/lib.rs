//! What a case of a benchmark is: a path, the most instructions it may take, and what others need for the like of it.
//!
//! A benchmark's program and the launcher share its table of cases, so that a case is named, measured, judged and explained in one
//! place. The program measures, the launcher judges and prints.
#![no_std]
#![forbid(unsafe_code)]

/// Samples of each case that count.
pub const SAMPLES: usize = 64;
/// Samples before them that do not.
pub const WARM_UP: usize = 64;

/// One path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name in records and on command lines.
    pub name: &'static str,
    /// What happens between the two looks at the counter.
    pub what: &'static str,
    /// The most instructions that it may take.
    pub bar: Option<u64>,
    /// What others need for the like of it: who they are, the benchmark says.
    pub others: [Option<u64>; 2],
    /// Labels of the two looks at the counter in the program, if the way between them has a ledger.
    pub marks: Option<[&'static str; 2]>,
    /// What is counted at a time does this many times what the number is about.
    pub per: u64,
    /// What the kernel's command line has to say for it besides what it says for all; those with the same share a boot.
    pub options: &'static str,
}

impl Case {
    /// A case with its bar and the numbers of two others; 0 is none.
    pub const fn new(name: &'static str, [bar, first, second]: [u64; 3], what: &'static str) -> Self {
        const fn some(number: u64) -> Option<u64> {
            if number == 0 { None } else { Some(number) }
        }
        Self {
            name,
            what,
            bar: some(bar),
            others: [some(first), some(second)],
            marks: None,
            per: 1,
            options: "",
        }
    }

    /// The same case with a ledger of the way between two labels.
    pub const fn between(mut self, first: &'static str, last: &'static str) -> Self {
        self.marks = Some([first, last]);
        self
    }

    /// The same case, with so many of what it is about between two looks at the counter.
    pub const fn per(mut self, per: u64) -> Self {
        self.per = per;
        self
    }

    /// The same case in a boot with these options.
    pub const fn booted(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }
}

/// The case with this name.
pub fn find(cases: &'static [Case], name: &str) -> Option<&'static Case> {
    cases.iter().find(|case| case.name == name)
}
