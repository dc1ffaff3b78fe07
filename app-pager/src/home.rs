//! The tasks whose home is this cluster: who started them, how they ended, and what is still to be done about them.
//!
//! A task's home is where it was started: its board lies there. Ending a task and giving back what it had takes long, so it is work
//! in steps, which a pager thread does when nobody asks it for anything. The record outlives the task until who started it
//! has been told of the end.

use skerry_abi::Error;
use skerry_abi::id::domain;
use skerry_ipc::pager::TaskEnd;

/// Tasks of this home at a time, with those whose end nobody has asked for yet.
pub const MAX_HOMES: usize = 128;
/// Of these, so many are kept for tasks that run.
const MAX_RUNNING: usize = 32;
/// So many tasks are started in one life of a pager, as a power of two.
const LIFE_BITS: u32 = 16;

/// The next step for a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// Nothing: it runs.
    None,
    /// Its threads have to end; the next one is in this slot.
    Kill(usize),
    /// It has no threads any more: the pagers of all clusters that know it forget it, this one next.
    Forget(u16),
    /// The pager of this cluster says that nobody there looks at what the task has any more.
    Quiet(u16),
    /// The frames that its tables name are given back, from the cursor on.
    Release(u64),
    /// Tables and board are left.
    Return,
}

/// A record.
#[derive(Clone, Copy, Debug)]
struct Home {
    /// 0: unused.
    id: u32,
    parent: u32,
    board: u64,
    job: Job,
    /// A thread does the step just now.
    taken: bool,
    /// Its last thread has ended.
    over: bool,
    /// All is returned: how it ended.
    end: Option<TaskEnd>,
    /// The cluster that is to be told of it.
    waiter: Option<u16>,
}

/// A step that a thread has taken upon itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The task.
    pub id: u32,
    /// Physical address of its board.
    pub board: u64,
    /// What to do.
    pub job: Job,
}

/// All records.
#[derive(Debug)]
pub struct Homes {
    homes: [Home; MAX_HOMES],
    next: u32,
}

impl Homes {
    /// No task.
    pub const fn new() -> Self {
        let none = Home {
            id: 0,
            parent: 0,
            board: 0,
            job: Job::None,
            taken: false,
            over: false,
            end: None,
            waiter: None,
        };
        Self { homes: [none; MAX_HOMES], next: 0 }
    }

    /// A number for a new task of `parent`, which never means another one on any of `clusters` clusters, of which this is `cluster`. If need be
    /// the end of a task that nobody has asked for is forgotten.
    ///
    /// # Errors
    /// [`Error::TableFull`] if too many run.
    pub fn add(&mut self, parent: u32, board: u64, cluster: u16, clusters: u32) -> Result<u32, Error> {
        let living = self.homes.iter().filter(|home| home.id != 0 && home.end.is_none()).count();
        if living >= MAX_RUNNING {
            return Err(Error::TableFull);
        }
        let id = self
            .next
            .checked_mul(clusters)
            .and_then(|first| first.checked_add(domain::FIRST_TASK + u32::from(cluster)))
            .ok_or(Error::TableFull)?;
        // Unused ones first, then the oldest of those that are over.
        let candidates = self.homes.iter_mut().filter(|home| home.id == 0 || home.end.is_some());
        let slot = candidates.min_by_key(|home| home.id).ok_or(Error::TableFull)?;
        *slot =
            Home { id, parent, board, job: Job::None, taken: false, over: false, end: None, waiter: None };
        self.next += 1;
        Ok(id)
    }

    /// Numbers of tasks begin behind those of earlier lives of this pager, of which this is the given one, from 1 on.
    pub fn begin(&mut self, incarnation: u16) {
        self.next = u32::from(incarnation.saturating_sub(1)) << LIFE_BITS;
    }
    /// A task that was at home with a pager that died is at home here from now on; nobody is told of its end.
    ///
    /// # Errors
    /// [`Error::TableFull`].
    pub fn adopt(&mut self, id: u32, board: u64) -> Result<(), Error> {
        if self.home(id).is_ok() {
            return Ok(());
        }
        // An end that nobody has asked for is forgotten only if there is no room otherwise.
        let unused = self.homes.iter().position(|home| home.id == 0);
        let slot = unused.or_else(|| self.homes.iter().position(|home| home.end.is_some()));
        let slot = slot.ok_or(Error::TableFull)?;
        self.homes[slot] =
            Home { id, parent: 0, board, job: Job::None, taken: false, over: false, end: None, waiter: None };
        Ok(())
    }
    /// Number and board of the tasks that are not over, and of those that are being given back, from the record with this index on; the
    /// index behind, and whether it is over.
    pub fn next_living(&self, from: usize) -> Option<(usize, u32, u64, bool)> {
        let mut homes = self.homes.iter().enumerate().skip(from);
        let (index, home) = homes.find(|(_, home)| home.id != 0 && home.end.is_none())?;
        Some((index + 1, home.id, home.board, home.over))
    }

    fn home(&mut self, id: u32) -> Result<&mut Home, Error> {
        self.homes.iter_mut().find(|home| id != 0 && home.id == id).ok_or(Error::Refused)
    }

    /// The board of a task that the task `by` may end: itself, or who started it, or a pager (0). `None` if it is over.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn may_end(&mut self, id: u32, by: u32) -> Result<Option<u64>, Error> {
        let home = self.home(id)?;
        if by != 0 && by != home.parent && by != id {
            return Err(Error::Refused);
        }
        Ok((!home.over).then_some(home.board))
    }
    /// Its threads have to end.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such task.
    pub fn kill(&mut self, id: u32) -> Result<(), Error> {
        let home = self.home(id)?;
        // If a thread is about it already, that one began before the mark was set.
        if !home.over {
            home.job = Job::Kill(0);
        }
        Ok(())
    }
    /// Its last thread has ended.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is no such task.
    pub fn over(&mut self, id: u32) -> Result<(), Error> {
        let home = self.home(id)?;
        if !home.over {
            (home.over, home.job) = (true, Job::Forget(0));
        }
        Ok(())
    }

    /// A step that nobody does yet; the caller does it, and then calls [`Homes::done`].
    pub fn take(&mut self) -> Option<Step> {
        let home = self.homes.iter_mut().find(|h| h.id != 0 && !h.taken && h.job != Job::None)?;
        home.taken = true;
        Some(Step { id: home.id, board: home.board, job: home.job })
    }
    /// A step is done: what comes next, unless there is news about the task meanwhile.
    pub fn done(&mut self, step: Step, next: Job) {
        if let Ok(home) = self.home(step.id) {
            home.taken = false;
            if home.job == step.job {
                home.job = next;
            }
        }
    }
    /// Everything of a task has been returned. The answer is the cluster that has to be told.
    pub fn gone(&mut self, id: u32, end: TaskEnd) -> Option<u16> {
        let home = self.home(id).ok()?;
        (home.taken, home.job, home.end) = (false, Job::None, Some(end));
        let waiter = home.waiter.take();
        if waiter.is_some() || home.parent == 0 {
            home.id = 0;
        }
        waiter
    }
    /// A new task could not be started, so nobody will ask for its end: what it has is given back.
    pub fn abandon(&mut self, id: u32) {
        if let Ok(home) = self.home(id) {
            (home.parent, home.over, home.job) = (0, true, Job::Forget(0));
        }
    }
    /// How a task that `by` has started ended; `None`: not yet, `cluster` will be told.
    ///
    /// # Errors
    /// [`Error::Refused`] if it was started by another one, is unknown, or its end was told already; [`Error::TableFull`]
    /// if another cluster waits.
    pub fn wait(&mut self, id: u32, by: u32, cluster: u16) -> Result<Option<TaskEnd>, Error> {
        let home = self.home(id)?;
        if by == 0 || home.parent != by {
            return Err(Error::Refused);
        }
        match (home.end, home.waiter) {
            (Some(end), _) => {
                home.id = 0;
                Ok(Some(end))
            }
            (None, Some(other)) if other != cluster => Err(Error::TableFull),
            (None, _) => {
                home.waiter = Some(cluster);
                Ok(None)
            }
        }
    }
}

impl Default for Homes {
    fn default() -> Self {
        Self::new()
    }
}

/// The home of a task.
pub const fn cluster_of(id: u32, clusters: u32) -> u16 {
    (id.wrapping_sub(domain::FIRST_TASK) % clusters) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: u32 = 5000;

    #[test]
    fn numbers_say_whose_home_it_is_and_are_never_used_again() {
        let (mut one, mut two) = (Homes::new(), Homes::new());
        for n in 0..1000 {
            let (a, b) = (one.add(PARENT, 1, 0, 2).unwrap(), two.add(PARENT, 1, 1, 2).unwrap());
            assert_eq!((a, b), (16 + 2 * n, 17 + 2 * n));
            assert_eq!((cluster_of(a, 2), cluster_of(b, 2)), (0, 1));
            for (homes, id) in [(&mut one, a), (&mut two, b)] {
                homes.over(id).unwrap();
                assert_eq!(homes.gone(id, TaskEnd::Killed), None);
            }
        }
        // The end of the first one has been forgotten, that of the last one has not.
        assert_eq!(one.wait(16, PARENT, 0), Err(Error::Refused));
        assert_eq!(one.wait(16 + 2 * 999, PARENT, 0), Ok(Some(TaskEnd::Killed)));
        assert_eq!(one.wait(16 + 2 * 999, PARENT, 0), Err(Error::Refused));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut homes = Homes::new();
        let first = homes.add(PARENT, 1, 0, 1).unwrap();
        for _ in 1..MAX_RUNNING {
            homes.add(PARENT, 1, 0, 1).unwrap();
        }
        assert_eq!(homes.add(PARENT, 1, 0, 1), Err(Error::TableFull));
        homes.gone(first, TaskEnd::Exited(0));
        assert!(homes.add(PARENT, 1, 0, 1).is_ok());
    }

    #[test]
    fn only_parents_and_pagers_end_and_await_a_task() {
        let mut homes = Homes::new();
        let id = homes.add(PARENT, 0x5000, 0, 1).unwrap();
        assert_eq!(homes.may_end(id, PARENT), Ok(Some(0x5000)));
        assert_eq!(homes.may_end(id, id), Ok(Some(0x5000)));
        assert_eq!(homes.may_end(id, 0), Ok(Some(0x5000)));
        assert_eq!(homes.may_end(id, PARENT + 7), Err(Error::Refused));
        assert_eq!(homes.may_end(id + 1, PARENT), Err(Error::Refused));
        for by in [0, id, PARENT + 7] {
            assert_eq!(homes.wait(id, by, 0), Err(Error::Refused));
        }
        assert_eq!(homes.wait(id, PARENT, 3), Ok(None));
        assert_eq!((homes.wait(id, PARENT, 3), homes.wait(id, PARENT, 4)), (Ok(None), Err(Error::TableFull)));
        assert_eq!(homes.gone(id, TaskEnd::Killed), Some(3));
        assert_eq!(homes.wait(id, PARENT, 3), Err(Error::Refused));
    }

    #[test]
    fn an_orphan_takes_nobodys_place() {
        let mut homes = Homes::new();
        let id = homes.add(PARENT, 1, 0, 2).unwrap();
        homes.over(id).unwrap();
        assert_eq!(homes.gone(id, TaskEnd::Exited(3)), None);
        // (A task of the other cluster.)
        homes.adopt(id + 1, 0x2000).unwrap();
        homes.adopt(id + 1, 0x2000).unwrap();
        assert_eq!(homes.wait(id, PARENT, 0), Ok(Some(TaskEnd::Exited(3))));
        assert_eq!(homes.next_living(0).map(|(_, id, ..)| id), Some(id + 1));
    }

    #[test]
    fn news_overtake_a_step_that_is_being_done() {
        let mut homes = Homes::new();
        let id = homes.add(PARENT, 1, 0, 1).unwrap();
        assert_eq!(homes.take(), None);
        homes.kill(id).unwrap();
        let step = homes.take().unwrap();
        assert_eq!((step.job, homes.take()), (Job::Kill(0), None));
        homes.over(id).unwrap();
        homes.done(step, Job::Kill(8));
        let step = homes.take().unwrap();
        assert_eq!(step.job, Job::Forget(0));
        assert_eq!(homes.kill(id), Ok(()));
        assert_eq!(homes.may_end(id, PARENT), Ok(None));
        homes.done(step, Job::Forget(1));
        assert_eq!(homes.take().map(|step| step.job), Some(Job::Forget(1)));
    }
}
