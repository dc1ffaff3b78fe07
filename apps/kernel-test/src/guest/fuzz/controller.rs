//! A privileged thread that makes random control calls, but only about spaces and threads of its own (and about names that nobody
//! has): everything else would be suicide, which is allowed.
#![expect(unsafe_code, reason = "the thread's argument is an address")]

use core::sync::atomic::Ordering::Relaxed;

use skerry_abi::syscall::{
    AUDIT, INTERRUPT_CONTROL, IPC, NOTIFY, SCHEDULE, SPACE_CONTROL, THREAD_CONTROL, UNMAP, exchange,
    interrupt_op, space_op, thread_op,
};
use skerry_abi::{CpuId, Error, Fpage, SpaceId, ThreadId};
use skerry_rt::{ipc, sys};

use super::areas::{Areas, CHILDREN, HOSTILE, OWN, Owner, Play, SPACES};
use super::board::STALE;
use super::domains;
use super::hostile::{self, Block, Wrong, hostile};
use super::stubs::{self, NUMBERS};
use super::words::Dictionary;

/// Device interrupts that it attaches: nobody raises them.
const INTERRUPTS: core::ops::Range<u64> = 100..108;
/// No child may be more urgent: none of them lets the others run if it need not.
pub(super) const PRIORITY: u64 = 30;

struct Controller {
    block: &'static Block,
    d: Dictionary,
    areas: Areas,
    cpus: [CpuId; 2],
    spaces: [SpaceId; SPACES],
    /// Each with its space, as far as the controller knows.
    children: [(ThreadId, usize); CHILDREN],
    /// Who had the place before, and may still run in another cluster: two in one block would write down what neither has found.
    former: [ThreadId; CHILDREN],
}

/// What a controller needs to know beside its block.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) areas: Areas,
    pub(super) cpus: [CpuId; 2],
    pub(super) boss: ThreadId,
}

/// Where the boss leaves that: behind the block.
pub(super) fn setup_of(block: &Block) -> *mut Setup {
    core::ptr::with_exposed_provenance_mut((block.address() + 2048) as usize)
}

const _: () = assert!(size_of::<Block>() <= 2048);

/// Where a controller begins.
pub(super) extern "C" fn controller(argument: u64) -> ! {
    // SAFETY: the boss's argument: what it mapped here for this thread, words only.
    let block = unsafe { &*core::ptr::with_exposed_provenance::<Block>(argument as usize) };
    // SAFETY: written by the boss before it started this thread.
    let setup = unsafe { setup_of(block).read() };
    let mut me = Controller {
        block,
        d: block.dictionary(false),
        areas: setup.areas,
        cpus: setup.cpus,
        spaces: [SpaceId::NIL; SPACES],
        children: [(ThreadId::NIL, 0); CHILDREN],
        former: [ThreadId::NIL; CHILDREN],
    };
    while me.d.board.stop.get() == 0 {
        me.step();
        block.calls.fetch_add(1, Relaxed);
    }
    me.give_back();
    block.calls.store(u64::MAX, Relaxed);
    ipc::sleep_forever()
}

impl Controller {
    fn step(&mut self) {
        if self.d.percent(25) {
            // The others want to get on, too.
            let ticks = self.d.below(6000);
            ipc::pause(ticks);
        }
        match self.d.below(100) {
            0..8 => self.create_space(),
            8..10 => self.destroy_space(),
            10..18 => self.other_space_call(),
            18..40 => self.create_thread(),
            40..75 => self.control_thread(),
            75..83 => self.schedule(),
            83..86 => self.interrupt(),
            86..89 => self.audit(),
            89..94 => self.ghost(),
            _ => self.ordinary(),
        }
    }

    /// Makes the call; `registers` are x0 on, and the others random. Returns the result, and x1.
    fn call(&mut self, number: u16, registers: &[u64]) -> Result<u64, Error> {
        for register in 0..19 {
            let value = registers.get(register).copied().unwrap_or_else(|| self.d.rng.u64(..));
            self.block.put(register, value);
        }
        let index = NUMBERS.iter().position(|&n| n == number).unwrap_or(0);
        if stubs::call(self.block, index) != 0 {
            self.block.accuse(Wrong::LostRegister, [number.into(), 1, 0]);
        }
        match self.block.got(0) {
            0 => Ok(self.block.got(1)),
            code => Err(Error::from_code(code)),
        }
    }

    fn board(&self) -> &'static super::board::Cluster {
        self.d.board.cluster(self.d.cluster)
    }
    fn publish(&self, child: usize) {
        self.board().threads[HOSTILE.len() + 1 + child].set(self.children[child].0.0);
    }

    fn create_space(&mut self) {
        let slot = self.d.below(SPACES as u64) as usize;
        if self.spaces[slot] != SpaceId::NIL {
            return;
        }
        let domain = self.d.pick(&[100, 101, 100, 101, 102, 1 << 32]);
        let quota = match self.d.below(4) {
            0 => self.d.below(16) | self.d.below(64) << 32,
            1 => self.d.rng.u64(..),
            _ => 32 | 2000 << 32,
        };
        let flags = self.d.rng.u64(..) & !1;
        if let Ok(id) = self.call(SPACE_CONTROL, &[space_op::CREATE, domain, flags, quota]) {
            self.spaces[slot] = SpaceId(id);
            self.board().spaces[slot].set(id);
        }
    }

    fn destroy_space(&mut self) {
        let slot = self.d.below(SPACES as u64) as usize;
        let id = core::mem::replace(&mut self.spaces[slot], SpaceId::NIL);
        if id == SpaceId::NIL {
            return;
        }
        self.board().spaces[slot].set(0);
        match self.call(SPACE_CONTROL, &[space_op::DESTROY, id.0]) {
            Ok(_) => {}
            // The boss may have told it to stop waiting: try again, so that nothing is lost.
            Err(Error::Cancelled) => self.spaces[slot] = id,
            Err(error) => self.block.accuse(Wrong::Ghost, [id.0, error.code(), 0]),
        }
    }

    fn other_space_call(&mut self) {
        let slot = self.d.below(SPACES as u64) as usize;
        let id = self.spaces[slot].0;
        let operation = self.d.pick(&[
            space_op::GRANT_PARTNER,
            space_op::SET_QUOTA,
            space_op::MAP_TRACE,
            space_op::MAP_TRACE + 1,
            u64::MAX,
        ]);
        let argument = match operation {
            // Not the witness: that would be a permission.
            space_op::GRANT_PARTNER => {
                let index = self.d.below(HOSTILE.len() as u64) as usize;
                let cluster = self.d.below(self.d.clusters.into()) as u16;
                self.d.board.cluster(cluster).threads[index].get()
            }
            space_op::SET_QUOTA => (16 + self.d.below(64)) | (100 + self.d.below(4000)) << 32,
            _ => self.d.address(),
        };
        let _ = self.call(SPACE_CONTROL, &[operation, id, argument]);
    }

    fn create_thread(&mut self) {
        let (child, slot) = (self.d.below(CHILDREN as u64) as usize, self.d.below(SPACES as u64) as usize);
        if !self.children[child].0.is_nil() || self.spaces[slot] == SpaceId::NIL || !self.is_vacant(child) {
            return;
        }
        let cpu = if self.d.percent(90) { self.cpu() } else { self.d.below(70_000) };
        let boss = self.board().boss.get();
        let handlers = [boss, boss, 0, self.anybody(), self.d.rng.u64(..)];
        let pager = if self.d.percent(85) { boss } else { self.d.pick(&handlers) };
        let handler = self.d.pick(&handlers);
        let utcb = if self.d.percent(90) { self.d.below(1024) } else { self.d.word() };
        let priority =
            if self.d.percent(90) { self.d.below(PRIORITY) } else { 256 + self.d.word() % (1 << 40) };
        let space = self.spaces[slot].0;
        let created =
            self.call(THREAD_CONTROL, &[thread_op::CREATE, space, cpu, pager, handler, utcb, priority]);
        let Ok(id) = created else { return };
        self.children[child] = (ThreadId(id), slot);
        self.prepare(child);
        self.trust_only(child, boss, [pager, handler]);
        self.publish(child);
        if self.d.percent(80) {
            self.start(child);
        }
    }

    /// Whether the thread that was there before has ended, wherever it was.
    fn is_vacant(&mut self, child: usize) -> bool {
        let former = self.former[child];
        if !former.is_nil() {
            let asked = self.call(THREAD_CONTROL, &[thread_op::EXCHANGE, former.0, 0]);
            if asked != Err(Error::NoSuchThread) {
                return false;
            }
            self.former[child] = ThreadId::NIL;
        }
        true
    }

    fn prepare(&mut self, child: usize) {
        let seed = self.d.rng.u64(..);
        let play = self.areas.play(self.d.cluster, Play::Children);
        let block = self.areas.block(self.d.cluster, Owner::Child(child));
        block.prepare(self.children[child].0, seed, &self.areas, self.d.cluster, play.base, false);
    }

    /// What a child finds counts only if none but the boss answers for it (0 for the handler: the pager).
    fn trust_only(&self, child: usize, boss: u64, [pager, handler]: [u64; 2]) {
        if pager != boss || ![0, boss].contains(&handler) {
            self.areas.block(self.d.cluster, Owner::Child(child)).distrust();
        }
    }

    /// A thread that may hear of a child's faults: no witness.
    fn anybody(&mut self) -> u64 {
        let id = self.d.thread();
        if hostile::is_witness(&self.d, id) { 0 } else { id.0 }
    }

    /// Mostly that of the hostile threads.
    fn some_priority(&mut self) -> u64 {
        if self.d.percent(75) { PRIORITY } else { self.d.below(PRIORITY) }
    }

    fn cpu(&mut self) -> u64 {
        let index = self.d.below(2) as usize;
        self.cpus[index].into()
    }

    fn start(&mut self, child: usize) {
        let area = self.areas.own(self.d.cluster, Owner::Child(child));
        let entry = (hostile as extern "C" fn(u64) -> ! as *const ()).addr() as u64;
        let wild = [self.d.address(), self.d.rng.u64(..)];
        let (pc, sp) = match self.d.below(20) {
            // Anywhere but in the program, where it would begin in the middle.
            0 if wild[0] > 0x1000_0000 => (wild[0], area.base + OWN),
            1 => (entry, wild[1]),
            _ => (entry, area.base + OWN),
        };
        if (pc, sp) != (entry, area.base + OWN) {
            // It goes on behind what faults, and executes the half of what it should.
            self.areas.block(self.d.cluster, Owner::Child(child)).distrust();
        }
        let id = self.children[child].0.0;
        let _ = self.call(THREAD_CONTROL, &[thread_op::START, id, pc, sp, area.base]);
    }

    fn control_thread(&mut self) {
        let child = self.d.below(CHILDREN as u64) as usize;
        let id = self.children[child].0;
        if id.is_nil() {
            return;
        }
        match self.d.below(12) {
            0..3 => self.delete(child),
            3..5 => _ = self.call(THREAD_CONTROL, &[thread_op::SUSPEND, id.0]),
            5..7 => _ = self.call(THREAD_CONTROL, &[thread_op::RESUME, id.0]),
            7 => self.start(child),
            8..10 => {
                let area = self.areas.own(self.d.cluster, Owner::Child(child));
                let entry = (hostile as extern "C" fn(u64) -> ! as *const ()).addr() as u64;
                let flags = match self.d.below(4) {
                    0 => exchange::ALL,
                    1 => exchange::CANCEL,
                    2 => 0,
                    _ => self.d.below(32) & !(exchange::PC | exchange::SP | exchange::X0),
                };
                let arguments = [thread_op::EXCHANGE, id.0, flags, entry, area.base + OWN, area.base];
                let _ = self.call(THREAD_CONTROL, &arguments);
            }
            _ => self.migrate(child),
        }
    }

    fn delete(&mut self, child: usize) {
        let id = core::mem::take(&mut self.children[child].0);
        if id.is_nil() {
            return;
        }
        self.publish(child);
        let at = self.d.below(STALE as u64) as usize;
        self.board().stale[at].set(id.0);
        if let Err(Error::Cancelled) = self.call(THREAD_CONTROL, &[thread_op::DELETE, id.0]) {
            self.children[child].0 = id;
        } else {
            self.former[child] = id;
        }
    }

    fn migrate(&mut self, child: usize) {
        let id = self.children[child].0;
        let to = self.d.below(self.d.clusters.into()) as u16;
        let there = self.d.board.cluster(to);
        let slot = self.d.below(SPACES as u64) as usize;
        let space = there.spaces[slot].get();
        // A CPU that is probably there: CPUs are numbered through.
        let distance = u64::from(self.cpus[1].abs_diff(self.cpus[0])) + 1;
        let first = u64::from(self.cpus[0]).wrapping_sub(u64::from(self.d.cluster) * distance);
        let cpu = if self.d.percent(90) {
            first.wrapping_add(u64::from(to) * distance)
        } else {
            self.d.below(2000)
        };
        let pager = if self.d.percent(90) { there.boss.get() } else { self.anybody() };
        let handler = if self.d.percent(50) { 0 } else { self.anybody() };
        self.trust_only(child, there.boss.get(), [pager, handler]);
        let _ = self.call(THREAD_CONTROL, &[thread_op::MIGRATE, id.0, space, cpu, pager, handler]);
    }

    fn schedule(&mut self) {
        let child = self.d.below(CHILDREN as u64) as usize;
        let id = self.children[child].0.0;
        let priority = if self.d.percent(30) { !0 } else { self.some_priority() };
        let slices = [!0, 0, 500, 5000, u64::MAX - 1, self.d.below(100_000)];
        let slice = self.d.pick(&slices);
        let cpu = if self.d.percent(80) { self.cpu() } else { self.d.word() };
        let _ = self.call(SCHEDULE, &[0, id, priority, slice, cpu]);
    }

    fn interrupt(&mut self) {
        let child = self.d.below(CHILDREN as u64) as usize;
        let id = self.children[child].0.0;
        let irq = match self.d.below(8) {
            0 => self.d.pick(&[0, 15, 16, 31, 1020, 1023, 1 << 32, u64::MAX]),
            _ => INTERRUPTS.start + self.d.below(INTERRUPTS.end - INTERRUPTS.start),
        };
        let (operation, bits) = (self.d.below(4), self.d.rng.u64(..));
        let id = if operation == interrupt_op::ATTACH { id } else { self.d.rng.u64(..) };
        let _ = self.call(INTERRUPT_CONTROL, &[operation, irq, id, bits]);
    }

    /// Who has a frame, as long as nothing changes. Every leaf has to have it in it.
    fn audit(&mut self) {
        let frame = self.d.address() & !0xfff;
        let (mut space, mut leaf) = (0, 0);
        for _ in 0..20 {
            let resumed = if self.d.percent(90) { 0 } else { self.d.word() };
            match self.call(AUDIT, &[0, frame, space, leaf, resumed]) {
                Ok(next) if next != 0 => (space, leaf) = (next, self.block.got(2)),
                _ => return,
            }
            let sound = Fpage::decode(leaf).is_some_and(|leaf| leaf.base() & 0xfff == 0);
            if !sound || SpaceId(space).cluster() != self.d.cluster {
                self.block.accuse(Wrong::Ghost, [frame, space, leaf]);
            }
        }
    }

    /// A call about a thread or a space that there is not.
    fn ghost(&mut self) {
        let child = self.d.below(CHILDREN as u64) as usize;
        let thread = self.children[child].0.0;
        let space = self.spaces[child % SPACES].0;
        if thread == 0 || space == 0 {
            return;
        }
        let (thread, space) = (self.d.misnamed(thread), self.d.misnamed(space));
        let operation = 1 + self.d.below(6);
        let space_operation = 1 + self.d.below(4);
        let result = match self.d.below(4) {
            0..2 => self.call(THREAD_CONTROL, &[operation, thread]),
            2 => self.call(SCHEDULE, &[0, thread]),
            _ => self.call(SPACE_CONTROL, &[space_operation, space]),
        };
        // To another cluster a deletion goes without an answer.
        let far = ThreadId(thread).cluster() != self.d.cluster;
        if result.is_ok() && !(far && operation == thread_op::DELETE) {
            self.block.accuse(Wrong::Ghost, [thread, operation, space]);
        }
    }

    /// What everybody may do, without time-outs that never end and with nothing but memory to play with.
    fn ordinary(&mut self) {
        let number = self.d.pick(&[IPC, UNMAP, NOTIFY].map(u64::from)) as u16;
        match number {
            IPC => {
                let (tag, words) = self.d.message();
                let (dest, from) = (self.d.thread().0, self.d.thread().0);
                let mut x = [0; 14];
                (x[0], x[1], x[2]) = (dest, from, tag);
                x[3..11].copy_from_slice(&words[..8]);
                // No window: a mapping over its own stack would be the end of the control.
                (x[11], x[12]) = (self.d.timeout(), self.d.timeout());
                skerry_rt::utcb::store(&words);
                let _ = self.call(IPC, &x);
            }
            UNMAP => {
                let mut x = [0; 9];
                x[0] = self.d.below(2) | 1 << 8;
                x[1..].iter_mut().for_each(|x| *x = self.d.fpage());
                let _ = self.call(UNMAP, &x);
            }
            _ => {
                let (whom, bits) = (self.d.thread().0, self.d.rng.u64(..));
                let witness = self.d.board.cluster(self.d.cluster).witness.iter().any(|w| w.get() == whom);
                if self.call(NOTIFY, &[whom, bits]).is_ok() && witness {
                    self.block.accuse(Wrong::Permission, [whom, domains::CONTROLLER.into(), 0]);
                }
            }
        }
    }

    /// Ends everything that is its own.
    fn give_back(&mut self) {
        for child in 0..CHILDREN {
            while !self.children[child].0.is_nil() {
                self.delete(child);
            }
        }
        for slot in 0..SPACES {
            let id = self.spaces[slot];
            while id != SpaceId::NIL && sys::space_destroy(id) == Err(Error::Cancelled) {}
        }
        for irq in INTERRUPTS {
            let _ = sys::interrupt_detach(irq as u32);
        }
    }
}
