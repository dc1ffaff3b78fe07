//! `fault-ahead`, a combinator (`ahead=N` as an option of any policy): maps the pages around the one that was touched, too. It saves faults and decides nothing
//! else: fresh pages are placed one by one by the policy inside.

use crate::event::{Advice, Fault, Page, Range, Reason, Sample};
use crate::nodes::Node;
use crate::order::{Cause, Order, Orders};
use crate::policy::Policy;
use crate::world::World;

/// A policy that maps ahead.
#[derive(Clone, Copy, Debug)]
pub struct FaultAhead<P> {
    inner: P,
    pages: u16,
}

impl<P> FaultAhead<P> {
    /// So many pages at a time; 1 is none ahead. `None` if that is no power of two, or more than 512.
    pub fn new(inner: P, pages: u32) -> Option<Self> {
        let pages = u16::try_from(pages).ok().filter(|pages| pages.is_power_of_two() && *pages <= 512)?;
        Some(Self { inner, pages })
    }
}

impl<P: Policy> Policy for FaultAhead<P> {
    type Record = P::Record;

    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node {
        self.inner.place(world, fault)
    }
    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }
    fn on_fault(&mut self, world: &World<'_>, fault: &Fault, page: Page<'_, P::Record>, orders: &mut Orders) {
        self.inner.on_fault(world, fault, page, orders);
        // A trap is to see one page; its neighbours have traps of their own.
        if self.pages > 1 && matches!(fault.reason, Reason::Untouched | Reason::Unmapped) {
            orders.give(Order::Ahead { pages: self.pages }, Cause::Rule);
        }
    }
    fn on_sample(
        &mut self,
        world: &World<'_>,
        sample: &Sample,
        page: Page<'_, P::Record>,
        orders: &mut Orders,
    ) {
        self.inner.on_sample(world, sample, page, orders);
    }
    fn on_scan(&mut self, world: &World<'_>, written: bool, page: Page<'_, P::Record>, orders: &mut Orders) {
        self.inner.on_scan(world, written, page, orders);
    }
    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        self.inner.on_tick(world, orders);
    }
    fn on_advise(&mut self, world: &World<'_>, range: Range, advice: Advice, orders: &mut Orders) {
        self.inner.on_advise(world, range, advice, orders);
    }
}
