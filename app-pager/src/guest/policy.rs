//! Fresh pages by a policy: the boot option `policy=NAME`.
//!
//! Every pager has one instance ([`Any`]), which its threads ask in turn. Its places are *watched* ([`super::watch`]): who places by first
//! touch pays nothing for it. Frames of other nodes come from their pagers, by a message each.

use skerry_abi::Rights;
use skerry_abi::boot::{BootInfo, MAX_NODES};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_policy::shipped::Any;
use skerry_policy::world::{Costs, Feedback};
use skerry_policy::{Access, Fault, NodeInfo, Range, Reason, World};
use skerry_rt::println;
use skerry_rt::spin::{SetUp, TicketLock};

use super::place::Place;
use super::state::Context;
use super::stock;

/// What a policy may know that does not change.
struct Machine {
    nodes: [NodeInfo; MAX_NODES],
    count: usize,
    /// Row by row, as many as there are nodes.
    distances: [u8; MAX_NODES * MAX_NODES],
}

static MACHINE: SetUp<Machine> = SetUp::new(Machine {
    nodes: [NodeInfo { cpus: 0, frames: 0, bandwidth: 0 }; MAX_NODES],
    count: 0,
    distances: [0; MAX_NODES * MAX_NODES],
});
static POLICY: TicketLock<Option<Any>> = TicketLock::new(None);

/// Has the policy ready, if one is wanted.
pub(super) fn set_up(context: &Context) {
    let Some(text) = context.options.policy else { return };
    MACHINE.set(|machine| machine.read(context.boot));
    // The options have been checked.
    *POLICY.lock() = Any::new(text).ok();
}

impl Machine {
    fn read(&mut self, boot: &BootInfo) {
        self.count = boot.node_count as usize;
        for cpu in boot.cpus() {
            self.nodes[usize::from(cpu.node) % MAX_NODES].cpus += 1;
        }
        for pool in boot.pools() {
            let info = &mut self.nodes[usize::from(pool.node) % MAX_NODES];
            // The memory of a node without CPUs is handed out by the pager of another one, as that node's own.
            if info.cpus != 0 {
                info.frames += pool.range.size >> PAGE_BITS;
            }
            // All controllers of a machine are alike.
            info.bandwidth = 1;
        }
        for (row, distances) in
            self.distances.chunks_mut(self.count.max(1)).zip(&boot.distances).take(self.count)
        {
            row.copy_from_slice(&distances[..self.count]);
        }
    }
}

/// A frame for a page of a task, from where the policy wants it; if that is full, from where it wants it then. 0 if there is none.
#[cold]
pub(super) fn frame(context: &Context, place: &Place, address: u64, access: Rights) -> u64 {
    if place.roll.is_some_and(|roll| roll.charge(1).is_err()) {
        return 0;
    }
    let frame = choose(context, place, address & !(PAGE_SIZE - 1), access);
    if let (0, Some(roll)) = (frame, place.roll) {
        roll.refund(1);
    }
    frame
}

fn choose(context: &Context, place: &Place, page: u64, access: Rights) -> u64 {
    let Some(machine) = MACHINE.get() else { return 0 };
    let region = Range { first: place.region.base >> PAGE_BITS, pages: place.region.size >> PAGE_BITS };
    let fault = Fault {
        page: page >> PAGE_BITS,
        access: if access.contains(Rights::W) { Access::Write } else { Access::Read },
        reason: Reason::Untouched,
        node: context.node,
        thread: 0,
        region,
    };
    // What others have left is known when they are asked.
    let mut free: [u64; MAX_NODES] = core::array::from_fn(|node| machine.nodes[node].frames);
    for _ in 0..machine.count {
        let world = World {
            node: context.node,
            now: 0,
            period: 0,
            nodes: &machine.nodes[..machine.count],
            distances: &machine.distances[..machine.count * machine.count],
            free: &free[..machine.count],
            costs: Costs::default(),
            feedback: Feedback::default(),
            pages: region,
        };
        let Some(Ok(node)) = ask(context, &world, &fault) else { return 0 };
        match stock::frame_of(context, place.task, node, page) {
            Ok(frame) if frame != 0 => return frame,
            _ => free[usize::from(node) % MAX_NODES] = 0,
        }
    }
    0
}

fn ask(context: &Context, world: &World<'_>, fault: &Fault) -> Option<Result<u16, skerry_policy::NoFrame>> {
    let mut policy = POLICY.lock();
    let policy = policy.as_mut()?;
    let answer = policy.place(world, fault);
    if let Some(mistake) = policy.news() {
        let cluster = context.cluster;
        println!(
            "app pager of cluster {cluster}: the policy {mistake}; fresh pages are placed by first touch from now on"
        );
    }
    Some(answer)
}
