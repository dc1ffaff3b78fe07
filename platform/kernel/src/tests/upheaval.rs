//! Long operations in random order: threads on two CPUs map, grant, unmap, receive, fault and give up, and a privileged thread ends,
//! moves and renews them and their spaces, all at any moment of what the others have begun.
//!
//! The exhaustive model ([`super::model`]) knows no items. This is random instead; what must hold between any two events is the same
//! ([`super::invariants`]), and in the end everything is free again.

use super::arenas::{Memory, Rings, Sizes};
use super::invariants::check;
use super::world::*;
use crate::birth::NewThread;
use crate::kernel::Event;
use crate::thread::State;
use crate::trace::RING_PAGES;
use skerry_abi::syscall::{IPC, NOTIFY, SCHEDULE, SPACE_CONTROL, THREAD_CONTROL, UNMAP};
use skerry_abi::syscall::{exchange, space_op, thread_op};
use skerry_abi::{Error, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_mapping_db::Attr;
use std::boxed::Box;
use std::vec::Vec;

/// What is mapped to and fro: 2 MiB, at the same addresses everywhere.
const BLOCK: u64 = 0x4020_0000;
const SPACES: usize = 3;
/// Threads of each space.
const THREADS: usize = 3;
/// Where a thread is before a system call.
const PC: u64 = 0x1000;
/// No system call: a page fault, at the address in x0.
const FAULT: u16 = u16::MAX;

/// Registers that begin with these.
fn pad<const N: usize>(x: [u64; N]) -> [u64; 14] {
    core::array::from_fn(|i| x.get(i).copied().unwrap_or(0))
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
    fn fpage(&mut self) -> Fpage {
        let bits = self.pick(&[12, 12, 12, 13, 16, 19, 20, 21]);
        let base = BLOCK + (self.below(512) << 12);
        let rights = self.pick(&[Rights::RWX, Rights::RW, Rights::R]);
        Fpage::new(base & !((1 << bits) - 1), bits, rights).unwrap()
    }
}

/// A thread, and the number of the system call that it executes.
#[derive(Clone, Copy)]
struct Actor {
    id: ThreadId,
    number: u16,
}

struct Scene {
    k: TestKernel<'static>,
    random: Random,
    root: SpaceId,
    spaces: [SpaceId; SPACES],
    actors: [[Actor; THREADS]; SPACES],
    boss: Actor,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let rings = Box::leak(Box::new(Rings::new(1)));
        let sizes = Sizes { trace_pages: 2 * RING_PAGES, ..Sizes::LARGE };
        let mut k = Box::leak(Box::new(Memory::new(rings, 2, sizes))).kernels().remove(0);
        start_root(&mut k);
        let (root, _) = program(&mut k, 1);
        k.db.map_root(root.slot(), BLOCK, BLOCK, 21, Rights::RWX, Attr::Normal).unwrap();
        let privileged = k.create_space(1, true).unwrap();
        k.enter(1);
        let boss = Actor { id: thread(&mut k, privileged, 0, ThreadId::NIL), number: 0 };
        let nobody = Actor { id: ThreadId::NIL, number: 0 };
        let actors = [[nobody; THREADS]; SPACES];
        Self { k, random: Random(seed), root, spaces: [SpaceId::NIL; SPACES], actors, boss }
    }

    /// A thread, most likely one that waits for a message.
    fn anybody(&mut self) -> ThreadId {
        let all = self.actors.as_flattened();
        let waits = |actor: &&Actor| state(&self.k, actor.id) == State::Receiving;
        let waiting: Vec<_> = all.iter().filter(waits).map(|actor| actor.id).collect();
        if self.random.below(4) == 0 || waiting.is_empty() {
            self.random.pick(all).id
        } else {
            self.random.pick(&waiting)
        }
    }

    /// Lets `actor` execute its system call again, or else a new one. Nothing happens if it does not want to run.
    fn act(&mut self, actor: Actor, choose: impl FnOnce(&mut Self) -> (u16, [u64; 14])) -> Option<u16> {
        let ready = |k: &TestKernel| k.find(actor.id).filter(|&t| k.thread(t).may_run());
        let cpu = self.k.thread(ready(&self.k)?).cpu;
        self.k.enter(cpu);
        // Whatever this CPU has to do before.
        self.k.handle(Event::Kick);
        self.k.pick();
        if self.k.thread(ready(&self.k)?).cpu != cpu {
            return None;
        }
        let t = run(&mut self.k, actor.id);
        let again = self.k.thread(t).context.pc != PC;
        let (number, x) = if again { (actor.number, [0; 14]) } else { choose(self) };
        let context = &mut self.k.thread_mut(t).context;
        context.pc = PC;
        if !again {
            context.x[..14].copy_from_slice(&x);
        }
        match number {
            IPC | UNMAP => self.k.handle(Event::Syscall(number)),
            FAULT => self.k.handle(Event::PageFault { address: x[0], access: Rights::W, esr: 0 }),
            _ => {
                self.k.call(number);
            }
        }
        self.k.pick();
        Some(number)
    }

    /// What a thread without privileges does.
    fn play(&mut self) -> (u16, [u64; 14]) {
        let (whom, from) = (self.anybody(), self.anybody());
        let mut x = [0; 14];
        match self.random.below(20) {
            0..16 => {
                let (dest, from) = match self.random.below(8) {
                    0..3 => (ThreadId::NIL, ThreadId::ANY),
                    3..5 => (whom, ThreadId::NIL),
                    5 => (whom, ThreadId::ANY),
                    6 => (whom, whom),
                    _ => (whom, from),
                };
                let items = self.random.below(4) as usize;
                (x[0], x[1], x[2]) = (dest.0, from.0, Tag::new(7, 0, 2 * items).0);
                for item in 0..items {
                    let fpage = self.random.fpage();
                    let dest = fpage.base() + (self.random.below(3) << 21);
                    let mut word: Item = MapItem { fpage, dest }.into();
                    word.grant = self.random.below(4) == 0;
                    x[3 + 2 * item..5 + 2 * item].copy_from_slice(&word.words().0[..2]);
                }
                for timeout in [11, 12] {
                    let soon = Timeout(self.k.hal.now + 1 + self.random.below(20));
                    let some = [Timeout::NEVER, Timeout::ZERO, Timeout::REPLY, soon, soon, soon, soon];
                    x[timeout] = self.random.pick(&some).0;
                }
                x[13] = self.random.pick(&[Fpage::COMPLETE, Fpage::COMPLETE, Fpage::NIL]).word();
                (IPC, x)
            }
            16..18 => {
                let rights = self.random.pick(&[Rights::RWX, Rights::RWX, Rights::W, Rights::NONE]);
                x[0] = self.random.below(2) | 1 << 8;
                x[1] = self.random.fpage().with_rights(rights).word();
                (UNMAP, x)
            }
            18 => {
                (x[0], x[1]) = (whom.0, 1);
                (NOTIFY, x)
            }
            _ => {
                x[0] = self.random.fpage().base();
                (FAULT, x)
            }
        }
    }

    /// What the privileged thread does to others.
    fn rule(&mut self) -> (u16, [u64; 14]) {
        let (whom, space) = (self.anybody(), self.random.pick(&self.spaces));
        let x = match self.random.below(40) {
            0 => [thread_op::DELETE, whom.0, 0, 0, 0],
            1..3 => [thread_op::SUSPEND, whom.0, 0, 0, 0],
            3..9 => [thread_op::RESUME, whom.0, 0, 0, 0],
            9..20 => [thread_op::EXCHANGE, whom.0, exchange::CANCEL, 0, 0],
            20..25 => {
                let priority = self.random.pick(&[90, 100, 100, 110]);
                return (SCHEDULE, pad([0, whom.0, priority, !0, self.random.below(2)]));
            }
            25 if self.random.below(4) == 0 => {
                return (SPACE_CONTROL, pad([space_op::DESTROY, space.0, 0, 0, 0]));
            }
            25..28 => {
                let at = BLOCK + (self.random.below(3 * 512) << 12);
                return (SPACE_CONTROL, pad([space_op::MAP_TRACE, space.0, at, 0, 0]));
            }
            _ => {
                let too_small = 1 + self.random.below(2);
                return (SPACE_CONTROL, pad([space_op::CREATE, 20, 0, too_small, 0]));
            }
        };
        (THREAD_CONTROL, pad(x))
    }

    /// Makes anew whoever is gone, and gives somebody something to pass on.
    fn renew(&mut self) {
        let at = self.random.below(SPACES as u64) as usize;
        if self.k.find_space(self.spaces[at]).is_none() {
            self.spaces[at] = self.k.create_space(20, false).unwrap();
        }
        let Ok(space) = self.k.usable_space(self.spaces[at]) else { return };
        if !self.k.db.is_held() {
            let fpage = self.random.fpage();
            let (db, mut tlb) = self.k.db_and_tlb();
            // Perhaps something else is there, or there is too little memory just now.
            _ = db.map(&mut tlb, self.root.slot(), fpage, space, fpage.base(), Attr::Normal);
        }
        let number = self.random.below(THREADS as u64) as usize;
        if self.k.find(self.actors[at][number].id).is_none() {
            let (cpu, pager) = (self.random.below(2) as u16, self.anybody());
            let new =
                NewThread { space, cpu, pager, handler: pager, utcb_slot: number as u16, priority: 100 };
            // The one before may not be through with its end.
            if let Ok(id) = self.k.create_thread(new) {
                let t = self.k.find(id).unwrap();
                self.k.start_thread(t, PC, 0x2000, 0).unwrap();
                self.actors[at][number] = Actor { id, number: 0 };
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0..2 => {
                self.k.enter(self.random.below(2) as u16);
                self.k.hal.now += self.random.below(10);
                self.k.handle(self.random.pick(&[Event::Kick, Event::Tick]));
                self.k.pick();
            }
            2 => self.renew(),
            3..5 => {
                if let Some(number) = self.act(self.boss, Self::rule) {
                    self.boss.number = number;
                }
            }
            _ => {
                let (i, j) = (self.random.below(SPACES as u64) as usize, self.random.below(THREADS as u64));
                if let Some(number) = self.act(self.actors[i][j as usize], Self::play) {
                    self.actors[i][j as usize].number = number;
                }
            }
        }
    }

    /// Lets the privileged thread make a call, and both CPUs do what it needs for that.
    fn insist(&mut self, number: u16, x: [u64; 2]) -> Result<(), Error> {
        let mut asked = false;
        for _ in 0..10_000 {
            let t = self.k.find(self.boss.id).unwrap();
            let through = self.k.thread(t).may_run() && self.k.thread(t).context.pc == PC;
            if asked && through {
                return match self.k.thread(t).context.x[0] {
                    0 => Ok(()),
                    code => Err(Error::from_code(code)),
                };
            }
            asked |= through;
            let call = |_: &mut Self| (number, pad(x));
            if let Some(number) = self.act(self.boss, call) {
                self.boss.number = number;
            }
            for cpu in [0, 1] {
                self.k.enter(cpu);
                self.k.handle(Event::Kick);
                self.k.pick();
            }
            check(&self.k).unwrap();
        }
        panic!("call {number} with {x:x?} never ends");
    }
}

#[test]
fn everybody_survives_what_others_do_in_the_middle() {
    for seed in 0..40 {
        let mut scene = Scene::new(seed);
        let before = scene.k.db.stats();
        for step in 0..4_000 {
            scene.step();
            check(&scene.k).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
        }
        for space in scene.spaces {
            match scene.insist(SPACE_CONTROL, [space_op::DESTROY, space.0]) {
                Ok(()) | Err(Error::NoSuchSpace) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(!scene.k.db.is_held(), "seed {seed}");
        let after = scene.k.db.stats();
        // The root keeps a table for its smaller children.
        assert!(after == before || after.free_tables + 1 == before.free_tables, "seed {seed}: {after:?}");
    }
}
