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
    own_cpus: false,
    credit: 1,
    kills: 0,
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
    explore("remote notifications", Scenario { threads, ..BASE }, &[Notified, Notes, Queued]);
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
    explore("one cluster, a CPU each", own, &[Sending, AwaitingReply, DoomedRunning]);
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
