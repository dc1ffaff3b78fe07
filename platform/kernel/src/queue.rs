//! Intrusive doubly linked queues over one array of links.
//!
//! A thread waits in at most one queue at a time (a run queue, a partner's sender queue, the queue for a ring), so one
//! link per thread is enough; guests (threads of other clusters) have links behind those of the threads.

/// Position in the link array that means "none".
pub const NONE: u32 = u32::MAX;

/// One element's place in a queue.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash, PartialEq))]
pub struct Link {
    next: u32,
    prev: u32,
}

impl Link {
    /// In no queue.
    pub const UNLINKED: Self = Self { next: NONE, prev: NONE };
}

/// First and last element.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub struct Queue {
    head: u32,
    tail: u32,
}

impl Queue {
    /// An empty queue.
    pub const EMPTY: Self = Self { head: NONE, tail: NONE };

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }
    /// The first element.
    #[inline]
    pub fn head(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
    /// The element behind `index`.
    pub fn next(links: &[Link], index: u32) -> Option<u32> {
        let next = links[index as usize].next;
        (next != NONE).then_some(next)
    }
    /// Whether there are at least so many elements.
    pub fn has(&self, links: &[Link], count: usize) -> bool {
        core::iter::successors(self.head(), |&index| Self::next(links, index)).take(count).count() == count
    }
    /// Appends an element that is in no queue.
    #[inline]
    pub fn push_back(&mut self, links: &mut [Link], index: u32) {
        links[index as usize] = Link { next: NONE, prev: self.tail };
        match self.tail {
            NONE => self.head = index,
            tail => links[tail as usize].next = index,
        }
        self.tail = index;
    }
    /// Prepends an element that is in no queue.
    #[inline]
    pub fn push_front(&mut self, links: &mut [Link], index: u32) {
        links[index as usize] = Link { next: self.head, prev: NONE };
        match self.head {
            NONE => self.tail = index,
            head => links[head as usize].prev = index,
        }
        self.head = index;
    }
    /// Takes an element of this queue out.
    #[inline]
    pub fn remove(&mut self, links: &mut [Link], index: u32) {
        let Link { next, prev } = links[index as usize];
        match prev {
            NONE => self.head = next,
            prev => links[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => links[next as usize].prev = prev,
        }
        links[index as usize] = Link::UNLINKED;
    }
    /// Takes the first element out.
    #[inline]
    pub fn pop_front(&mut self, links: &mut [Link]) -> Option<u32> {
        let head = self.head()?;
        let link = &mut links[head as usize];
        self.head = core::mem::replace(link, Link::UNLINKED).next;
        match self.head {
            NONE => self.tail = NONE,
            next => links[next as usize].prev = NONE,
        }
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_the_middle_can_leave() {
        let mut links = [Link::UNLINKED; 5];
        let mut q = Queue::EMPTY;
        for i in [1, 2, 3] {
            q.push_back(&mut links, i);
        }
        q.push_front(&mut links, 0);
        q.remove(&mut links, 2);
        let drained: std::vec::Vec<_> = core::iter::from_fn(|| q.pop_front(&mut links)).collect();
        assert_eq!(drained, [0, 1, 3]);
        assert!(q.is_empty());
    }
}
