//! A machine and how to run it: what the launcher tells the plugin.

use crate::{CoreModel, Params, Topology};
use serde::{Deserialize, Serialize};

/// The machine and how to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// CPUs, memory and distances.
    pub topology: Topology,
    /// What everything costs.
    pub params: Params,
    /// The model of the cores.
    pub core: CoreModel,
    /// Cycles by which a CPU may be ahead of the slowest other one before that one gets its turn.
    pub quantum: u64,
    /// Size of each half of the virtual address space in bits.
    pub virtual_bits: u32,
    /// Checks that software keeps memory coherent ([`crate::poc`]), from the first instruction on, instead of charging accesses.
    pub sanitize: bool,
    /// Measures how long CPUs keep interrupts off, from the first instruction on, and nothing else.
    pub masked: bool,
    /// Records the misses of applications' threads, besides.
    #[serde(default)]
    pub trace: bool,
    /// Counts lines from memory by page, besides.
    #[serde(default)]
    pub pages: bool,
    /// Counts what is executed on this path, and nothing else.
    pub path: Option<Path>,
}

/// A way through the guest's programs, between two instructions of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Address of the instruction that it begins behind.
    pub first: u64,
    /// Address of the one that ends it.
    pub last: u64,
    /// The kernel's table of exception vectors.
    pub vectors: u64,
}

impl Config {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        self.params.check()?;
        self.topology.check()?;
        if self.quantum == 0 || self.quantum > 1 << 40 {
            return Err(format!("a quantum of {} cycles", self.quantum));
        }
        if !(22..=48).contains(&self.virtual_bits) {
            return Err(format!("{} virtual address bits", self.virtual_bits));
        }
        Ok(())
    }
}
