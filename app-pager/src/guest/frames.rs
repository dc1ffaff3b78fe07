//! Where frames come from, and where they go back to.

use app_pager::Memory;
use app_pager::maintain::Site;
use app_pager::placement::others;
use app_pager::protocols::record::Record;
use app_pager::roll::Roll;
use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;

use super::audit;
use super::memory::Physical;
use super::state::Context;
use super::{maintain, stock};

impl Context {
    /// Consecutive frames for a task's threads on `node`, charged to the task; their contents are anything. If the node has none left and
    /// the placement allows it, they come from the nearest one that has. `address` says which page or table of the task they are for.
    #[inline(never)]
    pub(super) fn frames(
        &self,
        (task, roll): (u32, &Roll<'_>),
        node: u16,
        address: u64,
        frames: u64,
    ) -> Result<u64, Error> {
        if roll.is_limited() {
            roll.charge(frames)?;
        }
        if let Some(base) = self.state().allocate(node, frames) {
            return Ok(base);
        }
        let ask = |other, cluster| match cluster == self.cluster {
            true => self.state().allocate(other, frames).ok_or(Error::OutOfMemory),
            false => self.peer(cluster)?.frame_take(task, address, frames),
        };
        self.elsewhere(node, ask).inspect_err(|_| roll.refund(frames))
    }

    /// One frame for a page of a task, which is charged already; from other nodes, too.
    #[cold]
    pub(super) fn frame_anywhere(&self, task: u32, node: u16, address: u64, record: Record) -> Option<u64> {
        if let Some(frame) = self.cursor(node).and_then(|mut cursor| cursor.take(&Physical, record)) {
            audit::taken(frame, 1);
            return Some(frame);
        }
        let page = address & !(PAGE_SIZE - 1);
        self.elsewhere(node, |other, _| {
            let frame = stock::frame_of(self, task, other, page)?;
            if frame == 0 { Err(Error::OutOfMemory) } else { Ok(frame) }
        })
        .ok()
    }

    /// What the nearest of the other nodes gives that gives something, if the placement allows it: `ask` gets the node and its cluster.
    #[cold]
    fn elsewhere(&self, node: u16, ask: impl Fn(u16, u16) -> Result<u64, Error>) -> Result<u64, Error> {
        if !self.options.placement.falls_back() {
            return Err(Error::OutOfMemory);
        }
        let row = self.boot.distances.get(usize::from(node)).ok_or(Error::BadArgument)?;
        let distance = |other: u16| row.get(usize::from(other)).copied().unwrap_or(u8::MAX);
        for other in others(node, self.boot.node_count as u16, distance) {
            // A node without CPUs is served by the pager of another one, which is in the list, too.
            let Some(cpu) = self.boot.cpus().iter().find(|cpu| cpu.node == other) else { continue };
            if let Ok(base) = ask(other, cpu.cluster) {
                return Ok(base);
            }
        }
        Err(Error::OutOfMemory)
    }

    /// The same, cleared: at least `bytes` bytes.
    pub(super) fn cleared_for(
        &self,
        task: (u32, &Roll<'_>),
        node: u16,
        address: u64,
        bytes: u64,
    ) -> Result<u64, Error> {
        let frames = bytes.div_ceil(PAGE_SIZE);
        let base = self.frames(task, node, address, frames)?;
        Physical.clear(base, frames * PAGE_SIZE);
        Ok(base)
    }

    /// Gives back consecutive frames that nobody uses any more, to whoever's they are.
    pub(super) fn give_back(&self, base: u64, bytes: u64) {
        maintain::hand_over(self, Site::Free, base, bytes);
        self.put_back(base, bytes);
    }
    /// The same for what has been handed over.
    pub(super) fn put_back(&self, base: u64, bytes: u64) {
        for frame in (0..bytes.div_ceil(PAGE_SIZE)).map(|number| base + number * PAGE_SIZE) {
            if self.options.audit {
                audit::give_back(self, frame);
            } else {
                self.pools().map(|pools| pools.free(&Physical, frame));
            }
        }
    }
}
