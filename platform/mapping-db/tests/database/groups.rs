//! Mappings of 64 KiB: sixteen pages with the contiguous hint. (The software MMU sees that the hint is used as it must be.)

use skerry_abi::{Error, Fpage, Rights, layout};
use skerry_mapping_db::{
    Attr, Budget, Helped, HwTable, Mapped, MappingDb, Outcome, Quota, SpaceTables, Transfer,
};

use crate::golden::{fpage, with_db, with_room};
use crate::mmu::{Mmu, TABLES_PA};

const RAM: u64 = 0x8000_0000;
const SIZE: u64 = 1 << 16;
const BLOCK: u64 = 0x20_0000;
const HERE: u64 = 0x1_0000;

fn group(base: u64, rights: Rights) -> Fpage {
    fpage(base, 16, rights)
}

#[test]
fn sixty_four_kib_are_one_mapping_however_they_are_derived() {
    with_db(|db, mmu| {
        // Of a root, of a block, of a group; the general way (another cacheability) and the straight one.
        for (attr, base) in [(Attr::NonCacheable, 0), (Attr::Normal, 16 * SIZE)] {
            let (ram, block) = (RAM + base, BLOCK + base);
            if base == 0 {
                db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
            }
            let used = [db.used(1), db.used(2)];
            db.map(mmu, 1, group(block + SIZE, Rights::RW), 2, base + HERE, attr).unwrap();
            db.map(mmu, 2, group(base + HERE, Rights::R), 1, (1 << 30) + base, attr).unwrap();
            db.map(mmu, 2, fpage(base + HERE + 0x3000, 12, Rights::RW), 1, (1 << 31) + base, attr).unwrap();
            let nodes = [db.used(1).nodes - used[0].nodes, db.used(2).nodes - used[1].nodes];
            assert_eq!(nodes, [2, 1]);
            let [here, far, page] = [base + HERE, (1 << 30) + base, (1 << 31) + base];
            assert_eq!(
                db.dump(2, here).to_string(),
                format!(
                    "0: space=2 vaddr={here:#x} size=64K rw-\n\
                     1: => space=1 vaddr={page:#x} size=4K rw-\n\
                     1: => space=1 vaddr={far:#x} size=64K r--\n"
                )
            );
            let found = db.lookup(2, here + 0x5678).unwrap();
            assert_eq!((found.pa, found.bits, found.attr), (ram + SIZE + 0x5678, 16, attr));
            assert!(mmu.access(2, here + 0xf000, true) && mmu.access(1, far + 0x1000, false));
        }
        db.unmap(mmu, 0, fpage(RAM, 21, Rights::RWX), false);
        assert!(db.lookup(2, HERE).is_none() && db.lookup(1, 1 << 30).is_none());
        assert_eq!((db.used(1).nodes, db.used(2).nodes), (0, 0));
    });
}

#[test]
fn only_an_item_of_that_size_makes_one() {
    with_db(|db, mmu| {
        for page in 0..16 {
            let (src, dest) = (fpage(RAM + (page << 12), 12, Rights::RW), HERE + (page << 12));
            db.map(mmu, 0, src, 1, dest, Attr::Normal).unwrap();
        }
        assert_eq!(db.lookup(1, HERE).unwrap().bits, 12);
        // Of pages it makes pages, of a smaller item too; a larger one is made of groups.
        db.map(mmu, 1, group(HERE, Rights::RW), 2, HERE, Attr::Normal).unwrap();
        db.map(mmu, 0, fpage(RAM, 15, Rights::RW), 2, 0x10_0000, Attr::Normal).unwrap();
        assert_eq!((db.lookup(2, HERE).unwrap().bits, db.lookup(2, 0x10_0000).unwrap().bits), (12, 12));
        let nodes = db.used(2).nodes;
        let mapped = db.map(mmu, 0, fpage(RAM, 20, Rights::RW), 2, 0x4000_0000, Attr::Normal);
        assert_eq!((mapped, db.used(2).nodes - nodes), (Ok(Mapped { pages: 256 }), 16));
        assert_eq!(db.lookup(2, 0x400f_0000).unwrap().bits, 16);
        // Around a page that is there already from the same place the rest is pages.
        db.map(mmu, 0, fpage(RAM + SIZE + 0x2000, 12, Rights::R), 1, 0x4001_2000, Attr::Normal).unwrap();
        let mapped = db.map(mmu, 0, fpage(RAM, 17, Rights::RW), 1, 0x4000_0000, Attr::Normal);
        assert_eq!(mapped, Ok(Mapped { pages: 32 }));
        let bits = |va| db.lookup(1, va).unwrap().bits;
        assert_eq!((bits(0x4000_0000), bits(0x4001_0000), bits(0x4001_2000)), (16, 12, 12));
        assert_eq!(db.lookup(1, 0x4001_2000).unwrap().rights, Rights::RW);
    });
}

#[test]
fn a_part_that_is_taken_unties_the_rest() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RWX), 1, BLOCK, Attr::Normal).unwrap();
        db.map(mmu, 1, group(BLOCK, Rights::RW), 2, HERE, Attr::Normal).unwrap();
        assert!(mmu.access(2, HERE + 0x4000, true));
        let (before, tables) = (db.stats(), db.used(2).tables);
        db.unmap(mmu, 1, fpage(BLOCK, 12, Rights::RWX), false);
        db.unmap(mmu, 1, fpage(BLOCK + 0x8000, 14, Rights::W), false);
        assert_eq!((db.stats(), db.used(2).tables), (before, tables));
        let pages = |db: &MappingDb<'_>| -> Vec<Option<Rights>> {
            (0..16).map(|page| db.lookup(2, HERE + (page << 12)).map(|found| found.rights)).collect()
        };
        let mut expected = vec![Some(Rights::RW); 16];
        expected[0] = None;
        expected[8..12].fill(Some(Rights::R));
        assert_eq!(pages(db), expected);
        // The block lies around the group without its first page, and goes.
        assert_eq!(
            db.dump(1, BLOCK).to_string(),
            "0: space=1 vaddr=0x200000 size=2M rwx\n\
             1: => space=2 vaddr=0x10000 size=64K rw- split, 15 pages left\n"
        );
        // The holes are free for others, also where the block has lost its page.
        db.unmap(mmu, 0, fpage(RAM, 12, Rights::RWX), false);
        db.map(mmu, 0, fpage(RAM + 0x9000, 12, Rights::R), 1, BLOCK, Attr::Normal).unwrap();
        db.map(mmu, 0, fpage(RAM + 0x7000, 12, Rights::R), 2, HERE, Attr::Normal).unwrap();
        db.unmap(mmu, 1, fpage(BLOCK + 0xf000, 12, Rights::RWX), false);
        assert_eq!(
            db.dump(1, BLOCK + 0x1000).to_string(),
            "0: space=1 vaddr=0x200000 size=2M rwx split, 511 pages left\n\
             1: => space=2 vaddr=0x10000 size=64K rw- split, 14 pages left\n"
        );
        db.unmap(mmu, 1, fpage(BLOCK, 21, Rights::RWX), true);
        assert_eq!(db.lookup(2, HERE).unwrap().pa, RAM + 0x7000);
        assert_eq!((db.lookup(2, HERE + 0x1000), db.used(1).nodes), (None, 0));
    });
}

#[test]
fn a_status_is_that_of_all_sixteen() {
    with_db(|db, mmu| {
        let seen = |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>| {
            db.unmap(mmu, 0, group(RAM, Rights::NONE), false).seen
        };
        db.map(mmu, 0, group(RAM, Rights::RW), 1, HERE, Attr::Normal).unwrap();
        assert_eq!(seen(db, mmu), Rights::NONE);
        for page in 0..16 {
            assert!(mmu.access(1, HERE + (page << 12), page % 2 == 1));
            let expected = if page % 2 == 1 { Rights::RW } else { Rights::R };
            assert_eq!((seen(db, mmu), seen(db, mmu)), (expected, Rights::NONE));
        }
        // A question about a part of it is answered for all, and forgets nothing; taking the part tells all as well.
        assert!(mmu.access(1, HERE + 0x3000, true));
        let page = fpage(RAM + 0x9000, 12, Rights::NONE);
        assert_eq!(db.unmap(mmu, 0, page, false).seen, Rights::RW);
        assert_eq!(db.unmap(mmu, 0, page.with_rights(Rights::RWX), false).seen, Rights::RW);
        assert_eq!(seen(db, mmu), Rights::RW);
        assert_eq!(seen(db, mmu), Rights::NONE);
    });
}

#[test]
fn without_hardware_state_all_sixteen_are_noted_alike() {
    let tables: Vec<HwTable> = (0..40).map(|_| <_>::default()).collect();
    let (mut shadow, mut nodes) = (vec![[0; 512]; 40], vec![<_>::default(); 40]);
    let mut spaces = [SpaceTables::default(); 2];
    let mut db = MappingDb::new(&tables, TABLES_PA, &mut shadow, &mut nodes, &mut spaces);
    // This one demands that entries with the hint are alike in access flag and dirty state, too.
    let mut mmu = Mmu::new(&tables, false);
    for space in 0..2 {
        db.space_create(space, 30).unwrap();
        mmu.add_root(space, db.root_table(space));
    }
    db.map_root(0, RAM, RAM, 30, Rights::RW, Attr::Normal).unwrap();
    db.map(&mut mmu, 0, group(RAM, Rights::RW), 1, HERE, Attr::Normal).unwrap();
    assert!(!mmu.access(1, HERE + 0x5000, false) && db.check(1, HERE + 0x5000, Rights::R));
    assert!(mmu.access(1, HERE + 0xc000, false) && !mmu.access(1, HERE + 0xc000, true));
    assert!(db.check(1, HERE + 0xc000, Rights::W) && mmu.access(1, HERE, true));
    assert!(!db.check(1, HERE, Rights::X));
    assert_eq!(db.unmap(&mut mmu, 0, group(RAM, Rights::RWX), false).seen, Rights::RW);
    mmu.check_quiet();
}

#[test]
fn a_group_is_granted_whole_or_not() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
        db.map(mmu, 1, group(BLOCK + SIZE, Rights::RW), 2, HERE, Attr::Normal).unwrap();
        db.map(mmu, 2, fpage(HERE + 0x2000, 12, Rights::RW), 1, 0x1000, Attr::Normal).unwrap();
        assert!(mmu.access(2, HERE + 0x7000, true));
        let grant = |bits, src, dest| Transfer {
            src: fpage(src, bits, Rights::RW),
            dest,
            attr: Attr::Normal,
            grant: true,
        };
        let far = 0x4000_0000;
        assert_eq!(db.map_items(mmu, 2, 1, &[grant(12, HERE + 0x2000, far)]), Err(Error::Refused));
        assert_eq!(db.map_items(mmu, 2, 1, &[grant(16, HERE, 0)]), Err(Error::AlreadyMapped));
        db.map_items(mmu, 2, 1, &[grant(16, HERE, far)]).unwrap();
        assert_eq!(
            db.dump(1, BLOCK).to_string(),
            "0: space=1 vaddr=0x200000 size=2M rw-\n\
             1: => space=1 vaddr=0x40000000 size=64K rw-\n\
             2:   => space=1 vaddr=0x1000 size=4K rw-\n"
        );
        assert_eq!((db.lookup(2, HERE), db.used(2).nodes), (None, 0));
        assert_eq!(db.unmap(mmu, 0, fpage(RAM, 21, Rights::NONE), false).seen, Rights::RW);
        // Without a page it is no whole mapping any more.
        db.unmap(mmu, 1, fpage(far + 0x2000, 12, Rights::RWX), true);
        assert_eq!(db.map_items(mmu, 1, 2, &[grant(16, far, HERE)]), Err(Error::Refused));
    });
}

#[test]
fn the_straight_way_knows_its_limits() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
        // A table at the destination, and the bucket table of the block.
        db.map(mmu, 1, fpage(BLOCK + 0x10_0000, 12, Rights::RW), 2, 0x5000, Attr::Normal).unwrap();
        db.map_pinned(2, layout::UTCB_BASE, 0x7000, true).unwrap();
        let mut map = |src, dest| db.map(mmu, 1, src, 2, dest, Attr::Normal).map(|mapped| mapped.pages);
        assert_eq!(map(group(BLOCK, Rights::RW), layout::UTCB_BASE + SIZE), Err(Error::BadArgument));
        assert_eq!(map(group(BLOCK, Rights::RW), 0), Err(Error::AlreadyMapped));
        assert_eq!(map(group(BLOCK, Rights::RW), HERE + 0x1000), Err(Error::BadArgument));
        assert_eq!(map(group(BLOCK, Rights::NONE), HERE), Err(Error::BadArgument));
        assert_eq!(map(group(BLOCK, Rights::RW), layout::USER_END), Err(Error::BadArgument));
        assert_eq!(map(group(BLOCK, Rights::R), HERE), Ok(16));
        assert_eq!(map(group(BLOCK, Rights::RW), HERE), Ok(16));
        assert_eq!(map(group(BLOCK + SIZE, Rights::RW), HERE), Err(Error::AlreadyMapped));
        assert_eq!(db.lookup(2, HERE).unwrap().rights, Rights::RW);
        let used = db.used(2);
        db.set_quota(2, used).unwrap();
        let more = db.map(mmu, 1, group(BLOCK + SIZE, Rights::RW), 2, HERE + SIZE, Attr::Normal);
        assert_eq!(more, Err(Error::OutOfKernelMemory));
        // Two of them, pages, children: everything goes.
        db.set_quota(2, Quota { nodes: 99, ..used }).unwrap();
        for (bits, dest) in [(16, 2 * HERE), (12, 3 * HERE)] {
            db.map(mmu, 1, fpage(BLOCK, bits, Rights::RW), 2, dest, Attr::Normal).unwrap();
        }
        db.map(mmu, 2, fpage(2 * HERE + 0x1000, 12, Rights::RW), 2, 4 * HERE, Attr::Normal).unwrap();
        assert_eq!(db.unmap(mmu, 1, group(BLOCK, Rights::RWX), false).touched, 4);
        assert!((1..5).all(|n| db.lookup(2, n * HERE).is_none()));
        assert_eq!(db.unmap(mmu, 1, group(BLOCK, Rights::RWX), false).touched, 0);
    });
}

#[test]
fn every_step_is_bounded() {
    with_room(600, 2400, |db, mmu| {
        // 32 groups of a block to two spaces, in steps that are as small as can be.
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
        for dest in [BLOCK, 0x4000_0000] {
            for half in [0, 1 << 20] {
                let src = fpage(BLOCK + half, 20, Rights::RW);
                let item = Transfer { src, dest: dest + half, attr: Attr::NonCacheable, grant: false };
                let mut outcome = db.plan_items(mmu, 1, 2, &[item], &mut Budget::new(1));
                let mut steps = 0;
                while !matches!(outcome, Outcome::Done(_)) {
                    outcome = match outcome {
                        Outcome::Planned => db.commit_items(mmu, &mut Budget::new(1)),
                        _ => match db.help(mmu, &mut Budget::new(1)) {
                            Helped::Items(outcome) => outcome,
                            _ => Outcome::Again,
                        },
                    };
                    mmu.check_quiet();
                    steps += 1;
                }
                assert!(steps > 30, "{steps}");
            }
        }
        assert_eq!(db.used(2).nodes, 64);
        // A page of each is taken, one after the other: each of the groups splits.
        for number in 0..32u64 {
            let page = fpage(BLOCK + number * SIZE + ((number % 16) << 12), 12, Rights::RWX);
            let (mut at, mut status, mut steps) = (page.base(), <_>::default(), 0);
            while !db.unmap_step(mmu, 1, page, false, &mut at, &mut status, &mut Budget::new(1)) {
                mmu.check_quiet();
                steps += 1;
            }
            assert!(steps > 1 && status.touched == 2, "{steps} {status:?}");
        }
        let (mut at, mut status) = (0, <_>::default());
        while !db.unmap_step(
            mmu,
            2,
            fpage(0, 31, Rights::RWX),
            true,
            &mut at,
            &mut status,
            &mut Budget::new(1),
        ) {
            mmu.check_quiet();
        }
        assert_eq!((status.touched, db.used(2).nodes), (64 * 15, 0));
    });
}
