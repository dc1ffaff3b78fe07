//! Who has a frame.

use super::long::{map, pages};
use super::world::*;
use core::ops::Range;
use skerry_abi::syscall::{AUDIT, SPACE_CONTROL, UNMAP, space_op};
use skerry_abi::{Counter, Error, Fpage, Rights, SpaceId, ThreadId};
use skerry_mapping_db::Attr;
use std::vec::Vec;

const RAM: u64 = 0x4000_0000;

/// A kernel whose root space has memory, and a privileged thread.
fn scene<'a>(w: &mut [TestKernel<'a>]) -> (SpaceId, ThreadId) {
    let k = &mut w[0];
    let root = SpaceId::root(0);
    k.db.map_root(root.slot(), RAM, RAM, 30, Rights::RWX, Attr::Normal).unwrap();
    let space = k.create_space(1, true).unwrap();
    (root, thread(k, space, 0, ThreadId::NIL))
}

/// All leaves: space, fpage, domain.
fn audit(k: &mut TestKernel, who: ThreadId, frame: u64) -> Result<Vec<(SpaceId, Fpage, u64)>, Error> {
    let (mut found, mut last) = (Vec::new(), [0, 0]);
    loop {
        match syscall(k, who, AUDIT, &[0, frame, last[0], last[1], 0]) {
            [0, 0, ..] => return Ok(found),
            [0, space, leaf, domain, ..] => {
                found.push((SpaceId(space), Fpage::decode(leaf).unwrap(), domain));
                last = [space, leaf];
            }
            [code, ..] => return Err(Error::from_code(code)),
        }
    }
}

#[test]
fn every_leaf_of_a_frame_is_told() {
    let mut w = world(1, 1);
    let (root, auditor) = scene(&mut w);
    let k = &mut w[0];
    let (pager, task) = (program(k, 2).0, program(k, 20).0);
    let (block, page) = (pages(RAM + 0x20_0000, 21, Rights::RW), pages(RAM + 0x20_3000, 12, Rights::RW));
    map(k, root, block, pager, block.base());
    map(k, pager, page, task, 0x1000);
    map(k, pager, page.with_rights(Rights::R), task, 0x5000);
    let all = [
        (root, pages(RAM, 30, Rights::RWX), 1),
        (pager, block, 2),
        (task, pages(0x5000, 12, Rights::R), 20),
        (task, pages(0x1000, 12, Rights::RW), 20),
    ];
    assert_eq!(audit(k, auditor, page.base()).unwrap(), all);
    // Of its neighbour only two know.
    assert_eq!(audit(k, auditor, page.base() + 0x1000).unwrap(), all[..2]);
    // A leaf that is gone is nothing to go on from; what is no frame has no leaves.
    let last = [all[3].0.0, all[3].1.word()];
    assert_eq!(syscall(k, auditor, AUDIT, &[0, page.base(), last[0], last[1], 0])[..2], [0, 0]);
    let (db, mut tlb) = k.db_and_tlb();
    db.unmap(&mut tlb, task.slot(), pages(0x1000, 12, Rights::RWX), true);
    let gone = |k: &mut TestKernel, frame, after: [u64; 2]| {
        Error::from_code(syscall(k, auditor, AUDIT, &[0, frame, after[0], after[1], 0])[0])
    };
    assert_eq!(gone(k, page.base(), last), Error::WrongState);
    assert_eq!(gone(k, page.base() + 0x1000, [all[2].0.0, all[2].1.word()]), Error::WrongState);
    assert_eq!(gone(k, page.base(), [!0, last[1]]), Error::WrongState);
    assert_eq!(gone(k, page.base(), [last[0], 0]), Error::BadArgument);
    for (frame, error) in [
        (0, Error::NothingMapped),
        (page.base() + 8, Error::BadArgument),
        (1 << 39 | page.base(), Error::BadArgument),
        (u64::MAX << 12, Error::BadArgument),
    ] {
        assert_eq!(audit(k, auditor, frame), Err(error));
    }
    let (_, stranger) = program(k, 20);
    assert_eq!(audit(k, stranger, page.base()), Err(Error::NotPrivileged));
}

/// The question for what comes after the root's own leaf. With all pages of the block in one list, the search for a page takes the
/// longer the earlier the page was mapped.
fn below_root(page: u64) -> [u64; 5] {
    let root = SpaceId::root(0);
    [0, RAM + (page << 12), root.0, pages(RAM, 30, Rights::RWX).word(), 0]
}

/// A pager that has these pages of the root's block where the root has them.
fn pager_of(k: &mut TestKernel, own: Range<u64>) -> (SpaceId, ThreadId) {
    let pager = program(k, 20);
    for page in own.map(|page| RAM + (page << 12)) {
        map(k, SpaceId::root(0), pages(page, 12, Rights::RW), pager.0, page);
    }
    pager
}

fn privileged(k: &mut TestKernel) -> ThreadId {
    let space = k.create_space(1, true).unwrap();
    thread(k, space, 0, ThreadId::NIL)
}

/// Enters the kernel once for this question, or goes on with it. The answer, if there is one now.
fn step(k: &mut TestKernel, who: ThreadId, question: &[u64]) -> Option<[u64; 9]> {
    let t = k.find(who).unwrap();
    let pc = k.thread(t).context.pc;
    let x = syscall_step(k, who, AUDIT, question);
    let told = k.thread(t).context.pc == pc;
    k.thread_mut(t).context.pc = pc;
    told.then_some(x)
}

#[test]
fn a_long_search_is_interrupted_and_others_complete_it() {
    let mut w = world(1, 1);
    let (_, auditor) = scene(&mut w);
    let k = &mut w[0];
    let (pager, client) = pager_of(k, 0..512);
    assert_eq!(step(k, auditor, &below_root(0)), None);
    assert!(k.db.is_held() && k.counters.total(Counter::PreemptionPoints) > 0);
    // Somebody wants to change something, has to help, and does not wait for the auditor.
    let unmap = |k: &mut TestKernel, page: u64| {
        let fpage = pages(RAM + (page << 12), 12, Rights::RWX);
        assert_eq!(syscall(k, client, UNMAP, &[1 << 8 | 1, fpage.word()])[0], 0);
    };
    unmap(k, 7);
    assert!(!k.db.is_held());
    let answer = k.cold[k.find(auditor).unwrap() as usize].answer;
    assert!(answer.is_some(), "it is there already");
    let x = step(k, auditor, &[]).expect("nothing is searched for again");
    assert_eq!((x[0], SpaceId(x[1]), x[3]), (0, pager, 20));
    // The same, but what was found is taken away: there is nothing else.
    assert_eq!(step(k, auditor, &below_root(0)), None);
    unmap(k, 0);
    assert_eq!(syscall(k, auditor, AUDIT, &[])[..2], [0, 0]);
    assert_eq!(audit(k, auditor, RAM).unwrap().len(), 1);
    // An auditor that is deleted in the middle leaves nothing, and what it was about to find is nobody's answer.
    assert_eq!(step(k, auditor, &below_root(0)), None);
    k.delete_thread(k.find(auditor).unwrap()).unwrap();
    let other = privileged(k);
    assert_eq!(syscall(k, other, SPACE_CONTROL, &[space_op::DESTROY, pager.0])[0], 0);
    assert_eq!(audit(k, other, RAM + 0x1000).unwrap().len(), 1);
    assert!(!k.db.is_held());
    super::invariants::check(k).unwrap();
}

/// Whoever ends a space completes the search for its leaf. Before the auditor comes for the answer, another space has its slot.
#[test]
fn an_answer_never_names_a_space_that_has_not_got_the_frame() {
    for heir in [None, Some(RAM), Some(RAM + 0x1000)] {
        let mut w = world(1, 1);
        let (root, auditor) = scene(&mut w);
        let k = &mut w[0];
        let (boss, mortal) = (privileged(k), k.create_space(20, false).unwrap());
        map(k, root, pages(RAM, 12, Rights::RW), mortal, 0x1000);
        pager_of(k, 1..512);
        assert_eq!(step(k, auditor, &below_root(0)), None);
        assert_eq!(syscall(k, boss, SPACE_CONTROL, &[space_op::DESTROY, mortal.0])[0], 0);
        let space = k.create_space(99, false).unwrap();
        assert_eq!(space.slot(), mortal.slot());
        if let Some(frame) = heir {
            map(k, root, pages(frame, 12, Rights::R), space, 0x1000);
        }
        let x = syscall(k, auditor, AUDIT, &[]);
        let expected = match heir {
            Some(RAM) => [0, space.0, pages(0x1000, 12, Rights::R).word(), 99],
            _ => [0; 4],
        };
        assert_eq!(x[..4], expected, "{heir:x?}");
    }
}

/// An answer is its asker's, and this call's: whatever registers say.
#[test]
fn an_answer_is_for_nobody_else() {
    let mut w = world(1, 1);
    let (_, auditor) = scene(&mut w);
    let k = &mut w[0];
    let (_, client) = pager_of(k, 0..512);
    let helper = |k: &mut TestKernel| {
        let nothing = Fpage::new(0x1000, 12, Rights::RWX).unwrap();
        assert_eq!(syscall(k, client, UNMAP, &[1 << 8 | 1, nothing.word()])[0], 0);
        assert!(!k.db.is_held());
    };
    let other = privileged(k);
    assert_eq!(step(k, auditor, &below_root(0)), None);
    helper(k);
    // This one only says that it has been interrupted.
    let mut lie = below_root(0);
    lie[4] = 1;
    assert_eq!(step(k, other, &lie), None);
    helper(k);
    // These do not ask what they had asked.
    let mut another = below_root(511);
    another[4] = 1;
    let x = step(k, auditor, &another).expect("it is the first in the list");
    assert_eq!(Fpage::decode(x[2]).unwrap().base(), RAM + 0x1ff_000);
    assert_eq!(step(k, other, &below_root(0)), None, "it is a new call");
    assert!(k.cold[k.find(other).unwrap() as usize].answer.is_none());
}

/// Auditors help each other, one kernel entry after the other, and all of them get their answers: also to long questions beside short ones.
#[test]
fn nobody_who_asks_much_starves_beside_others() {
    let mut w = world(1, 1);
    let (_, auditor) = scene(&mut w);
    let k = &mut w[0];
    pager_of(k, 0..512);
    let who = [auditor, privileged(k), privileged(k)];
    let lengths = || [511, 400, 300, 150, 60, 1].into_iter();
    for (long, other) in lengths().flat_map(|long| lengths().map(move |other| (long, other))) {
        let (mut told, mut fresh) = ([0; 3], [true; 3]);
        for entry in 0..180 {
            let i = entry % 3;
            let question = below_root(512 - [long, other, 1][i]);
            let answer = step(k, who[i], if fresh[i] { &question } else { &[] });
            fresh[i] = answer.is_some();
            if let Some(x) = answer {
                assert_eq!(Fpage::decode(x[2]).unwrap().base(), question[1]);
                told[i] += 1;
            }
        }
        assert!(told.iter().all(|&told| told > 2), "{long} {other}: {told:?}");
    }
}
