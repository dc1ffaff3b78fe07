//! The trait.

use crate::event::{Advice, Fault, Page, Range, Sample};
use crate::nodes::Node;
use crate::order::Orders;
use crate::world::World;

/// A placement policy: one instance per pager. Everything has a default but where a fresh page goes.
///
/// An instance sees the faults of its own node, and of pages whose frames its node owns, what others report about them. It has no other way to
/// learn anything, and none to change anything but [`Orders`].
pub trait Policy {
    /// What it remembers of a page: at most [`RECORD`] bytes. `Default` is a page that it knows nothing of.
    type Record: Copy + Default;

    /// Where the frame of a page comes from that nobody has touched. If that node has none left it comes from the nearest one that has,
    /// unless the policy [is strict](Self::is_strict).
    fn place(&mut self, world: &World<'_>, fault: &Fault) -> Node;

    /// Whether a page may lie nowhere but where [`place`](Self::place) says: then the task ends if there is no frame.
    fn is_strict(&self) -> bool {
        false
    }

    /// A thread of this node faulted. The page has its frame already, and will be mapped.
    fn on_fault(
        &mut self,
        world: &World<'_>,
        fault: &Fault,
        page: Page<'_, Self::Record>,
        orders: &mut Orders,
    ) {
        let _ = (world, fault, page, orders);
    }

    /// A node (perhaps this one) has reported its use of a page that this pager owns.
    fn on_sample(
        &mut self,
        world: &World<'_>,
        sample: &Sample,
        page: Page<'_, Self::Record>,
        orders: &mut Orders,
    ) {
        let _ = (world, sample, page, orders);
    }

    /// A scan found that this node used a page since the last one, and perhaps wrote to it.
    fn on_scan(
        &mut self,
        world: &World<'_>,
        written: bool,
        page: Page<'_, Self::Record>,
        orders: &mut Orders,
    ) {
        let _ = (world, written, page, orders);
    }

    /// A period of modelled time has passed.
    fn on_tick(&mut self, world: &World<'_>, orders: &mut Orders) {
        let _ = (world, orders);
    }

    /// The program has said how it will use pages.
    fn on_advise(&mut self, world: &World<'_>, range: Range, advice: Advice, orders: &mut Orders) {
        let _ = (world, range, advice, orders);
    }
}

/// The largest record of a page.
pub const RECORD: usize = 16;
