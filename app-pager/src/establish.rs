//! How a page gets into a space.

use core::sync::atomic::AtomicU64;

use crate::entry::{Entry, State};

/// Where the mapping came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The space had it already: another thread of the space was faster, the fault is spurious.
    Hit,
    /// Another pager had established it: taken over from the master table.
    TakenOver,
    /// A fresh frame.
    Allocated,
}

/// An established page and what it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Established {
    /// Frame and rights to map.
    pub entry: Entry,
    /// Where it came from.
    pub how: How,
    /// Questions to the master table.
    pub lookups: u64,
    /// Frames allocated (one of them may have been given back after a lost race).
    pub allocations: u64,
}

/// Why a page cannot be established now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Somebody is changing the page; the fault has to be taken again.
    Busy,
    /// No frame.
    OutOfMemory,
}

/// Where frames come from.
pub trait Frames {
    /// A frame with the page's first contents, and the entry to publish for it.
    fn take(&mut self) -> Option<Entry>;
    /// Gives back a frame of [`Frames::take`] that nobody else has seen.
    fn give_back(&mut self, entry: Entry);
}

/// Establishes a page: local hit, else take over from the master, else allocate and publish; who loses the race to publish
/// gives its frame back and takes over the winner's.
///
/// `master` is `None` for pages that are the space's own business. There is no lock: the two words are all the state, and
/// every step leaves them valid.
///
/// # Errors
/// [`Stop`]; nothing has changed then.
pub fn establish(
    local: &AtomicU64,
    master: Option<&AtomicU64>,
    frames: &mut impl Frames,
) -> Result<Established, Stop> {
    let (mut lookups, mut allocations) = (0, 0);
    let hit = |entry| Ok(Established { entry, how: How::Hit, lookups: 0, allocations: 0 });
    match Entry::load(local) {
        entry if entry.state() == State::Present => return hit(entry),
        entry if entry.state() == State::Busy => return Err(Stop::Busy),
        _ => {}
    }
    let (authority, known) = match master {
        None => (local, Entry::EMPTY),
        Some(slot) => {
            lookups += 1;
            (slot, Entry::load(slot))
        }
    };
    let (entry, mut how) = match known.state() {
        State::Present => (known, How::TakenOver),
        State::Busy | State::Replicated => return Err(Stop::Busy),
        State::Empty => {
            let fresh = frames.take().ok_or(Stop::OutOfMemory)?;
            allocations += 1;
            match fresh.insert(authority) {
                Ok(()) => (fresh, How::Allocated),
                Err(winner) => {
                    frames.give_back(fresh);
                    match winner.state() {
                        State::Present if master.is_some() => (winner, How::TakenOver),
                        State::Present => (winner, How::Hit),
                        _ => return Err(Stop::Busy),
                    }
                }
            }
        }
    };
    // Two threads of one space may get here with the same entry; one of them is the spurious one.
    if master.is_some() && entry.insert(local).is_err() {
        how = How::Hit;
    }
    Ok(Established { entry, how, lookups, allocations })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::Ordering;
    use skerry_abi::Rights;
    use std::{thread, vec::Vec};

    /// Numbered frames of one pager.
    struct Source<'a> {
        leader: u16,
        next: u64,
        given_back: u64,
        empty: bool,
        /// What happens between the look at the master and the insert.
        meanwhile: Option<(&'a AtomicU64, Entry)>,
    }
    impl Frames for Source<'_> {
        fn take(&mut self) -> Option<Entry> {
            if self.empty {
                return None;
            }
            if let Some((slot, entry)) = self.meanwhile.take() {
                slot.store(entry.0, Ordering::Release);
            }
            self.next += 1;
            Some(Entry::present((u64::from(self.leader) << 20 | self.next) << 12, Rights::RW, self.leader, 1))
        }
        fn give_back(&mut self, _: Entry) {
            self.given_back += 1;
        }
    }
    fn source(leader: u16) -> Source<'static> {
        Source { leader, next: 0, given_back: 0, empty: false, meanwhile: None }
    }

    #[test]
    fn first_allocates_second_takes_over_third_hits() {
        let (master, local) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
        let (mut a, mut b) = (source(0), source(1));
        let first = establish(&local[0], Some(&master), &mut a).unwrap();
        assert_eq!((first.how, first.lookups, first.allocations), (How::Allocated, 1, 1));
        let second = establish(&local[1], Some(&master), &mut b).unwrap();
        assert_eq!((second.how, second.entry, second.allocations), (How::TakenOver, first.entry, 0));
        let third = establish(&local[1], Some(&master), &mut b).unwrap();
        assert_eq!((third.how, third.lookups), (How::Hit, 0));
        assert_eq!(b.next, 0);
    }

    #[test]
    fn own_pages_ask_nobody() {
        let local = AtomicU64::new(0);
        let first = establish(&local, None, &mut source(0)).unwrap();
        assert_eq!((first.how, first.lookups), (How::Allocated, 0));
    }

    #[test]
    fn the_loser_takes_over() {
        let (master, local) = (AtomicU64::new(0), AtomicU64::new(0));
        let winner = Entry::present(0x7000, Rights::RW, 3, 1);
        let mut frames = Source { meanwhile: Some((&master, winner)), ..source(0) };
        let result = establish(&local, Some(&master), &mut frames).unwrap();
        assert_eq!((result.entry, result.how, frames.given_back), (winner, How::TakenOver, 1));
        let (local, other) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut frames = Source { meanwhile: Some((&local, winner)), ..source(0) };
        assert_eq!(establish(&local, None, &mut frames).unwrap().how, How::Hit);
        let mut frames = Source { meanwhile: Some((&other, winner.busy(3, 1))), ..source(0) };
        assert_eq!(establish(&AtomicU64::new(0), Some(&other), &mut frames), Err(Stop::Busy));
    }

    #[test]
    fn stops_change_nothing() {
        let busy = Entry::present(0x1000, Rights::RW, 0, 1).busy(0, 1);
        let (master, local) = (AtomicU64::new(busy.0), AtomicU64::new(0));
        assert_eq!(establish(&local, Some(&master), &mut source(0)), Err(Stop::Busy));
        master.store(0, Ordering::Relaxed);
        let mut none = Source { empty: true, ..source(0) };
        assert_eq!(establish(&local, Some(&master), &mut none), Err(Stop::OutOfMemory));
        assert_eq!((master.into_inner(), local.into_inner()), (0, 0));
    }

    #[test]
    fn racing_pagers_agree_on_one_frame_per_page() {
        const PAGES: usize = 512;
        const PAGERS: usize = 4;
        let zeros = || (0..PAGES).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let master = zeros();
        let locals: Vec<_> = (0..PAGERS).map(|_| zeros()).collect();
        // Two threads per pager: they share a local table.
        let outcomes: Vec<_> = thread::scope(|scope| {
            let run = |pager: usize, down: bool| {
                let (master, local) = (&master, &locals[pager]);
                move || {
                    let mut frames = source((pager * 2 + usize::from(down)) as u16);
                    let mut installed = 0;
                    for i in 0..PAGES {
                        let page = if down { PAGES - 1 - i } else { i };
                        let done = establish(&local[page], Some(&master[page]), &mut frames).unwrap();
                        assert_eq!(done.entry, Entry::load(&master[page]));
                        installed += usize::from(done.how != How::Hit);
                    }
                    (installed, frames.next - frames.given_back)
                }
            };
            let threads: Vec<_> =
                (0..PAGERS).flat_map(|p| [scope.spawn(run(p, false)), scope.spawn(run(p, true))]).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().map(|o| o.0).sum::<usize>(), PAGES * PAGERS);
        assert_eq!(outcomes.iter().map(|o| o.1).sum::<u64>(), PAGES as u64);
    }
}
