//! The scenarios of `cargo test`. Each explores everything within its budgets; together they take some seconds.
//! `SKERRY_MODEL=long cargo test -p skerry-kernel --release model` gives every thread one operation more.

use super::explore;
use super::facts::Fact;
use super::scenario::{Do, Scenario, Thread};

/// A client in cluster 0 that may send to thread 2 and to nobody else.
const CLIENT: Thread = Thread {
    cluster: 0,
    space: 0,
    domain: 20,
    may_send_to: &[2],
    budget: 1,
    menu: &[Do::Call(2), Do::Send(2), Do::SendNow(2)],
};
/// A server in cluster 1 that may only answer.
const SERVER: Thread = Thread {
    cluster: 1,
    space: 2,
    domain: 30,
    may_send_to: &[],
    budget: 3,
    menu: &[Do::Receive, Do::ReceiveNow, Do::ReceiveFrom(1), Do::Reply, Do::ReplyWait],
};

const BASE: Scenario = Scenario {
    threads: [CLIENT, Thread { space: 1, domain: 21, ..CLIENT }, SERVER],
    clusters: 2,
    movers: &[],
    moves: 0,
    own_cpus: false,
    credit: 1,
    kills: 0,
    cancels: 0,
    time: false,
};

#[test]
fn clients_and_a_server_of_another_cluster() {
    use Fact::*;
    let expected = &[Owed, Queued, Pulling, SenderWithoutCredit, BothWays, Watched];
    explore("a remote server", BASE, expected);
}

#[test]
fn a_remote_server_with_deaths() {
    use Fact::*;
    let expected =
        &[Bounce, Gone, DoomedAwaitingResponse, DoomedPulling, DoomedAwaitingCredit, DeliveredOrphan];
    let server = Thread { budget: 2, ..SERVER };
    let threads = [BASE.threads[0], BASE.threads[1], server];
    explore("deaths", Scenario { threads, kills: 2, ..BASE }, expected);
}

#[test]
fn a_remote_server_with_deadlines() {
    use Fact::*;
    let menu = &[Do::CallTimed(2), Do::SendTimed(2), Do::Call(2)];
    let client = Thread { menu, ..CLIENT };
    let menu = &[Do::Receive, Do::ReceiveTimed, Do::Reply, Do::ReplyWait];
    let server = Thread { menu, budget: 2, ..SERVER };
    let threads = [client, Thread { space: 1, domain: 21, ..client }, server];
    let expected = &[Cancel, Cancelled, Late, Gone, Owed, Queued];
    explore("deadlines", Scenario { threads, time: true, ..BASE }, expected);
    let only = |menu, thread| Thread { menu, ..thread };
    let threads = [only(&[Do::CallTimed(2)], threads[0]), only(&[Do::SendTimed(2)], threads[1]), server];
    explore("deadlines and deaths", Scenario { threads, time: true, kills: 1, ..BASE }, expected);
}

#[test]
fn notifications_between_clusters() {
    use Fact::*;
    let sender = Thread { budget: 2, menu: &[Do::Notify(2), Do::Send(2)], ..CLIENT };
    let menu = &[Do::Receive, Do::ReceiveFrom(2), Do::ReceiveFrom(0)];
    let threads = [sender, Thread { space: 1, domain: 21, ..sender }, Thread { menu, budget: 2, ..SERVER }];
    explore(
        "remote notifications",
        Scenario { threads, ..BASE },
        &[Notified, Notes, Queued, WaitedShortly, NotifiedShortly],
    );
}

#[test]
fn two_servers_of_one_space_answer_for_each_other() {
    use Fact::*;
    let server = |budget| Thread {
        may_send_to: &[],
        budget,
        menu: &[Do::Receive, Do::Reply, Do::ReceiveFrom(0), Do::Call(1)],
        ..SERVER
    };
    let client =
        Thread { budget: 2, menu: &[Do::Call(1), Do::Call(2), Do::Receive], may_send_to: &[1, 2], ..CLIENT };
    explore(
        "two servers",
        Scenario { threads: [client, server(2), server(2)], ..BASE },
        &[Owed, Queued, AwaitingReply],
    );
}

#[test]
fn one_cluster_with_deaths_and_time_outs() {
    use Fact::*;
    let menu = &[Do::CallTimed(2), Do::SendTimed(2), Do::Call(2), Do::Send(2)];
    let client = Thread { cluster: 1, menu, ..CLIENT };
    let menu = &[Do::Receive, Do::ReceiveTimed, Do::ReceiveFrom(1), Do::ReceiveNow, Do::Reply, Do::ReplyWait];
    let threads = [client, Thread { space: 1, domain: 21, ..client }, Thread { menu, budget: 3, ..SERVER }];
    explore("one cluster", Scenario { threads, kills: 1, time: true, ..BASE }, &[Sending, AwaitingReply]);
    let own = Scenario { threads, kills: 1, own_cpus: true, ..BASE };
    explore("one cluster, a CPU each", own, &[Sending, AwaitingReply, DoomedRunning, Elsewhere]);
}

#[test]
fn everybody_sends_to_everybody() {
    use Fact::*;
    let thread =
        |cluster, space, menu| Thread { cluster, space, domain: 20, may_send_to: &[], budget: 2, menu };
    let threads = [
        thread(0, 0, &[Do::Call(1), Do::Call(2), Do::Send(2), Do::Receive][..]),
        thread(0, 1, &[Do::Call(0), Do::Call(2), Do::Send(2), Do::Receive]),
        thread(1, 2, &[Do::Call(0), Do::Call(1), Do::Send(0), Do::Receive]),
    ];
    explore("all to all", Scenario { threads, ..BASE }, &[Sending, Queued, Pulling, BothWays]);
}

#[test]
fn notifications_and_messages() {
    use Fact::*;
    let sender = Thread { cluster: 1, budget: 2, menu: &[Do::Notify(2), Do::Send(2)], ..CLIENT };
    let menu = &[
        Do::Receive,
        Do::ReceiveNow,
        Do::ReceiveFrom(2),
        Do::ReceiveFrom(0),
        Do::ReceiveTimed,
        Do::Notify(2),
    ];
    let threads =
        [sender, Thread { space: 1, domain: 21, budget: 1, ..sender }, Thread { menu, budget: 3, ..SERVER }];
    explore("notifications", Scenario { threads, kills: 1, time: true, ..BASE }, &[Sending, Notified]);
}

/// A thread that is not there.
const NOBODY: Thread = Thread { budget: 0, menu: &[], ..CLIENT };
/// A client and a server of which one may move.
const PAIR: Scenario = Scenario {
    threads: [
        Thread { menu: &[Do::Call(2), Do::Send(2), Do::Notify(2)], ..CLIENT },
        NOBODY,
        Thread { menu: &[Do::Receive, Do::ReceiveFrom(0), Do::Reply], budget: 2, ..SERVER },
    ],
    ..BASE
};

/// A client or the server moves while they talk to each other, and while one of them is deleted.
#[test]
fn threads_that_change_their_cluster() {
    use Fact::*;
    let expected = &[Moving, AskedToLetGo, MoveWithoutCredit, Interrupted, Cancelled];
    explore("a moving client", Scenario { movers: &[0], moves: 2, ..PAIR }, expected);
    let expected = &[Moving, ReceivingAway, Interrupted, Moved, Redirected];
    explore("a moving server", Scenario { movers: &[2], moves: 2, ..PAIR }, expected);
    let both = Scenario { movers: &[0, 2], moves: 1, kills: 1, ..PAIR };
    explore("moves and deaths", both, &[DoomedMoving, Ended]);
}

/// Who has a partner at home is away, and on its way there and back.
#[test]
fn threads_that_are_called_from_home() {
    use Fact::*;
    let caller = Thread { menu: &[Do::Call(1), Do::Send(1), Do::Notify(1)], may_send_to: &[1], ..CLIENT };
    let menu = &[Do::Receive, Do::ReceiveFrom(0), Do::Reply];
    let friend = Thread { space: 1, domain: 21, menu, budget: 2, ..CLIENT };
    let threads = [caller, friend, Thread { cluster: 1, space: 2, ..NOBODY }];
    let scenario = Scenario { threads, movers: &[1], moves: 3, ..BASE };
    explore("called from home", scenario, &[ReceivingAway, Redirected, Interrupted]);
}

/// The birthplace of a thread is neither where it comes from nor where it goes.
#[test]
fn threads_that_move_between_three_clusters() {
    use Fact::*;
    let [client, nobody, server] = PAIR.threads;
    let three = |menu, server_menu| Scenario {
        threads: [Thread { menu, ..client }, nobody, Thread { menu: server_menu, ..server }],
        clusters: 3,
        moves: 2,
        ..PAIR
    };
    let server = three(&[Do::Send(2), Do::Notify(2)], &[Do::Receive, Do::ReceiveFrom(0)]);
    explore("a server between three", Scenario { movers: &[2], ..server }, &[Located, Moved, ReceivingAway]);
    let client = three(&[Do::Call(2)], &[Do::Receive, Do::Reply]);
    explore("a client between three", Scenario { movers: &[0], ..client }, &[Located, AskedToLetGo]);
}

/// Notifications go after a thread: through its birth cluster, where there may be no room, and to where it no longer is.
#[test]
fn notifications_for_threads_that_move() {
    use Fact::*;
    let [client, nobody, server] = PAIR.threads;
    let scenario = |budget| Scenario {
        threads: [
            Thread { menu: &[Do::Notify(2)], budget, ..client },
            nobody,
            Thread { menu: &[Do::Receive], budget: 1, ..server },
        ],
        clusters: 3,
        movers: &[2],
        moves: 2,
        ..PAIR
    };
    explore("notified between three", scenario(2), &[Passing, GivenBack, ReceivingAway]);
    let dies = Scenario { kills: 1, ..scenario(1) };
    explore("notified and deleted", dies, &[Passing, DoomedMoving, Ended]);
}

/// Waits end while threads move.
#[test]
fn moves_with_deadlines() {
    use Fact::*;
    let [client, nobody, server] = PAIR.threads;
    let client = Thread { menu: &[Do::CallTimed(2), Do::SendTimed(2)], ..client };
    let server = Thread { menu: &[Do::Receive, Do::ReceiveTimed, Do::Reply], ..server };
    let timed = Scenario { threads: [client, nobody, server], moves: 1, time: true, ..PAIR };
    explore("a client in a hurry", Scenario { movers: &[0], ..timed }, &[AskedToLetGo, Late, Cancelled]);
    explore("a server in a hurry", Scenario { movers: &[2], ..timed }, &[Moved, ReceivingAway]);
}

/// Somebody cancels what a thread waits for, wherever that is by then, and sends it elsewhere in its program.
#[test]
fn waits_that_are_cancelled() {
    use Fact::*;
    let cancelled = |kills| Scenario { cancels: 2, kills, ..PAIR };
    explore("cancels", cancelled(0), &[CancelAwaited, Cancelled, Late, Gone]);
    explore("cancels and a death", cancelled(1), &[CancelAwaited, Cancelled, DoomedAwaitingResponse]);
    let [client, nobody, server] = PAIR.threads;
    let client = Thread { menu: &[Do::CallTimed(2), Do::SendTimed(2)], ..client };
    let timed = Scenario { threads: [client, nobody, server], time: true, ..cancelled(0) };
    explore("cancels and deadlines", timed, &[CancelAwaited, Cancelled, Late]);
    let one = Thread { cluster: 1, ..PAIR.threads[0] };
    let here = Scenario { threads: [one, nobody, server], ..cancelled(1) };
    explore("cancels in one cluster", here, &[Sending, AwaitingReply]);
}

/// The same while threads move.
#[test]
fn waits_that_are_cancelled_while_threads_move() {
    use Fact::*;
    let moving = |movers| Scenario { movers, moves: 2, cancels: 1, ..PAIR };
    explore("a cancelled client that moves", moving(&[0]), &[CancelAwaited, AskedToLetGo, Interrupted]);
    explore("a cancelled server that moves", moving(&[2]), &[CancelAwaited, Moved, ReceivingAway]);
    let dies = Scenario { moves: 1, kills: 1, ..moving(&[0, 2]) };
    explore("cancels, moves and a death", dies, &[CancelAwaited, DoomedMoving, Ended]);
}

/// Whoever is to move or to end may also run out of time.
#[test]
fn deaths_with_moves_and_deadlines() {
    use Fact::*;
    let [client, nobody, server] = PAIR.threads;
    let client = Thread { menu: &[Do::CallTimed(2), Do::SendTimed(2)], ..client };
    let server = Thread { menu: &[Do::Receive, Do::ReceiveTimed, Do::Reply], ..server };
    let all = Scenario { threads: [client, nobody, server], moves: 1, kills: 1, time: true, ..PAIR };
    let expected = &[Moving, DoomedMoving, Late, Cancelled, AskedToLetGo];
    explore("a client in a hurry, and a death", Scenario { movers: &[0], ..all }, expected);
    let expected = &[Moving, DoomedMoving, Moved, ReceivingAway];
    explore("a server in a hurry, and a death", Scenario { movers: &[2], ..all }, expected);
}
