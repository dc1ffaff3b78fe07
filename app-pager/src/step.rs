//! Every step at which a pager can be made to crash, for tests of what follows: the boot option `crash`.
//!
//! `crash=STEP@CLUSTER[:N]`, or several of them with commas between: the pager of this cluster crashes when it is about to do that for the N-th time;
//! its second life does at the second step that is named for the cluster, and so on. With `crash=steps` programs say when
//! ([`skerry_ipc::pager::Op::CrashAt`]). Parts that begin with a digit name a time, and are the root pager's business.
//!
//! The steps are the effects of the machines ([`skerry_protocols::steps`]), what the unmap worker's colleague is asked for by other pagers, before it is
//! done (`asked.…`) and before it is answered (`done.…`), the work on tasks that are over, and the stages of clearing up after another pager.

use core::fmt;

use skerry_ipc::{peer, root};
use skerry_protocols::steps::Steps;
use skerry_protocols::{fault, lead, recovery, revoke, task};

use crate::home::Job;

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step(u16);

/// Steps whose names begin alike.
struct Group {
    name: &'static str,
    count: usize,
    step: fn(usize) -> Option<&'static str>,
}

/// Those of a machine.
const fn machine<E: Steps>(name: &'static str) -> Group {
    Group { name, count: E::NAMES.len(), step: |index| E::NAMES.get(index).copied() }
}
/// Requests of other pagers.
const fn requests(name: &'static str) -> Group {
    Group { name, count: peer::OPS, step: |index| peer::Op::ALL.get(index).map(|op| op.name()) }
}

const GROUPS: [Group; 9] = [
    machine::<fault::Effect>("fault"),
    machine::<lead::Effect>("lead"),
    machine::<revoke::Effect>("revoke"),
    machine::<task::Effect>("thread"),
    machine::<recovery::ReclaimEffect>("reclaim"),
    machine::<Job>("task"),
    requests("asked"),
    requests("done"),
    Group {
        name: "recover",
        count: root::Stage::ALL.len(),
        step: |n| root::Stage::ALL.get(n).map(|s| s.name()),
    },
];
const ASKED: usize = 6;
const DONE: usize = 7;
const RECOVER: usize = 8;

/// The number of the first step of a group.
const fn first(group: usize) -> usize {
    let (mut sum, mut index) = (0, 0);
    while index < group {
        sum += GROUPS[index].count;
        index += 1;
    }
    sum
}

impl Steps for Job {
    const NAMES: &'static [&'static str] = &["none", "kill", "forget", "quiet", "release", "return"];
    fn step(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Kill(_) => 1,
            Self::Forget(_) => 2,
            Self::Quiet(_) => 3,
            Self::Release(_) => 4,
            Self::Return => 5,
        }
    }
}

macro_rules! of {
    ($($group:literal: $effect:ty,)*) => { $(impl From<&$effect> for Step {
        #[inline(always)]
        fn from(effect: &$effect) -> Self {
            Self((const { first($group) } + effect.step()) as u16)
        }
    })* };
}
of! { 0: fault::Effect, 1: lead::Effect, 2: revoke::Effect, 3: task::Effect, 4: recovery::ReclaimEffect, 5: Job, }

impl Step {
    /// How many there are.
    pub const COUNT: usize = first(GROUPS.len());

    /// The step with this number.
    pub fn new(number: u16) -> Option<Self> {
        (usize::from(number) < Self::COUNT).then_some(Self(number))
    }
    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }
    /// The request with this label, which is not done yet, or not answered.
    pub fn request(label: u32, done: bool) -> Option<Self> {
        let op = peer::Op::from_label(label)?;
        let index = peer::Op::ALL.iter().position(|&other| other == op)?;
        Some(Self((first(if done { DONE } else { ASKED }) + index) as u16))
    }
    /// A stage of the recovery from another pager's death.
    pub fn stage(stage: root::Stage) -> Self {
        let index = root::Stage::ALL.iter().position(|&other| other == stage).unwrap_or(0);
        Self((first(RECOVER) + index) as u16)
    }
    fn names(self) -> (&'static str, &'static str) {
        let mut index = usize::from(self.0);
        for group in &GROUPS {
            if let Some(step) = (index < group.count).then(|| (group.step)(index)).flatten() {
                return (group.name, step);
            }
            index = index.wrapping_sub(group.count);
        }
        ("", "")
    }
    /// The step with this name.
    pub fn named(name: &str) -> Option<Self> {
        let (group, step) = name.split_once('.')?;
        (0..Self::COUNT as u16).map(Self).find(|found| found.names() == (group, step))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, step) = self.names();
        write!(f, "{group}.{step}")
    }
}

/// When a pager crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crash {
    /// Whose.
    pub cluster: u16,
    /// Where.
    pub step: Step,
    /// At the how many-th time.
    pub times: u32,
}

impl Crash {
    fn parse(text: &str) -> Option<Self> {
        let (step, rest) = text.split_once('@')?;
        let (cluster, times) = rest.split_once(':').unwrap_or((rest, "1"));
        let times = times.parse().ok().filter(|&times| times != 0)?;
        Some(Self { cluster: cluster.parse().ok()?, step: Step::named(step)?, times })
    }
}

/// The parts of the option that are about steps.
fn parts(option: &str) -> impl Iterator<Item = &str> {
    option.split(',').filter(|part| !part.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether the option is about steps at all.
///
/// # Errors
/// The part that names none.
pub fn check(option: &str) -> Result<bool, &str> {
    match parts(option).find(|&part| part != "steps" && Crash::parse(part).is_none()) {
        Some(bad) => Err(bad),
        None => Ok(parts(option).next().is_some()),
    }
}

/// When the pager of a cluster crashes in its `life`-th life.
pub fn crash(option: &str, cluster: u16, life: usize) -> Option<Crash> {
    parts(option).filter_map(Crash::parse).filter(|crash| crash.cluster == cluster).nth(life.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use skerry_protocols::effect::{Access, Word};
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let names: BTreeSet<_> = (0..Step::COUNT as u16).map(|n| Step(n).to_string()).collect();
        assert_eq!(names.len(), Step::COUNT);
        for name in &names {
            assert_eq!(Step::named(name).unwrap().to_string(), *name);
        }
        assert_eq!(Step::new(Step::COUNT as u16), None);
    }

    #[test]
    fn effects_have_names() {
        let swap = Access::Swap { expected: 0, new: 1 };
        let name = |step: Step| step.to_string();
        assert_eq!(name(Step::from(&fault::Effect::Access(Word::Master, swap))), "fault.change-master");
        assert_eq!(name(Step::from(&lead::Effect::Done)), "lead.done");
        assert_eq!(name(Step::from(&revoke::Effect::Free(0, 0))), "revoke.free-copy");
        assert_eq!(name(Step::from(&task::Effect::Run(1))), "thread.run");
        assert_eq!(name(Step::from(&Job::Return)), "task.return");
        assert_eq!(name(Step::stage(root::Stage::Welcome)), "recover.welcome");
        let request = |done| Step::request(peer::Op::Orphan.label(), done).unwrap();
        assert_eq!(
            (name(request(false)), name(request(true))),
            ("asked.orphan".into(), "done.orphan".into())
        );
    }

    #[test]
    fn options() {
        assert_eq!((check("1@500,2@900:worker"), check("steps")), (Ok(false), Ok(true)));
        let text = "1@40000,recover.end@2,lead.copy@1:7,fault.map@2";
        assert_eq!(check(text), Ok(true));
        let names = |crash: Crash| (crash.step.to_string(), crash.times);
        assert_eq!(crash(text, 2, 1).map(names), Some(("recover.end".into(), 1)));
        assert_eq!(crash(text, 2, 2).map(names), Some(("fault.map".into(), 1)));
        assert_eq!(crash(text, 1, 1).map(names), Some(("lead.copy".into(), 7)));
        assert_eq!((crash(text, 1, 2), crash(text, 0, 1), crash("steps", 1, 1)), (None, None, None));
        for bad in ["lead.copy", "lead.fly@1", "lead.copy@1:0", "copy@1", "lead.copy@me", ""] {
            assert_eq!(check(bad), Err(bad));
        }
    }
}
