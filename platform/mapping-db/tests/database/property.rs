//! Random operations on the database, the software MMU and the naive model side by side.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use skerry_abi::{Error, Fpage, Rights, layout};
use skerry_mapping_db::{
    Attr, Budget, Helped, HwTable, Leaf, Mapped, MappingDb, Node, Outcome, Question, Quota, SpaceTables,
    Status, Transfer,
};

use crate::mmu::{Mmu, TABLES_PA};
use crate::naive::{BLOCKS, Naive, PAGES, SIZE, STARTS, grid};

const SPACES: u16 = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Map { from: u16, to: u16, bits: u32, src: usize, dest: usize, rights: u64, attr: Attr },
    Items { from: u16, to: u16, bits: u32, src: [usize; 3], dest: [usize; 3], rights: u64, grant: [bool; 3] },
    Unmap { space: u16, bits: u32, at: usize, rights: u64, flush: bool },
    Access { space: u16, at: usize, write: bool },
    Pin { space: u16, page: u64 },
    Unpin { space: u16, page: u64 },
    Renew { space: u16 },
}

/// An address on the grid that an fpage of this size may begin at.
fn aligned(bits: u32, choice: usize) -> u64 {
    let (region, block, page) = (1 + choice as u64 % 3, BLOCKS[choice / 3 % 4], PAGES[choice / 12 % STARTS]);
    let va = match bits {
        12..21 => region << 30 | block << 21 | page << 12,
        21..30 => region << 30 | block << 21,
        30 => region << 30,
        _ => 2 << 30, // what lies below would include the UTCB area
    };
    va & !((1 << bits) - 1)
}

fn bits() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(12u32), 2 => Just(13u32), 6 => Just(16u32), 2 => Just(17u32), 5 => Just(21u32), 2 => Just(22u32), 2 => Just(30u32), 1 => Just(31u32)]
}

fn operation() -> impl Strategy<Value = Op> {
    let attr = prop_oneof![12 => Just(Attr::Normal), 1 => Just(Attr::NonCacheable), 1 => Just(Attr::Device)];
    let (space, at) =
        (|| prop_oneof![4 => Just(0u16), 4 => Just(1), 2 => Just(2), 2 => Just(3)], || 0usize..96);
    let rights = || prop_oneof![4 => Just(7u64), 4 => 1u64..8, 1 => Just(0u64)];
    prop_oneof![
        40 => (space(), space(), bits(), at(), at(), rights(), attr)
            .prop_map(|(from, to, bits, src, dest, rights, attr)| Op::Map { from, to, bits, src, dest, rights, attr }),
        10 => (space(), space(), bits(), [at(), at(), at()], [at(), at(), at()], rights(), any::<[bool; 3]>())
            .prop_map(|(from, to, bits, src, dest, rights, grant)| Op::Items { from, to, bits, src, dest, rights, grant }),
        12 => (space(), bits(), at(), rights(), any::<bool>())
            .prop_map(|(space, bits, at, rights, flush)| Op::Unmap { space, bits, at, rights, flush }),
        1 => (space(), any::<bool>())
            .prop_map(|(space, flush)| Op::Unmap { space, bits: 39, at: 0, rights: 7, flush }),
        30 => (space(), 0..SIZE, any::<bool>()).prop_map(|(space, at, write)| Op::Access { space, at, write }),
        2 => (space(), 0u64..4).prop_map(|(space, page)| Op::Pin { space, page }),
        2 => (space(), 0u64..4).prop_map(|(space, page)| Op::Unpin { space, page }),
        1 => (1..SPACES).prop_map(|space| Op::Renew { space }),
    ]
}

struct Sizes {
    tables: usize,
    nodes: usize,
    quota: Quota,
}

struct World<'a> {
    db: MappingDb<'a>,
    mmu: Mmu<'a>,
    naive: Naive,
    pinned: std::collections::BTreeSet<(u16, u64)>,
    hardware: bool,
    quota: Quota,
    ample: bool,
    reached: Reached,
}

/// How often interesting situations came up: a test that never gets there proves nothing.
#[derive(Default, Debug)]
struct Reached {
    mapped: usize,
    nothing: usize,
    already: usize,
    exhausted: usize,
    seen: usize,
    split: usize,
    groups: usize,
    group_parts: usize,
    depth: usize,
    items: usize,
    granted: usize,
    paused: usize,
    helped: usize,
    between: usize,
    shared: usize,
}

impl World<'_> {
    fn start(&mut self) {
        for space in 0..SPACES {
            self.create(space);
        }
        let mut root = |va, bits, frame, rights, attr| {
            // With small arenas some roots do not fit; then the model does not have them either.
            if self.db.map_root(0, va, frame, bits, rights, attr).is_ok() {
                self.naive.root(va, bits, frame, rights, attr);
            }
        };
        root(1 << 30, 30, 8 << 30, Rights::RWX, Attr::Normal);
        for block in BLOCKS {
            root(2 << 30 | block << 21, 21, 12 << 30 | block << 21, Rights::RWX, Attr::Normal);
        }
        for page in PAGES {
            root(3 << 30 | page << 12, 12, 16 << 30 | page << 12, Rights::RW, Attr::Device);
            root(3 << 30 | 1 << 21 | page << 12, 12, 17 << 30 | page << 12, Rights::RX, Attr::Normal);
        }
    }
    fn create(&mut self, space: u16) {
        self.db.space_create(space, self.quota).unwrap();
        self.mmu.add_root(space, self.db.root_table(space));
    }
    fn destroy(&mut self, space: u16) {
        // In steps of several sizes; in between nothing that is gone is cached, and what is left is whole.
        let mut work = u32::from(space);
        while !self.db.space_destroy_step(space, &mut self.mmu, &mut Budget::new(work)) {
            work += 1;
        }
        self.naive.unmap(space, Fpage::COMPLETE, true, true);
        self.pinned.retain(|&(owner, _)| owner != space);
        assert_eq!(self.db.used(space), Quota::default());
    }
    /// Where an operation on `space` begins: mostly where something is mapped.
    fn aim(&self, space: u16, bits: u32, choice: usize) -> u64 {
        let start = |va: u64| PAGES[..STARTS].contains(&(va >> 12 & 511));
        let ok = |va: u64| (bits >= 21 || start(va)) && (bits >= 30 || (va >> 21) & 511 < 4);
        let mapped = || self.naive.pages.keys().filter(|&&(owner, va)| owner == space && ok(va));
        let count = mapped().count();
        if choice.is_multiple_of(4) || count == 0 || bits > 30 {
            return aligned(bits, choice);
        }
        mapped().nth(choice * 31 % count).map_or(0, |&(_, va)| va & !((1 << bits) - 1))
    }
    fn step(&mut self, op: Op) {
        match op {
            Op::Map { from, to, bits, src, dest, rights, attr } => {
                let src = Fpage::new(self.aim(from, bits, src), bits, Rights::from_bits(rights)).unwrap();
                let dest = aligned(bits, dest);
                let before = self.db.stats();
                let result = match attr == Attr::Normal && src.bits() == 12 {
                    true => self.db.map(&mut self.mmu, from, src, to, dest, attr),
                    false => self.map_in_steps(from, to, &[Transfer { src, dest, attr, grant: false }]),
                };
                if rights == 0 {
                    assert_eq!(result, Err(Error::BadArgument));
                } else if result == Err(Error::OutOfKernelMemory) {
                    assert!(!self.ample, "there is memory enough");
                    assert_eq!(self.db.stats().free_nodes, before.free_nodes);
                    assert!(self.db.stats().free_tables >= before.free_tables);
                } else {
                    assert_eq!(result.map(|_| ()), self.naive.map(from, src, to, dest, attr));
                }
                match result {
                    Ok(_) => self.reached.mapped += 1,
                    Err(Error::NothingMapped) => self.reached.nothing += 1,
                    Err(Error::AlreadyMapped) => self.reached.already += 1,
                    Err(Error::OutOfKernelMemory) => self.reached.exhausted += 1,
                    _ => {}
                }
            }
            Op::Items { from, to, bits, src, dest, rights, grant } => {
                let count = 1 + src[0] % 3;
                let item = |i: usize| {
                    let src = Fpage::new(self.aim(from, bits, src[i]), bits, Rights::from_bits(rights | 4))
                        .unwrap();
                    Transfer { src, dest: aligned(bits, dest[i]), attr: Attr::Normal, grant: grant[i] }
                };
                let items: Vec<Transfer> = (0..count).map(item).collect();
                let before = self.db.stats();
                let result = self.map_in_steps(from, to, &items);
                if result.is_ok() {
                    self.reached.items += 1;
                    for &Transfer { src, dest, attr, grant } in &items {
                        match grant {
                            true => {
                                self.reached.granted += 1;
                                self.naive.grant(from, src, to, dest);
                            }
                            false => self.naive.map(from, src, to, dest, attr).unwrap(),
                        }
                    }
                } else {
                    // `check` sees that nothing has happened.
                    assert_eq!(self.db.stats().free_nodes, before.free_nodes);
                    assert!(self.db.stats().free_tables >= before.free_tables);
                    assert!(result != Err(Error::OutOfKernelMemory) || !self.ample);
                }
            }
            Op::Unmap { space, bits, at, rights, flush } => {
                let base = if bits == 39 { 0 } else { self.aim(space, bits, at) };
                let fpage = Fpage::new(base, bits, Rights::from_bits(rights)).unwrap();
                let (status, [accessed, written]) = self.unmap_in_steps(space, fpage, flush, at);
                self.reached.seen += usize::from(written);
                assert!(status.seen.contains(Rights::R) >= accessed, "{status:?}");
                assert!(status.seen.contains(Rights::W) >= written, "{status:?}");
            }
            Op::Access { space, at, write } => {
                let va = grid().nth(at).unwrap();
                let page = self.naive.pages.get_mut(&(space, va));
                let may = page.as_ref().is_some_and(|page| !write || page.rights.contains(Rights::W));
                let access = if write { Rights::W } else { Rights::R };
                let worked = self.mmu.access(space, va, write);
                assert!(worked == may || may && !self.hardware);
                // The kernel looks after a fault only: otherwise all state is what the MMU has noted, in one entry of a group.
                if !worked || at.is_multiple_of(4) {
                    assert_eq!(self.db.check(space, va, access), may);
                }
                assert_eq!(self.mmu.access(space, va, write), may);
                if let (true, Some(page)) = (may, page) {
                    page.used = [true, page.used[1] || write];
                }
            }
            Op::Pin { space, page } => {
                let va = layout::UTCB_BASE + (page << 12);
                match self.db.map_pinned(space, va, 1 << 20, true) {
                    Ok(()) => assert!(self.pinned.insert((space, va))),
                    Err(Error::AlreadyMapped) => assert!(self.pinned.contains(&(space, va))),
                    Err(error) => assert!(error == Error::OutOfKernelMemory && !self.ample),
                }
            }
            Op::Unpin { space, page } => {
                let va = layout::UTCB_BASE + (page << 12);
                self.db.unmap_pinned(&mut self.mmu, space, va);
                self.pinned.remove(&(space, va));
            }
            Op::Renew { space } => {
                self.destroy(space);
                self.create(space);
            }
        }
    }
    /// [`MappingDb::map_items`] in steps of a random size, some of which somebody else does. As long as nothing is decided, nothing
    /// changes, and it may still be dropped.
    fn map_in_steps(&mut self, from: u16, to: u16, items: &[Transfer]) -> Result<Mapped, Error> {
        let mut units = items[0].dest >> 12 & 0xff | items[0].src.bits() as u64;
        let mut drop_it = units.is_multiple_of(5);
        let mut outcome = self.db.plan_items(&mut self.mmu, from, to, items, &mut Budget::new(units as u32));
        let mut committed = false;
        loop {
            self.mmu.check_quiet();
            if !committed && outcome == Outcome::Planned {
                self.check();
            }
            units += 1 + units / 2;
            let budget = &mut Budget::new(units as u32);
            outcome = match outcome {
                Outcome::Done(mapped) => return Ok(mapped),
                Outcome::Failed(error) => return Err(error),
                Outcome::Again => {
                    self.reached.paused += 1;
                    match self.db.help(&mut self.mmu, budget) {
                        Helped::Again => Outcome::Again,
                        Helped::Items(outcome) => outcome,
                        other => panic!("{other:?}"),
                    }
                }
                Outcome::Planned if drop_it => {
                    self.db.drop_items();
                    assert!(!self.db.is_held());
                    self.check();
                    drop_it = false;
                    self.db.plan_items(&mut self.mmu, from, to, items, budget)
                }
                Outcome::Planned => {
                    committed = true;
                    self.db.commit_items(&mut self.mmu, budget)
                }
            };
        }
    }
    /// [`MappingDb::unmap`] in steps of a random size, some of which somebody else does, and with other operations in between where that is
    /// possible. Also returns what the model says.
    fn unmap_in_steps(&mut self, space: u16, fpage: Fpage, flush: bool, seed: usize) -> (Status, [bool; 2]) {
        let (mut at, mut model_at) = (fpage.base(), fpage.base());
        let (mut status, mut told) = (Status::default(), [false; 2]);
        let removes_own = flush && fpage.rights().contains(Rights::R);
        let mut model = |world: &mut Self, at: u64| {
            let more = world.naive.unmap_range(space, model_at..at, fpage.rights(), flush, false);
            told = [told[0] | more[0], told[1] | more[1]];
            model_at = at;
        };
        let (mut units, mut steps) = (seed as u32, 0);
        loop {
            steps += 1;
            units += 1 + units / 2;
            let (mmu, budget) = (&mut self.mmu, &mut Budget::new(units));
            let before = self.db.stats();
            let done = self.db.unmap_step(mmu, space, fpage, flush, &mut at, &mut status, budget);
            assert!(self.db.stats().free_nodes >= before.free_nodes);
            assert!(self.db.stats().free_tables >= before.free_tables);
            if done {
                break;
            }
            self.mmu.check_quiet();
            self.reached.paused += 1;
            if self.db.is_held() && seed % 2 == 1 {
                // Somebody else completes what holds the database.
                (at, status) = loop {
                    units += 1 + units / 2;
                    match self.db.help(&mut self.mmu, &mut Budget::new(units)) {
                        Helped::Again => self.mmu.check_quiet(),
                        Helped::Revoked(at, found) => {
                            let seen = status.seen | found.seen;
                            break (at, Status { seen, touched: status.touched + found.touched });
                        }
                        other => panic!("{other:?}"),
                    }
                };
                self.reached.helped += 1;
            }
            if !self.db.is_held() && !removes_own && steps < 8 {
                model(self, at);
                self.check();
                // Anybody can do anything now.
                let other = units as usize % SIZE;
                self.step(Op::Access { space: (space + 1) % SPACES, at: other, write: units % 2 == 0 });
                let (from, to) = (units as u16 % SPACES, (units / 4) as u16 % SPACES);
                let (src, dest) = (other % 96, (other + 7) % 96);
                self.step(Op::Map { from, to, bits: 12, src, dest, rights: 7, attr: Attr::Normal });
                self.check();
                self.reached.between += 1;
            }
        }
        model(self, fpage.end());
        (status, told)
    }
    /// Who has the frame of a page of the root space: all leaves, one after the other, in steps of several sizes; just those
    /// that the model knows.
    fn audit(&mut self, va: u64) {
        let root = self.naive.pages.get(&(0, va)).filter(|page| page.parent.is_none());
        let Some(frame) = root.map(|page| page.frame) else { return };
        let has = |page: &&crate::naive::Page| page.frame == frame;
        let mut expected: Vec<_> = self
            .naive
            .pages
            .iter()
            .filter(|(_, page)| has(page))
            .map(|(&key, page)| (key, page.rights))
            .collect();
        let (mut found, mut after) = (Vec::new(), None);
        let page = |leaf: Leaf| leaf.va | va & ((1 << leaf.bits) - 1);
        loop {
            let (question, mut units) = (Question { top: (0, va), after }, va as u32 >> 12 & 7);
            let mut leaf = self.db.audit(question, &mut Budget::new(units));
            while leaf.is_none() {
                units += 1;
                self.reached.paused += 1;
                match self.db.help(&mut self.mmu, &mut Budget::new(units)) {
                    Helped::Again => self.mmu.check_quiet(),
                    Helped::Audited(asked, found) => leaf = Some(found).filter(|_| asked == question),
                    other => panic!("{other:?}"),
                }
            }
            let leaf = leaf.and_then(Result::unwrap);
            assert_eq!(leaf.and_then(|leaf| self.db.still(question, leaf)), leaf);
            let Some(leaf) = leaf else { break };
            found.push(((leaf.slot, page(leaf)), leaf.rights));
            after = Some((leaf.slot, page(leaf)));
        }
        assert!(!self.db.is_held());
        self.reached.shared += usize::from(found.len() > 2);
        found.sort_by_key(|&(key, _)| key);
        expected.sort_by_key(|&(key, _)| key);
        assert_eq!(found, expected);
    }
    fn check(&self) {
        self.mmu.check_quiet();
        for (space, va) in (0..SPACES).flat_map(|space| grid().map(move |va| (space, va))) {
            let expected = self.naive.pages.get(&(space, va));
            let found = self.db.lookup(space, va);
            let leaf = self.mmu.translate(space, va);
            match (expected, found, leaf) {
                (None, None, None) => {}
                (Some(page), Some(found), Some(leaf)) => {
                    assert_eq!((found.pa, found.rights, found.attr), (page.frame, page.rights, page.attr));
                    assert_eq!((leaf.pa + (va & ((1 << leaf.bits) - 1)), leaf.bits), (found.pa, found.bits));
                    let write = page.rights.contains(Rights::W);
                    let execute = page.rights.contains(Rights::X) && !write && page.attr != Attr::Device;
                    assert_eq!((leaf.write, leaf.execute), (write, execute));
                }
                other => panic!("space {space} {va:#x}: {other:x?}"),
            }
        }
        for (space, page) in (0..SPACES).flat_map(|space| (0..4).map(move |page| (space, page))) {
            let va = layout::UTCB_BASE + (page << 12);
            assert_eq!(self.mmu.translate(space, va).is_some(), self.pinned.contains(&(space, va)));
        }
    }
}

fn run(sizes: &Sizes, hardware: bool, ops: &[Op]) -> Reached {
    let tables: Vec<HwTable> = (0..sizes.tables).map(|_| HwTable::new()).collect();
    let mut shadow = vec![[0u32; 512]; sizes.tables];
    let mut nodes = vec![Node::default(); sizes.nodes];
    let mut spaces = [SpaceTables::default(); SPACES as usize];
    let db = MappingDb::new(&tables, TABLES_PA, &mut shadow, &mut nodes, &mut spaces);
    let everything = db.stats();
    let mmu = Mmu::new(&tables, hardware);
    let (naive, pinned, ample) = (Naive::default(), <_>::default(), sizes.tables > 1000);
    let mut world =
        World { db, mmu, naive, pinned, hardware, quota: sizes.quota, ample, reached: Reached::default() };
    world.start();
    for (number, &op) in ops.iter().enumerate() {
        let before = world.naive.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.step(op);
            world.check();
        }));
        if let Err(panic) = outcome {
            eprintln!("operation {number}, {op:?}; before: {} pages mapped", before.pages.len());
            std::panic::resume_unwind(panic);
        }
        if number % 16 == 0 {
            for nth in [0, 1, 2, 3, 5, 8, 13] {
                world.audit(grid().nth((nth + number) % SIZE).unwrap());
            }
            for root in [1u64 << 30, 2 << 30, 3 << 30] {
                let dump = world.db.dump(0, root).to_string();
                world.reached.split += dump.matches("split").count();
                let groups = || dump.lines().filter(|line| line.contains("size=64K"));
                world.reached.groups += groups().count();
                world.reached.group_parts += groups().filter(|line| line.contains("split")).count();
                world.reached.depth += dump.lines().filter(|line| line.starts_with("3:")).count();
            }
        }
        let used = (0..SPACES).map(|space| world.db.used(space));
        let (used_tables, used_nodes) = used.fold((0, 0), |(t, n), used| (t + used.tables, n + used.nodes));
        let stats = world.db.stats();
        assert_eq!(stats.free_tables + used_tables, everything.free_tables);
        assert_eq!(stats.free_nodes + used_nodes, everything.free_nodes);
    }
    (0..SPACES).for_each(|space| world.destroy(space));
    assert_eq!(world.db.stats(), everything);
    assert!(world.naive.pages.is_empty());
    world.reached
}

fn ops(count: usize) -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(operation(), 1..=count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Arenas so small that everything runs out, and quotas too.
    #[test]
    fn small_arenas(ops in ops(512), hardware: bool, tables in 12usize..60, nodes in 8usize..200, quota in 4u32..40) {
        run(&Sizes { tables, nodes, quota: Quota { tables: quota, nodes: quota * 3 } }, hardware, &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Room for everything, 1 GiB mappings with their reserve included.
    #[test]
    fn large_arenas(ops in ops(512), hardware: bool) {
        run(&Sizes { tables: 16_000, nodes: 40_000, quota: u32::MAX.into() }, hardware, &ops);
    }
}

#[test]
fn random_operations_reach_what_matters() {
    let mut runner = TestRunner::deterministic();
    let mut total = Reached::default();
    for case in 0..64 {
        let ops = prop::collection::vec(operation(), 512).new_tree(&mut runner).unwrap().current();
        let tables = if case % 2 == 0 { 16_000 } else { 40 };
        let reached = run(&Sizes { tables, nodes: 40_000, quota: u32::MAX.into() }, true, &ops);
        total.mapped += reached.mapped;
        total.nothing += reached.nothing;
        total.already += reached.already;
        total.exhausted += reached.exhausted;
        total.seen += reached.seen;
        total.split += reached.split;
        total.groups += reached.groups;
        total.group_parts += reached.group_parts;
        total.depth += reached.depth;
        total.items += reached.items;
        total.granted += reached.granted;
        total.paused += reached.paused;
        total.helped += reached.helped;
        total.between += reached.between;
        total.shared += reached.shared;
    }
    let Reached { mapped, nothing, already, exhausted, seen, split, depth, items, granted, .. } = total;
    let Reached { paused, helped, between, groups, group_parts, shared, .. } = total;
    assert!([mapped, nothing, already].into_iter().all(|count| count > 1000), "{total:?}");
    assert!(
        [exhausted, seen, split, groups, group_parts, depth, items, granted, paused, helped, between, shared]
            .into_iter()
            .all(|count| count > 100),
        "{total:?}"
    );
}
