//! The root thread of a cluster: starts everybody, pages, looks who makes progress, replaces who does not, and ends them all.
#![expect(unsafe_code, reason = "writes a thread's parameters")]

use core::sync::atomic::Ordering::Relaxed;

use fastrand::Rng;
use skerry_abi::boot::BootInfo;
use skerry_abi::message::kernel_label;
use skerry_abi::{CpuId, Error, Rights, SpaceId, ThreadId, Timeout};
use skerry_rt::sys::Exchange;
use skerry_rt::{Message, ipc, sys, utcb};

use super::areas::{Areas, CHILDREN, HOSTILE, OWN, Owner, Play, SPACES};
use super::board::{Cluster, STALE};
use super::controller::{self, Setup};
use super::hostile::{self, Block, Wrong};
use super::pager::{self, Beginning, Health, Memory};
use super::{domains, millisecond, witness};
use crate::guest::world::{Outcome, call, ensure, failed, progress};

const HOSTILE_PRIORITY: u8 = controller::PRIORITY as u8;
/// The controller sleeps now and then, so it may be more urgent.
const CONTROLLER_PRIORITY: u8 = 40;
const WITNESS_PRIORITY: u8 = 150;
/// Looks without progress after which a witness or a controller is taken for dead.
const PATIENCE: u32 = 2_000;

type Entry = extern "C" fn(u64) -> !;

/// Where a hostile thread begins.
fn beginning(areas: &Areas, cluster: u16, owner: Owner) -> Beginning {
    let own = areas.own(cluster, owner);
    [(hostile::hostile as Entry as *const ()).addr() as u64, own.base + OWN, own.base]
}

/// Somebody whose progress is watched.
#[derive(Clone, Copy, Default)]
struct Watched {
    thread: ThreadId,
    /// Calls at the last look, and how often that was the same.
    seen: u64,
    still: u32,
}

pub(super) struct Boss {
    areas: Areas,
    cluster: u16,
    board: &'static Cluster,
    rng: Rng,
    cpus: [CpuId; 2],
    spaces: [SpaceId; SPACES],
    spoilt: [bool; SPACES],
    hostile: [Watched; HOSTILE.len()],
    /// Of threads that are gone.
    calls: u64,
    /// Of the children that run now.
    children: [u64; CHILDREN],
    controller: (SpaceId, Watched),
    witness: (SpaceId, Watched),
    message: Message,
    next_stale: usize,
    told: u64,
    goal: u64,
    /// Nobody is started any more.
    over: bool,
}

impl Boss {
    pub(super) fn new(boot: &BootInfo, areas: &Areas, cluster: u16, seed: u64) -> Outcome<Self> {
        let mut own = (0..).zip(boot.cpus()).filter(|(_, cpu)| cpu.cluster == cluster).map(|(cpu, _)| cpu);
        let first = own.next().unwrap_or(utcb::cpu());
        let mut boss = Self {
            areas: *areas,
            cluster,
            board: areas.board().cluster(cluster),
            rng: Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(cluster) << 56),
            cpus: [first, own.next().unwrap_or(first)],
            spaces: [SpaceId::NIL; SPACES],
            spoilt: [false; SPACES],
            hostile: Default::default(),
            calls: 0,
            children: [0; CHILDREN],
            controller: Default::default(),
            witness: Default::default(),
            message: Message::new(),
            next_stale: 0,
            told: 0,
            goal: 0,
            over: false,
        };
        boss.start_witness()?;
        boss.start_controller()?;
        for space in 0..SPACES {
            boss.start_space(space)?;
        }
        Ok(boss)
    }

    /// Makes hostile threads of this cluster do so many calls.
    pub(super) fn fuzz(&mut self, calls: u64) -> Outcome {
        self.goal = calls;
        while self.board.calls.get() < calls {
            self.serve_for(millisecond())?;
        }
        self.board.enough.set(1);
        Ok(())
    }

    /// Answers faults for a while, then looks after everybody.
    pub(super) fn serve_for(&mut self, ticks: u64) -> Outcome {
        let until = sys::counter_time() + ticks;
        // Whoever floods the boss with messages does not keep it from looking after the others.
        while sys::counter_time() < until {
            match ipc::receive(ThreadId::ANY, &mut self.message, Timeout(until)) {
                Ok(from) => self.answer(from.thread)?,
                Err(Error::Timeout) => break,
                Err(error) => return failed(format_args!("receiving: {error}")),
            }
        }
        self.look_around()
    }

    fn answer(&mut self, from: ThreadId) -> Outcome {
        let areas = self.areas;
        let (memory, space) = self.memory_of(from);
        let health = match self.message.tag.label() {
            kernel_label::PAGE_FAULT => {
                pager::answer_fault(from, &mut self.message, memory, &areas, &mut self.rng)?
            }
            kernel_label::EXCEPTION => {
                self.must_be_hostile(from)?;
                let hostile = self.hostile.iter().position(|watched| watched.thread == from);
                let anew = |rng: &mut Rng| {
                    let owner = Owner::Hostile(hostile?);
                    let block = areas.block(self.cluster, owner);
                    block.seed.store(rng.u64(..), Relaxed);
                    block.find_back();
                    Some(beginning(&areas, self.cluster, owner))
                };
                pager::answer_exception(from, &mut self.message, anew, &mut self.rng)?
            }
            // Notifications, and whatever hostile threads say to their pager.
            _ => Health::Good,
        };
        if let (Health::Spoilt, Some(space)) = (health, space) {
            self.spoilt[space] = true;
        }
        Ok(())
    }

    /// Whoever goes on behind an instruction that faults does not do what it should: a controller and a witness would be no judges.
    fn must_be_hostile(&self, from: ThreadId) -> Outcome {
        let judge = from == self.controller.1.thread
            || self.board.witness.iter().any(|witness| witness.get() == from.0);
        let [syndrome, address, at] = core::array::from_fn(|i| self.message.buffer()[i]);
        ensure!(!judge, "{from:?} must not fault: syndrome {syndrome:#x}, address {address:#x}, pc {at:#x}");
        Ok(())
    }

    /// The memory of a thread, and its hostile space.
    fn memory_of(&self, from: ThreadId) -> (Memory, Option<usize>) {
        let own = |owner| self.areas.own(self.cluster, owner);
        let play = |play| self.areas.play(self.cluster, play);
        if from == self.controller.1.thread {
            let memory =
                Memory { own: own(Owner::Controller), play: play(Play::Controller), board: Rights::RW };
            // It prepares the blocks of its children.
            let children = self.areas.children(self.cluster);
            let address = self.message.buffer()[0];
            return (
                if children.contains(address) { Memory { own: children, ..memory } } else { memory },
                None,
            );
        }
        for (i, witness) in self.board.witness.iter().enumerate() {
            if witness.get() == from.0 {
                let own = own(Owner::Witness(i));
                return (Memory { own, play: own, board: Rights::R }, None);
            }
        }
        if let Some(i) = self.hostile.iter().position(|watched| watched.thread == from) {
            let memory =
                Memory { own: own(Owner::Hostile(i)), play: play(Play::Space(HOSTILE[i])), board: Rights::R };
            return (memory, Some(HOSTILE[i]));
        }
        // A child of any controller, perhaps one that has come from another cluster with its stack.
        let address = self.message.buffer()[0];
        let clusters = 0..self.areas.clusters;
        let home = clusters.into_iter().find(|&c| self.areas.children(c).contains(address));
        let own = self.areas.children(home.unwrap_or(self.cluster));
        (Memory { own, play: play(Play::Children), board: Rights::R }, None)
    }

    /// Looks who makes progress.
    fn look_around(&mut self) -> Outcome {
        self.areas.board().trouble.check()?;
        let mut calls = self.calls;
        for i in 0..HOSTILE.len() {
            let block = self.areas.block(self.cluster, Owner::Hostile(i));
            if let Some(wrong) = block.accusation() {
                return self.accused("a hostile thread", wrong);
            }
            let now = block.calls.load(Relaxed);
            calls += now;
            let watched = &mut self.hostile[i];
            watched.still = if now == watched.seen { watched.still + 1 } else { 0 };
            watched.seen = now;
            let patience = self.rng.u32(1..4);
            if !self.over && (self.hostile[i].still >= patience || self.rng.u32(0..200) == 0) {
                self.replace(i)?;
            }
        }
        for (i, seen) in self.children.iter_mut().enumerate() {
            let now = self.areas.block(self.cluster, Owner::Child(i)).calls.load(Relaxed);
            // The controller may have put another one there.
            self.calls += if now >= *seen { now - *seen } else { now };
            *seen = now;
        }
        self.board.calls.set(calls + self.board.controls.get());
        for space in 0..SPACES {
            if !self.over && (self.spoilt[space] || self.rng.u32(0..400) == 0) {
                self.replace_space(space)?;
            }
        }
        let owners = [Owner::Controller, Owner::Witness(0), Owner::Witness(1), Owner::Child(0)];
        let more = (1..CHILDREN).map(Owner::Child);
        for owner in owners.into_iter().chain(more) {
            if let Some(wrong) = self.areas.block(self.cluster, owner).accusation() {
                return self.accused("the controller, a child or the witness", wrong);
            }
        }
        for (owner, word) in
            [(Owner::Controller, &self.board.controls), (Owner::Witness(0), &self.board.rounds)]
        {
            let now = self.areas.block(self.cluster, owner).calls.load(Relaxed);
            let watched =
                if owner == Owner::Controller { &mut self.controller.1 } else { &mut self.witness.1 };
            watched.still = if now == watched.seen && now != u64::MAX { watched.still + 1 } else { 0 };
            watched.seen = now;
            if now != u64::MAX {
                word.set(now);
            }
            if watched.still > PATIENCE {
                let thread = if owner == Owner::Controller {
                    watched.thread
                } else {
                    ThreadId(self.board.witness[0].get())
                };
                return Self::stands_still(thread, self.areas.block(self.cluster, owner), now);
            }
        }
        self.tell();
        Ok(())
    }

    /// Somebody who always gets on does not: says what it does, and what it asked for last.
    fn stands_still(thread: ThreadId, block: &Block, rounds: u64) -> Outcome {
        let found = call("asking what a thread does", sys::thread_exchange(thread, Exchange::default()))?;
        let x: [u64; 7] = core::array::from_fn(|register| block.was(register));
        failed(format_args!("{thread:?} stands still after {rounds} rounds: {found:x?}, last call {x:x?}"))
    }

    /// A sign of life for the launcher.
    fn tell(&mut self) {
        let calls = self.board.calls.get();
        if self.cluster == 0 && calls >= self.told + 10_000 {
            self.told = calls;
            progress("calls of cluster 0", calls, self.goal);
        }
    }

    fn accused(&self, who: &str, [wrong, a, b, c]: [u64; 4]) -> Outcome {
        let all = [
            Wrong::LostRegister,
            Wrong::Leak,
            Wrong::Privilege,
            Wrong::Permission,
            Wrong::Tag,
            Wrong::Disturbed,
            Wrong::Ghost,
        ];
        let what = all.into_iter().find(|&w| w as u64 == wrong);
        failed(format_args!("{who} found {what:?}: {a:#x} {b:#x} {c:#x}"))
    }

    /// A thread that hangs: is told to go on elsewhere, or ends and is made anew, or its space is.
    fn replace(&mut self, i: usize) -> Outcome {
        let block = self.areas.block(self.cluster, Owner::Hostile(i));
        self.hostile[i].still = 0;
        let thread = self.hostile[i].thread;
        match self.rng.u32(0..8) {
            0..3 if !thread.is_nil() => {
                let [ip, sp, argument] = beginning(&self.areas, self.cluster, Owner::Hostile(i));
                let new = Exchange { ip: Some(ip), sp: Some(sp), argument: Some(argument), cancel: true };
                block.seed.store(self.rng.u64(..), Relaxed);
                call("restarting a thread", sys::thread_exchange(thread, new).map(drop))?;
                block.find_back();
                Ok(())
            }
            7 => self.replace_space(HOSTILE[i]),
            _ => {
                self.retire(i)?;
                self.start_hostile(i)
            }
        }
    }

    /// Ends a hostile thread, and keeps what it has done.
    fn retire(&mut self, i: usize) -> Outcome {
        let block = self.areas.block(self.cluster, Owner::Hostile(i));
        let thread = core::mem::take(&mut self.hostile[i].thread);
        if thread.is_nil() {
            return Ok(());
        }
        self.board.stale[self.next_stale % STALE].set(thread.0);
        self.next_stale += 1;
        self.board.threads[1 + i].set(0);
        // It may be gone with its space.
        match sys::thread_delete(thread) {
            Ok(()) | Err(Error::NoSuchThread) => {}
            Err(error) => return failed(format_args!("deleting a thread: {error}")),
        }
        self.calls += block.calls.swap(0, Relaxed);
        self.hostile[i].seen = 0;
        self.board.replaced.add(1);
        Ok(())
    }

    fn replace_space(&mut self, space: usize) -> Outcome {
        let id = core::mem::replace(&mut self.spaces[space], SpaceId::NIL);
        if id != SpaceId::NIL {
            call("destroying a space", sys::space_destroy(id))?;
            self.board.respaced.add(1);
        }
        (0..HOSTILE.len()).filter(|&i| HOSTILE[i] == space).try_for_each(|i| self.retire(i))?;
        self.start_space(space)
    }

    /// A new hostile space with its threads; when there is no memory for it, later.
    fn start_space(&mut self, space: usize) -> Outcome {
        self.spoilt[space] = false;
        let domain = domains::HOSTILE[space / 2];
        self.spaces[space] = match sys::space_create(domain, false) {
            Ok(id) => id,
            Err(Error::OutOfKernelMemory) => {
                self.spoilt[space] = true;
                return Ok(());
            }
            Err(error) => return failed(format_args!("creating a space: {error}")),
        };
        // Mostly enough, sometimes not.
        let quota = match self.rng.u32(0..8) {
            0 => self.rng.u64(4..20) | self.rng.u64(8..100) << 32,
            1 => 0,
            _ => 40 | 3000 << 32,
        };
        let id = self.spaces[space];
        call("setting a quota", sys::set_quota(id, quota))?;
        if self.rng.bool() {
            // A permission that leads from one domain to the other.
            let other = self.board.threads[1 + self.rng.usize(0..HOSTILE.len())].get();
            call("granting a partner", sys::grant_partner(id, ThreadId(other)))?;
        }
        (0..HOSTILE.len()).filter(|&i| HOSTILE[i] == space).try_for_each(|i| self.start_hostile(i))
    }

    fn start_hostile(&mut self, i: usize) -> Outcome {
        let (owner, space) = (Owner::Hostile(i), self.spaces[HOSTILE[i]]);
        if space == SpaceId::NIL {
            return Ok(());
        }
        let slot = self.rng.u16(0..1024);
        let cpu = self.cpus[self.rng.usize(0..2)];
        let equal = self.rng.u32(0..4) != 0;
        let priority = if equal { HOSTILE_PRIORITY } else { self.rng.u8(1..HOSTILE_PRIORITY) };
        let me = utcb::my_id();
        let thread = match sys::thread_create(space, cpu, me, me, slot, priority) {
            Ok(thread) => thread,
            // No memory, or no quota; or the slot is that of a colleague.
            Err(Error::OutOfKernelMemory | Error::BadArgument) => {
                self.spoilt[HOSTILE[i]] |= self.rng.u32(0..4) == 0;
                return Ok(());
            }
            Err(error) => return failed(format_args!("creating a thread: {error}")),
        };
        self.hostile[i] = Watched { thread, ..Watched::default() };
        self.board.threads[1 + i].set(thread.0);
        let play = self.areas.play(self.cluster, Play::Space(HOSTILE[i]));
        self.start(thread, owner, play.base, hostile::hostile)
    }

    /// Starts a thread with a fresh block.
    fn start(&mut self, thread: ThreadId, owner: Owner, play: u64, entry: Entry) -> Outcome {
        let (own, block) = (self.areas.own(self.cluster, owner), self.areas.block(self.cluster, owner));
        block.prepare(thread, self.rng.u64(..), &self.areas, self.cluster, play, true);
        let pc = (entry as *const ()).addr() as u64;
        call("starting a thread", sys::thread_start(thread, pc, own.base + OWN, own.base))
    }

    fn start_witness(&mut self) -> Outcome {
        let me = utcb::my_id();
        let space = call("a witness's space", sys::space_create(domains::WITNESS, false))?;
        self.witness.0 = space;
        let entries: [Entry; 2] = [witness::client, witness::server];
        // The server first, so that nobody asks in vain.
        for i in [1, 0] {
            let cpu = self.cpus[i];
            let thread = sys::thread_create(space, cpu, me, me, i as u16, WITNESS_PRIORITY);
            let thread = call("a witness", thread)?;
            self.board.witness[i].set(thread.0);
            self.start(thread, Owner::Witness(i), 0, entries[i])?;
            if i == 0 {
                self.witness.1.thread = thread;
            }
        }
        Ok(())
    }

    fn start_controller(&mut self) -> Outcome {
        let me = utcb::my_id();
        let space = call("a controller's space", sys::space_create(domains::CONTROLLER, true))?;
        let thread = sys::thread_create(space, self.cpus[1], me, me, 3, CONTROLLER_PRIORITY);
        let thread = call("a controller", thread)?;
        self.controller = (space, Watched { thread, ..Watched::default() });
        self.board.threads[0].set(thread.0);
        let setup = Setup { areas: self.areas, cpus: self.cpus, boss: me };
        let block = self.areas.block(self.cluster, Owner::Controller);
        // SAFETY: behind the block, in a page that nobody else uses; the controller reads it when it has been started.
        unsafe { controller::setup_of(block).write(setup) };
        let play = self.areas.play(self.cluster, Play::Controller);
        self.start(thread, Owner::Controller, play.base, controller::controller)
    }

    /// Ends everybody.
    pub(super) fn wind_up(&mut self) -> Outcome {
        let (areas, cluster) = (self.areas, self.cluster);
        let done = |owner| areas.block(cluster, owner).calls.load(Relaxed) == u64::MAX;
        let mut patience = 20_000;
        while !(done(Owner::Controller) && done(Owner::Witness(0))) {
            patience -= 1;
            ensure!(patience != 0, "controller or witness does not end");
            self.serve_for(millisecond())?;
        }
        // The witness of another cluster may still ask ours.
        self.board.witnessed.set(1);
        let board = self.areas.board();
        while !(0..self.areas.clusters).all(|c| board.cluster(c).witnessed.get() != 0) {
            self.serve_for(millisecond())?;
        }
        self.over = true;
        for space in 0..SPACES {
            (0..HOSTILE.len()).filter(|&i| HOSTILE[i] == space).try_for_each(|i| self.retire(i))?;
            let id = core::mem::replace(&mut self.spaces[space], SpaceId::NIL);
            if id != SpaceId::NIL {
                call("destroying a space", sys::space_destroy(id))?;
            }
        }
        call("destroying the controller's space", sys::space_destroy(self.controller.0))?;
        call("destroying the witness's space", sys::space_destroy(self.witness.0))
    }
}
