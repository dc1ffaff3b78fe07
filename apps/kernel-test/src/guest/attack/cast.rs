//! Actors and their stage: threads in spaces that share this program's memory.
#![expect(unsafe_code, reason = "stacks, and the end of the program")]

use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;

use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::id::domain;
use skerry_abi::layout::PROGRAM_BASE;
use skerry_abi::message::kernel_label;
use skerry_abi::{CpuId, Error, Fpage, MapItem, Rights, SpaceId, ThreadId};
use skerry_rt::{ipc, sys};

use super::super::world::{Entry, Outcome, REPORT, World, call, failed, report};
use super::Attack;
use super::script::{
    ACTORS, ITEM, Ipc, NAMES, Note, ROLES, Role, STEPS, Step, Who, act, exchange, load, store,
};

/// Domains of spaces. Threads of one domain may send to each other.
pub(super) const OURS: u32 = domain::FIRST_TASK + 100;
pub(super) const THEIRS: u32 = OURS + 1;

const STACK_SIZE: usize = 8192;
/// A stack per actor, and one for a helper.
#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK_SIZE]; ACTORS + 1]>);

// SAFETY: only addresses of it are taken; stack *i* is used by one thread at a time.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_SIZE]; ACTORS + 1]));

unsafe extern "C" {
    /// Where the program ends, says the linker.
    static _end: u8;
}

fn program_end() -> u64 {
    (&raw const _end).addr() as u64
}

/// Touches the whole program and one more page, so that nobody faults on it afterwards.
extern "C" fn warm(page: u64) -> ! {
    for address in (PROGRAM_BASE..program_end()).step_by(PAGE_SIZE as usize) {
        load(address);
    }
    store(page, 0);
    report([0; 4]);
    ipc::sleep_forever()
}

/// The least urgent thread.
extern "C" fn settled(_: u64) -> ! {
    report([0; 4]);
    ipc::sleep_forever()
}

/// An engaged thread.
#[derive(Clone, Copy)]
pub(super) struct Actor {
    pub(super) id: ThreadId,
    space: SpaceId,
    role: usize,
}

impl Actor {
    pub(super) fn who(self) -> Who {
        Who::Thread(self.id)
    }
    /// How many steps it has completed.
    pub(super) fn done(self) -> usize {
        ROLES[self.role].lock().noted
    }
    /// What came of its n-th step; of one that it has not done, nothing.
    pub(super) fn note(self, n: usize) -> Option<Note> {
        let role = ROLES[self.role].lock();
        (n < role.noted.min(STEPS)).then(|| role.notes[n])
    }
    /// The label of what its n-th step received; none if that failed.
    pub(super) fn heard(self, n: usize) -> Option<u32> {
        self.note(n).filter(|note| note.tag.error().is_none()).map(|note| note.tag.label())
    }
    /// Whether its n-th step was an IPC that failed.
    pub(super) fn failed(self, n: usize) -> bool {
        self.note(n).is_some_and(|note| note.tag.error().is_some())
    }
    /// Whether its first step was done before the n-th of the other, which was done.
    pub(super) fn overtook(self, other: Self) -> bool {
        match (self.note(0), other.note(0)) {
            (Some(mine), Some(others)) => mine.time < others.time,
            (mine, _) => mine.is_some(),
        }
    }
}

/// The threads of one attack.
pub(super) struct Cast<'w> {
    pub(super) world: &'w mut World,
    spaces: [SpaceId; 4],
    made: usize,
    engaged: usize,
    /// Exceptions that came instead of answers.
    pub(super) exceptions: u64,
}

impl<'w> Cast<'w> {
    /// Tries the attack, and clears up.
    pub(super) fn play(world: &'w mut World, attack: Attack) -> Outcome<bool> {
        let mut cast = Self { world, spaces: [SpaceId::NIL; 4], made: 0, engaged: 0, exceptions: 0 };
        let worked = attack(&mut cast)?;
        for &space in &cast.spaces[..cast.made] {
            while sys::space_destroy(space) == Err(Error::WrongState) {
                ipc::pause(10_000);
            }
        }
        Ok(worked)
    }

    /// A page that no actor has.
    pub(super) fn page(&self, n: u64) -> u64 {
        self.world.frames.base + ((n + 1) << PAGE_BITS)
    }

    /// A space that has all of the program, and page tables for the frames.
    pub(super) fn space(&mut self, domain: u32) -> Outcome<SpaceId> {
        let space = call("creating a space", sys::space_create(domain, false))?;
        self.spaces[self.made] = space;
        self.made += 1;
        self.helper(space, 100, warm, self.world.frames.base)?;
        Ok(space)
    }

    /// Runs a thread until it reports. Only what is more urgent runs meanwhile.
    fn helper(&mut self, space: SpaceId, priority: u8, entry: Entry, argument: u64) -> Outcome {
        let (me, cpu) = (self.world.me, self.world.cpu);
        let helper = start(space, cpu, me, me, priority, ACTORS, entry, argument)?;
        self.page_until_report(helper)?;
        call("ending a helper", sys::thread_delete(helper))
    }

    /// Answers faults until the thread reports: with a window, so not on the fast path, which may lack a check.
    fn page_until_report(&mut self, thread: ThreadId) -> Outcome {
        let mut answer = Ipc { window: Fpage::COMPLETE.word(), ..Ipc::WAIT };
        loop {
            let heard = exchange(&answer, ThreadId::NIL);
            let label = heard.tag.label();
            let first = Fpage::new(PROGRAM_BASE, PAGE_BITS, Rights::R).map_or(0, Fpage::word);
            match heard.tag.error() {
                // The linker may leave a page between two segments. Any other does there.
                Some(Error::NothingMapped) if answer.words[0] != first => {
                    answer.words[0] = first;
                    continue;
                }
                Some(error) => return failed(format_args!("answering: {error}")),
                None => answer.to = Who::Nobody,
            }
            match self.item(heard.word) {
                _ if heard.from == thread && label == REPORT => return Ok(()),
                Some(item) if label == kernel_label::PAGE_FAULT => {
                    self.world.faults += 1;
                    let [fpage, dest] = item.words();
                    (answer.to, answer.tag, answer.words) =
                        (Who::Thread(heard.from), ITEM, [fpage, dest, 0, 0]);
                }
                // It stays where it is.
                _ if label == kernel_label::EXCEPTION => self.exceptions += 1,
                _ => return failed(format_args!("message {label:#x} of {:?}", heard.from)),
            }
        }
    }

    /// What a space gets that touches this: also the serial port.
    fn item(&self, address: u64) -> Option<MapItem> {
        let port = self.world.boot.uart.base & !(PAGE_SIZE - 1);
        match address & !(PAGE_SIZE - 1) == port {
            true => Some(MapItem { fpage: Fpage::new(port, PAGE_BITS, Rights::RW)?, dest: port }),
            false => self.world.item(address),
        }
    }

    /// Engages a thread. It starts when this one waits.
    pub(super) fn engage(&mut self, space: SpaceId, priority: u8, script: &[Step]) -> Outcome<Actor> {
        self.engage_under(space, priority, self.world.me, script)
    }

    /// The same with another pager.
    pub(super) fn engage_under(
        &mut self,
        space: SpaceId,
        priority: u8,
        pager: ThreadId,
        script: &[Step],
    ) -> Outcome<Actor> {
        self.engage_at(self.world.cpu, space, priority, pager, script)
    }

    /// The same on another CPU.
    pub(super) fn engage_at(
        &mut self,
        cpu: CpuId,
        space: SpaceId,
        priority: u8,
        pager: ThreadId,
        script: &[Step],
    ) -> Outcome<Actor> {
        let role = self.engaged;
        self.engaged += 1;
        let mut new = Role::NONE;
        new.script.iter_mut().zip(script).for_each(|(to, &step)| *to = Some(step));
        *ROLES[role].lock() = new;
        let id = start(space, cpu, pager, self.world.me, priority, role, act, role as u64)?;
        NAMES[role].store(id.0, Ordering::Relaxed);
        Ok(Actor { id, space, role })
    }

    /// Lets everybody run until nobody can.
    pub(super) fn settle(&mut self) -> Outcome {
        let space = self.spaces[0];
        self.helper(space, 1, settled, 0)
    }

    /// Notifies an actor, from its own space, and lets everybody run.
    pub(super) fn nudge(&mut self, actor: Actor) -> Outcome {
        self.engage(actor.space, 90, &[Step::Notify(actor.who())])?;
        self.settle()
    }
}

/// Starts a thread with stack and UTCB slot `number`.
#[expect(clippy::too_many_arguments, reason = "they are those of the two system calls")]
fn start(
    space: SpaceId,
    cpu: CpuId,
    pager: ThreadId,
    handler: ThreadId,
    priority: u8,
    number: usize,
    entry: Entry,
    argument: u64,
) -> Outcome<ThreadId> {
    let thread = sys::thread_create(space, cpu, pager, handler, number as u16, priority);
    let thread = call("creating a thread", thread)?;
    let stack = (STACKS.0.get().addr() + (number + 1) * STACK_SIZE) as u64;
    let pc = (entry as *const ()).addr() as u64;
    call("starting a thread", sys::thread_start(thread, pc, stack, argument))?;
    Ok(thread)
}
