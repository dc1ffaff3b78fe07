//! What contains a bad policy: everything it decides is checked before mechanism sees it. After the first impossible decision it is asked no
//! more, and pages are placed by first touch. That is said once.
//!
//! Not checked here, since a library without threads cannot: that a callback returns at all, and does not panic. Whoever runs policies
//! on a host catches panics (`replay` does); in a pager a panic is the crash of that pager.

use core::fmt;

use crate::event::{Advice, Fault, Page, Range, Sample};
use crate::nodes::Node;
use crate::order::{Order, Orders};
use crate::policy::{Policy, RECORD};
use crate::world::World;

/// What was impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// To place a page on a node that does not exist or has no memory.
    Placed(Node),
    /// To move one there.
    Moved(u64, Node),
    /// To decide about a page that this pager does not own, or that nobody has.
    NotOwner(u64),
    /// About pages outside of the region.
    Outside(Range),
    /// A number of pages to map ahead that is no power of two, or more than 512.
    Ahead(u16),
    /// To map ahead when there was no fault.
    NoFault,
    /// A thread on a node without CPUs.
    Thread(u32, Node),
    /// The callback did not come back in an orderly way; said by who called it.
    Panicked,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Placed(node) => write!(f, "places a page on node {node}, which has no memory"),
            Self::Moved(page, node) => write!(f, "moves page {page:#x} to node {node}, which has no memory"),
            Self::NotOwner(page) => write!(f, "decides about page {page:#x}, which this pager does not own"),
            Self::Outside(range) => {
                write!(
                    f,
                    "decides about {} pages from {:#x}, outside of its region",
                    range.pages, range.first
                )
            }
            Self::Ahead(pages) => write!(f, "maps {pages} pages ahead"),
            Self::NoFault => f.write_str("maps pages ahead without a fault"),
            Self::Thread(thread, node) => write!(f, "moves thread {thread} to node {node}, which has no CPU"),
            Self::Panicked => f.write_str("panics"),
        }
    }
}

/// Where pages are, for the check of orders.
pub trait Homes {
    /// The node that has the frame of a page; `None` if nobody has touched it.
    fn home(&self, page: u64) -> Option<Node>;
}

impl<F: Fn(u64) -> Option<Node>> Homes for F {
    fn home(&self, page: u64) -> Option<Node> {
        self(page)
    }
}

/// A policy that cannot do any harm but to the performance.
#[derive(Clone, Debug)]
pub struct Contained<P> {
    policy: P,
    fallen: Option<Mistake>,
    said: bool,
}

/// A node that has no frame left, for a policy that takes no other one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoFrame(pub Node);

impl<P: Policy> Contained<P> {
    /// Contains a policy.
    pub const fn new(policy: P) -> Self {
        const { assert!(size_of::<P::Record>() <= RECORD, "the record of a page is too large") };
        Self { policy, fallen: None, said: false }
    }

    /// What it did wrong, if it is asked no more.
    pub const fn fallen(&self) -> Option<Mistake> {
        self.fallen
    }
    /// The same, once: to be told to the user.
    pub const fn news(&mut self) -> Option<Mistake> {
        if self.said {
            return None;
        }
        self.said = self.fallen.is_some();
        self.fallen
    }
    /// From now on it is asked no more.
    pub fn fall(&mut self, mistake: Mistake, orders: &mut Orders) {
        self.fallen.get_or_insert(mistake);
        orders.clear();
    }

    /// The node that the frame of a fresh page comes from.
    ///
    /// # Errors
    /// [`NoFrame`] if there is no frame in the whole machine, or none where a strict policy wants it.
    pub fn place(&mut self, world: &World<'_>, fault: &Fault) -> Result<Node, NoFrame> {
        let mut wish = fault.node;
        if self.fallen.is_none() {
            let chosen = self.policy.place(world, fault);
            if world.has_memory(chosen) {
                wish = chosen;
            } else if chosen == fault.node && world.has_cpus(chosen) {
                // "Here", on a node without memory of its own.
            } else {
                self.fallen = Some(Mistake::Placed(chosen));
            }
        }
        let strict = self.fallen.is_none() && self.policy.is_strict();
        if strict && world.has_memory(wish) && !world.has_free(wish) {
            return Err(NoFrame(wish));
        }
        world.or_nearest(wish).ok_or(NoFrame(wish))
    }

    /// See [`Policy::on_fault`]. What is left in `orders` can be done.
    pub fn on_fault(
        &mut self,
        world: &World<'_>,
        fault: &Fault,
        page: Page<'_, P::Record>,
        homes: &impl Homes,
        orders: &mut Orders,
    ) {
        self.ask(world, homes, true, orders, |policy, orders| policy.on_fault(world, fault, page, orders));
    }
    /// See [`Policy::on_sample`].
    pub fn on_sample(
        &mut self,
        world: &World<'_>,
        sample: &Sample,
        page: Page<'_, P::Record>,
        homes: &impl Homes,
        orders: &mut Orders,
    ) {
        self.ask(world, homes, false, orders, |policy, orders| policy.on_sample(world, sample, page, orders));
    }
    /// See [`Policy::on_scan`].
    pub fn on_scan(
        &mut self,
        world: &World<'_>,
        written: bool,
        page: Page<'_, P::Record>,
        homes: &impl Homes,
        orders: &mut Orders,
    ) {
        self.ask(world, homes, false, orders, |policy, orders| policy.on_scan(world, written, page, orders));
    }
    /// See [`Policy::on_tick`].
    pub fn on_tick(&mut self, world: &World<'_>, homes: &impl Homes, orders: &mut Orders) {
        self.ask(world, homes, false, orders, |policy, orders| policy.on_tick(world, orders));
    }
    /// See [`Policy::on_advise`].
    pub fn on_advise(
        &mut self,
        world: &World<'_>,
        range: Range,
        advice: Advice,
        homes: &impl Homes,
        orders: &mut Orders,
    ) {
        self.ask(world, homes, false, orders, |policy, orders| {
            policy.on_advise(world, range, advice, orders);
        });
    }

    fn ask(
        &mut self,
        world: &World<'_>,
        homes: &impl Homes,
        faulted: bool,
        orders: &mut Orders,
        callback: impl FnOnce(&mut P, &mut Orders),
    ) {
        orders.clear();
        if self.fallen.is_some() {
            return;
        }
        callback(&mut self.policy, orders);
        let wrong = orders.iter().find_map(|(order, _)| check(world, homes, faulted, order).err());
        if let Some(mistake) = wrong {
            self.fall(mistake, orders);
        }
    }
}

/// Whether an order of the pager of `world.node` can be carried out at all.
fn check(world: &World<'_>, homes: &impl Homes, faulted: bool, order: Order) -> Result<(), Mistake> {
    let inside = |range: Range| match world.pages.covers(range) {
        true => Ok(()),
        false => Err(Mistake::Outside(range)),
    };
    let known = |page| {
        inside(Range { first: page, pages: 1 })?;
        homes.home(page).ok_or(Mistake::NotOwner(page))
    };
    let owned = |page| match known(page)? == world.node {
        true => Ok(()),
        false => Err(Mistake::NotOwner(page)),
    };
    match order {
        Order::Migrate { page, to } => match world.has_memory(to) {
            true => owned(page),
            false => Err(Mistake::Moved(page, to)),
        },
        Order::Replicate { page } | Order::Collapse { page } => owned(page),
        Order::Arm { range } | Order::Scan { range } => inside(range),
        Order::Report { page, .. } => known(page).map(|_| ()),
        Order::Ahead { .. } if !faulted => Err(Mistake::NoFault),
        Order::Ahead { pages } if pages.is_power_of_two() && pages <= 512 => Ok(()),
        Order::Ahead { pages } => Err(Mistake::Ahead(pages)),
        Order::MoveThread { to, .. } if world.has_cpus(to) => Ok(()),
        Order::MoveThread { thread, to } => Err(Mistake::Thread(thread, to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Access, Reason};
    use crate::order::Cause;
    use crate::world::{Costs, Feedback, NodeInfo};

    const PAGES: Range = Range { first: 16, pages: 16 };

    /// Gives one order at every tick and fault.
    struct Orderly(Order);
    impl Policy for Orderly {
        type Record = ();
        fn place(&mut self, _: &World<'_>, fault: &Fault) -> Node {
            fault.node
        }
        fn on_fault(&mut self, _: &World<'_>, _: &Fault, _: Page<'_, ()>, orders: &mut Orders) {
            orders.give(self.0, Cause::Rule);
        }
        fn on_tick(&mut self, _: &World<'_>, orders: &mut Orders) {
            orders.give(self.0, Cause::Rule);
        }
    }

    /// Of three nodes the last one has no memory, the middle one no CPU; page 20 is on node 0, page 21 on node 1. It is node 0 that decides.
    fn with_world<T>(f: impl FnOnce(&World<'_>) -> T) -> T {
        let info = |cpus, frames| NodeInfo { cpus, frames, bandwidth: 1 };
        let nodes = [info(1, 8), info(0, 8), info(1, 0)];
        let distances = [10, 20, 20, 20, 10, 20, 20, 20, 10];
        let (costs, feedback) = (Costs::default(), Feedback::default());
        let free = &[8, 8, 0];
        f(&World {
            node: 0,
            now: 0,
            period: 1,
            nodes: &nodes,
            distances: &distances,
            free,
            costs,
            feedback,
            pages: PAGES,
        })
    }
    fn homes(page: u64) -> Option<Node> {
        [20, 21].iter().position(|&known| known == page).map(|node| node as Node)
    }

    #[test]
    fn every_impossible_order_is_refused_and_every_possible_one_is_not() {
        let range = |first, pages| Range { first, pages };
        let report = |page| Order::Report { page, weight: 1, write: false, urgent: false };
        let outside = |page| Mistake::Outside(range(page, 1));
        let cases = [
            (Order::Migrate { page: 20, to: 1 }, None),
            (Order::Migrate { page: 20, to: 2 }, Some(Mistake::Moved(20, 2))),
            (Order::Migrate { page: 20, to: 9 }, Some(Mistake::Moved(20, 9))),
            (Order::Migrate { page: 21, to: 0 }, Some(Mistake::NotOwner(21))),
            (Order::Migrate { page: 22, to: 1 }, Some(Mistake::NotOwner(22))),
            (Order::Migrate { page: 99, to: 1 }, Some(outside(99))),
            (Order::Replicate { page: 20 }, None),
            (Order::Replicate { page: 21 }, Some(Mistake::NotOwner(21))),
            (Order::Collapse { page: 20 }, None),
            (Order::Collapse { page: 99 }, Some(outside(99))),
            (Order::Arm { range: PAGES }, None),
            (Order::Arm { range: range(16, 17) }, Some(Mistake::Outside(range(16, 17)))),
            (Order::Scan { range: PAGES }, None),
            (Order::Scan { range: range(15, 2) }, Some(Mistake::Outside(range(15, 2)))),
            (report(21), None),
            (report(22), Some(Mistake::NotOwner(22))),
            (report(99), Some(outside(99))),
            (Order::MoveThread { thread: 7, to: 2 }, None),
            (Order::MoveThread { thread: 7, to: 1 }, Some(Mistake::Thread(7, 1))),
            (Order::Ahead { pages: 16 }, Some(Mistake::NoFault)),
        ];
        for (order, mistake) in cases {
            let (mut contained, mut orders) = (Contained::new(Orderly(order)), Orders::new());
            with_world(|world| contained.on_tick(world, &homes, &mut orders));
            assert_eq!((contained.fallen(), orders.is_empty()), (mistake, mistake.is_some()), "{order:?}");
        }
    }

    #[test]
    fn ahead_is_for_faults() {
        for (pages, mistake) in
            [(1, None), (512, None), (3, Some(Mistake::Ahead(3))), (1024, Some(Mistake::Ahead(1024)))]
        {
            let (mut contained, mut orders) =
                (Contained::new(Orderly(Order::Ahead { pages })), Orders::new());
            let fault = Fault {
                page: 20,
                access: Access::Read,
                reason: Reason::Unmapped,
                node: 0,
                thread: 0,
                region: PAGES,
            };
            let sharers = crate::nodes::NodeSet::EMPTY;
            let page = Page { number: 20, home: 0, sharers, replicated: false, record: &mut () };
            with_world(|world| contained.on_fault(world, &fault, page, &homes, &mut orders));
            assert_eq!(contained.fallen(), mistake);
        }
    }
}
