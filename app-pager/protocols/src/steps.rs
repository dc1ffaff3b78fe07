//! Names for the steps of the machines, so that a test can have a pager die at each of them.
//!
//! A step is a kind of effect. The tables are matches without a wildcard arm for effects: who adds one has to name it here, and whoever tries all
//! names has then tried it.

use crate::effect::{Access, Word};
use crate::{fault, lead, recovery, revoke, task};

/// Effects that have names.
pub trait Steps {
    /// All names.
    const NAMES: &'static [&'static str];
    /// Which of them is this effect's.
    fn step(&self) -> usize;
}

macro_rules! steps {
    ($module:ident, $effect:ty: $($variant:ident $name:literal = $pattern:pat,)*) => {
        mod $module {
            #[derive(Clone, Copy)]
            pub(super) enum Kind { $($variant,)* }
        }
        impl Steps for $effect {
            const NAMES: &'static [&'static str] = &[$($name,)*];
            fn step(&self) -> usize {
                (match *self { $($pattern => $module::Kind::$variant,)* }) as usize
            }
        }
    };
}

steps! { of_fault, fault::Effect:
    LoadLocal "load-local" = fault::Effect::Access(Word::Local, Access::Load),
    ChangeLocal "change-local" = fault::Effect::Access(Word::Local, _),
    LoadMaster "load-master" = fault::Effect::Access(Word::Master, Access::Load),
    ChangeMaster "change-master" = fault::Effect::Access(Word::Master, _),
    Leave "leave-sharers" = fault::Effect::Access(Word::Sharers(_), Access::Clear(_)),
    Join "join-sharers" = fault::Effect::Access(Word::Sharers(_), _),
    Group "group" = fault::Effect::Access(Word::Group, _),
    Allocate "allocate" = fault::Effect::Allocate,
    Copy "copy" = fault::Effect::Copy(_),
    Duplicate "duplicate" = fault::Effect::Duplicate(_),
    GiveBack "give-back" = fault::Effect::GiveBack(_),
    WakeNode "wake-node" = fault::Effect::WakeNode,
    Park "park" = fault::Effect::Park,
    Map "map" = fault::Effect::Map(_),
    Collapse "collapse" = fault::Effect::Collapse,
    Reject "reject" = fault::Effect::Reject,
    OutOfMemory "out-of-memory" = fault::Effect::OutOfMemory,
    Pass "pass" = fault::Effect::Pass,
}

steps! { of_lead, lead::Effect:
    LoadLocal "load-local" = lead::Effect::Access(_, Word::Local, Access::Load),
    ChangeLocal "change-local" = lead::Effect::Access(_, Word::Local, _),
    LoadMaster "load-master" = lead::Effect::Access(_, Word::Master, Access::Load),
    ChangeMaster "change-master" = lead::Effect::Access(_, Word::Master, _),
    LoadSharers "load-sharers" = lead::Effect::Access(_, Word::Sharers(_), Access::Load),
    ClearSharers "clear-sharers" = lead::Effect::Access(_, Word::Sharers(_), _),
    Group "group" = lead::Effect::Access(_, Word::Group, _),
    Unmap "unmap" = lead::Effect::Unmap { .. },
    Ask "ask" = lead::Effect::Ask(_),
    Allocate "allocate" = lead::Effect::Allocate(..),
    Await "await" = lead::Effect::Await,
    Maintain "maintain" = lead::Effect::Maintain(..),
    Lost "lost" = lead::Effect::Lost(..),
    Claim "claim" = lead::Effect::Claim(..),
    FreeCopy "free-copy" = lead::Effect::FreeCopy(..),
    Copy "copy" = lead::Effect::Copy { .. },
    Free "free" = lead::Effect::Free(..),
    Wake "wake" = lead::Effect::Wake,
    Park "park" = lead::Effect::Park,
    Done "done" = lead::Effect::Done,
}

steps! { of_revoke, revoke::Effect:
    Load "load-local" = revoke::Effect::Access(_, _, Access::Load),
    Count "count-group" = revoke::Effect::Access(_, _, Access::Count),
    Change "change-local" = revoke::Effect::Access(..),
    Unmap "unmap" = revoke::Effect::Unmap { .. },
    Free "free-copy" = revoke::Effect::Free(..),
    Done "done" = revoke::Effect::Done,
}

steps! { of_task, task::Effect:
    LoadTask "load-task" = task::Effect::Access(task::Word::Task, Access::Load),
    ChangeTask "change-task" = task::Effect::Access(task::Word::Task, _),
    LoadPlace "load-place" = task::Effect::Access(task::Word::Place(_), Access::Load),
    ChangePlace "change-place" = task::Effect::Access(task::Word::Place(_), _),
    LoadActive "load-active" = task::Effect::Access(task::Word::Active(_), Access::Load),
    SetActive "set-active" = task::Effect::Access(task::Word::Active(_), Access::Set(_)),
    ClearActive "clear-active" = task::Effect::Access(task::Word::Active(_), _),
    MakeSpace "make-space" = task::Effect::MakeSpace(_),
    DestroySpace "destroy-space" = task::Effect::DestroySpace(_),
    Run "run" = task::Effect::Run(_),
    Stop "stop" = task::Effect::Stop(_),
    Wake "wake" = task::Effect::Wake,
    Park "park" = task::Effect::Park,
    Done "done" = task::Effect::Done,
    Ended "ended" = task::Effect::Ended(_),
    Refused "refused" = task::Effect::Refused,
}

steps! { of_reclaim, recovery::ReclaimEffect:
    Record "record" = recovery::ReclaimEffect::Record(_),
    Look "look" = recovery::ReclaimEffect::Look(_),
    Free "free" = recovery::ReclaimEffect::Free,
    Leave "leave" = recovery::ReclaimEffect::Leave,
}
