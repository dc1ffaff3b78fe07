//! After the death of an app pager: who does what when.
//!
//! The root pager of its cluster fences it, says so here, and waits. The undertakers of all other pagers wait here, too, for
//! something to do. They do it in stages, and a stage begins when all living pagers have done the one before (rule 5 of the design: slow is
//! not dead; who dies in the middle is left out from then on, and is the next to be cleared up after). After the last stage but one the pager
//! is started again, and when it is there the others are told.
//!
//! Nothing here waits or sends: events go in, and [`Recoveries::next_send`] says what is to be sent.

use skerry_abi::ThreadId;
use skerry_abi::boot::MAX_CLUSTERS;
use skerry_ipc::root::{Stage, Step};

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
    /// Its pager is dead, nobody has begun to clear up: the thread that waits, and the life that has ended.
    dead: Option<(ThreadId, u16)>,
}

/// What goes on.
#[derive(Clone, Copy, Debug)]
struct Current {
    step: Step,
    /// Who fenced the pager, and waits.
    mourner: ThreadId,
    /// It has been told that it may start it again, and it has not come yet.
    restarting: bool,
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

impl Recoveries {
    /// For a machine with so many clusters.
    pub const fn new(count: usize) -> Self {
        let none = Cluster { present: false, concerned: false, waiting: ThreadId::NIL, done: 0, dead: None };
        Self { clusters: [none; MAX_CLUSTERS], count, serial: 0, current: None }
    }

    /// An undertaker has done everything up to stage `done`, and waits from now on.
    pub fn waits(&mut self, cluster: u16, undertaker: ThreadId, done: u64) {
        let serial = self.serial;
        let Some(entry) = self.clusters[..self.count].get_mut(usize::from(cluster)) else { return };
        (entry.present, entry.waiting, entry.done) = (true, undertaker, done);
        if let Some(current) = &mut self.current
            && current.restarting
            && current.step.cluster == cluster
        {
            // The new life begins behind what was before it.
            entry.done = serial;
            current.restarting = false;
            self.begin(Stage::Welcome);
        }
    }

    /// A pager is fenced; `mourner` waits until it may start it again. Returns `false` if nothing can be done about it: it has died before its new
    /// life had begun, or nobody else is there.
    pub fn died(&mut self, cluster: u16, incarnation: u16, mourner: ThreadId) -> bool {
        let again = self.current.is_some_and(|current| current.restarting && current.step.cluster == cluster);
        let Some(entry) = self.clusters[..self.count].get_mut(usize::from(cluster)) else { return false };
        (entry.present, entry.concerned, entry.waiting) = (false, false, ThreadId::NIL);
        entry.dead = Some((mourner, incarnation));
        !again && self.clusters[..self.count].iter().any(|other| other.dead.is_none())
    }

    /// The next message; to be asked until there is none.
    pub fn next_send(&mut self) -> Option<Send> {
        loop {
            let serial = self.serial;
            let Some(current) = self.current else {
                self.bury()?;
                continue;
            };
            if current.restarting {
                return None;
            }
            let concerned = |c: &&mut Cluster| c.concerned && c.done < serial;
            let mut behind = self.clusters[..self.count].iter_mut().filter(concerned);
            if let Some(cluster) = behind.find(|cluster| !cluster.waiting.is_nil()) {
                let undertaker = core::mem::take(&mut cluster.waiting);
                return Some(Send::Do(undertaker, serial, current.step));
            }
            if self.clusters[..self.count].iter().any(|c| c.concerned && c.done < serial) {
                return None;
            }
            match current.step.stage {
                Stage::Forget => self.begin(Stage::Doom),
                Stage::Doom => self.begin(Stage::Settle),
                Stage::Settle => self.begin(Stage::Quiet),
                Stage::Quiet => self.begin(Stage::End),
                Stage::End => self.begin(Stage::Mend),
                Stage::Mend => self.begin(Stage::Reclaim),
                Stage::Reclaim => {
                    self.current = Some(Current { restarting: true, ..current });
                    return Some(Send::Restart(current.mourner));
                }
                Stage::Welcome => self.current = None,
            }
        }
    }

    /// Begins to clear up after the next dead one, when all that live are there.
    fn bury(&mut self) -> Option<()> {
        let clusters = &mut self.clusters[..self.count];
        if clusters.iter().any(|cluster| cluster.dead.is_none() && !cluster.present) {
            return None;
        }
        let dead = clusters.iter().position(|cluster| cluster.dead.is_some())?;
        let (mourner, incarnation) = clusters[dead].dead.take()?;
        clusters.iter_mut().for_each(|cluster| cluster.concerned = cluster.present);
        let step = Step { cluster: dead as u16, incarnation, stage: Stage::Forget };
        self.current = Some(Current { step, mourner, restarting: false });
        self.begin(Stage::Forget);
        Some(())
    }

    fn begin(&mut self, stage: Stage) {
        if let Some(current) = &mut self.current {
            current.step.stage = stage;
            self.serial += 1;
        }
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
        assert!(it.died(2, 1, mourner(2)));
        for serial in 2..=7 {
            assert!(matches!(all(&mut it)[..], [Send::Do(_, n, step)] if n == serial && step.cluster == 1));
            it.waits(0, undertaker(0), serial);
        }
        assert_eq!(all(&mut it), [Send::Restart(mourner(1))]);
        it.waits(1, undertaker(1), 0);
        assert_eq!(all(&mut it).len(), 1);
        it.waits(0, undertaker(0), 8);
        let of_two = |sends: &[Send]| {
            sends.iter().all(|send| matches!(send, Send::Do(_, 9, step) if step.cluster == 2))
        };
        let sends = all(&mut it);
        assert!(sends.len() == 2 && of_two(&sends), "{sends:?}");
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
