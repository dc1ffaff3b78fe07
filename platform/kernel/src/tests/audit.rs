//! Who has a frame.

use super::long::{map, pages};
use super::world::*;
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

#[test]
fn a_long_search_is_interrupted_and_others_complete_it() {
    let mut w = world(1, 1);
    let (root, auditor) = scene(&mut w);
    let k = &mut w[0];
    let (pager, client) = program(k, 20);
    // All in one list of the root's block.
    for page in (0..512).map(|page| RAM + (page << 12)) {
        map(k, root, pages(page, 12, Rights::RW), pager, page);
    }
    let t = k.find(auditor).unwrap();
    let pc = k.thread(t).context.pc;
    let first = [0, RAM, root.0, pages(RAM, 30, Rights::RWX).word(), 0];
    syscall_step(k, auditor, AUDIT, &first);
    assert!(k.thread(t).context.pc != pc && k.db.is_held());
    assert!(k.counters.total(Counter::PreemptionPoints) > 0);
    k.thread_mut(t).context.pc = pc;
    // Somebody wants to change something, has to help, and does not wait for the auditor. The leaf that was looked for goes.
    assert_eq!(syscall(k, client, UNMAP, &[1 << 8 | 1, pages(RAM, 12, Rights::RWX).word()])[0], 0);
    assert!(!k.db.is_held() && k.db.lookup(pager.slot(), RAM).is_none());
    // It was there when the search came by; there is nothing behind it.
    let x = syscall(k, auditor, AUDIT, &[]);
    assert_eq!((x[0], SpaceId(x[1]), x[3]), (0, pager, 20));
    assert_eq!(audit(k, auditor, RAM).unwrap().len(), 1);
    // An auditor that is deleted in the middle leaves nothing, and what it was about to find is nobody's answer.
    syscall_step(k, auditor, AUDIT, &first);
    assert!(k.db.is_held());
    k.delete_thread(t).unwrap();
    let space = k.create_space(1, true).unwrap();
    let other = thread(k, space, 0, ThreadId::NIL);
    assert_eq!(syscall(k, other, SPACE_CONTROL, &[space_op::DESTROY, pager.0])[0], 0);
    assert_eq!(audit(k, other, RAM + 0x1000).unwrap().len(), 1);
    assert!(!k.db.is_held());
    super::invariants::check(k).unwrap();
}
