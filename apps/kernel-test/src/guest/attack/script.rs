//! Scripts: what an actor does, step by step, and what it writes down about that.
#![expect(unsafe_code, reason = "loads and stores that fault, system calls with odd arguments")]

use core::arch::{asm, global_asm};
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::syscall::{IPC, NOTIFY};
use skerry_abi::{Error, Fpage, MapItem, Rights, Tag, ThreadId, Timeout};
use skerry_rt::spin::TicketLock;
use skerry_rt::{ipc, sys, utcb};

use super::super::fp::{fp_test_differs, fp_test_fill};

/// What an attacker says.
pub(super) const HOSTILE: Tag = Tag::new(666, 1, 0);
/// What honest threads say.
pub(super) const HONEST: Tag = Tag::new(1, 1, 0);
/// One map item.
pub(super) const ITEM: Tag = Tag::new(0, 0, 2);

/// What is in the floating-point registers of whoever has a secret.
const SECRET: u64 = 0x5ec4_e700;

/// Whom a step concerns.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Nobody,
    Anybody,
    Myself,
    /// The thread from which the last message came.
    Last,
    /// By name.
    Thread(ThreadId),
    /// The actor that was engaged as the n-th.
    Actor(usize),
}

/// The arguments of an IPC.
#[derive(Clone, Copy)]
pub(super) struct Ipc {
    pub(super) to: Who,
    pub(super) from: Who,
    pub(super) tag: Tag,
    pub(super) words: [u64; 4],
    pub(super) send: Timeout,
    pub(super) receive: Timeout,
    pub(super) window: u64,
}

impl Ipc {
    /// An open receive.
    pub(super) const WAIT: Self = Self {
        to: Who::Nobody,
        from: Who::Anybody,
        tag: Tag(0),
        words: [0; 4],
        send: Timeout::NEVER,
        receive: Timeout::NEVER,
        window: 0,
    };
    /// Waits for notifications.
    pub(super) const LISTEN: Self = Self { from: Who::Myself, ..Self::WAIT };

    pub(super) const fn call(to: Who, tag: Tag) -> Self {
        Self { to, from: to, tag, ..Self::WAIT }
    }
    /// To `to`, and then an open receive.
    pub(super) const fn reply(to: Who, tag: Tag) -> Self {
        Self { to, tag, send: Timeout::REPLY, ..Self::WAIT }
    }
    /// The same with the page at `page` as an item.
    pub(super) fn give(to: Who, page: u64, dest: u64) -> Self {
        let fpage = Fpage::new(page, PAGE_BITS, Rights::RWX).unwrap_or(Fpage::NIL);
        let [fpage, dest] = MapItem { fpage, dest }.words();
        Self { words: [fpage, dest, 0, 0], ..Self::reply(to, ITEM) }
    }
}

/// What an actor does.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Ipc(Ipc),
    Notify(Who),
    /// Writes a word.
    Touch(u64),
    /// Reads a word until it is another one; each time it writes down that it has.
    Watch(u64),
    /// A load that needs an aligned address.
    LoadExclusive(u64),
    /// Takes a page from everybody, also from itself.
    Flush(u64),
    /// Fills the floating-point registers with a secret.
    HideSecret,
    /// Looks whether it is in this thread's, too: then 1 is noted, else 0.
    FindSecret,
    /// System calls that do not exist.
    NoCall,
    NoHighCall,
}

/// What came of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// Counts all notes.
    pub(super) time: u64,
    pub(super) from: ThreadId,
    pub(super) tag: Tag,
    pub(super) word: u64,
}

impl Note {
    const NONE: Self = Self { time: 0, from: ThreadId::NIL, tag: Tag(0), word: 0 };
}

pub(super) const STEPS: usize = 5;
pub(super) const ACTORS: usize = 6;

#[derive(Clone, Copy)]
pub(super) struct Role {
    pub(super) script: [Option<Step>; STEPS],
    pub(super) notes: [Note; STEPS],
    pub(super) noted: usize,
}

impl Role {
    pub(super) const NONE: Self = Self { script: [None; STEPS], notes: [Note::NONE; STEPS], noted: 0 };
}

pub(super) static ROLES: [TicketLock<Role>; ACTORS] = [const { TicketLock::new(Role::NONE) }; ACTORS];
pub(super) static NAMES: [AtomicU64; ACTORS] = [const { AtomicU64::new(0) }; ACTORS];
static TIME: AtomicU64 = AtomicU64::new(0);
/// What [`Step::Watch`] has read last.
pub(super) static WATCHED: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
    .pushsection .text.attack, "ax"
    .global attack_no_call, attack_no_high_call
attack_no_call:
    svc     #5
    ret
attack_no_high_call:
    svc     #77
    ret
    .popsection
    "#
);

unsafe extern "C" {
    fn attack_no_call();
    fn attack_no_high_call();
}

pub(super) fn load(address: u64) -> u64 {
    // SAFETY: a page of this program, a frame of nobody's, or a fault.
    unsafe { with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

pub(super) fn store(address: u64, value: u64) {
    // SAFETY: a frame of nobody's, or a fault.
    unsafe { with_exposed_provenance_mut::<u64>(address as usize).write_volatile(value) }
}

fn resolve(who: Who, last: ThreadId) -> u64 {
    match who {
        Who::Nobody => ThreadId::NIL.0,
        Who::Anybody => ThreadId::ANY.0,
        Who::Myself => utcb::my_id().0,
        Who::Last => last.0,
        Who::Thread(id) => id.0,
        Who::Actor(n) => NAMES[n].load(Ordering::Relaxed),
    }
}

/// The system call, also with arguments that [`sys::ipc`] has no types for.
pub(super) fn exchange(ipc: &Ipc, last: ThreadId) -> Note {
    let (mut x0, mut x1, mut x2) = (resolve(ipc.to, last), resolve(ipc.from, last), ipc.tag.0);
    let mut word = ipc.words[0];
    // SAFETY: the kernel changes x0 to x18 and this thread's UTCB, and maps at most frames that nobody uses.
    unsafe {
        asm!("svc #{call}", call = const IPC,
            inlateout("x0") x0, inlateout("x1") x1, inlateout("x2") x2, inlateout("x3") word,
            inlateout("x4") ipc.words[1] => _, inlateout("x5") ipc.words[2] => _, inlateout("x6") ipc.words[3] => _, lateout("x7") _, lateout("x8") _,
            lateout("x9") _, lateout("x10") _, inlateout("x11") ipc.send.0 => _,
            inlateout("x12") ipc.receive.0 => _, inlateout("x13") ipc.window => _, lateout("x14") _, lateout("x15") _,
            lateout("x16") _, lateout("x17") _, lateout("x18") _, options(nostack));
    }
    let _ = x1;
    Note { time: 0, from: ThreadId(x0), tag: Tag(x2), word }
}

fn perform(step: Step, last: ThreadId) -> Note {
    let mut note = Note::NONE;
    match step {
        Step::Ipc(ipc) => return exchange(&ipc, last),
        Step::Notify(who) => {
            let (mut x0, x1) = (resolve(who, last), 1u64);
            // SAFETY: the kernel changes x0 to x18.
            unsafe {
                asm!("svc #{call}", call = const NOTIFY, inlateout("x0") x0, inlateout("x1") x1 => _,
                    lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _,
                    lateout("x7") _, lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
                    lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _,
                    lateout("x17") _, lateout("x18") _, options(nostack));
            }
            note.word = x0;
        }
        Step::Touch(address) => store(address, 1),
        Step::Watch(address) => {
            let before = load(address);
            while load(address) == before {
                WATCHED.fetch_add(1, Ordering::Relaxed);
            }
        }
        Step::LoadExclusive(address) => {
            // SAFETY: a word of a frame of nobody's, or an exception.
            unsafe { asm!("ldxr {}, [{}]", "clrex", out(reg) note.word, in(reg) address, options(nostack)) }
        }
        Step::Flush(address) => {
            let page = Fpage::new(address, PAGE_BITS, Rights::RWX).unwrap_or(Fpage::NIL);
            note.word = sys::unmap(&mut [page], true).map_or_else(Error::code, |()| 0);
        }
        // SAFETY: Rust code of this program uses no floating-point register (soft-float target).
        Step::HideSecret => unsafe { fp_test_fill(SECRET) },
        // SAFETY: as above.
        Step::FindSecret => note.word = u64::from(unsafe { fp_test_differs(SECRET) } == 0),
        // SAFETY: they return, or an exception ends the thread.
        Step::NoCall => unsafe { attack_no_call() },
        // SAFETY: as above.
        Step::NoHighCall => unsafe { attack_no_high_call() },
    }
    note
}

/// The life of an actor.
pub(super) extern "C" fn act(which: u64) -> ! {
    let role = &ROLES[which as usize % ACTORS];
    NAMES[which as usize % ACTORS].store(utcb::my_id().0, Ordering::Relaxed);
    let mut last = ThreadId::NIL;
    let script = role.lock().script;
    for step in script.into_iter().flatten() {
        let note = perform(step, last);
        if matches!(step, Step::Ipc(_)) && !note.from.is_nil() {
            last = note.from;
        }
        let time = TIME.fetch_add(1, Ordering::Relaxed);
        let mut role = role.lock();
        let place = role.noted % STEPS;
        role.notes[place] = Note { time, ..note };
        role.noted += 1;
    }
    ipc::sleep_forever()
}
