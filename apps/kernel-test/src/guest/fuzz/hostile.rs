//! A thread that does whatever comes to its mind. It lives with what that does to itself; nobody else may notice.
#![expect(unsafe_code, reason = "the block of a thread is at the address that it gets as argument")]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fastrand::Rng;
use skerry_abi::id::domain;
use skerry_abi::syscall::{
    AUDIT, INTERRUPT_CONTROL, IPC, NOTIFY, NULL, SCHEDULE, SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, UNMAP,
};
use skerry_abi::{Error, Fpage, Tag, ThreadId};
use skerry_rt::utcb;

use super::board::Board;
use super::stubs::{self, Crime, NUMBERS};
use super::words::Dictionary;
use super::{areas, domains};

/// Registers that a system call may change.
const REGISTERS: usize = 19;
/// MR1 in the registers.
const MR1: usize = 3;

/// A thread's parameters and registers, at the beginning of what it has for itself. Its boss sees it at the same address.
#[repr(C)]
pub(super) struct Block {
    /// Before and after a call; the assembly knows where.
    pub(super) input: [AtomicU64; REGISTERS],
    pub(super) output: [AtomicU64; REGISTERS],
    pub(super) seed: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) board: AtomicU64,
    pub(super) play: AtomicU64,
    pub(super) cluster: AtomicU64,
    pub(super) clusters: AtomicU64,
    /// Who it is. (Its UTCB says so too, but its colleagues can write to that.)
    pub(super) me: AtomicU64,
    /// It stays in its cluster.
    pub(super) settled: AtomicU64,
    /// Whether what the thread finds proves anything: one of [`trust`].
    pub(super) trust: AtomicU64,
    /// What the thread found wrong: [`Wrong`], and what belongs to it.
    pub(super) wrong: [AtomicU64; 4],
}

/// What the accusations of a thread are worth.
pub(super) mod trust {
    /// Nothing from now on: others than a boss may answer its faults and exceptions, and have it go on anywhere.
    pub(crate) const LOST: u64 = 0;
    /// It does what the program says.
    pub(crate) const WHOLE: u64 = 1;
    /// Nothing at all: it has jumped into memory that others write to, and whatever lies there may have been executed.
    pub(crate) const ASTRAY: u64 = 2;
}

impl Block {
    /// Prepares it for a new thread.
    pub(super) fn prepare(
        &self,
        me: ThreadId,
        seed: u64,
        areas: &areas::Areas,
        cluster: u16,
        play: u64,
        settled: bool,
    ) {
        self.me.store(me.0, Relaxed);
        self.seed.store(seed, Relaxed);
        self.calls.store(0, Relaxed);
        self.trust.store(trust::WHOLE, Relaxed);
        self.board.store(areas.board_range().base, Relaxed);
        self.play.store(play, Relaxed);
        self.cluster.store(cluster.into(), Relaxed);
        self.clusters.store(areas.clusters.into(), Relaxed);
        self.settled.store(settled.into(), Relaxed);
    }
    pub(super) fn address(&self) -> u64 {
        (&raw const *self).addr() as u64
    }
    /// The thread has begun anew, with registers that its boss has set.
    pub(super) fn find_back(&self) {
        if self.trust.load(Relaxed) == trust::ASTRAY {
            self.wrong.iter().for_each(|word| word.store(0, Relaxed));
            self.trust.store(trust::WHOLE, Relaxed);
        }
    }
    /// What the thread accuses the kernel of.
    pub(super) fn accusation(&self) -> Option<[u64; 4]> {
        if self.trust.load(Relaxed) == trust::ASTRAY {
            return None;
        }
        let words = core::array::from_fn(|i| self.wrong[i].load(Relaxed));
        (words[0] != 0).then_some(words)
    }
    /// What the thread says does not count from now on.
    pub(super) fn distrust(&self) {
        self.trust.store(trust::LOST, Relaxed);
    }
    /// The thread leaves its program. `false`: it may not, since what it has found would be lost.
    fn go_astray(&self) -> bool {
        let free = self.accusation().is_none();
        if free {
            self.trust.store(trust::ASTRAY, Relaxed);
        }
        free
    }
    /// Writes down that something is wrong.
    pub(super) fn accuse(&self, wrong: Wrong, words: [u64; 3]) {
        if self.trust.load(Relaxed) != trust::WHOLE {
            return;
        }
        self.wrong[1..].iter().zip(words).for_each(|(to, word)| to.store(word, Relaxed));
        self.wrong[0].store(wrong as u64, Relaxed);
    }
    pub(super) fn dictionary(&self, reckless: bool) -> Dictionary {
        // SAFETY: the address of the board, which this space can read. A thread that has lost its block reads nonsense here, and
        // faults; nothing is written through it.
        let board =
            unsafe { &*core::ptr::with_exposed_provenance::<Board>(self.board.load(Relaxed) as usize) };
        Dictionary {
            rng: Rng::with_seed(self.seed.load(Relaxed)),
            board,
            clusters: self.clusters.load(Relaxed) as u16,
            cluster: self.cluster.load(Relaxed) as u16,
            me: ThreadId(self.me.load(Relaxed)),
            last: ThreadId::NIL,
            own: self.address(),
            play: self.play.load(Relaxed),
            reckless,
        }
    }
    pub(super) fn put(&self, register: usize, value: u64) {
        if let Some(to) = self.input.get(register) {
            to.store(value, Relaxed);
        }
    }
    pub(super) fn was(&self, register: usize) -> u64 {
        self.input.get(register).map_or(0, |word| word.load(Relaxed))
    }
    pub(super) fn got(&self, register: usize) -> u64 {
        self.output.get(register).map_or(0, |word| word.load(Relaxed))
    }
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Wrong {
    /// A call changed a register that it has to keep: number.
    LostRegister = 1,
    /// A call left something in a register: number, register, value.
    Leak,
    /// A privileged call did not say "not privileged": number, result.
    Privilege,
    /// A message came from somebody who may not send it, or reached somebody whom it may not: the other one, domain.
    Permission,
    /// The tag of a message that no kernel makes.
    Tag,
    /// The witness heard or saw what is not meant for it.
    Disturbed,
    /// A privileged call about an object that there is not did not say so.
    Ghost,
}

/// Where hostile threads begin; the argument is their block.
pub(super) extern "C" fn hostile(block: u64) -> ! {
    // SAFETY: the boss's argument: what it mapped (or will map) here for this thread, words only.
    let block = unsafe { &*core::ptr::with_exposed_provenance::<Block>(block as usize) };
    let mut dictionary = block.dictionary(true);
    loop {
        step(block, &mut dictionary);
        block.calls.fetch_add(1, Relaxed);
    }
}

fn step(block: &Block, d: &mut Dictionary) {
    match d.below(100) {
        0..55 => ipc(block, d),
        55..70 => other(block, d, UNMAP),
        70..80 => other(block, d, NOTIFY),
        80..82 => other(block, d, NULL),
        82..93 => {
            let privileged = [THREAD_CONTROL, SPACE_CONTROL, SYSTEM_EXIT, SCHEDULE, INTERRUPT_CONTROL, AUDIT]
                .map(u64::from);
            let number = d.pick(&privileged) as u16;
            other(block, d, number);
        }
        93..95 => {
            let index = d.below(NUMBERS.len() as u64) as usize;
            if NUMBERS[index] != IPC {
                let number = NUMBERS[index];
                other(block, d, number);
            }
        }
        _ => {
            let crime = match d.below(8) {
                0..3 => Crime::Read(d.address()),
                3..6 => {
                    let address = d.address();
                    // Not over what it reports with, nor over its own stack: it would be no judge any more.
                    let own = (d.own..d.own + areas::OWN).contains(&address);
                    Crime::Write(if own { d.play } else { address }, d.word())
                }
                // Not into this program: it would begin somewhere in the middle.
                6 => match d.address() {
                    address if address >= 0x1000_0000 && block.go_astray() => Crime::Jump(address),
                    _ => Crime::Undefined,
                },
                _ => Crime::Break,
            };
            stubs::commit(crime);
        }
    }
}

/// Any call but IPC.
fn other(block: &Block, d: &mut Dictionary, number: u16) {
    (0..REGISTERS).for_each(|register| block.put(register, d.word()));
    match number {
        UNMAP => {
            let count = if d.percent(80) { 1 } else { d.below(10) };
            block.put(0, d.below(2) | count << 8);
            (1..=8).for_each(|register| block.put(register, d.fpage()));
        }
        NOTIFY => block.put(0, d.thread().0),
        THREAD_CONTROL | SPACE_CONTROL | INTERRUPT_CONTROL => {
            let (operation, thread) = (d.below(8), d.thread());
            block.put(0, operation);
            block.put(1, thread.0);
        }
        SCHEDULE => block.put(1, d.thread().0),
        AUDIT => {
            let frame = d.address();
            block.put(1, frame & !0xfff);
        }
        SYSTEM_EXIT => {
            let code = d.pick(&[0, 1, 100, 1 << 32, u64::MAX]);
            block.put(0, code);
        }
        _ => {}
    }
    let index = NUMBERS.iter().position(|&n| n == number).unwrap_or(0);
    if stubs::call(block, index) != 0 {
        block.accuse(Wrong::LostRegister, [number.into(), 0, 0]);
    }
    let result = block.got(0);
    if matches!(number, THREAD_CONTROL | SPACE_CONTROL | SCHEDULE | SYSTEM_EXIT | AUDIT)
        && result != Error::NotPrivileged.code()
        || number == INTERRUPT_CONTROL && result == 0
    {
        block.accuse(Wrong::Privilege, [number.into(), result, block.was(0)]);
    }
    // From another cluster the error would come too late to be told.
    let near = block.settled.load(Relaxed) != 0 && ThreadId(block.was(0)).cluster() == d.cluster;
    if number == NOTIFY && result == 0 && near && is_witness(d, ThreadId(block.was(0))) {
        block.accuse(Wrong::Permission, [block.was(0), u64::MAX, 0]);
    }
    for register in 0..REGISTERS {
        let value = block.got(register);
        let fpage = number == UNMAP && (1..=8).contains(&register) && Fpage::decode(value).is_some();
        let known = value == 0 || value == block.was(register) || fpage;
        if !(known || register == 0 && Error::from_code(value) != Error::Unknown(value as u32)) {
            block.accuse(Wrong::Leak, [number.into(), register as u64, value]);
        }
    }
}

pub(super) fn is_witness(d: &Dictionary, id: ThreadId) -> bool {
    !id.is_nil()
        && (0..d.clusters).any(|c| d.board.cluster(c).witness.iter().any(|witness| witness.get() == id.0))
}

fn ipc(block: &Block, d: &mut Dictionary) {
    let (tag, words) = d.message();
    let dest = if d.percent(80) { d.thread() } else { ThreadId::NIL };
    let from = match d.below(10) {
        0..4 => dest,
        4..7 => ThreadId::ANY,
        7..9 => ThreadId::NIL,
        _ => d.thread(),
    };
    for (register, value) in [dest.0, from.0, tag].into_iter().chain(words).take(MR1 + 8).enumerate() {
        block.put(register, value);
    }
    for (register, value) in [d.timeout(), d.timeout(), d.window()].into_iter().enumerate() {
        block.put(MR1 + 8 + register, value);
    }
    (14..REGISTERS).for_each(|register| block.put(register, d.word()));
    utcb::store(&words);
    if stubs::call(block, 0) != 0 {
        block.accuse(Wrong::LostRegister, [0; 3]);
    }
    judge(block, d, dest, from);
}

/// What came of an IPC.
fn judge(block: &Block, d: &mut Dictionary, dest: ThreadId, from: ThreadId) {
    let (sender, its_domain, tag) = (ThreadId(block.got(0)), block.got(1), Tag(block.got(2)));
    if let Some(error) = tag.error() {
        if matches!(error, Error::Unknown(_)) {
            block.accuse(Wrong::Tag, [tag.0, dest.0, from.0]);
        }
        if tag.receive_failed() && is_witness(d, dest) {
            block.accuse(Wrong::Permission, [dest.0, u64::MAX, tag.0]);
        }
    } else {
        if is_witness(d, dest) {
            block.accuse(Wrong::Permission, [dest.0, u64::MAX, tag.0]);
        }
        if !from.is_nil() {
            let known = match u32::try_from(its_domain) {
                Ok(domain::KERNEL) => sender.is_nil(),
                Ok(id) => id == domain::ROOT || id == domains::CONTROLLER || domains::HOSTILE.contains(&id),
                Err(_) => false,
            };
            if !known || sender == d.me {
                block.accuse(Wrong::Permission, [sender.0, its_domain, tag.0]);
            }
            if tag.words() > 63 || tag.sanitized() != tag {
                block.accuse(Wrong::Tag, [tag.0, sender.0, 0]);
            }
            d.last = sender;
        }
    }
    for register in MR1 + 8..REGISTERS {
        if block.got(register) != 0 {
            block.accuse(Wrong::Leak, [0, register as u64, block.got(register)]);
        }
    }
}
