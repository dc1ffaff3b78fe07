//! Modelled time and events, as a program finds them while it runs: what performance counters are on hardware.
//!
//! The measuring instrument (`qemu/plugin`) writes them into the kernel information page ([`crate::info`]), which is read-only in every space, when a
//! CPU executes the query marker ([`crate::marker`]): the words of [`Modelled`] from [`WORD`] on of that CPU's block, and where the block is into
//! [`crate::info::InfoHeader::modelled_block`]. Kernels write neither, so without the instrument that stays 0: not available.

use crate::CpuId;
use crate::info::{CPU_WORD, Counter};

/// Word of a block where they begin: a cache line that no counter is in.
pub const WORD: usize = 40;

macro_rules! modelled {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $text:literal;)*) => {
        /// What is told of a CPU since the instrument was switched on; the value is the word behind [`WORD`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Modelled {
            $($(#[$doc])* $name = $index,)*
        }
        impl Modelled {
            /// All of them, in the order of the words.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// Its name for people and records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

modelled! {
    /// Cycles, with those in which the CPU slept.
    Cycles = 0, "cycles";
    /// Cycles in which it slept.
    Idle = 1, "idle";
    /// Instructions, by whole blocks.
    Instructions = 2, "instructions";
    /// Lines that the first level lacked.
    L1Misses = 3, "l1-misses";
    /// Lines that the second level lacked, too.
    L2Misses = 4, "l2-misses";
    /// Lines that the node's last level lacked, too.
    LlcMisses = 5, "llc-misses";
    /// Lines read from the node's own memory.
    DramLocal = 6, "dram-local";
    /// Lines read from other nodes' memory.
    DramRemote = 7, "dram-remote";
    /// Translations that the TLB lacked.
    TlbMisses = 8, "tlb-misses";
    /// Cycles that page-table walks took.
    WalkCycles = 9, "walk-cycles";
    /// Lines that walks read from the node's own memory.
    WalkDramLocal = 10, "walk-dram-local";
    /// Lines that walks read from other nodes' memory.
    WalkDramRemote = 11, "walk-dram-remote";
}

/// How many there are.
pub const COUNT: usize = Modelled::ALL.len();

const _: () = assert!(Counter::ALL.len() <= WORD && WORD + COUNT <= CPU_WORD && WORD.is_multiple_of(8));

/// What was told of a CPU, at one moment or between two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The CPU.
    pub cpu: CpuId,
    /// Its words.
    pub words: [u64; COUNT],
}

impl Sample {
    /// One of them.
    pub const fn get(&self, what: Modelled) -> u64 {
        self.words[what as usize]
    }
    /// What has happened since an earlier sample; `None` if that is another CPU's.
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let words = core::array::from_fn(|i| self.words[i].wrapping_sub(earlier.words[i]));
        (self.cpu == earlier.cpu).then_some(Self { cpu: self.cpu, words })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_in_order_and_named_apart() {
        for (i, &word) in Modelled::ALL.iter().enumerate() {
            assert_eq!(word as usize, i);
            assert!(Modelled::ALL[..i].iter().all(|other| other.name() != word.name()));
        }
    }

    #[test]
    fn samples_of_two_cpus_have_no_difference() {
        let sample = |cpu, cycles| Sample { cpu, words: [cycles; COUNT] };
        assert_eq!(sample(1, 7).since(&sample(1, 3)), Some(sample(1, 4)));
        assert_eq!(sample(1, 7).since(&sample(0, 3)), None);
    }
}
