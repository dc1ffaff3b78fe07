//! The scenarios of `cargo test`.

use super::explore::explore;
use super::facts::Fact::*;
use super::scenario::{Do::*, Scenario, scenario, thread};

/// A page used on all nodes while it is unmapped.
pub(super) const UNMAP: Scenario =
    scenario(thread(0, &[Write(0), Unmap(&[0])]), thread(1, &[Write(0)]), thread(2, &[Read(0)]));
/// Threads of one node.
pub(super) const ONE_NODE: Scenario =
    scenario(thread(0, &[Write(0)]), thread(0, &[Read(0)]), thread(1, &[Write(0), Unmap(&[0])]));
/// Two leaders want the same pages, in different orders.
pub(super) const CROSSED: Scenario =
    scenario(thread(0, &[Write(0), Unmap(&[0, 1])]), thread(1, &[Write(1), Unmap(&[1, 0])]), thread(2, &[]));
/// Two nodes unmap each other's pages.
pub(super) const EACH_OTHER: Scenario = scenario(
    thread(0, &[Write(0), Write(1), Unmap(&[0])]),
    thread(1, &[Write(1), Write(0), Unmap(&[1])]),
    thread(2, &[]),
);
/// Three unmap one page while somebody uses it.
pub(super) const CROWD: Scenario =
    scenario(thread(0, &[Write(0), Unmap(&[0])]), thread(1, &[Unmap(&[0])]), thread(2, &[Write(0)]));
/// Frames come from another node than that of the fault.
pub(super) const REMOTE: Scenario = Scenario {
    home: [Some(2), Some(1)],
    ..scenario(thread(0, &[Write(0), Unmap(&[0])]), thread(1, &[Write(0), Unmap(&[0])]), thread(2, &[]))
};
/// Rights come and go.
pub(super) const PROTECT: Scenario = scenario(
    thread(0, &[Write(0), Protect(&[0]), Allow(&[0])]),
    thread(1, &[Read(0), Write(0)]),
    thread(2, &[Write(0)]),
);
/// Rights come back while a page moves.
pub(super) const WIDEN: Scenario = scenario(
    thread(0, &[Write(0), Protect(&[0]), Allow(&[0])]),
    thread(1, &[Read(0), Write(0)]),
    thread(2, &[Move(&[0], 2)]),
);
/// A page moves while it is written.
pub(super) const MOVE: Scenario =
    scenario(thread(0, &[Write(0), Move(&[0], 1)]), thread(1, &[Write(0), Write(0)]), thread(2, &[Read(0)]));
/// It moves while it is unmapped and protected.
pub(super) const MIXED: Scenario = scenario(
    thread(0, &[Write(0), Move(&[0], 1)]),
    thread(1, &[Write(0), Unmap(&[0])]),
    thread(2, &[Protect(&[0])]),
);
/// Two pages, everything that can be done to them.
pub(super) const TWO_PAGES: Scenario = scenario(
    thread(0, &[Write(0), Unmap(&[0, 1])]),
    thread(1, &[Write(1), Move(&[1, 0], 2)]),
    thread(2, &[Protect(&[1])]),
);
/// A page is replicated, read everywhere, and written.
pub(super) const REPLICAS: Scenario = scenario(
    thread(0, &[Write(0), Replicate(&[0])]),
    thread(1, &[Read(0), Read(0)]),
    thread(2, &[Read(0), Write(0)]),
);
/// Copies are made while it is replicated again and unmapped.
pub(super) const REPLICAS_GO: Scenario =
    scenario(thread(0, &[Write(0), Replicate(&[0]), Unmap(&[0])]), thread(1, &[Read(0)]), thread(2, &[]));
/// Pages that come together go one by one.
pub(super) const TOGETHER: Scenario =
    scenario(thread(0, &[WriteAhead(0), Write(1)]), thread(1, &[Unmap(&[1])]), thread(0, &[Write(1)]));
/// Two nodes take them at a time, and rights come and go.
pub(super) const BOTH_TOGETHER: Scenario = scenario(
    thread(0, &[WriteAhead(0)]),
    thread(1, &[WriteAhead(1), Unmap(&[0, 1])]),
    thread(2, &[Protect(&[1]), Allow(&[1])]),
);
/// What is only read is copied from the first touch on; then it is written.
pub(super) const CODE: Scenario = Scenario {
    copied: true,
    ..scenario(thread(0, &[Read(0), Write(0)]), thread(1, &[Read(0)]), thread(2, &[Read(0), Unmap(&[0])]))
};
/// Every node gets a page for itself while it is used, and all share it again.
pub(super) const APART: Scenario = scenario(
    thread(0, &[Write(0), Part(&[0]), Write(0)]),
    thread(1, &[Write(0), Write(0)]),
    thread(2, &[Join(&[0]), Read(0)]),
);
/// The same with a page that nobody has touched; others want to move and to restrict it.
pub(super) const APART_EMPTY: Scenario = scenario(
    thread(0, &[Part(&[0]), Write(0)]),
    thread(1, &[Write(0), Move(&[0], 2)]),
    thread(2, &[Protect(&[0])]),
);
/// Rights to a page that nobody has touched.
pub(super) const UNTOUCHED: Scenario = scenario(
    thread(0, &[Protect(&[0]), Write(0), Allow(&[0])]),
    thread(1, &[Write(0)]),
    thread(2, &[Read(0), Unmap(&[0])]),
);
/// A pager dies while nodes have a page for themselves.
pub(super) const DEATH_APART: Scenario = Scenario {
    crash: Some(1),
    ..scenario(thread(0, &[Part(&[0]), Write(0)]), thread(1, &[Write(0), Join(&[0])]), thread(2, &[]))
};
/// A pager dies while there are copies.
pub(super) const DEATH_OF_A_COPY: Scenario = Scenario {
    crash: Some(1),
    ..scenario(thread(0, &[Write(0), Replicate(&[0]), Write(0)]), thread(1, &[Read(0)]), thread(2, &[]))
};
/// A pager dies while it unmaps a page in another node's frame.
pub(super) const DEATH: Scenario = Scenario {
    home: [Some(1), None],
    crash: Some(0),
    ..scenario(thread(0, &[Write(0), Unmap(&[0])]), thread(1, &[Write(0), Write(0)]), thread(2, &[]))
};
/// A pager dies while its frames are unmapped and taken.
pub(super) const LOST_POOL: Scenario = Scenario {
    home: [Some(0), None],
    crash: Some(0),
    ..scenario(thread(1, &[Write(0), Unmap(&[0])]), thread(2, &[Write(0)]), thread(0, &[]))
};
/// A pager dies while it moves pages from and to others.
pub(super) const DEATH_OF_A_MOVER: Scenario = Scenario {
    crash: Some(1),
    ..scenario(thread(0, &[Write(0), Write(0)]), thread(1, &[Move(&[0], 2)]), thread(2, &[]))
};
/// What takes minutes.
const LONG: [Scenario; 3] = [
    scenario(
        thread(0, &[Write(0), Replicate(&[0]), Unmap(&[0])]),
        thread(1, &[Read(0)]),
        thread(1, &[Write(0)]),
    ),
    Scenario {
        home: [Some(0), None],
        crash: Some(0),
        ..scenario(thread(1, &[Write(0), Unmap(&[0])]), thread(2, &[Write(0), Write(0)]), thread(0, &[]))
    },
    scenario(thread(0, &[Write(0), Unmap(&[0])]), thread(1, &[Read(0), Unmap(&[0])]), thread(2, &[Write(0)])),
];

#[test]
fn unmap() {
    explore("unmap", UNMAP, &[SwapLost, RaceLost, GuardDropped, FaultParked, AllWoken, TwoAsked]);
}
#[test]
fn several_threads_of_a_node() {
    explore("one node", ONE_NODE, &[NodeWoken, FaultParked, GuardDropped]);
}
#[test]
fn batches_in_different_orders() {
    explore("crossed", CROSSED, &[LeaderParked, GoneAfterWait]);
}
#[test]
fn unmaps_of_each_others_pages() {
    explore("each other", EACH_OTHER, &[AllWoken]);
}
#[test]
fn simultaneous_unmaps_of_one_page() {
    explore("crowd", CROWD, &[LeaderParked, GoneAfterWait, GuardDropped]);
}
#[test]
fn frames_of_other_nodes() {
    explore("remote", REMOTE, &[RaceLost, FrameReturned]);
}
#[test]
fn restriction() {
    explore("protect", PROTECT, &[Rejected, GuardDropped, FaultParked]);
}
#[test]
fn widening() {
    explore("widen", WIDEN, &[Rejected, Widened]);
}
#[test]
fn migration() {
    explore("move", MOVE, &[GuardDropped, AllWoken, TwoAsked]);
}
#[test]
fn everything_at_once() {
    explore("mixed", MIXED, &[LeaderParked, Rejected]);
}
#[test]
fn two_pages() {
    explore("two pages", TWO_PAGES, &[LeaderParked, GoneAfterWait, FrameReturned]);
}
#[test]
fn longer_runs() {
    if std::env::var_os("SKERRY_MODEL").is_some_and(|value| value == "long") {
        LONG.iter().for_each(|scenario| explore("long", *scenario, &[GuardDropped]));
    }
}
#[test]
fn death_of_a_leader() {
    explore("death", DEATH, &[Recovered, RequestForgotten, Reclaimed]);
}
#[test]
fn death_of_an_owner() {
    explore("lost pool", LOST_POOL, &[Recovered, LeaderParked]);
}
#[test]
fn death_of_a_mover() {
    explore("death of a mover", DEATH_OF_A_MOVER, &[Recovered, RequestForgotten, Reclaimed]);
}
#[test]
fn replication() {
    explore("replicas", REPLICAS, &[Copied, Collapsed, GuardDropped]);
}
#[test]
fn several_pages_in_one_answer() {
    explore("together", TOGETHER, &[MappedTogether, GroupDropped, Passed, GuardDropped]);
}
#[test]
fn several_pages_on_two_nodes() {
    explore("both together", BOTH_TOGETHER, &[MappedTogether, GroupDropped, Passed, RaceLost]);
}
#[test]
fn replicas_that_go() {
    explore("replicas go", REPLICAS_GO, &[Copied, GuardDropped, FaultParked]);
}
#[test]
fn death_of_the_owner_of_a_copy() {
    explore("death of a copy", DEATH_OF_A_COPY, &[Copied, Collapsed, Recovered]);
}
#[test]
fn what_is_only_read() {
    explore("code", CODE, &[Copied, Collapsed, GuardDropped, FaultParked]);
}
#[test]
fn pages_of_each_nodes_own() {
    explore("apart", APART, &[Parted, GuardDropped, FaultParked]);
}
#[test]
fn untouched_pages_of_each_nodes_own() {
    explore("apart empty", APART_EMPTY, &[Rejected, RaceLost, LeaderParked]);
}
#[test]
fn rights_to_untouched_pages() {
    explore("untouched", UNTOUCHED, &[Rejected, SwapLost]);
}
#[test]
fn death_with_pages_of_each_nodes_own() {
    explore("death apart", DEATH_APART, &[Parted, Recovered]);
}

/// The same with messages: what a machine wants in a row is performed in one go.
#[test]
fn the_master_by_messages() {
    for (name, scenario, expected) in [
        ("unmap", UNMAP, [GuardDropped, WentOn]),
        ("several threads of a node", ONE_NODE, [NodeWoken, WentOn]),
        ("crossed", CROSSED, [LeaderParked, WentOn]),
        ("remote", REMOTE, [RaceLost, WentOn]),
        ("protect", PROTECT, [Rejected, WentOn]),
        ("move", MOVE, [TwoAsked, WentOn]),
        ("replicas", REPLICAS, [Copied, WentOn]),
        ("apart", APART, [Parted, WentOn]),
        ("death", DEATH, [Recovered, WentOn]),
    ] {
        explore(&format!("{name}, by messages"), Scenario { remote: true, ..scenario }, &expected);
    }
}
