//! Rings in memory that is not coherent: all that clusters do with each other, with caches that keep what they have until they are told, and
//! with caches whose lines come and go. Without any one of the operations that keep them up, something goes wrong.

use super::store::{Caching, with_caching};
use super::world::*;
use super::{cancel, crossings, in_transit, migrate, passing, remote, wishes};
use crate::kernel::Event;
use crate::remote::Upkeep;
use crate::ring::SLOTS;
use crate::thread::State;
use skerry_abi::syscall::NOTIFY;
use skerry_abi::{Counter, Error, ThreadId};
use std::cell::Cell;
use std::panic::{catch_unwind, set_hook, take_hook};
use std::vec::Vec;

/// What is tested with coherent rings, too; but for the short ways, which are closed here.
const TESTS: &[fn()] = &[
    remote::a_call_to_another_cluster_looks_like_any_other,
    remote::a_busy_receiver_pulls_later_and_nothing_is_lost,
    remote::items_strangers_and_dead_partners_are_refused,
    remote::the_end_of_a_receiver_bounces_queued_remote_senders,
    remote::a_sender_that_dies_while_queued_is_not_received_from,
    remote::the_end_of_a_servers_space_is_told_to_any_number_of_remote_callers,
    remote::any_number_of_callers_is_told_that_a_cluster_is_down,
    cancel::a_queued_send_ends_at_its_deadline_and_the_message_never_arrives,
    cancel::a_call_that_was_delivered_in_time_is_not_hurt_by_its_send_deadline,
    cancel::the_receive_deadline_does_not_end_an_endless_send_phase,
    cancel::an_answer_that_crosses_the_cancel_counts,
    cancel::a_pull_that_crosses_the_cancel_finds_nobody,
    cancel::a_killed_sender_is_gone_when_the_other_cluster_has_agreed_and_only_once,
    cancel::a_receiver_killed_while_it_pulls_strands_nobody,
    cancel::remote_callers_are_told_when_the_last_thread_that_could_answer_ends,
    cancel::a_colleague_may_answer_a_remote_call,
    cancel::a_closed_receive_from_another_cluster_ends_with_its_partner,
    cancel::a_thread_may_be_made_to_start_its_send_again,
    cancel::full_rings_in_both_directions_drain,
    cancel::a_thread_that_waits_for_room_times_out_or_dies_at_once,
    cancel::a_receiver_killed_before_its_pull_left_gives_the_guest_back,
    cancel::a_reply_that_waits_for_room_may_come_too_late,
    cancel::notifications_cross_without_waiting_and_run_together_when_there_is_no_room,
    cancel::no_space_fills_the_table_with_notifications,
    cancel::notifications_that_wait_for_a_cluster_that_stops_are_off_the_account,
    cancel::deleting_a_thread_elsewhere_succeeds_or_says_that_it_does_not,
    cancel::a_parked_cluster_is_told_to_all_who_wait_for_it,
    cancel::only_privileged_threads_park_a_cluster,
    cancel::an_entry_for_the_answer_is_needed_before_a_call_is_taken,
    crossings::a_thread_deleted_while_its_place_is_noted_ends,
    crossings::a_thread_does_not_come_back_before_it_has_left,
    crossings::news_of_later_moves_may_come_first,
    crossings::whom_one_talks_to_comes_home,
    crossings::whom_one_talks_to_is_away_for_a_moment,
    crossings::whom_one_receives_from_comes_before_the_watch_is_in_place,
    wishes::the_last_one_fills_the_ring,
    wishes::the_last_one_gives_up,
    wishes::full_rings_come_to_rest,
    migrate::a_thread_moves_with_all_it_has,
    migrate::its_calls_are_answered_by_those_who_never_heard_of_its_move,
    migrate::everybody_finds_it_wherever_it_goes,
    migrate::waiting_senders_follow_and_nothing_is_doubled,
    migrate::waits_survive_or_begin_again,
    migrate::a_fault_is_dropped_and_happens_again,
    migrate::a_refused_thread_goes_on_where_it_was,
    migrate::a_refused_thread_keeps_its_notifications,
    in_transit::a_thread_deleted_in_transit_ends_and_strands_nobody,
    in_transit::nothing_that_comes_in_transit_needs_memory,
    in_transit::a_thread_deleted_while_its_place_is_noted_ends,
    in_transit::the_end_of_the_caller_does_not_stop_the_journey,
    in_transit::a_space_ends_after_those_that_are_leaving_it,
    passing::what_waits_at_home_goes_after_the_thread_wherever_it_is,
    passing::what_is_passed_on_needs_no_memory,
    passing::what_finds_the_thread_gone_is_given_back,
    passing::what_waits_far_from_home_goes_there_first,
    passing::nothing_waits_for_a_cluster_that_has_stopped,
    passing::who_notifies_into_the_void_can_ask,
    whoever_waits_for_room_is_told,
    nobody_sends_what_cannot_be_answered,
    a_wish_that_crosses_the_room_is_seen,
];

std::thread_local! {
    static OMITTED: Cell<Option<Upkeep>> = const { Cell::new(None) };
}

/// What machines that are built now leave out.
pub(crate) fn omitted() -> Option<usize> {
    OMITTED.get().and_then(|what| Upkeep::ALL.iter().position(|&other| other == what))
}

const WORST: Caching = Caching { line: 8, seed: None };

#[test]
fn clusters_need_no_coherent_memory() {
    for caching in [WORST, Caching { line: 16, seed: None }] {
        TESTS.iter().for_each(|test| with_caching(caching, test));
    }
}

#[test]
fn lines_may_come_and_go_at_any_time() {
    for seed in 1..4 {
        let caching = Caching { line: 8 * seed as usize % 16 + 8, seed: Some(seed * 0x9e37_79b9) };
        TESTS.iter().step_by(3).for_each(|test| with_caching(caching, test));
    }
}

#[test]
fn nothing_that_keeps_the_rings_up_can_be_left_out() {
    let hook = take_hook();
    set_hook(std::boxed::Box::new(|_| {}));
    let survivors: Vec<_> = Upkeep::ALL
        .into_iter()
        .filter(|&what| {
            OMITTED.set(Some(what));
            let survived = TESTS.iter().all(|test| with_caching(WORST, || catch_unwind(test).is_ok()));
            OMITTED.set(None);
            survived
        })
        .collect();
    set_hook(hook);
    assert!(survivors.is_empty(), "nobody misses {survivors:?}");
}

/// Lets those handle what has arrived who have been interrupted, and nobody else.
fn follow_kicks(w: &mut [TestKernel]) {
    loop {
        let kicks = |k: &mut TestKernel| {
            let from = k.cluster;
            k.hal.kicks.drain(..).map(|to| (to, to == from)).collect::<Vec<_>>()
        };
        let mut kicked: Vec<_> = w.iter_mut().flat_map(kicks).collect();
        kicked.sort_unstable();
        kicked.dedup();
        if kicked.is_empty() {
            return;
        }
        for (cpu, own) in kicked {
            w[usize::from(cpu)].handle(if own { Event::OwnKick } else { Event::Kick });
        }
    }
}

/// What a kernel entry spends on keeping rings up it does not spend on packets, and the cluster's own interrupts cost no look around.
#[test]
fn upkeep_is_part_of_what_an_entry_may_do() {
    with_caching(WORST, || {
        let mut w = world(4, 1);
        let (_, sender) = program(&mut w[0], 20);
        let (space, _) = program(&mut w[1], 20);
        let many: Vec<_> = (1..=SLOTS as u16).map(|n| thread(&mut w[1], space, n, ThreadId::NIL)).collect();
        for &to in &many {
            assert_eq!(syscall(&mut w[0], sender, NOTIFY, &[to.0, 1])[0], 0);
        }
        w[1].hal.kicks.clear();
        let operations = |k: &TestKernel| k.counters.total(Counter::CacheMaintenance);
        let heard =
            |k: &TestKernel| many.iter().filter(|&&id| k.thread(k.find(id).unwrap()).notified != 0).count();
        let mut event = Event::Kick;
        let mut entries = 0;
        while heard(&w[1]) < many.len() {
            let before = (operations(&w[1]), heard(&w[1]));
            w[1].handle(event);
            let (operations, packets) = (operations(&w[1]) - before.0, (heard(&w[1]) - before.1) as u64);
            // A packet's header, the slots given back, whether that is wanted; and at first the lines of all others.
            let looks = if event == Event::Kick { 3 } else { 0 };
            assert_eq!(operations, looks + packets + 2, "{event:?}");
            let most = if event == Event::Kick { 5 } else { 6 };
            assert!((1..=most).contains(&packets), "{packets}");
            event = Event::OwnKick;
            entries += 1;
        }
        assert!(w[1].hal.kicks.contains(&1) && entries >= 3);
        let before = operations(&w[1]);
        w[1].handle(Event::OwnKick);
        assert_eq!(operations(&w[1]), before);
    });
}

/// The ring is full of what needs no answer: only the wish for room makes the other cluster say that there is some.
#[test]
fn whoever_waits_for_room_is_told() {
    let mut w = world(2, 1);
    let (_, sender) = program(&mut w[0], 20);
    let (space, receiver) = program(&mut w[1], 20);
    let many: Vec<_> = (1..=SLOTS as u16).map(|n| thread(&mut w[1], space, n, ThreadId::NIL)).collect();
    for k in &mut w {
        k.hal.kicks.clear();
    }
    for round in 0..2 {
        for &to in &many {
            assert_eq!(syscall(&mut w[0], sender, NOTIFY, &[to.0, 1 << round])[0], 0);
        }
        ipc(&mut w[0], sender, Ipc::send(receiver, 1, &[round]));
        assert_eq!(state(&w[0], sender), State::AwaitingCredit);
        follow_kicks(&mut w);
        ipc(&mut w[1], receiver, Ipc::receive(ThreadId::ANY));
        follow_kicks(&mut w);
        assert_eq!(outcome(&w[1], receiver).2, [round]);
        assert_eq!(outcome(&w[0], sender).1.error(), None);
    }
}

/// The wish comes to memory when the other cluster has looked already, and not yet said that there is room.
#[test]
fn a_wish_that_crosses_the_room_is_seen() {
    let mut w = world(2, 1);
    let (_, sender) = program(&mut w[0], 20);
    let (_, receiver) = program(&mut w[1], 20);
    w[0].peers[1].limit = 1;
    assert_eq!(syscall(&mut w[0], sender, NOTIFY, &[receiver.0, 1])[0], 0);
    if let Some((store, cluster, _)) = &w[0].hal.rings {
        store.slow_down(*cluster);
    }
    ipc(&mut w[0], sender, Ipc::send(receiver, 1, &[]));
    follow_kicks(&mut w);
    assert_eq!(state(&w[0], sender), State::AwaitingResponse);
}

/// All requests have been answered, and the answers not been looked at: there is no room for more of them.
#[test]
fn nobody_sends_what_cannot_be_answered() {
    let mut w = world(2, 1);
    let (space, first) = program(&mut w[0], 20);
    let others = (1..2 * SLOTS as u16).map(|n| thread(&mut w[0], space, n, ThreadId::NIL));
    let senders: Vec<_> = [first].into_iter().chain(others).collect();
    for &sender in &senders {
        ipc(&mut w[0], sender, Ipc::send(ThreadId::new(1, 60, 1), 1, &[]));
        (0..8).for_each(|_| w[1].handle(Event::Kick));
    }
    let waits = |&&sender: &&ThreadId| state(&w[0], sender) == State::AwaitingCredit;
    assert_eq!(senders.iter().filter(waits).count(), SLOTS as usize);
    settle(&mut w);
    for &sender in &senders {
        assert_eq!(outcome(&w[0], sender).1.error(), Some(Error::NoSuchThread));
    }
}

/// Every operation is counted, and none happens with coherent rings.
#[test]
fn maintenance_is_counted() {
    let counts = |k: &TestKernel<'_>| {
        [Counter::CacheMaintenance, Counter::CacheCleans, Counter::CacheInvalidates]
            .map(|c| k.counters.total(c))
    };
    let call = || {
        let mut w = world(2, 1);
        let (_, client) = program(&mut w[0], 20);
        let (_, server) = program(&mut w[1], 20);
        ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        let before = [counts(&w[0]), counts(&w[1])];
        ipc(&mut w[0], client, Ipc::call(server, 7, &[1; 20]));
        settle(&mut w);
        let after = [counts(&w[0]), counts(&w[1])];
        [0, 1].map(|k| [0, 1, 2].map(|c| after[k][c] - before[k][c]))
    };
    assert_eq!(call(), [[0; 3]; 2]);
    let [client, server] = with_caching(WORST, call);
    // The packet of 28 words and the tail; nobody waits, so there is no wish to clean.
    assert_eq!(client[1], 4 + 1, "lines cleaned by the client's cluster");
    assert!(server[1] >= 1 && server[2] > 4, "{server:?}");
    assert!(client[0] > 2 && client[2] >= 2, "{client:?}");
}
