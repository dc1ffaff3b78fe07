//! A page fault: what the node has, else what the task's master table has, else a fresh frame.
//!
//! ```text
//! local word      empty ─swap→ busy ─┬─swap→ present ─→ answer with a map item guarded by the word
//!                                    └─ back out: leave the sharers, word as before, wait or give up
//! while busy      look at the master entry:
//!                   present     join the sharers, look again: still present? install it
//!                   replicated  join, look again: still replicated? make a copy, install it
//!                   apart       the same, and the copy may be written; without a frame to copy it is a fresh one
//!                   empty       take a frame, join, publish it; who loses gives the frame back and meets what won
//!                   busy        mark it contended, back out, park
//! ```
//!
//! A node that joined looks *again*. Either it sees that the entry is busy, or the leader that makes it busy sees the node among
//! the sharers and asks its worker, who sets *revoked* in the busy local word: then the last swap fails. And it looks *first*,
//! too: a leader that has the worker's acknowledgement takes the node out of the sharers before it completes the entry, so a
//! node that joined while the entry was busy would lose its bit and map the page afterwards. No order is left in which a
//! mapping is made that nobody takes away.
//!
//! Nobody waits with a busy word: a thread that parks has backed out. So a worker is never in its way, and it never in a worker's.
//!
//! # Several pages at a time
//!
//! A fault may establish the pages around its own, too, in one answer: mostly they are touched next. Each of them has a machine of its own
//! ([`Fault::ahead`]), which takes pages that nobody has, and passes everything else: nobody waits, and nobody is made to wait, for
//! a page that was not asked for.
//!
//! The answer then is about several local words, and has one guard: the word of the [`Group`], a number that whoever takes such a page away
//! counts up *after* it has changed the local word and *before* it asks the kernel to unmap. Who answers has looked at the
//! number before the first of the pages was installed. So if one of them was taken away since, the number is another one, or the
//! kernel is asked to unmap when the answer has been applied. Only fresh pages are answered like that: until somebody restricts them, which
//! is counted, nobody installs them again. Pages of other answers, which their local words guard, need not be
//! counted, so local words say what came with others (*in company*).
//!
//! Frames for the page may come from another node's worker ([`Effect::Allocate`] then is a call): that is the only call made
//! while the local word is busy, and workers do not wait for busy words.

#[cfg(test)]
mod tests;

use skerry_abi::Rights;

use crate::effect::{Access, Me, Word};
use crate::entry::{Entry, State};
use crate::local::Local;
use crate::nodes::place;
use crate::rules::{Rule, kept};

/// What the interpreter does next; it answers with one word, 0 where nothing is said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Effect {
    /// The answer is the value that was found.
    Access(Word, Access),
    /// A frame with the page's first contents, of whatever node the policy says. The answer is its address, or 0.
    Allocate,
    /// A copy of this frame on the node itself. The answer is the copy's address; if there is no room, or the frame is the node's own, that
    /// of the frame. Nobody writes to it meanwhile, or else the copy is given back.
    Copy(u64),
    /// The same, but always another frame: the node is going to write to it. The answer is 0 if there is no room.
    Duplicate(u64),
    /// Gives back a frame of [`Effect::Allocate`], [`Effect::Copy`] or [`Effect::Duplicate`] that nobody else has seen.
    GiveBack(u64),
    /// Wakes the parked jobs of this node.
    WakeNode,
    /// Waits until woken (a wake that came since the machine began counts).
    Park,
    /// The end: answers the fault with this frame and these rights, guarded by the local word having this value; or, if it is in company and
    /// the machine knows a [`Group`], by that.
    Map(Local),
    /// The end: the page is replicated and has to be one again before it is written ([`crate::lead::Goal::Collapse`]); then the
    /// fault begins anew.
    Collapse,
    /// The end: the task may not do that.
    Reject,
    /// The end: there is no frame.
    OutOfMemory,
    /// The end of a machine for a page that nobody has asked for: somebody has it, or nobody can.
    Pass,
}

/// The value of a group's word, which was looked at before a page was installed: the guard of an answer about several pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Group(pub u64);

/// Who decides about the page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// This node alone.
    Local,
    /// The master table.
    Global,
    /// The master table; what is only read is replicated from the first touch on.
    Copied,
}

/// Why a thread backs out of a busy local word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Then {
    Again,
    Park,
    Collapse,
    Reject,
    OutOfMemory,
    Pass,
}

/// What a thread does when its node is among the sharers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum Next {
    Look,
    Publish,
    Install,
}

/// The effect whose answer comes next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
enum At {
    Begin,
    Look,
    Lock,
    MarkLocal,
    LookAtMaster,
    Join(Next),
    Allocate,
    Publish,
    GiveBack,
    Copy,
    Own,
    Discard(Then),
    MarkMaster,
    Install,
    Woke,
    Leave(Then),
    Release(Then),
    WokeBefore(Then),
}

/// A fault being answered. (What an effect is about beside the state is a field of its own, zero if it says nothing: so the compiler
/// keeps them apart.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fault {
    me: Me,
    scope: Scope,
    access: Rights,
    rights: Rights,
    /// The local word as this thread knows it, while it is busy on this thread's account.
    held: Local,
    joined: bool,
    /// Nobody has asked for the page: it is taken only if nobody has it.
    ahead: bool,
    /// The answer is for other pages, too, if this is a fresh one.
    in_company: bool,
    fresh: bool,
    /// It was this thread that set the node's bit among the sharers.
    mine: bool,
    /// A frame of this node alone that is not installed yet.
    copy: u64,
    /// The empty entry that a frame is published in.
    empty: Entry,
    at: At,
    /// The word, entry or local, that the effect is about.
    word: u64,
}

impl Fault {
    /// An access to a page of a region that allows `rights`.
    pub const fn new(me: Me, scope: Scope, access: Rights, rights: Rights) -> Self {
        Self {
            me,
            scope,
            access,
            rights,
            held: Local::EMPTY,
            joined: false,
            ahead: false,
            in_company: false,
            fresh: false,
            mine: false,
            copy: 0,
            empty: Entry::EMPTY,
            at: At::Begin,
            word: 0,
        }
    }

    /// The same, of which the answer is for other pages of the [`Group`], too.
    pub const fn in_company(me: Me, scope: Scope, access: Rights, rights: Rights, _: Group) -> Self {
        Self { in_company: true, ..Self::new(me, scope, access, rights) }
    }

    /// For another page of the [`Group`], which nobody has asked for.
    pub const fn ahead(me: Me, scope: Scope, rights: Rights, group: Group) -> Self {
        Self { ahead: true, ..Self::in_company(me, scope, Rights::NONE, rights, group) }
    }

    /// What the thread wants to do with the page.
    pub const fn wanted(&self) -> Rights {
        self.access
    }

    /// Takes the answer to the last effect (the first is not looked at) and says what to do next.
    ///
    /// This and all it consists of is inlined: where the interpreter knows which effect it performed, the compiler knows
    /// the state, and what is left of the machine is what it decides there.
    #[inline(always)]
    pub fn step(&mut self, answer: u64) -> Effect {
        let (word, local, entry) = (self.word, Local(self.word), Entry(self.word));
        match self.at {
            At::Begin if self.ahead => self.meet_local(Local::EMPTY),
            At::Begin => self.access(At::Look, 0, Word::Local, Access::Load),
            At::Look => self.meet_local(Local(answer)),
            At::Lock if answer == word => {
                self.held = local.busy();
                self.locked()
            }
            At::Lock if self.ahead => Effect::Pass,
            At::MarkLocal if answer == word => self.park(),
            At::Lock | At::MarkLocal => self.meet_local(Local(answer)),
            At::LookAtMaster => self.meet_master(Entry(answer)),
            At::Join(next) => {
                self.mine = answer & place(self.me.node).1 == 0;
                match next {
                    Next::Look => self.look_at_master(),
                    Next::Publish => self.publish(entry),
                    Next::Install => self.install(entry),
                }
            }
            At::Allocate => self.allocated(answer),
            At::Publish if answer == self.empty.0 => self.install(entry),
            At::Publish => self.to(At::GiveBack, answer, Effect::GiveBack(entry.frame())),
            At::GiveBack => {
                self.fresh = false;
                self.meet_master(entry)
            }
            At::Copy => self.install_copy(entry, answer),
            At::Own => self.install_own(entry, answer),
            At::Discard(then) => self.back_out(then),
            At::MarkMaster if answer == word => self.back_out(Then::Park),
            At::MarkMaster => self.meet_master(Entry(answer)),
            At::Install if answer == self.held.0 => self.installed(local),
            At::Install => self.disturbed(Local(answer), local),
            At::Woke => Effect::Map(local),
            At::Leave(then) => self.release(then),
            At::Release(then) => self.released(then, Local(answer)),
            At::WokeBefore(then) => self.leave(then),
        }
    }

    #[inline(always)]
    fn to(&mut self, at: At, about: u64, effect: Effect) -> Effect {
        (self.at, self.word) = (at, about);
        effect
    }
    #[inline(always)]
    fn access(&mut self, at: At, about: u64, word: Word, access: Access) -> Effect {
        self.to(at, about, Effect::Access(word, access))
    }
    #[inline(always)]
    fn swap(&mut self, at: At, about: u64, word: Word, expected: u64, new: u64) -> Effect {
        self.access(at, about, word, Access::Swap { expected, new })
    }
    #[inline(always)]
    fn park(&mut self) -> Effect {
        self.to(At::Begin, 0, Effect::Park)
    }

    #[inline(always)]
    fn meet_local(&mut self, word: Local) -> Effect {
        if word.is_busy() {
            if word.is_contended() || !kept(Rule::MarkLocalContended) {
                return self.park();
            }
            return self.swap(At::MarkLocal, word.0, Word::Local, word.0, word.contended().0);
        }
        if word.is_present() {
            if word.rights().contains(self.access) {
                return Effect::Map(word);
            }
            if self.scope == Scope::Local {
                return Effect::Reject;
            }
        } else if self.scope == Scope::Local && !word.rights_or(self.rights).contains(self.access) {
            return Effect::Reject;
        }
        self.swap(At::Lock, word.0, Word::Local, word.0, word.busy().0)
    }

    #[inline(always)]
    fn locked(&mut self) -> Effect {
        match self.scope {
            Scope::Local => self.to(At::Allocate, 0, Effect::Allocate),
            _ if kept(Rule::LookBeforeJoin) => self.look_at_master(),
            _ => self.join(Next::Look, Entry::EMPTY),
        }
    }

    #[inline(always)]
    fn look_at_master(&mut self) -> Effect {
        self.access(At::LookAtMaster, 0, Word::Master, Access::Load)
    }

    #[inline(always)]
    fn join(&mut self, next: Next, about: Entry) -> Effect {
        self.joined = true;
        let (word, bit) = place(self.me.node);
        self.access(At::Join(next), about.0, Word::Sharers(word), Access::Set(bit))
    }

    #[inline(always)]
    fn meet_master(&mut self, entry: Entry) -> Effect {
        match entry.state() {
            State::Busy | State::Present | State::Replicated if self.ahead => self.back_out(Then::Pass),
            State::Empty if self.ahead && entry != Entry::EMPTY => self.back_out(Then::Pass),
            State::Present if !entry.rights().contains(self.access) => self.back_out(Then::Reject),
            State::Present if self.joined => self.install(entry),
            State::Present if kept(Rule::LookAgain) => self.join(Next::Look, Entry::EMPTY),
            State::Present => self.join(Next::Install, entry),
            State::Empty if !entry.rights_or(self.rights).contains(self.access) => {
                self.back_out(Then::Reject)
            }
            State::Empty => {
                self.empty = entry;
                self.to(At::Allocate, 0, Effect::Allocate)
            }
            State::Busy if entry.is_contended() || !kept(Rule::MarkMasterContended) => {
                self.back_out(Then::Park)
            }
            State::Busy => self.swap(At::MarkMaster, entry.0, Word::Master, entry.0, entry.contended().0),
            State::Replicated if !entry.rights().contains(self.access) => self.back_out(Then::Reject),
            State::Replicated if self.access.contains(Rights::W) && !entry.is_apart() => {
                self.back_out(Then::Collapse)
            }
            State::Replicated if !self.joined => self.join(Next::Look, Entry::EMPTY),
            // More rights to the copy that is there.
            State::Replicated if self.held.frame() != 0 => {
                let new = self.held.settled().allowing(copied(entry));
                self.swap(At::Install, new.0, Word::Local, self.held.0, new.0)
            }
            State::Replicated if entry.is_apart() && entry.frame() == 0 => {
                self.to(At::Own, entry.0, Effect::Allocate)
            }
            State::Replicated if entry.is_apart() => {
                self.to(At::Own, entry.0, Effect::Duplicate(entry.frame()))
            }
            State::Replicated => self.to(At::Copy, entry.0, Effect::Copy(entry.frame())),
        }
    }

    #[inline(always)]
    fn allocated(&mut self, frame: u64) -> Effect {
        if frame == 0 {
            return self.back_out(if self.ahead { Then::Pass } else { Then::OutOfMemory });
        }
        self.fresh = self.in_company;
        let rights = self.empty.rights_or(self.rights);
        let fresh = Entry::present(frame, rights, self.me.node, self.me.incarnation);
        match self.scope {
            Scope::Local => {
                self.copy = frame;
                self.install(fresh)
            }
            Scope::Copied if !self.access.contains(Rights::W) => self.publish_joined(fresh.replicated()),
            _ => self.publish_joined(fresh),
        }
    }

    #[inline(always)]
    fn publish_joined(&mut self, fresh: Entry) -> Effect {
        if self.joined { self.publish(fresh) } else { self.join(Next::Publish, fresh) }
    }

    #[inline(always)]
    fn publish(&mut self, fresh: Entry) -> Effect {
        self.swap(At::Publish, fresh.0, Word::Master, self.empty.0, fresh.0)
    }

    #[inline(always)]
    fn install(&mut self, entry: Entry) -> Effect {
        let new = match self.scope {
            // Nobody else knows of it: whoever takes it away frees it.
            Scope::Local => Local::copy(entry.frame(), entry.rights()).ruled_as(self.held),
            Scope::Global => Local::present(entry.frame(), entry.rights()),
            // What has just been published may be replicated.
            Scope::Copied => Local::present(entry.frame(), copied(entry)),
        };
        let new = if self.fresh { new.in_company() } else { new };
        self.swap(At::Install, new.0, Word::Local, self.held.0, new.0)
    }

    /// A leader that has come since the node joined has marked the word: then this fails, and the copy, of whatever, goes.
    #[inline(always)]
    fn install_copy(&mut self, entry: Entry, copy: u64) -> Effect {
        let new = if copy == entry.frame() {
            Local::present(copy, copied(entry))
        } else {
            self.copy = copy;
            Local::copy(copy, copied(entry))
        };
        self.swap(At::Install, new.0, Word::Local, self.held.0, new.0)
    }

    /// The node gets the page for itself.
    #[inline(always)]
    fn install_own(&mut self, entry: Entry, frame: u64) -> Effect {
        if frame == 0 {
            return self.back_out(Then::OutOfMemory);
        }
        self.copy = frame;
        let new = Local::copy(frame, entry.rights());
        self.swap(At::Install, new.0, Word::Local, self.held.0, new.0)
    }

    #[inline(always)]
    fn installed(&mut self, new: Local) -> Effect {
        if self.held.is_contended() && kept(Rule::WakeNode) {
            return self.to(At::Woke, new.0, Effect::WakeNode);
        }
        Effect::Map(new)
    }

    /// The word is still busy on this thread's account, but somebody has written to it.
    #[inline(always)]
    fn disturbed(&mut self, found: Local, new: Local) -> Effect {
        if found.is_revoked() && kept(Rule::HeedRevoked) {
            self.held = found;
            let then = if self.ahead { Then::Pass } else { Then::Again };
            return match core::mem::take(&mut self.copy) {
                0 => self.back_out(then),
                copy => self.to(At::Discard(then), 0, Effect::GiveBack(copy)),
            };
        }
        self.held = found;
        self.swap(At::Install, new.0, Word::Local, found.0, new.0)
    }

    #[inline(always)]
    fn back_out(&mut self, then: Then) -> Effect {
        // A bit that was there already stands for a mapping; the leader who takes that away clears it.
        if !self.joined || !self.mine && kept(Rule::ClearOwnBit) {
            return self.release(then);
        }
        self.joined = false;
        let (word, bit) = place(self.me.node);
        self.access(At::Leave(then), 0, Word::Sharers(word), Access::Clear(bit))
    }

    #[inline(always)]
    fn release(&mut self, then: Then) -> Effect {
        self.swap(At::Release(then), 0, Word::Local, self.held.0, self.held.settled().0)
    }

    #[inline(always)]
    fn released(&mut self, then: Then, found: Local) -> Effect {
        if found != self.held {
            self.held = found;
            return self.release(then);
        }
        if self.held.is_contended() && kept(Rule::WakeNode) {
            return self.to(At::WokeBefore(then), 0, Effect::WakeNode);
        }
        self.leave(then)
    }

    #[inline(always)]
    fn leave(&mut self, then: Then) -> Effect {
        (self.held, self.joined, self.mine, self.fresh) = (Local::EMPTY, false, false, false);
        match then {
            Then::Again => self.access(At::Look, 0, Word::Local, Access::Load),
            Then::Park => self.park(),
            Then::Collapse => Effect::Collapse,
            Then::Reject => Effect::Reject,
            Then::OutOfMemory => Effect::OutOfMemory,
            Then::Pass => Effect::Pass,
        }
    }
}

/// What a node may do with what it has of a page: not write, if that is a copy of something shared.
const fn copied(entry: Entry) -> Rights {
    match entry.state() {
        State::Replicated if !entry.is_apart() => entry.rights().without(Rights::W),
        _ => entry.rights(),
    }
}
