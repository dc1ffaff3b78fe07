//! What takes kernel memory, and what must work without any.

use super::super::world::*;
use super::scene::{BLOCK, DOMAIN, FAR, PAGES, ROOT, Scene, fpage};
use super::{Kind, Operation};
use crate::kernel::Event;
use crate::thread::State;
use Kind::*;
use skerry_abi::syscall::{SPACE_CONTROL, THREAD_CONTROL, UNMAP, space_op, thread_op};
use skerry_abi::{Error, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId};
use std::vec::Vec;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "creating a space",
        cluster: 0,
        prepare: nothing,
        attempt: create_space,
        payer: None,
        needs: &[Tables, Spaces],
    },
    Operation {
        name: "creating a space within a quota",
        cluster: 0,
        prepare: nothing,
        attempt: create_space_within,
        payer: None,
        needs: &[Tables, Spaces],
    },
    Operation {
        name: "creating a thread with a page of UTCBs",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| create_thread(scene, 77),
        payer: Some(taker),
        needs: &[Threads, UtcbPages, TableQuota],
    },
    Operation {
        name: "creating a thread in a page of UTCBs that is there",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| create_thread(scene, 1),
        payer: Some(taker),
        needs: &[Threads],
    },
    Operation {
        name: "mapping a page",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[page(0, FAR)]),
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "mapping 2 MiB",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[block(21, FAR)]),
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "mapping 64 KiB of 2 MiB",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[block(16, FAR)]),
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "mapping a page of 2 MiB, on the giver's account",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[MapItem { fpage: fpage(ROOT, 12), dest: FAR }.into()]),
        payer: Some(|scene| scene.sides[0].giver.0.slot()),
        needs: &[Tables, Nodes, TableQuota],
    },
    Operation {
        name: "mapping to four places at once",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| {
            map(scene, &[page(0, FAR), page(1, FAR + (1 << 30)), block(21, FAR + (2 << 30)), page(3, PAGES)])
        },
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "granting a page, and mapping another",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[Item { grant: true, ..page(0, FAR) }, page(1, FAR + (1 << 30))]),
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "granting 2 MiB",
        cluster: 0,
        prepare: nothing,
        attempt: |scene| map(scene, &[Item { grant: true, ..block(21, FAR) }]),
        payer: Some(taker),
        needs: &[Tables, TableQuota, NodeQuota],
    },
    Operation {
        name: "answering a fault",
        cluster: 0,
        prepare: fault,
        attempt: answer_fault,
        payer: Some(taker),
        needs: &[Tables, Nodes, TableQuota, NodeQuota],
    },
    Operation {
        name: "taking a page out of 2 MiB",
        cluster: 0,
        prepare: nothing,
        attempt: split,
        payer: Some(taker),
        needs: &[],
    },
    Operation {
        name: "a call from another cluster",
        cluster: 1,
        prepare: nothing,
        attempt: call_from_afar,
        payer: None,
        needs: &[Guests],
    },
    Operation {
        name: "a message from another cluster to one who is busy",
        cluster: 1,
        prepare: nothing,
        attempt: send_from_afar,
        payer: None,
        needs: &[Guests],
    },
    Operation {
        name: "a thread that comes from another cluster",
        cluster: 1,
        prepare: create_traveller,
        attempt: immigrate,
        payer: Some(|scene| scene.sides[1].taker.0.slot()),
        needs: &[Threads, UtcbPages, TableQuota],
    },
];

fn taker(scene: &Scene<'_>) -> u16 {
    scene.sides[0].taker.0.slot()
}

fn result(x: [u64; 9]) -> Result<u64, Error> {
    if x[0] == 0 { Ok(x[1]) } else { Err(Error::from_code(x[0])) }
}

fn create_space(scene: &mut Scene<'_>) -> Result<(), Error> {
    let boss = scene.sides[0].boss;
    let made =
        result(syscall(&mut scene.w[0], boss, SPACE_CONTROL, &[space_op::CREATE, DOMAIN.into(), 0, 0]));
    scene.w[0].pick();
    made.map(|id| assert!(scene.w[0].find_space(SpaceId(id)).is_some()))
}

/// With quotas of 1, 2 … tables until one is enough: each failure is one.
fn create_space_within(scene: &mut Scene<'_>) -> Result<(), Error> {
    let boss = scene.sides[0].boss;
    for tables in 1..16 {
        let free = scene.free();
        let create = [space_op::CREATE, DOMAIN.into(), 0, tables];
        let made = result(syscall(&mut scene.w[0], boss, SPACE_CONTROL, &create));
        scene.w[0].pick();
        match made {
            Ok(_) => {
                assert!(tables > 1);
                return Ok(());
            }
            Err(error) => {
                assert_eq!((error, scene.free()), (Error::OutOfKernelMemory, free));
            }
        }
    }
    Err(Error::OutOfKernelMemory)
}

fn create_thread(scene: &mut Scene<'_>, slot: u64) -> Result<(), Error> {
    let (boss, space) = (scene.sides[0].boss, scene.sides[0].taker.0);
    let k = &mut scene.w[0];
    let made = result(syscall(k, boss, THREAD_CONTROL, &[thread_op::CREATE, space.0, 0, 0, 0, slot, 1]));
    k.pick();
    made.map(|id| assert_eq!(state(k, ThreadId(id)), State::Created))
}

fn page(number: u64, dest: u64) -> Item {
    MapItem { fpage: fpage(PAGES + (number << 12), 12), dest }.into()
}

fn block(bits: u32, dest: u64) -> Item {
    MapItem { fpage: fpage(BLOCK, bits), dest }.into()
}

fn words(items: &[Item]) -> Vec<u64> {
    items.iter().flat_map(|item| item.words().0.into_iter().take(item.words().1)).collect()
}

/// The giver sends the taker items.
fn map(scene: &mut Scene<'_>, items: &[Item]) -> Result<(), Error> {
    let (giver, taker) = (scene.sides[0].giver, scene.sides[0].taker);
    let k = &mut scene.w[0];
    let words = words(items);
    ipc(k, giver.1, Ipc { tag: Tag::new(7, 0, words.len()), ..Ipc::send(taker.1, 7, &words) });
    match outcome(k, giver.1).1.error() {
        Some(error) => {
            assert_eq!(state(k, taker.1), State::Receiving, "the message has not arrived");
            Err(error)
        }
        None => {
            for item in items {
                assert!(k.db.lookup(taker.0.slot(), item.dest).is_some());
                assert_eq!(k.db.lookup(giver.0.slot(), item.fpage.base()).is_none(), item.grant);
            }
            Ok(())
        }
    }
}

/// A thread of the taker's space faults.
fn fault(scene: &mut Scene<'_>) {
    let (giver, taker) = (scene.sides[0].giver, scene.sides[0].taker);
    let k = &mut scene.w[0];
    let t = k.find(taker.1).unwrap();
    k.thread_mut(t).pager = giver.1;
    ipc(k, giver.1, Ipc::send(taker.1, 0, &[]));
    ipc(k, giver.1, Ipc::receive(ThreadId::ANY));
    run(k, taker.1);
    k.handle(Event::PageFault { address: FAR, access: Rights::W, esr: 0x9200_0047 });
    k.pick();
    assert_eq!(outcome(k, giver.1).0, taker.1);
}

/// The giver answers.
fn answer_fault(scene: &mut Scene<'_>) -> Result<(), Error> {
    let (giver, taker) = (scene.sides[0].giver, scene.sides[0].taker);
    let k = &mut scene.w[0];
    let words = words(&[page(0, FAR)]);
    let answer = Ipc { tag: Tag::new(0, 0, 2), from: ThreadId::NIL, ..Ipc::reply_wait(taker.1, 0, &words) };
    ipc(k, giver.1, answer);
    match outcome(k, giver.1).1.error() {
        Some(error) => {
            // It stays faulted, and the right to answer survives.
            assert_eq!(state(k, taker.1), State::Receiving);
            Err(error)
        }
        None => {
            assert_eq!(state(k, taker.1), State::Ready);
            assert!(k.db.check(taker.0.slot(), FAR, Rights::W));
            Ok(())
        }
    }
}

/// The giver has its block mapped on, takes rights from one page of it, then another page, and gives up a third itself.
fn split(scene: &mut Scene<'_>) -> Result<(), Error> {
    let giver = scene.sides[0].giver;
    let k = &mut scene.w[0];
    let restrict = Fpage::new(BLOCK, 12, Rights::W).unwrap();
    let flush = u64::from(true) | 1 << 8;
    for (how, fpage) in
        [(1 << 8, restrict), (1 << 8, fpage(BLOCK + 0x1000, 12)), (flush, fpage(BLOCK + 0x2000, 12))]
    {
        result(syscall(k, giver.1, UNMAP, &[how, fpage.word()]))?;
        k.pick();
    }
    let has = |page: u64, access| {
        k.db.lookup(giver.0.slot(), BLOCK + page).is_some_and(|t| t.rights.contains(access))
    };
    assert!(
        has(0, Rights::RW) && has(0x1000, Rights::RW) && !has(0x2000, Rights::R) && has(0x3000, Rights::RW)
    );
    Ok(())
}

/// A thread of cluster 0 calls one of cluster 1, and is answered.
fn call_from_afar(scene: &mut Scene<'_>) -> Result<(), Error> {
    let (client, server) = (scene.sides[0].giver.1, scene.sides[1].taker.1);
    ipc(&mut scene.w[0], client, Ipc::call(server, 5, &[1, 2, 3]));
    settle(&mut scene.w);
    if state(&scene.w[0], client) == State::Ready {
        let error = outcome(&scene.w[0], client).1.error();
        assert_eq!(state(&scene.w[1], server), State::Receiving);
        return Err(error.expect("nobody has answered"));
    }
    assert_eq!(outcome(&scene.w[1], server).0, client);
    ipc(&mut scene.w[1], server, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(client, 6, &[4]) });
    settle(&mut scene.w);
    assert_eq!(outcome(&scene.w[0], client).1, Tag::new(6, 1, 0));
    Ok(())
}

/// The same without an answer, to somebody who listens only later.
fn send_from_afar(scene: &mut Scene<'_>) -> Result<(), Error> {
    let (client, server) = (scene.sides[0].giver.1, scene.sides[1].giver.1);
    ipc(&mut scene.w[0], client, Ipc::send(server, 5, &[1, 2, 3]));
    settle(&mut scene.w);
    if state(&scene.w[0], client) == State::Ready {
        return Err(outcome(&scene.w[0], client).1.error().expect("nobody has listened"));
    }
    ipc(&mut scene.w[1], server, Ipc::receive(ThreadId::ANY));
    settle(&mut scene.w);
    assert_eq!(outcome(&scene.w[1], server), (client, Tag::new(5, 3, 0), [1, 2, 3].into()));
    assert_eq!(outcome(&scene.w[0], client).1.error(), None);
    Ok(())
}

/// A thread with a page of UTCBs of its own.
fn create_traveller(scene: &mut Scene<'_>) {
    let home = scene.sides[0].giver.0;
    thread(&mut scene.w[0], home, TRAVELLER, ThreadId::NIL);
}
const TRAVELLER: u16 = 40;

/// It goes from the giver's space in cluster 0 to the taker's in cluster 1.
fn immigrate(scene: &mut Scene<'_>) -> Result<(), Error> {
    let (boss, space) = (scene.sides[0].boss, scene.sides[1].taker.0);
    let k = &mut scene.w[0];
    let found = k.threads.iter().find(|t| t.is_live() && t.utcb_slot == TRAVELLER);
    let traveller = found.expect("it has not left yet").id;
    syscall(k, boss, THREAD_CONTROL, &[thread_op::MIGRATE, traveller.0, space.0, 1, 0, 0]);
    k.pick();
    settle(&mut scene.w);
    let k = &scene.w[0];
    let told = k.thread(k.find(boss).unwrap()).context.x[0];
    if told != 0 {
        // It goes on where it was.
        assert_eq!((state(k, traveller), state(&scene.w[1], traveller)), (State::Ready, State::Free));
        return Err(Error::from_code(told));
    }
    assert_eq!((state(k, traveller), state(&scene.w[1], traveller)), (State::Free, State::Ready));
    Ok(())
}

fn nothing(_: &mut Scene<'_>) {}
