//! Cache maintenance to the Point of Coherency when a frame changes hands: what is needed, and what was done.
//!
//! Every hand-over goes through one function of the pager, which names the [`Site`]; the memory model decides whether anything
//! has to be done there, and with which [`Operation`]. Both are counted, so that an experiment can say what coherence costs.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_ipc::pager::{self, Maintained};

/// Why a frame changes hands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Site {
    /// Nobody maps it any more; somebody else may soon.
    Unmap,
    /// It is mapped with fewer rights from now on.
    Restrict,
    /// Nobody maps it any more, and it is going to be copied to another node.
    Migrate,
    /// A page was copied to it, for somebody else to use.
    Copy,
    /// Nobody maps it any more; from now on others copy it.
    Replicate,
    /// Nobody copies it any more; from now on others write to it.
    Collapse,
    /// It was a node's own copy, which goes.
    Replica,
    /// It goes back to its pool, and to whoever gets it next.
    Free,
}

/// An operation, on every line of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Operation {
    /// `DC CVAC`: what was written is in memory.
    Clean,
    /// `DC CIVAC`: and no cache has it any more.
    CleanInvalidate,
}

const SITES: usize = pager::SITES.len();
const OPERATIONS: usize = pager::OPERATIONS.len();

/// What memory between nodes is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Caches keep themselves coherent.
    Coherent,
    /// As if they did not: for what it costs.
    Always,
}

/// What has to be done.
pub const fn needed(model: Model, site: Site) -> Option<Operation> {
    match (model, site) {
        (Model::Coherent, _) => None,
        // What was written goes to memory, and who reads it stays.
        (Model::Always, Site::Restrict | Site::Copy | Site::Replicate) => Some(Operation::Clean),
        (Model::Always, _) => Some(Operation::CleanInvalidate),
    }
}

/// Bytes of a data cache line, from `CTR_EL0` (DminLine: log2 of its words).
pub const fn line_bytes(ctr: u64) -> u64 {
    4 << (ctr >> 16 & 0xf)
}

/// The lines of a range, by their first addresses.
pub fn lines(base: u64, bytes: u64, line: u64) -> impl Iterator<Item = u64> {
    let first = base & !(line - 1);
    (0..(base + bytes - first).div_ceil(line)).map(move |i| first + i * line)
}

/// Lines that were maintained, by operation and site.
#[derive(Debug)]
pub struct Counts([[AtomicU64; SITES]; OPERATIONS]);

impl Counts {
    /// None.
    pub const fn new() -> Self {
        Self([const { [const { AtomicU64::new(0) }; SITES] }; OPERATIONS])
    }
    /// Counts these lines.
    pub fn add(&self, operation: Operation, site: Site, lines: u64) {
        self.0[operation as usize][site as usize].fetch_add(lines, Ordering::Relaxed);
    }
    /// All of them.
    pub fn all(&self) -> Maintained {
        let count = |line: &[AtomicU64; SITES]| core::array::from_fn(|i| line[i].load(Ordering::Relaxed));
        Maintained(core::array::from_fn(|i| count(&self.0[i])))
    }
    /// How many there were.
    pub fn get(&self, operation: Operation, site: Site) -> u64 {
        self.0[operation as usize][site as usize].load(Ordering::Relaxed)
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn every_line_of_a_range_once() {
        assert_eq!(line_bytes(0x8444_c004), 64);
        assert_eq!(lines(0x1000, 256, 64).collect::<Vec<_>>(), [0x1000, 0x1040, 0x1080, 0x10c0]);
        assert_eq!(lines(0x103f, 2, 64).collect::<Vec<_>>(), [0x1000, 0x1040]);
        let counts = Counts::new();
        assert_eq!(needed(Model::Coherent, Site::Unmap), None);
        let operation = needed(Model::Always, Site::Unmap).unwrap();
        counts.add(operation, Site::Unmap, 64);
        assert_eq!(counts.get(Operation::CleanInvalidate, Site::Unmap), 64);
        assert_eq!(counts.get(Operation::Clean, Site::Unmap), 0);
        // Interface and pager name the same things in the same order.
        assert_eq!(
            (pager::SITES[Site::Free as usize], pager::OPERATIONS[operation as usize]),
            ("free", "clean-invalidate")
        );
        assert_eq!(counts.all().0[operation as usize][Site::Unmap as usize], 64);
        assert_eq!(pager::SITES.map(str::len).len(), Site::Free as usize + 1);
    }
}
