//! After the death of an app pager: who does what when.
//!
//! The root pager of its cluster fences it, says so here, and waits. The undertakers of all other pagers wait here, too, for
//! something to do. They do it in stages, and a stage begins when all living pagers have done the one before (rule 5 of the design: slow is
//! not dead). When the last stage but one is done the pager is started again, and when it is there the others are told.
//!
//! Who dies meanwhile is left out from then on. As long as something may have to wait for it, that is before the stage
//! [`Stage::Reclaim`], all begin anew, for everybody who is dead: what the first one left behind may be in the second one's hands. Who is in the
//! middle of a stage then finds out by asking ([`Recoveries::dead`]). Later, it waits for its turn.
//!
//! Nothing here waits or sends: events go in, and [`Recoveries::next_send`] says what is to be sent.

use skerry_abi::ThreadId;
use skerry_abi::boot::MAX_CLUSTERS;
use skerry_ipc::root::{Stage, Step};

/// What has become of a cluster's pager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grave {
    /// It lives, as far as is known.
    None,
    /// It is fenced, and nobody has begun to clear up. The thread that waits, and the life that has ended.
    Fenced(ThreadId, u16),
    /// The others are clearing up.
    Open(ThreadId, u16),
    /// It may be started again, and has not come yet.
    Restarting(u16),
    /// It has come, and not all others know.
    Back(u16),
}

/// A cluster.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// Its pager lives, and its undertaker has been heard of.
    present: bool,
    /// It takes part in the stage that is being done.
    concerned: bool,
    /// The undertaker, if it waits.
    waiting: ThreadId,
    /// The number of the last stage that it has done.
    done: u64,
    grave: Grave,
}

/// What goes on.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// What is being done, and about whom.
    step: Step,
    /// Another one has died: all begin anew when this stage is done.
    anew: bool,
    /// Entries of all are put back a second time: those in which two of the dead have a share.
    second: bool,
}

/// What is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Send {
    /// To an undertaker: do this, which has this number.
    Do(ThreadId, u64, Step),
    /// To the root pager that has fenced its app pager: start it again.
    Restart(ThreadId),
}

/// All of it.
#[derive(Debug)]
pub struct Recoveries {
    clusters: [Cluster; MAX_CLUSTERS],
    count: usize,
    /// Number of the stage that is being done; stages of all recoveries are numbered in one go.
    serial: u64,
    current: Option<Current>,
}

/// What comes after it, for the same ones.
const fn after(stage: Stage) -> Option<Stage> {
    match stage {
        Stage::Forget => Some(Stage::Doom),
        Stage::Doom => Some(Stage::Settle),
        Stage::Settle => Some(Stage::Quiet),
        Stage::Quiet => Some(Stage::End),
        Stage::End => Some(Stage::Mend),
        Stage::Mend => Some(Stage::Reclaim),
        Stage::Reclaim => Some(Stage::Welcome),
        Stage::Welcome => None,
    }
}

impl Recoveries {
    /// For a machine with so many clusters.
    pub const fn new(count: usize) -> Self {
        let none =
            Cluster { present: false, concerned: false, waiting: ThreadId::NIL, done: 0, grave: Grave::None };
        Self { clusters: [none; MAX_CLUSTERS], count, serial: 0, current: None }
    }

    fn all(&self) -> &[Cluster] {
        &self.clusters[..self.count]
    }

    /// An undertaker has done everything up to stage `done`, and waits from now on.
    pub fn waits(&mut self, cluster: u16, undertaker: ThreadId, done: u64) {
        let serial = self.serial;
        let Some(entry) = self.clusters[..self.count].get_mut(usize::from(cluster)) else { return };
        (entry.present, entry.waiting, entry.done) = (true, undertaker, done);
        if let Grave::Restarting(incarnation) = entry.grave {
            // The new life begins behind what was before it.
            (entry.grave, entry.done) = (Grave::Back(incarnation), serial);
        }
    }

    /// A pager is fenced; `mourner` waits until it may start it again. Returns `false` if nothing can be done about it: it has died before its new
    /// life had begun, or nobody else is there.
    pub fn died(&mut self, cluster: u16, incarnation: u16, mourner: ThreadId) -> bool {
        let Some(entry) = self.clusters[..self.count].get_mut(usize::from(cluster)) else { return false };
        let again = matches!(entry.grave, Grave::Restarting(_));
        (entry.present, entry.concerned, entry.waiting) = (false, false, ThreadId::NIL);
        entry.grave = Grave::Fenced(mourner, incarnation);
        if let Some(current) = &mut self.current {
            current.anew |= !matches!(current.step.stage, Stage::Reclaim | Stage::Welcome);
        }
        !again && self.all().iter().any(|other| matches!(other.grave, Grave::None | Grave::Back(_)))
    }

    /// The first cluster from this one on whose pager is dead, and has not been started again.
    pub fn dead(&self, first: u16) -> Option<u16> {
        let mut clusters = (0..).zip(self.all()).skip(first.into());
        let found =
            clusters.find(|(_, cluster)| matches!(cluster.grave, Grave::Fenced(..) | Grave::Open(..)));
        found.map(|(number, _)| number)
    }

    /// The next message; to be asked until there is none.
    pub fn next_send(&mut self) -> Option<Send> {
        loop {
            let serial = self.serial;
            let Some(current) = self.current else {
                self.bury()?;
                continue;
            };
            let concerned = |c: &&mut Cluster| c.concerned && c.done < serial;
            let mut behind = self.clusters[..self.count].iter_mut().filter(concerned);
            if let Some(cluster) = behind.find(|cluster| !cluster.waiting.is_nil()) {
                let undertaker = core::mem::take(&mut cluster.waiting);
                return Some(Send::Do(undertaker, serial, current.step));
            }
            if self.all().iter().any(|c| c.concerned && c.done < serial) {
                return None;
            }
            if current.anew {
                self.bury()?;
                continue;
            }
            if self.begin(current.step.stage, usize::from(current.step.cluster) + 1) {
                continue;
            }
            if current.step.stage == Stage::Reclaim
                && let Some(mourner) = self.restart()
            {
                return Some(Send::Restart(mourner));
            }
            if self.all().iter().any(|cluster| matches!(cluster.grave, Grave::Restarting(_))) {
                return None;
            }
            let next = match current.step.stage {
                Stage::Mend if !current.second && self.graves() > 1 => Some(Stage::Mend),
                stage => after(stage),
            };
            if let Some(current) = &mut self.current {
                current.second = next == Some(Stage::Mend) && current.step.stage == Stage::Mend;
            }
            if !next.is_some_and(|next| self.begin(next, 0)) {
                // (There is nobody to be welcomed if who came back is dead again.)
                for cluster in &mut self.clusters {
                    if let Grave::Back(_) = cluster.grave {
                        cluster.grave = Grave::None;
                    }
                }
                self.current = None;
            }
        }
    }

    /// How many are cleared up after.
    fn graves(&self) -> usize {
        self.all().iter().filter(|cluster| matches!(cluster.grave, Grave::Open(..))).count()
    }

    /// Begins to clear up after all that are dead, when all that live are there.
    fn bury(&mut self) -> Option<()> {
        let clusters = &mut self.clusters[..self.count];
        if clusters.iter().any(|cluster| cluster.grave == Grave::None && !cluster.present) {
            return None;
        }
        for cluster in clusters {
            if let Grave::Fenced(mourner, incarnation) = cluster.grave {
                cluster.grave = Grave::Open(mourner, incarnation);
            }
            cluster.concerned = cluster.present;
        }
        let first = Step { cluster: 0, incarnation: 0, stage: Stage::Forget };
        self.current = Some(Current { step: first, anew: false, second: false });
        if self.begin(Stage::Forget, 0) {
            return Some(());
        }
        self.current = None;
        None
    }

    /// Begins a stage for the next one that it is about, from this cluster on. Returns `false` if there is none.
    fn begin(&mut self, stage: Stage, from: usize) -> bool {
        let incarnation = |grave| match (grave, stage) {
            (Grave::Back(incarnation), Stage::Welcome) => Some(incarnation),
            (_, Stage::Welcome) => None,
            (Grave::Open(_, incarnation), _) => Some(incarnation),
            _ => None,
        };
        let clusters = (0u16..).zip(self.all()).skip(from);
        let mut found = clusters.filter_map(|(number, c)| Some((number, incarnation(c.grave)?)));
        let (Some((cluster, incarnation)), Some(current)) = (found.next(), self.current) else {
            return false;
        };
        self.serial += 1;
        self.current = Some(Current { step: Step { cluster, incarnation, stage }, ..current });
        true
    }

    /// The next one is started again.
    fn restart(&mut self) -> Option<ThreadId> {
        self.clusters[..self.count].iter_mut().find_map(|cluster| match cluster.grave {
            Grave::Open(mourner, incarnation) => {
                cluster.grave = Grave::Restarting(incarnation);
                Some(mourner)
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn undertaker(cluster: u16) -> ThreadId {
        ThreadId::new(cluster, 7, 1)
    }
    fn mourner(cluster: u16) -> ThreadId {
        ThreadId::new(cluster, 1, 1)
    }
    fn all(it: &mut Recoveries) -> Vec<Send> {
        core::iter::from_fn(|| it.next_send()).collect()
    }

    #[test]
    fn no_stage_begins_before_all_have_done_the_one_before() {
        let mut it = Recoveries::new(3);
        // It dies before everybody is there.
        it.waits(0, undertaker(0), 0);
        assert!(it.died(1, 4, mourner(1)));
        assert_eq!(all(&mut it), []);
        it.waits(2, undertaker(2), 0);
        for (number, stage) in Stage::ALL[..7].iter().enumerate() {
            let (serial, step) = (number as u64 + 1, Step { cluster: 1, incarnation: 4, stage: *stage });
            assert_eq!(
                all(&mut it),
                [Send::Do(undertaker(0), serial, step), Send::Do(undertaker(2), serial, step)]
            );
            it.waits(2, undertaker(2), serial);
            assert_eq!(all(&mut it), []);
            it.waits(0, undertaker(0), serial);
        }
        assert_eq!(all(&mut it), [Send::Restart(mourner(1))]);
        assert_eq!(all(&mut it), []);
        // It comes with a clean slate, and is not told of itself.
        it.waits(1, undertaker(1), 0);
        let welcome = Step { cluster: 1, incarnation: 4, stage: Stage::Welcome };
        assert_eq!(all(&mut it), [Send::Do(undertaker(0), 8, welcome), Send::Do(undertaker(2), 8, welcome)]);
        for cluster in [0, 2] {
            it.waits(cluster, undertaker(cluster), 8);
        }
        assert_eq!(all(&mut it), []);
        // All three take part in the next one.
        assert!(it.died(0, 1, mourner(0)));
        assert_eq!(all(&mut it).len(), 2);
    }

    #[test]
    fn who_dies_in_the_middle_is_left_out_and_comes_next() {
        let mut it = Recoveries::new(3);
        (0..3).for_each(|cluster| it.waits(cluster, undertaker(cluster), 0));
        assert!(it.died(1, 1, mourner(1)));
        assert_eq!(all(&mut it).len(), 2);
        it.waits(0, undertaker(0), 1);
        assert_eq!([0, 1, 2].map(|from| it.dead(from)), [Some(1), Some(1), None]);
        assert!(it.died(2, 5, mourner(2)));
        // Those who are in the middle of a stage find out.
        assert_eq!([0, 2, 3].map(|from| it.dead(from)), [Some(1), Some(2), None]);
        // The first stage is done; all stages are done from the beginning, for both, and twice where they may be in each other's way.
        let mut serial = 1;
        let twice = [Stage::Mend, Stage::Mend];
        for stage in Stage::ALL[..5].iter().chain(&twice).chain(&[Stage::Reclaim]) {
            for (cluster, incarnation) in [(1, 1), (2, 5)] {
                serial += 1;
                let step = Step { cluster, incarnation, stage: *stage };
                assert_eq!(all(&mut it), [Send::Do(undertaker(0), serial, step)]);
                it.waits(0, undertaker(0), serial);
            }
        }
        assert_eq!(all(&mut it), [Send::Restart(mourner(1)), Send::Restart(mourner(2))]);
        assert_eq!(it.dead(0), None);
        it.waits(2, undertaker(2), 0);
        assert_eq!(all(&mut it), []);
        it.waits(1, undertaker(1), 0);
        for (cluster, incarnation) in [(1, 1), (2, 5)] {
            serial += 1;
            let step = Step { cluster, incarnation, stage: Stage::Welcome };
            assert_eq!(all(&mut it), [Send::Do(undertaker(0), serial, step)]);
            it.waits(0, undertaker(0), serial);
        }
        assert_eq!(all(&mut it), []);
        // All take part in the next one.
        assert!(it.died(1, 2, mourner(1)));
        assert_eq!(all(&mut it).len(), 2);
    }

    #[test]
    fn who_dies_when_nobody_need_wait_for_it_is_next() {
        let mut it = Recoveries::new(3);
        (0..3).for_each(|cluster| it.waits(cluster, undertaker(cluster), 0));
        assert!(it.died(1, 1, mourner(1)));
        for serial in 1..=6 {
            assert_eq!(all(&mut it).len(), 2);
            it.waits(0, undertaker(0), serial);
            it.waits(2, undertaker(2), serial);
        }
        // In the middle of the stage Reclaim.
        assert_eq!(all(&mut it).len(), 2);
        assert!(it.died(2, 1, mourner(2)));
        it.waits(0, undertaker(0), 7);
        assert_eq!(all(&mut it), [Send::Restart(mourner(1))]);
        it.waits(1, undertaker(1), 0);
        // The new life dies before it is welcome, and is the next, too.
        assert!(it.died(1, 2, mourner(1)));
        let sends = all(&mut it);
        assert!(
            matches!(sends[..], [Send::Do(_, 8, step)] if step.cluster == 1 && step.incarnation == 2),
            "{sends:?}"
        );
        it.waits(0, undertaker(0), 8);
        let sends = all(&mut it);
        assert!(
            matches!(sends[..], [Send::Do(_, 9, step)] if step.cluster == 2 && step.stage == Stage::Forget)
        );
    }

    #[test]
    fn some_deaths_are_final() {
        let mut it = Recoveries::new(1);
        it.waits(0, undertaker(0), 0);
        assert!(!it.died(0, 1, mourner(0)));
        let mut it = Recoveries::new(2);
        (0..2).for_each(|cluster| it.waits(cluster, undertaker(cluster), 0));
        assert!(it.died(1, 1, mourner(1)));
        for serial in 1..=7 {
            assert_eq!(all(&mut it).len(), 1);
            it.waits(0, undertaker(0), serial);
        }
        assert_eq!(all(&mut it), [Send::Restart(mourner(1))]);
        assert!(!it.died(1, 2, mourner(1)));
    }
}
