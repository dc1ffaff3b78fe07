//! The short way between clusters does what the general code does, or nothing.

use super::arenas::{Memory, Rings, Sizes};
use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use proptest::prelude::*;
use skerry_abi::syscall::{IPC, NOTIFY};
use skerry_abi::{Tag, ThreadId, Timeout};
use std::vec::Vec;

/// Threads, half of them in each of two clusters.
const THREADS: usize = 6;

/// Just enough.
const SIZES: Sizes =
    Sizes { tables: 32, nodes: 32, spaces: 4, threads: 8, guests: 8, utcb_pages: 4, trace_pages: 0 };

/// One IPC system call of one of the threads, or a notification, in small numbers.
#[derive(Clone, Debug)]
struct Step {
    who: usize,
    dest: usize,
    from: usize,
    label: u32,
    words: usize,
    patient: bool,
    /// Not a message, but these bits.
    notes: Option<u64>,
    /// Afterwards packets are delivered.
    deliver: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let labels = prop_oneof![9 => Just(7), 1 => Just(0xffff_0001)];
    let words = prop_oneof![9 => 0..9_usize, 1 => 9..64_usize];
    let notes = prop_oneof![3 => Just(None), 1 => (0..4_u64).prop_map(Some)];
    (0..THREADS, 0..THREADS + 1, 0..THREADS + 2, labels, words, (0..16, notes), 0..4).prop_map(
        |(who, dest, from, label, words, (patience, notes), deliver)| Step {
            notes,
            who,
            dest,
            // Mostly calls and open receives.
            from: if from % 2 == 0 { dest } else { from.max(THREADS) },
            label,
            words,
            patient: patience != 0,
            deliver: deliver != 0,
        },
    )
}

/// In each cluster two programs of one domain and one of another, which may send to the first of the other cluster.
fn people(w: &mut [TestKernel]) -> Vec<ThreadId> {
    let mut names = Vec::new();
    for k in &mut *w {
        names.extend([20, 20, 21].map(|domain| program(k, domain)));
    }
    for (who, to) in [(2, 3), (5, 0)] {
        let (space, partner) = (names[who].0, names[to].1);
        w[who / 3].spaces[usize::from(space.slot())].grant_partner(partner).unwrap();
    }
    names.into_iter().map(|(_, id)| id).collect()
}

/// Lets one of the threads that can run execute the step, and packets arrive. Returns what went the short way.
fn take(w: &mut [TestKernel], people: &[ThreadId], step: &Step, short: bool) -> usize {
    let ready: Vec<usize> = (0..THREADS).filter(|&i| state(&w[i / 3], people[i]) == State::Ready).collect();
    let who = ready.get(step.who % ready.len().max(1)).copied().unwrap_or(0);
    let (k, id) = (&mut w[who / 3], people[who]);
    let mut taken = 0;
    if state(k, id) == State::Ready {
        let t = run(k, id);
        let name = |i: usize| match i {
            i if i < THREADS => people[i],
            i if i == THREADS => ThreadId::ANY,
            _ => ThreadId::NIL,
        };
        let x = &mut k.thread_mut(t).context.x;
        for (i, x) in x.iter_mut().enumerate() {
            *x = (who * 100 + i) as u64;
        }
        let dest = if step.dest == THREADS { ThreadId::NIL } else { name(step.dest) };
        (x[0], x[1], x[2]) = (dest.0, name(step.from).0, Tag::new(step.label, step.words, 0).0);
        x[11] = Timeout::NEVER.0;
        (x[12], x[13]) = (if step.patient { Timeout::NEVER.0 } else { 1000 }, 0);
        let cpu = k.this_cpu;
        if let Some(bits) = step.notes {
            let x = &mut k.thread_mut(t).context.x;
            x[8..19].fill(0);
            x[1] = bits;
            if short {
                k.call(NOTIFY);
            } else {
                k.handle(Event::Syscall(NOTIFY));
            }
        } else if short && if dest.is_nil() { k.fast_wait(cpu) } else { k.fast_remote(cpu) } {
            taken += 1;
        } else {
            k.handle(Event::Syscall(IPC));
            k.pick();
        }
        yield_cpu(k);
    }
    while step.deliver && w.iter().any(|k| k.bells.rings(usize::from(1 - k.cluster))) {
        for k in w.iter_mut() {
            if short && k.fast_doorbell(k.this_cpu).is_some() {
                taken += 1;
            } else {
                k.handle(Event::Kick);
                k.pick();
            }
            yield_cpu(k);
        }
    }
    taken
}

/// Lets nobody occupy the CPU, and nobody who can run keep the short way from being taken: the same on both sides.
fn yield_cpu(k: &mut TestKernel) {
    let cpu = usize::from(k.this_cpu);
    if let Some(t) = k.cpus[cpu].current() {
        k.cpus[cpu].set_current(None);
        k.make_ready(t);
    }
}

/// All of a thread that programs and other kernels can tell.
fn seen(k: &TestKernel, id: ThreadId) -> impl PartialEq + std::fmt::Debug {
    let t = k.thread(k.find(id).unwrap());
    let remote = (t.remote.seq, t.remote.peer, t.remote.place, t.remote.delivered);
    let open_to = (t.state == State::Receiving).then_some(t.open_to);
    let waits =
        (t.state != State::Ready).then_some((t.op.dest, t.op.from, open_to, t.reply_space, t.deadline));
    // What registers hold behind the words that the tag counts is not defined.
    let used = 3 + Tag(t.context.x[2]).words().min(8);
    let registers: Vec<u64> = if waits.is_none() { t.context.x[..used].into() } else { Vec::new() };
    let words = k.utcb(k.find(id).unwrap()).iter().map(|w| w.load(std::sync::atomic::Ordering::Relaxed));
    (t.state, remote, waits, registers, words.collect::<Vec<u64>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn short_and_general_agree(steps in proptest::collection::vec(step(), 1..40)) {
        let rings = [Rings::new(2), Rings::new(2)];
        let mut memory = [Memory::new(&rings[0], 1, SIZES), Memory::new(&rings[1], 1, SIZES)];
        let [mut short, mut general] = memory.each_mut().map(|memory| memory.kernels());
        let names = people(&mut short);
        prop_assert_eq!(&names, &people(&mut general));
        // One thread begins; whoever hears something goes on.
        for who in 1..THREADS {
            let step = Step { who: 1, dest: THREADS, from: THREADS, label: 0, words: 0, patient: true, notes: None, deliver: false };
            take(&mut short, &names, &step, true);
            take(&mut general, &names, &step, false);
            prop_assert_eq!(state(&short[who / 3], names[who]), State::Receiving);
        }
        for step in &steps {
            take(&mut short, &names, step, true);
            take(&mut general, &names, step, false);
            for (i, &id) in names.iter().enumerate() {
                prop_assert_eq!(seen(&short[i / 3], id), seen(&general[i / 3], id), "{:?} after {:?}", id, step);
            }
            for (a, b) in short.iter().zip(&general) {
                super::invariants::check(a).unwrap();
                prop_assert_eq!(a.guests.used(), b.guests.used());
            }
        }
    }
}

#[test]
fn calls_and_answers_go_the_short_way() {
    for (who, to) in [(0, 3), (2, 3)] {
        let mut w = world(2, 1);
        let names = people(&mut w);
        let step = |i, dest, from| Step {
            who: i,
            dest,
            from,
            label: 7,
            words: 8,
            patient: true,
            notes: None,
            deliver: true,
        };
        // Nobody else has anything to do.
        for other in (0..THREADS).filter(|&i| i != who) {
            take(&mut w, &names, &step(usize::from(other > who), THREADS, THREADS), true);
        }
        for _ in 0..20 {
            assert_eq!(take(&mut w, &names, &step(0, to, to), true), 2, "a call");
            assert_eq!(take(&mut w, &names, &step(0, who, THREADS), true), 2, "its answer");
        }
    }
}

/// A message carries no word that its sender did not have, whoever used the slots of the ring before.
#[test]
fn short_messages_carry_nothing_of_others() {
    const SECRET: u64 = 0x5ec2_e700;
    let mut w = world(2, 1);
    let (_, accomplice) = program(&mut w[1], 20);
    let (_, victim) = program(&mut w[0], 20);
    let (_, attacker) = program(&mut w[0], 20);
    let listen = |w: &mut [TestKernel]| {
        ipc(&mut w[1], accomplice, Ipc::receive(ThreadId::ANY));
        w[1].pick();
    };
    listen(&mut w);
    for _ in 0..2 * crate::ring::SLOTS {
        // The victim's words have been in every slot.
        ipc(&mut w[0], victim, Ipc::send(accomplice, 1, &[SECRET; 8]));
        settle(&mut w);
        listen(&mut w);
    }
    assert_eq!(state(&w[0], victim), State::Ready);
    for _ in 0..crate::ring::SLOTS {
        // A deadline keeps the sender from the short way, and nothing the receiver.
        let call = Ipc { receive_timeout: Timeout(1000), ..Ipc::call(accomplice, 1, &[]) };
        let t = run(&mut w[0], attacker);
        w[0].thread_mut(t).context.x.fill(7);
        ipc(&mut w[0], attacker, call);
        w[0].pick();
        let taken = w[1].fast_doorbell(1).map(|(id, _)| id);
        assert_eq!(taken, Some(accomplice), "the short way in");
        let x = w[1].thread(w[1].find(accomplice).unwrap()).context.x;
        assert!(x.iter().all(|&word| word != SECRET), "{x:x?}");
        ipc(&mut w[1], accomplice, Ipc { from: ThreadId::ANY, ..Ipc::send(attacker, 1, &[]) });
        w[1].pick();
        settle(&mut w);
        assert_eq!(state(&w[0], attacker), State::Ready);
    }
}

/// Bits come the short way to who waits for them the short way, and to who waits for anybody.
#[test]
fn notifications_go_the_short_way() {
    let mut w = world(2, 1);
    let names = people(&mut w);
    for open in [true, false] {
        for round in 1..40 {
            let t = run(&mut w[1], names[3]);
            let x = &mut w[1].thread_mut(t).context.x;
            let from = if open { ThreadId::ANY } else { names[3] };
            (x[0], x[1], x[11], x[12], x[13]) = (ThreadId::NIL.0, from.0, 0, Timeout::NEVER.0, 0);
            for other in [4, 5] {
                let t = w[1].find(names[other]).unwrap();
                if state(&w[1], names[other]) == State::Ready {
                    ipc(&mut w[1], names[other], Ipc::receive(names[other]));
                    assert_eq!(w[1].thread(t).state, State::Receiving);
                }
            }
            run(&mut w[1], names[3]);
            assert!(w[1].fast_wait(1), "it only waits");
            let before = w[0].peers[1].outbound.unwrap().unconsumed(crate::ring::Lane::Requests);
            assert_eq!(syscall(&mut w[0], names[0], NOTIFY, &[names[3].0, round])[0], 0);
            assert_eq!(w[0].peers[1].outbound.unwrap().unconsumed(crate::ring::Lane::Requests), before + 1);
            assert_eq!(w[1].fast_doorbell(1).map(|(id, _)| id), Some(names[3]));
            let x = w[1].thread(t).context.x;
            assert_eq!((x[0], x[3], &x[4..19]), (ThreadId::NIL.0, round, &[0; 15][..]));
        }
    }
}

/// Somebody of the other cluster waits for an answer from here. That leaves the short way open, but for notifications to just that one: the
/// reply right may be what allows them.
#[test]
fn those_who_wait_for_answers_keep_nobody_from_the_short_way() {
    let mut w = world(2, 1);
    let names = people(&mut w);
    ipc(&mut w[0], names[1], Ipc::receive(ThreadId::ANY));
    ipc(&mut w[1], names[4], Ipc::call(names[1], 1, &[]));
    settle(&mut w);
    assert_eq!(w[0].guests.used(), 1);
    for (who, to, quick) in [(0, 3, true), (1, 3, true), (1, 4, false)] {
        let t = run(&mut w[0], names[who]);
        let x = &mut w[0].thread_mut(t).context.x;
        (x[0], x[1]) = (names[to].0, 5);
        assert_eq!(w[0].quick_notify(t), quick, "{who} to {to}");
    }
}
