//! Two clusters with somebody who gives, somebody who takes, others who are not concerned, and a hog that can make room.

use super::super::arenas::{Memory, Rings, Sizes};
use super::super::world::*;
use super::{Kind, Operation};
use crate::space::Space;
use crate::thread::State;
use skerry_abi::syscall::{SPACE_CONTROL, space_op};
use skerry_abi::{Fpage, Rights, SpaceId, ThreadId};
use skerry_mapping_db::{Attr, Quota, Stats};
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;

/// Physical memory of each cluster's first space: pages of 4 KiB from 2 MiB on, and 2 MiB more as a block.
pub(super) const PAGES: u64 = 0x4020_0000;
pub(super) const BLOCK: u64 = 0x4040_0000;
/// The giver's own, which nobody has mapped to it: there is no table yet for whom it is mapped to.
pub(super) const ROOT: u64 = 0x4060_0000;
/// Where nothing is yet: a region of 1 GiB of its own.
pub(super) const FAR: u64 = 0x10_0000_0000;
pub(super) const DOMAIN: u32 = 20;

const PLENTY: Sizes =
    Sizes { tables: 96, nodes: 512, spaces: 16, threads: 48, guests: 16, utcb_pages: 24, ..Sizes::LARGE };

/// How many objects of each kind are free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Free {
    db: Stats,
    spaces: usize,
    threads: usize,
    utcb_pages: usize,
    guests: usize,
}

/// One cluster's actors.
pub(super) struct Side {
    pub(super) boss: ThreadId,
    /// Has memory of its own, and a mapping of each size that it may pass on.
    pub(super) giver: (SpaceId, ThreadId),
    /// Waits for messages with items.
    pub(super) taker: (SpaceId, ThreadId),
    /// Two threads that nothing of it concerns.
    bystanders: (SpaceId, [ThreadId; 2]),
    /// Has some of everything.
    hog: SpaceId,
    glutton: ThreadId,
}

pub(super) struct Scene<'a> {
    pub(super) w: Vec<TestKernel<'a>>,
    pub(super) sides: Vec<Side>,
    /// What was free before there were any actors.
    pub(super) empty: [Free; 2],
}

/// What is scarce, and how scarce.
pub(super) struct Sites<'o> {
    operation: &'o Operation,
    kind: Kind,
    spare: usize,
}

impl<'o> Sites<'o> {
    pub(super) fn new(operation: &'o Operation, kind: Kind, spare: usize) -> Self {
        Self { operation, kind, spare }
    }

    /// Runs `body` in a scene that has exactly so much more than it uses at first.
    pub(super) fn run<T>(&self, body: impl FnOnce(&mut Scene<'_>) -> T) -> T {
        let scarce_one = self.operation.cluster;
        let free = build(
            |_| PLENTY,
            |scene| {
                (self.operation.prepare)(scene);
                scene.free()[scarce_one]
            },
        );
        let mut scarce = PLENTY;
        let (size, free) = match self.kind {
            Kind::Tables => (&mut scarce.tables, free.db.free_tables as usize),
            Kind::Nodes => (&mut scarce.nodes, free.db.free_nodes as usize),
            Kind::Spaces => (&mut scarce.spaces, free.spaces),
            Kind::Threads => (&mut scarce.threads, free.threads),
            Kind::UtcbPages => (&mut scarce.utcb_pages, free.utcb_pages),
            Kind::Guests => (&mut scarce.guests, free.guests),
            Kind::TableQuota | Kind::NodeQuota => (&mut 0, 0),
        };
        *size = (*size + self.spare).saturating_sub(free);
        build(|cluster| if cluster == scarce_one { scarce } else { PLENTY }, body)
    }
}

fn build<T>(sizes: impl Fn(usize) -> Sizes, body: impl FnOnce(&mut Scene<'_>) -> T) -> T {
    let rings = Rings::new(2);
    let mut memory = Memory::with_sizes(&rings, 1, sizes);
    let mut w = memory.kernels();
    w.iter_mut().for_each(start_root);
    let empty = core::array::from_fn(|c| free(&w[c]));
    let sides: Vec<Side> = w.iter_mut().map(Side::new).collect();
    ipc(&mut w[0], sides[0].glutton, Ipc::call(sides[1].glutton, 0, &[]));
    settle(&mut w);
    body(&mut Scene { w, sides, empty })
}

fn free(k: &TestKernel<'_>) -> Free {
    let live = || k.threads.iter().filter(|t| t.state != State::Free);
    let pages: BTreeSet<u32> = live().filter(|t| t.state != State::Departed).map(|t| t.utcb_page).collect();
    Free {
        db: k.db.stats(),
        spaces: k.spaces.iter().filter(|space| !space.live).count(),
        threads: k.threads.len() - live().count(),
        utcb_pages: k.utcbs.len() - pages.len(),
        guests: k.guests.iter().count() - k.guests.used() as usize,
    }
}

pub(super) fn fpage(base: u64, bits: u32) -> Fpage {
    Fpage::new(base, bits, Rights::RWX).unwrap()
}

fn map(k: &mut TestKernel<'_>, from: SpaceId, src: Fpage, to: SpaceId, dest: u64) {
    let (db, mut tlb) = k.db_and_tlb();
    db.map(&mut tlb, from.slot(), src, to.slot(), dest, Attr::Normal).unwrap();
}

impl Side {
    fn new(k: &mut TestKernel<'_>) -> Self {
        let privileged = k.create_space(1, true).unwrap();
        let boss = thread(k, privileged, 0, ThreadId::NIL);
        for (base, slot) in [(PAGES, privileged.slot()), (BLOCK, privileged.slot())] {
            k.db.map_root(slot, base, base, 21, Rights::RWX, Attr::Normal).unwrap();
        }
        let giver = program(k, DOMAIN);
        (0..8).for_each(|page| {
            map(k, privileged, fpage(PAGES + (page << 12), 12), giver.0, PAGES + (page << 12))
        });
        map(k, privileged, fpage(BLOCK, 21), giver.0, BLOCK);
        k.db.map_root(giver.0.slot(), ROOT, ROOT, 21, Rights::RWX, Attr::Normal).unwrap();
        let taker = program(k, DOMAIN);
        let window = Fpage::COMPLETE;
        ipc(k, taker.1, Ipc { window, ..Ipc::receive(ThreadId::ANY) });
        let (bystander, first) = program(k, 30);
        let second = thread(k, bystander, 1, ThreadId::NIL);
        map(k, privileged, fpage(PAGES + 0x9000, 12), bystander, PAGES);
        // What it has is enough for any of the operations.
        let (hog, glutton) = program(k, 31);
        (1..4).for_each(|slot| _ = thread(k, hog, slot * 4, ThreadId::NIL));
        for i in 0..24 {
            map(k, privileged, fpage(PAGES + 0xa000, 12), hog, FAR + ((i / 3) << 30) + ((i % 3) << 12));
        }
        map(k, privileged, fpage(BLOCK, 21), hog, BLOCK);
        Self { boss, giver, taker, bystanders: (bystander, [first, second]), hog, glutton }
    }
}

impl Scene<'_> {
    pub(super) fn free(&self) -> [Free; 2] {
        core::array::from_fn(|c| free(&self.w[c]))
    }

    /// What a failure may not change: what is free, what is mapped, what everybody does.
    pub(super) fn view(&self) -> (([Free; 2], Vec<String>), Vec<State>) {
        let dump = |(k, side): (&TestKernel<'_>, &Side)| {
            let root = k.thread(k.find(side.boss).unwrap()).space;
            let pages = (0..16).map(|page| PAGES + (page << 12)).chain([BLOCK]);
            pages.map(|at| std::format!("{}", k.db.dump(root, at))).collect()
        };
        let states =
            self.sides.iter().zip(&self.w).flat_map(|(side, k)| {
                [side.giver.1, side.taker.1, side.bystanders.1[0]].map(|t| state(k, t))
            });
        ((self.free(), self.w.iter().zip(&self.sides).map(dump).collect()), states.collect())
    }

    /// Leaves a space so much more than it uses.
    pub(super) fn limit(&mut self, cluster: usize, space: u16, kind: Kind, spare: usize) {
        let db = &mut self.w[cluster].db;
        let used = db.used(space);
        let spare = spare as u32;
        let quota = match kind {
            Kind::TableQuota => Quota { tables: used.tables + spare, nodes: u32::MAX },
            _ => Quota { tables: u32::MAX, nodes: used.nodes + spare },
        };
        db.set_quota(space, quota).unwrap();
    }

    /// Ends what makes it scarce.
    pub(super) fn make_room(&mut self, operation: &Operation, kind: Kind) {
        let mut k = &mut self.w[operation.cluster];
        match (kind, operation.payer) {
            (Kind::TableQuota | Kind::NodeQuota, Some(payer)) => {
                let space = payer(self);
                self.w[operation.cluster].db.set_quota(space, Quota::from(u32::MAX)).unwrap();
            }
            _ => {
                let hog = self.sides[operation.cluster].hog;
                while k.destroy_space(hog.slot()).is_err() {
                    // Its message is in the other cluster.
                    settle(&mut self.w);
                    k = &mut self.w[operation.cluster];
                }
                settle(&mut self.w);
            }
        }
    }

    /// The bystanders still have their page, and talk.
    pub(super) fn others_go_on(&mut self) -> Result<(), String> {
        for (k, side) in self.w.iter_mut().zip(&self.sides) {
            let (space, [first, second]) = side.bystanders;
            let frame = k.db.lookup(space.slot(), PAGES).map(|found| found.pa);
            if frame != Some(PAGES + 0x9000) {
                return Err(std::format!("a bystander has {frame:x?}"));
            }
            ipc(k, first, Ipc::receive(second));
            ipc(k, second, Ipc::send(first, 9, &[1, 2]));
            let (_, tag, words) = outcome(k, first);
            if (tag.label(), &words[..]) != (9, &[1, 2]) {
                return Err(std::format!("a bystander heard {tag:?}"));
            }
        }
        Ok(())
    }

    /// Ends all spaces but the root pagers'. The boss's own space goes last, without it.
    pub(super) fn tear_down(&mut self) {
        for cluster in 0..self.w.len() {
            let boss = self.sides[cluster].boss;
            let mut calls = 0;
            loop {
                calls += 1;
                assert!(calls < 100, "a space does not end");
                let k = &mut self.w[cluster];
                let own = k.thread(k.find(boss).unwrap()).space_id;
                let spaces = k.spaces.iter().filter(|s| s.live && s.id != SpaceId::root(cluster as u16));
                let Some(id) = spaces.map(|space: &Space| space.id).find(|&id| id != own) else { break };
                // It has to wait if a message is in the other cluster, and makes its call again then.
                let t = k.find(boss).unwrap();
                let pc = k.thread(t).context.pc;
                syscall(k, boss, SPACE_CONTROL, &[space_op::DESTROY, id.0]);
                k.pick();
                settle(&mut self.w);
                self.w[cluster].thread_mut(t).context.pc = pc;
            }
            let k = &mut self.w[cluster];
            let own = k.thread(k.find(boss).unwrap()).space;
            k.destroy_space(own).unwrap();
            k.pick();
            settle(&mut self.w);
        }
    }
}
