//! Where the threads of a task are: creation, migration and end of a thread, and the end of the task.
//!
//! ```text
//! create    count the thread (not if the task is dying) ── arrive ── start it
//! migrate   arrive ── move it ── depart from where it was
//! end       stop it ── depart ── do not count it any more; the last one ends the task
//! arrive    node word  absent ─swap→ busy ── make a space ── the node is active ─swap→ a thread more
//! depart    node word  a thread less; the last one ─swap→ busy ── the node is not active ── hand the master over
//!                      ── destroy the space ─swap→ absent
//! ```
//!
//! A thread arrives before it departs, so as long as it lives it counts on some node, and a task with threads has active nodes.
//! Whoever starts or has moved a thread looks *afterwards* whether the task is dying. A killer marks the task, and then visits
//! the active nodes: it finds the thread where it is, or the thread finds the mark.
//!
//! A kernel may refuse to start or to move a thread. Then whoever arrived for it departs again.
//!
//! A node that gives the master's role away looks again whether the node that gets it is active still; one that stops being active looks
//! afterwards whether it is the master. So of two nodes that leave at a time, one notices.

mod words;

use crate::effect::Access;
use crate::nodes::place;
use crate::rules::{Rule, kept};
pub use words::{Place, Task};

/// A word of a task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Word {
    /// The task's: [`Task`].
    Task,
    /// That of a node: [`Place`].
    Place(u16),
    /// A word of the set of active nodes, as in [`crate::effect::Word::Sharers`].
    Active(u8),
}

/// What the interpreter does next; it answers with one word, 0 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// The answer is the value that was found.
    Access(Word, Access),
    /// Has this node's worker make a space for the task; the answer is 1, or 0 if it cannot.
    MakeSpace(u16),
    /// Destroys the node's space, with everything mapped there; its bit goes from all sharer masks.
    DestroySpace(u16),
    /// Starts the new thread on this node, or moves the thread there; the answer is 1, or 0 if the kernel refuses.
    Run(u16),
    /// Ends the thread, which is on this node, in its kernel.
    Stop(u16),
    /// Wakes the parked jobs of all nodes.
    Wake,
    /// Waits until woken (a wake that came since the machine began counts).
    Park,
    /// The end: it is where it was to be.
    Done,
    /// The end: the thread is gone. The task with it, if 1.
    Ended(bool),
    /// The end: no space could be made, a kernel refused the thread, or the task is dying; a new thread does not exist, another one is
    /// where it was.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Begin,
    LookAtTask,
    Count(Task),
    LookAtPlace,
    Contend(Place),
    Parked,
    TakePlace(Place),
    MakeSpace,
    SetActive,
    Settle(Place, Then),
    Woke(Then),
    Run,
    Arrived,
    Stopped,
    LookAtOld,
    Depart(Place),
    ClearActive,
    Master(u16),
    IsActive(Task),
    Active(Task, u8),
    HandOver(Task, u16),
    Destroy,
    LookAtEnd,
    Uncount(Task),
}

/// What comes after a busy node word was given free.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Then {
    Run,
    Refuse,
    Departed,
}

/// A thread that comes, goes or moves. The set of active nodes has `W` words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Move<const W: usize> {
    from: Option<u16>,
    to: Option<u16>,
    dies: bool,
    refused: bool,
    at: At,
}

impl<const W: usize> Move<W> {
    const fn new(from: Option<u16>, to: Option<u16>) -> Self {
        Self { from, to, dies: false, refused: false, at: At::Begin }
    }
    /// A new thread on this node.
    pub const fn create(to: u16) -> Self {
        Self::new(None, Some(to))
    }
    /// A thread of one node goes to another one.
    pub const fn migrate(from: u16, to: u16) -> Self {
        Self::new(Some(from), Some(to))
    }
    /// A thread of this node ends.
    pub const fn end(from: u16) -> Self {
        Self::new(Some(from), None)
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    pub fn step(&mut self, answer: u64) -> Effect {
        match self.at {
            At::Begin if self.from.is_none() => self.load(At::LookAtTask, Word::Task),
            At::Begin if self.to.is_none() => self.stop(),
            At::Begin => self.arrive(),
            At::LookAtTask => self.count(Task(answer)),
            At::Count(old) if answer == old.0 => self.arrive(),
            At::Count(_) => self.count(Task(answer)),
            At::LookAtPlace => self.meet_place(Place(answer)),
            At::Parked => self.arrive(),
            At::Contend(old) if answer == old.0 => self.park(),
            At::TakePlace(old) if answer == old.0 => match old.0 {
                0 => self.then(At::MakeSpace, Effect::MakeSpace(self.target())),
                _ => self.run(),
            },
            At::Contend(_) | At::TakePlace(_) => self.meet_place(Place(answer)),
            At::MakeSpace if answer == 0 => self.settle(Place::BUSY, Then::Refuse),
            At::MakeSpace => {
                let (word, bit) = place(self.target());
                self.access(At::SetActive, Word::Active(word), Access::Set(bit))
            }
            At::SetActive => self.settle(Place::BUSY, Then::Run),
            At::Settle(old, then) if answer == old.0 => {
                if old.is_contended() {
                    self.then(At::Woke(then), Effect::Wake)
                } else {
                    self.settled(then)
                }
            }
            At::Settle(_, then) => self.settle(Place(answer), then),
            At::Woke(then) => self.settled(then),
            At::Run if answer == 0 => self.turn_back(),
            At::Run => self.load(At::Arrived, Word::Task),
            At::Arrived => {
                self.dies = Task(answer).is_dying() && kept(Rule::LookAfterArrival);
                self.go_on()
            }
            At::Stopped => self.go_on(),
            At::LookAtOld => self.depart(Place(answer)),
            At::Depart(old) if answer == old.0 => self.left(old),
            At::Depart(_) => self.depart(Place(answer)),
            At::ClearActive => self.load(At::Master(self.source()), Word::Task),
            At::Master(node) => self.master(node, Task(answer)),
            At::IsActive(task) if answer & place(task.master()).1 != 0 => self.destroy(),
            At::IsActive(task) => self.load(At::Active(task, 0), Word::Active(0)),
            At::Active(task, word) => self.choose(task, word, answer),
            At::HandOver(old, to) if answer == old.0 => {
                if kept(Rule::LookAfterHandOver) {
                    self.load(At::Master(to), Word::Task)
                } else {
                    self.destroy()
                }
            }
            At::HandOver(old, _) => self.master(old.master(), Task(answer)),
            At::Destroy => self.settle(Place::BUSY, Then::Departed),
            At::LookAtEnd => self.uncount(Task(answer)),
            At::Uncount(old) if answer == old.0 => match old.threads() {
                2.. if self.refused => Effect::Refused,
                threads => Effect::Ended(threads == 1),
            },
            At::Uncount(_) => self.uncount(Task(answer)),
        }
    }

    fn then(&mut self, at: At, effect: Effect) -> Effect {
        self.at = at;
        effect
    }
    fn access(&mut self, at: At, word: Word, access: Access) -> Effect {
        self.then(at, Effect::Access(word, access))
    }
    fn load(&mut self, at: At, word: Word) -> Effect {
        self.access(at, word, Access::Load)
    }
    fn swap(&mut self, at: At, word: Word, expected: u64, new: u64) -> Effect {
        self.access(at, word, Access::Swap { expected, new })
    }
    fn target(&self) -> u16 {
        self.to.unwrap_or_default()
    }
    fn source(&self) -> u16 {
        self.from.unwrap_or_default()
    }

    fn count(&mut self, task: Task) -> Effect {
        if task.is_dying() || task.threads() == 0 {
            return Effect::Refused;
        }
        self.swap(At::Count(task), Word::Task, task.0, task.more().0)
    }

    fn arrive(&mut self) -> Effect {
        match self.to {
            Some(to) => self.load(At::LookAtPlace, Word::Place(to)),
            None => self.go_on(),
        }
    }

    fn meet_place(&mut self, place: Place) -> Effect {
        let word = Word::Place(self.target());
        if !place.is_busy() {
            let new = if place.0 == 0 { Place::BUSY } else { Place::new(place.threads() + 1) };
            return self.swap(At::TakePlace(place), word, place.0, new.0);
        }
        if place.is_contended() {
            return self.park();
        }
        self.swap(At::Contend(place), word, place.0, place.contended().0)
    }

    fn park(&mut self) -> Effect {
        self.then(At::Parked, Effect::Park)
    }

    /// Gives a busy node word free.
    fn settle(&mut self, held: Place, then: Then) -> Effect {
        let (node, new) = match then {
            Then::Run => (self.target(), Place::new(1)),
            Then::Refuse => (self.target(), Place(0)),
            Then::Departed => (self.source(), Place(0)),
        };
        self.swap(At::Settle(held, then), Word::Place(node), held.0, new.0)
    }

    fn settled(&mut self, then: Then) -> Effect {
        match then {
            Then::Run => self.run(),
            Then::Departed => self.departed(),
            Then::Refuse if self.from.is_some() => Effect::Refused,
            Then::Refuse => {
                self.refused = true;
                self.load(At::LookAtEnd, Word::Task)
            }
        }
    }

    fn run(&mut self) -> Effect {
        self.then(At::Run, Effect::Run(self.target()))
    }

    /// The kernel refused the thread, which counts on the node where it was to be.
    fn turn_back(&mut self) -> Effect {
        self.refused = true;
        (self.from, self.to) = (self.to, self.from);
        self.go_on()
    }

    fn stop(&mut self) -> Effect {
        self.then(At::Stopped, Effect::Stop(self.source()))
    }

    /// The thread is where it was to be; it counts on the node where it was, too.
    fn go_on(&mut self) -> Effect {
        match self.from {
            Some(from) => self.load(At::LookAtOld, Word::Place(from)),
            None => self.departed(),
        }
    }

    fn departed(&mut self) -> Effect {
        match self.to {
            Some(to) if self.dies => {
                (self.from, self.to) = (Some(to), None);
                self.stop()
            }
            Some(_) if self.refused => Effect::Refused,
            Some(_) => Effect::Done,
            None => self.load(At::LookAtEnd, Word::Task),
        }
    }

    fn depart(&mut self, place: Place) -> Effect {
        let new = if place.threads() == 1 { Place::BUSY } else { Place::new(place.threads() - 1) };
        self.swap(At::Depart(place), Word::Place(self.source()), place.0, new.0)
    }

    fn left(&mut self, old: Place) -> Effect {
        if old.threads() > 1 {
            return self.departed();
        }
        let (word, bit) = place(self.source());
        self.access(At::ClearActive, Word::Active(word), Access::Clear(bit))
    }

    /// This node sees to it that the master is active, if the master is `node`.
    fn master(&mut self, node: u16, task: Task) -> Effect {
        if task.master() != node {
            return self.destroy();
        }
        self.load(At::IsActive(task), Word::Active(place(node).0))
    }

    fn choose(&mut self, task: Task, word: u8, bits: u64) -> Effect {
        if bits == 0 {
            // Nobody is left: the task ends with this thread.
            return match word + 1 {
                next if usize::from(next) < W => self.load(At::Active(task, next), Word::Active(next)),
                _ => self.destroy(),
            };
        }
        let to = u16::from(word) * 64 + bits.trailing_zeros() as u16;
        self.swap(At::HandOver(task, to), Word::Task, task.0, task.mastered_by(to).0)
    }

    fn destroy(&mut self) -> Effect {
        self.then(At::Destroy, Effect::DestroySpace(self.source()))
    }

    fn uncount(&mut self, task: Task) -> Effect {
        self.swap(At::Uncount(task), Word::Task, task.0, task.less().0)
    }
}
