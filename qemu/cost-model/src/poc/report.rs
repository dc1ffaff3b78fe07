//! What the checker has found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Upkeep;

/// What is wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// It may read what was there before a store that it comes after.
    StaleLoad,
    /// The same of a word of a page table.
    StaleWalk,
    /// The same of instructions.
    StaleFetch,
    /// It writes to a copy of the line that may be old: what the copy's other words hold may go over newer data.
    StoreOntoStale,
    /// Another node has the line dirty, too: one of the two write-backs undoes the other.
    StoreBesideDirty,
    /// Dirty data are dropped.
    Discarded,
    /// Nodes use the line with exclusives or atomics, which nothing makes atomic between them.
    SharedAtomic,
}

/// What would have made it right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The other one, who stored, should have cleaned the line.
    Clean,
    /// This one should have dropped its copy after that.
    Invalidate,
    /// This one should have dropped what its instruction caches hold.
    DropFetched,
    /// One node at a time should have used it, and given it away cleaned.
    Exclusion,
}

/// Something wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub wrong: Wrong,
    /// What is missing.
    pub missing: Missing,
    /// Where.
    pub node: u16,
    /// At which instruction.
    pub pc: u64,
    /// Who stored last.
    pub other: u16,
    /// At which instruction.
    pub other_pc: u64,
    /// The physical address when it happened first.
    pub physical: u64,
    /// How often it happened.
    pub count: u64,
}

/// Maintenance at one instruction of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The instruction.
    pub pc: u64,
    /// The node.
    pub node: u16,
    /// What it does.
    pub what: Upkeep,
    /// How often.
    pub times: u64,
    /// How often there was nothing to do.
    pub redundant: u64,
}

type Key = (Wrong, Missing, u64, u64, u16, u16);

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) findings: BTreeMap<Key, Finding>,
    pub(super) sites: BTreeMap<(u64, u16), Site>,
    pub(super) races: u64,
}

impl Log {
    pub(super) fn wrong(&mut self, new: Finding) {
        let key = (new.wrong, new.missing, new.pc, new.other_pc, new.node, new.other);
        self.findings.entry(key).and_modify(|known| known.count += 1).or_insert(new);
    }

    pub(super) fn upkeep(&mut self, pc: u64, node: u16, what: Upkeep, needed: bool) {
        let new = Site { pc, node, what, times: 0, redundant: 0 };
        let site = self.sites.entry((pc, node)).or_insert(new);
        site.times += 1;
        site.redundant += u64::from(!needed);
    }
}
