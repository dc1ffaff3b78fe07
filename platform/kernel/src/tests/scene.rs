//! Clusters between which threads are moved.

use super::invariants::check;
use super::world::*;
use crate::thread::State;
use skerry_abi::syscall::{THREAD_CONTROL, thread_op};
use skerry_abi::{SpaceId, ThreadId};
use std::vec::Vec;

type World = Vec<TestKernel<'static>>;

/// A privileged thread.
pub(super) fn boss(k: &mut TestKernel) -> ThreadId {
    let space = k.create_space(1, true).unwrap();
    thread(k, space, 0, ThreadId::NIL)
}

pub(super) struct Scene {
    pub(super) w: World,
    pub(super) bosses: Vec<ThreadId>,
    pub(super) spaces: Vec<SpaceId>,
}

/// Clusters with a privileged thread and a space of one task each.
pub(super) fn scene(clusters: usize) -> Scene {
    let mut w = world(clusters, 1);
    let bosses = w.iter_mut().map(boss).collect();
    let spaces = w.iter_mut().map(|k| k.create_space(20, false).unwrap()).collect();
    Scene { w, bosses, spaces }
}

impl Scene {
    pub(super) fn settle(&mut self) {
        settle(&mut self.w);
        self.w.iter().for_each(|k| check(k).unwrap());
    }
    /// Asks the cluster to move the thread; not answered yet.
    pub(super) fn ask(&mut self, from: usize, id: ThreadId, to: usize) {
        let args = [thread_op::MIGRATE, id.0, self.spaces[to].0, to as u64, 0, 0];
        syscall(&mut self.w[from], self.bosses[from], THREAD_CONTROL, &args);
        self.w[from].pick();
        check(&self.w[from]).unwrap();
    }
    pub(super) fn answer(&self, from: usize) -> u64 {
        let t = self.w[from].find(self.bosses[from]).unwrap();
        assert_eq!(self.w[from].thread(t).state, State::Ready, "the call has returned");
        self.w[from].thread(t).context.x[0]
    }
    pub(super) fn go(&mut self, from: usize, id: ThreadId, to: usize) -> u64 {
        self.ask(from, id, to);
        self.settle();
        self.answer(from)
    }
    pub(super) fn control(&mut self, at: usize, args: &[u64]) -> u64 {
        let x = syscall(&mut self.w[at], self.bosses[at], THREAD_CONTROL, args);
        self.w[at].pick();
        x[0]
    }
    /// Where a thread is, and what it does there.
    pub(super) fn state(&self, id: ThreadId) -> Vec<(usize, State)> {
        let found = |(at, k): (usize, &TestKernel<'static>)| k.find(id).map(|t| (at, k.thread(t).state));
        self.w.iter().enumerate().filter_map(found).collect()
    }
}
