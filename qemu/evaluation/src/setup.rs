//! How large the evaluation is, and on what machine.

use crate::cell::{Cell, Core, Machine, System, Variant, Work};

/// The machine of the thesis: two nodes, remote to local 1.4.
pub const MACHINE: &str = "opteron";

/// Size and kind of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// At reduced size: the same records and goals.
    pub quick: bool,
    /// As in the thesis: every fault establishes one page, nodes are asked one after the other to unmap.
    pub paper: bool,
}

impl Setup {
    /// Its name in records.
    pub const fn name(self) -> &'static str {
        match (self.quick, self.paper) {
            (false, false) => "full",
            (true, false) => "quick",
            (false, true) => "paper",
            (true, true) => "paper-quick",
        }
    }

    /// The one with this name.
    pub fn find(name: &str) -> Option<Self> {
        let all = [(false, false), (true, false), (false, true), (true, true)];
        all.map(|(quick, paper)| Self { quick, paper }).into_iter().find(|setup| setup.name() == name)
    }

    /// Bytes of an array. Several times the caches even when quick.
    pub const fn bytes(self) -> u64 {
        if self.quick { 4 << 20 } else { 50 << 20 }
    }

    /// Bytes of an array where many nodes walk one each.
    pub const fn bytes_of_many(self) -> u64 {
        if self.quick { 2 << 20 } else { 16 << 20 }
    }

    /// Numbers of iterations on the axis.
    pub fn iterations(self) -> Vec<u32> {
        if self.quick { vec![1, 2, 4, 10] } else { (1..=10).collect() }
    }

    /// Options of kernels and pagers in all cells.
    pub fn options(self) -> Vec<&'static str> {
        if self.paper { vec!["unmap=sequential", "ahead=1"] } else { Vec::new() }
    }

    /// A run on the usual machine.
    pub fn cell(self, system: System, core: Core, work: Work) -> Cell {
        Cell { machine: Machine::named(MACHINE), system, work, core, options: self.options() }
    }

    /// A walk.
    pub fn walk(self, system: System, core: Core, overlap: u8, iterations: u32) -> Cell {
        self.walk_of(system, core, overlap, iterations, Variant::Plain)
    }

    /// A walk of a kind.
    pub fn walk_of(self, system: System, core: Core, overlap: u8, iterations: u32, variant: Variant) -> Cell {
        self.cell(system, core, Work::ArrayWalk { overlap, iterations, bytes: self.bytes(), variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_read_back() {
        for (quick, paper) in [(false, false), (false, true), (true, false), (true, true)] {
            let setup = Setup { quick, paper };
            assert_eq!(Setup::find(setup.name()), Some(setup));
        }
        assert_eq!(Setup::find("slow"), None);
    }
}
