//! A task's roll: where its threads are, and how it and they end. Part of the [board](crate::board), so every pager sees it.
//!
//! Three kinds of words belong to the protocol of [`skerry_protocols::task`]; its machine says what is done to them. Beside them lies
//! a word per thread slot, which says what is being done to the thread: whoever changes it from *alive* to something else is the one
//! who moves or ends it. So a killer and a thread that exits never end it twice, and a thread that is under way is ended by who moves it.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use skerry_abi::boot::MAX_CLUSTERS;
use skerry_abi::layout::UTCB_SLOTS;
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_ipc::pager::{TaskEnd, ThreadEnd};
use skerry_protocols::effect::Access;
use skerry_protocols::task::{Place, Task, Word};

/// Threads of a task at a time: UTCB slots are task-wide.
pub const MAX_THREADS: usize = UTCB_SLOTS as usize;
const SLOT_BITS: u32 = MAX_THREADS.trailing_zeros();
/// Words of a set of clusters.
pub const SET_WORDS: usize = MAX_CLUSTERS / 64;

const TASK: usize = 0;
const NEXT: usize = 1;
const CODE: usize = 2;
const DIED: usize = 3;
const END: usize = 4;
const QUOTA: usize = 5;
const PARENT: usize = 6;
const FLAGS: usize = 7;
const START: usize = 8;
const LOST: usize = 9;
const ACTIVE: usize = 16;
const KNOWN: usize = ACTIVE + SET_WORDS;
const PLACES: usize = KNOWN + SET_WORDS;
const SPACES: usize = PLACES + MAX_CLUSTERS;
const STATES: usize = SPACES + MAX_CLUSTERS;
const IDS: usize = STATES + MAX_THREADS;
const CPUS: usize = IDS + MAX_THREADS;
/// Words of a roll.
pub const WORDS: usize = CPUS + MAX_THREADS;

/// In [`QUOTA`]: there is one.
const LIMITED: u64 = 1 << 63;
/// In [`END`]: it is decided.
const DECIDED: u64 = 1 << 63;

/// What is being done to a thread, in bits 0..4 of its word. Behind it: 4..8 how it has to end when who has it in hand lets go (0: it has
/// not), 10..32 generation, 32..64 exit code.
mod state {
    /// Nobody uses the slot.
    pub(super) const FREE: u64 = 0;
    /// It is being created or moved; who does it looks afterwards whether it has to end.
    pub(super) const BUSY: u64 = 1;
    /// Nothing.
    pub(super) const ALIVE: u64 = 2;
    /// Somebody ends it.
    pub(super) const ENDING: u64 = 3;
    /// It called exit.
    pub(super) const EXITED: u64 = 4;
    /// It died of a fault or an exception.
    pub(super) const DIED: u64 = 5;
    /// Somebody else ended it.
    pub(super) const KILLED: u64 = 6;
    pub(super) const MASK: u64 = 0xf;
}
const WANTED_SHIFT: u32 = 4;
const WANTED: u64 = 0xf << WANTED_SHIFT;
const CODE_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 10;
const GENERATION: u64 = 0x3f_ffff << GENERATION_SHIFT;

/// How a thread ended, as a state and a code in the upper half.
const fn end_word(end: ThreadEnd) -> (u64, u64) {
    match end {
        ThreadEnd::Exited(code) => (state::EXITED, code << CODE_SHIFT),
        ThreadEnd::Died => (state::DIED, 0),
        ThreadEnd::Killed => (state::KILLED, 0),
    }
}

/// The inverse of [`end_word`].
const fn end_of(state: u64, word: u64) -> Option<ThreadEnd> {
    match state {
        state::EXITED => Some(ThreadEnd::Exited(word >> CODE_SHIFT)),
        state::DIED => Some(ThreadEnd::Died),
        state::KILLED => Some(ThreadEnd::Killed),
        _ => None,
    }
}

/// A number of a thread: slot and generation. The first threads of a task are 0, 1, 2 …
const fn number(slot: usize, word: u64) -> u32 {
    slot as u32 | ((word & GENERATION) >> GENERATION_SHIFT << SLOT_BITS) as u32
}

/// The slot of a thread number: its UTCB's.
pub const fn slot(number: u32) -> usize {
    number as usize % MAX_THREADS
}

/// Whether one may take a thread in hand, to move or to end it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// The caller has it now.
    Mine,
    /// Somebody else has it, and knows that it has to end if that was asked for.
    Others,
    /// It has ended.
    Over,
}

/// A view of a roll.
#[derive(Clone, Copy)]
pub struct Roll<'a>(&'a [AtomicU64]);

impl<'a> Roll<'a> {
    /// The roll in these [`WORDS`] words, of a board.
    pub(crate) fn of(words: &'a [AtomicU64]) -> Self {
        Self(words)
    }
    /// Prepares a cleared roll: one thread is there already, on `master`'s node.
    pub fn init(&self, master: u16, parent: u32, flags: u64, quota: u64) {
        self.0[PARENT].store(parent.into(), SeqCst);
        self.0[FLAGS].store(flags, SeqCst);
        self.0[QUOTA].store(if quota == 0 { 0 } else { LIMITED | quota.min(LIMITED - 1) }, SeqCst);
        self.0[PLACES + usize::from(master) % MAX_CLUSTERS].store(Place::new(1).0, SeqCst);
        self.set(ACTIVE, master);
        self.set(KNOWN, master);
        self.0[TASK].store(Task::new(master, 1).0, SeqCst);
    }
    /// The task that started it; 0 for the first one.
    pub fn parent(&self) -> u32 {
        self.0[PARENT].load(SeqCst) as u32
    }
    /// What it was started with.
    pub fn flags(&self) -> u64 {
        self.0[FLAGS].load(SeqCst)
    }

    /// Physical address of its start page, to be returned in the end.
    pub fn start(&self) -> u64 {
        self.0[START].load(SeqCst)
    }
    /// Sets [`Roll::start`].
    pub fn set_start(&self, address: u64) {
        self.0[START].store(address, SeqCst);
    }

    fn set(&self, set: usize, cluster: u16) {
        self.0[set + usize::from(cluster / 64) % SET_WORDS].fetch_or(1 << (cluster % 64), SeqCst);
    }
    fn contains(&self, set: usize, cluster: u16) -> bool {
        self.0[set + usize::from(cluster / 64) % SET_WORDS].load(SeqCst) >> (cluster % 64) & 1 != 0
    }
    /// Whether the task has threads on `cluster`.
    pub fn is_active(&self, cluster: u16) -> bool {
        self.contains(ACTIVE, cluster)
    }
    /// The pager of `cluster` has a record of the task, or may have given frames to it.
    pub fn set_known(&self, cluster: u16) {
        self.set(KNOWN, cluster);
    }
    /// Whether [`Roll::set_known`] was called.
    pub fn is_known(&self, cluster: u16) -> bool {
        self.contains(KNOWN, cluster)
    }
    /// The task's word.
    pub fn task(&self) -> Task {
        Task(self.0[TASK].load(SeqCst))
    }
    /// The cluster of the master pager.
    pub fn master(&self) -> u16 {
        self.task().master()
    }

    /// Performs what the machine wants; the answer is the value before it.
    pub fn perform(&self, word: Word, access: Access) -> u64 {
        let word = match word {
            Word::Task => &self.0[TASK],
            Word::Place(cluster) => &self.0[PLACES + usize::from(cluster) % MAX_CLUSTERS],
            Word::Active(index) => &self.0[ACTIVE + usize::from(index) % SET_WORDS],
        };
        match access {
            Access::Load => word.load(SeqCst),
            Access::Swap { expected, new } => {
                word.compare_exchange(expected, new, SeqCst, SeqCst).unwrap_or_else(|found| found)
            }
            Access::Set(bits) => word.fetch_or(bits, SeqCst),
            Access::Clear(bits) => word.fetch_and(!bits, SeqCst),
            Access::Count => word.fetch_add(1, SeqCst),
        }
    }

    /// The space of a cluster, for those who move threads there.
    pub fn space(&self, cluster: u16) -> SpaceId {
        SpaceId(self.0[SPACES + usize::from(cluster) % MAX_CLUSTERS].load(SeqCst))
    }
    /// The pager of `cluster` has made or destroyed its space.
    pub fn set_space(&self, cluster: u16, space: SpaceId) {
        self.0[SPACES + usize::from(cluster) % MAX_CLUSTERS].store(space.0, SeqCst);
    }

    /// Its threads have to end; the first reason counts. Returns whether this is it.
    pub fn kill(&self, end: TaskEnd) -> bool {
        let first = self.0[END].compare_exchange(0, DECIDED | end.to_word(), SeqCst, SeqCst).is_ok();
        let mark = |task| (task != 0).then(|| Task(task).dying().0);
        // There is no task any more if this fails.
        let _ = self.0[TASK].fetch_update(SeqCst, SeqCst, mark);
        first
    }
    /// It depended on a pager that died, and ends: without the protocol of its threads, which may be in the middle of something that
    /// nobody completes.
    pub fn lose(&self) {
        self.0[LOST].store(1, SeqCst);
        self.kill(TaskEnd::PagerDied);
    }
    /// Whether [`Roll::lose`] was called.
    pub fn is_lost(&self) -> bool {
        self.0[LOST].load(SeqCst) != 0
    }
    /// Whether the task has, or is about to have or to lose, something on a cluster.
    pub fn depends_on(&self, cluster: u16) -> bool {
        let place = self.perform(Word::Place(cluster), Access::Load);
        self.is_active(cluster)
            || place != 0
            || self.space(cluster) != SpaceId::NIL
            || self.master() == cluster
    }
    /// The first slot from `slot` on whose thread somebody has in hand, and its word.
    pub fn held(&self, slot: usize) -> Option<(usize, u64)> {
        let word = |slot| (slot, self.state(slot).load(SeqCst));
        let in_hand = |&(_, word): &(usize, u64)| matches!(word & state::MASK, state::BUSY | state::ENDING);
        (slot..self.slots()).map(word).find(in_hand)
    }
    /// How the task ended, or will.
    pub fn end(&self) -> TaskEnd {
        if self.is_lost() {
            return TaskEnd::PagerDied;
        }
        let decided = self.0[END].load(SeqCst);
        let died = self.0[DIED].load(SeqCst) != 0;
        match TaskEnd::from_word(decided & !DECIDED) {
            // A thread that died counts more than what the others say.
            Some(TaskEnd::Exited(_)) | None if died => TaskEnd::Faulted,
            Some(end) if decided != 0 => end,
            _ => TaskEnd::Exited(self.0[CODE].load(SeqCst)),
        }
    }

    /// Charges frames to the task.
    ///
    /// # Errors
    /// [`Error::OverQuota`]; then nothing is charged.
    pub fn charge(&self, frames: u64) -> Result<(), Error> {
        let take = |left: u64| match left & LIMITED {
            0 => Some(left),
            _ => (left & !LIMITED).checked_sub(frames).map(|left| left | LIMITED),
        };
        self.0[QUOTA].fetch_update(SeqCst, SeqCst, take).map(drop).map_err(|_| Error::OverQuota)
    }
    /// Undoes [`Roll::charge`].
    pub fn refund(&self, frames: u64) {
        let _ = self.0[QUOTA].fetch_update(SeqCst, SeqCst, |left| (left != 0).then(|| left + frames));
    }
    /// Whether there is a quota at all.
    pub fn is_limited(&self) -> bool {
        self.0[QUOTA].load(SeqCst) != 0
    }

    fn state(&self, slot: usize) -> &'a AtomicU64 {
        &self.0[STATES + slot % MAX_THREADS]
    }
    /// The word of a thread, if the number is that of the slot's last one.
    fn current(&self, wanted: u32) -> Result<u64, Error> {
        let word = self.state(slot(wanted)).load(SeqCst);
        match word & state::MASK != state::FREE && number(slot(wanted), word) == wanted {
            true => Ok(word),
            false => Err(Error::NoSuchThread),
        }
    }
    /// A number for a new thread, which is the caller's until it calls [`Roll::settle`] or [`Roll::ended`]. The slots of threads that have
    /// ended are used again, the one that waits for longest first.
    ///
    /// # Errors
    /// [`Error::TableFull`] if as many threads are there as can be.
    pub fn new_thread(&self) -> Result<u32, Error> {
        for _ in 0..MAX_THREADS {
            let slot = self.0[NEXT].fetch_add(1, SeqCst) as usize % MAX_THREADS;
            let word = self.state(slot).load(SeqCst);
            let fresh = match word & state::MASK {
                state::FREE => 0,
                state::EXITED | state::DIED | state::KILLED => {
                    (word & GENERATION).wrapping_add(1 << GENERATION_SHIFT) & GENERATION
                }
                _ => continue,
            } | state::BUSY;
            if self.state(slot).compare_exchange(word, fresh, SeqCst, SeqCst).is_ok() {
                self.0[IDS + slot].store(0, SeqCst);
                return Ok(number(slot, fresh));
            }
        }
        Err(Error::TableFull)
    }
    /// Takes a living thread in hand, to move it or, with an `end`, to end it. If somebody else has it in hand, that one is left word of
    /// the first end that was wanted.
    ///
    /// # Errors
    /// [`Error::NoSuchThread`].
    pub fn hold(&self, thread: u32, end: Option<ThreadEnd>) -> Result<Hold, Error> {
        loop {
            let word = self.current(thread)?;
            let (new, hold) = match word & state::MASK {
                state::ALIVE if end.is_some() => (word & !state::MASK | state::ENDING, Hold::Mine),
                state::ALIVE => (word & !state::MASK | state::BUSY, Hold::Mine),
                state::BUSY if word & WANTED == 0 => {
                    let wanted = end.map_or((0, 0), end_word);
                    (word | wanted.0 << WANTED_SHIFT | wanted.1, Hold::Others)
                }
                state::BUSY | state::ENDING => (word, Hold::Others),
                _ => (word, Hold::Over),
            };
            if word == new || self.state(slot(thread)).compare_exchange(word, new, SeqCst, SeqCst).is_ok() {
                return Ok(hold);
            }
        }
    }
    /// Who moved or created a thread lets go of it, unless it has to end: the caller has it in hand still then, to end it.
    pub fn settle(&self, thread: u32) -> Option<ThreadEnd> {
        let slot = slot(thread);
        loop {
            let word = self.state(slot).load(SeqCst);
            let wanted = end_of((word & WANTED) >> WANTED_SHIFT, word);
            let new = if wanted.is_some() { state::ENDING } else { state::ALIVE };
            if self.state(slot).compare_exchange(word, word & GENERATION | new, SeqCst, SeqCst).is_ok() {
                return wanted;
            }
        }
    }
    /// A thread that the caller has in hand is gone.
    pub fn ended(&self, thread: u32, end: ThreadEnd) {
        let (kind, code) = end_word(end);
        match end {
            ThreadEnd::Exited(_) => _ = self.0[CODE].fetch_max(code >> CODE_SHIFT, SeqCst),
            ThreadEnd::Died => self.0[DIED].store(1, SeqCst),
            ThreadEnd::Killed => {}
        }
        let slot = slot(thread);
        let generation = self.state(slot).load(SeqCst) & GENERATION;
        self.0[IDS + slot].store(0, SeqCst);
        self.state(slot).store(code | generation | kind, SeqCst);
    }
    /// How a thread ended: `Ok(None)` while it lives.
    ///
    /// # Errors
    /// [`Error::NoSuchThread`] for a number that was never given out, or whose slot has been used again since.
    pub fn thread_end(&self, thread: u32) -> Result<Option<ThreadEnd>, Error> {
        let word = self.current(thread)?;
        Ok(end_of(word & state::MASK, word))
    }
    /// Where a thread is, and its name. Who has it in hand says so.
    pub fn set_thread(&self, thread: u32, id: ThreadId, cpu: u16) {
        self.0[CPUS + slot(thread)].store(cpu.into(), SeqCst);
        self.0[IDS + slot(thread)].store(id.0, SeqCst);
    }
    /// The name and the CPU of a thread; NIL if it has none yet or any more.
    pub fn thread(&self, thread: u32) -> (ThreadId, u16) {
        let slot = slot(thread);
        (ThreadId(self.0[IDS + slot].load(SeqCst)), self.0[CPUS + slot].load(SeqCst) as u16)
    }
    /// The number of the thread with this name.
    ///
    /// # Errors
    /// [`Error::NoSuchThread`].
    pub fn number_of(&self, id: ThreadId) -> Result<u32, Error> {
        let slots = self.slots();
        let found = (0..slots).find(|&slot| !id.is_nil() && self.0[IDS + slot].load(SeqCst) == id.0);
        found.map(|slot| number(slot, self.state(slot).load(SeqCst))).ok_or(Error::NoSuchThread)
    }
    /// Slots that were ever used are below this.
    pub fn slots(&self) -> usize {
        self.0[NEXT].load(SeqCst).min(MAX_THREADS as u64) as usize
    }
    /// The number of the last thread in a slot.
    pub fn last_in(&self, slot: usize) -> u32 {
        number(slot, self.state(slot).load(SeqCst))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{thread, vec::Vec};

    fn words() -> Vec<AtomicU64> {
        (0..WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_thread_ends_once_and_its_number_never_means_another() {
        let words = words();
        let roll = Roll::of(&words);
        roll.init(2, 0, 0, 0);
        let first = roll.new_thread().unwrap();
        assert_eq!(
            (first, roll.thread_end(first), roll.thread_end(7)),
            (0, Ok(None), Err(Error::NoSuchThread))
        );
        assert_eq!(roll.hold(first, None), Ok(Hold::Others));
        assert_eq!(roll.settle(first), None);
        assert_eq!(roll.hold(first, Some(ThreadEnd::Killed)), Ok(Hold::Mine));
        assert_eq!(roll.hold(first, Some(ThreadEnd::Died)), Ok(Hold::Others));
        roll.ended(first, ThreadEnd::Exited(3));
        assert_eq!(roll.thread_end(first), Ok(Some(ThreadEnd::Exited(3))));
        assert_eq!(roll.hold(first, Some(ThreadEnd::Killed)), Ok(Hold::Over));
        let others: Vec<_> = (0..MAX_THREADS).map(|_| roll.new_thread().unwrap()).collect();
        assert_eq!(roll.new_thread(), Err(Error::TableFull));
        assert_eq!(others[MAX_THREADS - 1], 1 << SLOT_BITS);
        assert_eq!(roll.thread_end(first), Err(Error::NoSuchThread));
        assert_eq!(roll.end(), TaskEnd::Exited(3));
    }

    #[test]
    fn whoever_has_a_thread_in_hand_is_told_that_it_has_to_end() {
        let words = words();
        let roll = Roll::of(&words);
        roll.init(0, 0, 0, 0);
        let moved = roll.new_thread().unwrap();
        assert_eq!(roll.hold(moved, Some(ThreadEnd::Exited(7))), Ok(Hold::Others));
        assert_eq!(roll.hold(moved, Some(ThreadEnd::Killed)), Ok(Hold::Others));
        assert_eq!(roll.settle(moved), Some(ThreadEnd::Exited(7)));
        roll.ended(moved, ThreadEnd::Exited(7));
        assert_eq!(roll.thread_end(moved), Ok(Some(ThreadEnd::Exited(7))));
    }

    #[test]
    fn the_first_reason_counts_and_a_death_more_than_a_code() {
        let words = words();
        let roll = Roll::of(&words);
        roll.init(0, 16, 1, 0);
        assert_eq!(roll.end(), TaskEnd::Exited(0));
        let first = roll.new_thread().unwrap();
        roll.ended(first, ThreadEnd::Died);
        assert_eq!(roll.end(), TaskEnd::Faulted);
        assert!(roll.kill(TaskEnd::Exited(4)));
        assert_eq!(roll.end(), TaskEnd::Faulted);
        assert!(!roll.kill(TaskEnd::Killed) && roll.task().is_dying());
        let words = self::words();
        let roll = Roll::of(&words);
        roll.init(0, 16, 1, 0);
        assert!(roll.kill(TaskEnd::OutOfMemory));
        assert_eq!((roll.end(), roll.parent(), roll.flags()), (TaskEnd::OutOfMemory, 16, 1));
    }

    #[test]
    fn quotas_end_exactly() {
        let words = words();
        let roll = Roll::of(&words);
        roll.init(0, 0, 0, 3);
        assert_eq!((roll.charge(2), roll.charge(2), roll.charge(1)), (Ok(()), Err(Error::OverQuota), Ok(())));
        roll.refund(1);
        assert_eq!((roll.charge(1), roll.charge(1)), (Ok(()), Err(Error::OverQuota)));
        let words = self::words();
        let free = Roll::of(&words);
        free.init(0, 0, 0, 0);
        assert_eq!((free.charge(u64::MAX), free.is_limited()), (Ok(()), false));
    }

    #[test]
    fn racing_holders_agree() {
        let words = words();
        let roll = Roll::of(&words);
        roll.init(0, 0, 0, 0);
        let numbers: Vec<_> = (0..100).map(|_| roll.new_thread().unwrap()).collect();
        numbers.iter().for_each(|&number| assert_eq!(roll.settle(number), None));
        let mine = |_| {
            let numbers = &numbers;
            move || numbers.iter().filter(|&&n| roll.hold(n, Some(ThreadEnd::Died)) == Ok(Hold::Mine)).count()
        };
        let sum: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|i| scope.spawn(mine(i))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(sum, numbers.len());
    }
}
