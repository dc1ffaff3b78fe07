//! What is counted, per CPU.

use serde::Serialize;

use crate::time::Time;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts and times of one CPU, from its start or over a phase.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }
        impl Counters {
            /// What was added since `earlier`.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(earlier.$name),)* }
            }
            /// Adds another CPU's.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
            /// Names and values, in a fixed order.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Instructions (of whole blocks of code: one that a fault ends early is counted in full).
    instructions,
    /// Instructions that read or write memory.
    accesses,
    /// Lines found in the private second level.
    l2_hits,
    /// Lines found in the node's last level.
    llc_hits,
    /// Lines taken out of a cache of the same node: another CPU's private one.
    transfers_local,
    /// Lines taken out of a cache of another node.
    transfers_remote,
    /// Lines read from the node's own memory.
    dram_local,
    /// Lines read from another node's memory.
    dram_remote,
    /// Lines held by several that became writable.
    upgrades,
    /// Lines written back to memory because of something this CPU did.
    writebacks,
    /// Lines allocated by DC ZVA without being read.
    zeroed,
    /// Translations that the TLB did not have.
    tlb_misses,
    /// Words of page tables read.
    walk_reads,
    /// Of the lines above, those that walks read from the node's own memory.
    walk_dram_local,
    /// Those that walks read from another node's memory.
    walk_dram_remote,
    /// Cache maintenance by address.
    maintenance,
    /// TLB invalidations for this CPU only.
    tlbi_local,
    /// Broadcast TLB invalidations that this CPU asked for.
    tlbi_broadcast,
    /// Interrupts sent to other CPUs.
    interrupts,
    /// Time waited for the second level (all times in 1/256 cycles).
    wait_l2,
    /// Time waited for the last level.
    wait_llc,
    /// Time waited for caches of the same node.
    wait_transfer_local,
    /// Time waited for caches of other nodes.
    wait_transfer_remote,
    /// Time waited for the node's own memory.
    wait_dram_local,
    /// Time waited for memory of other nodes.
    wait_dram_remote,
    /// Time waited for lines to become writable.
    wait_upgrade,
    /// Time waited because a controller or link was full.
    wait_bandwidth,
    /// Time waited for page-table walks, whatever level answered.
    wait_walk,
    /// Time for maintenance of caches and TLBs, others' broadcasts included.
    wait_maintenance,
    /// Time in WFI and WFE.
    idle,
}

/// Which wait a time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The second level.
    L2,
    /// The last level.
    Llc,
    /// A cache of the same node.
    TransferLocal,
    /// A cache of another node.
    TransferRemote,
    /// Own memory.
    DramLocal,
    /// Other memory.
    DramRemote,
    /// An upgrade.
    Upgrade,
    /// A full window.
    Bandwidth,
    /// Maintenance.
    Maintenance,
}

impl Counters {
    /// Adds a wait.
    pub fn wait(&mut self, what: Wait, time: Time) {
        *match what {
            Wait::L2 => &mut self.wait_l2,
            Wait::Llc => &mut self.wait_llc,
            Wait::TransferLocal => &mut self.wait_transfer_local,
            Wait::TransferRemote => &mut self.wait_transfer_remote,
            Wait::DramLocal => &mut self.wait_dram_local,
            Wait::DramRemote => &mut self.wait_dram_remote,
            Wait::Upgrade => &mut self.wait_upgrade,
            Wait::Bandwidth => &mut self.wait_bandwidth,
            Wait::Maintenance => &mut self.wait_maintenance,
        } += time;
    }

    /// Lines that the private first level did not have.
    pub fn l1_misses(&self) -> u64 {
        self.l2_hits
            + self.llc_hits
            + self.transfers_local
            + self.transfers_remote
            + self.dram_local
            + self.dram_remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_a_difference() {
        let mut now = Counters { dram_local: 7, ..Counters::default() };
        let before = now;
        now.dram_local += 3;
        now.wait(Wait::DramLocal, 50);
        let phase = now.since(&before);
        assert_eq!((phase.dram_local, phase.wait_dram_local, phase.l1_misses()), (3, 50, 3));
        assert!(phase.fields().any(|field| field == ("dram_local", 3)));
    }
}
