//! Single situations with exact expectations.

use skerry_abi::{Error, Fpage, Rights, layout};
use skerry_mapping_db::{
    Attr, Budget, Helped, Mapped, Outcome, Pinned, Quota, Status, Transfer, Translation,
};

use crate::golden::{fpage, with_db};

const RAM: u64 = 0x8000_0000;

#[test]
fn status_is_exact_for_pages_and_told_once() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 13, Rights::RW), 1, 0x2000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x2000, 13, Rights::RW), 2, 0x8000, Attr::Normal).unwrap();
        let query = |page: u64| fpage(0x2000 + page, 12, Rights::NONE);
        assert_eq!(db.unmap(mmu, 1, query(0), false), Status::default());
        assert!(mmu.access(2, 0x8000, true) && mmu.access(2, 0x9000, false) && mmu.access(1, 0x3000, true));
        let seen = |accessed, written, touched| {
            let right = |seen, right| if seen { right } else { Rights::NONE };
            Status { seen: right(accessed, Rights::R) | right(written, Rights::W), touched }
        };
        assert_eq!(db.unmap(mmu, 1, query(0), false), seen(true, true, 1));
        assert_eq!(db.unmap(mmu, 1, query(0), false), seen(false, false, 0));
        // The client's read, not the pager's own write.
        assert_eq!(db.unmap(mmu, 1, query(0x1000), false), seen(true, false, 1));
        // What the client flushed itself the pager learns later.
        assert!(mmu.access(2, 0x8000, true));
        assert_eq!(db.unmap(mmu, 2, fpage(0x8000, 12, Rights::RWX), true), seen(true, true, 1));
        assert_eq!(db.unmap(mmu, 1, query(0), false), seen(true, true, 0));
        assert_eq!(db.unmap(mmu, 1, query(0), false), seen(false, false, 0));
        // And the root was told nothing yet.
        assert_eq!(db.unmap(mmu, 0, fpage(RAM, 13, Rights::RWX), false), seen(true, true, 3));
        assert_eq!(db.lookup(1, 0x2000), None);
    });
}

#[test]
fn rights_and_cacheability_only_shrink() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 12, Rights::RX), 1, 0x1000, Attr::NonCacheable).unwrap();
        db.map(mmu, 1, fpage(0x1000, 12, Rights::RWX), 2, 0x1000, Attr::Normal).unwrap();
        let got = Translation { pa: RAM, bits: 12, rights: Rights::RX, attr: Attr::NonCacheable };
        assert_eq!(db.lookup(2, 0x1000), Some(got));
        assert!(db.check(2, 0x1000, Rights::X) && !db.check(2, 0x1000, Rights::W));
    });
}

#[test]
fn write_and_execute_take_turns() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 12, Rights::RWX), 1, 0x1000, Attr::Normal).unwrap();
        assert!(db.check(1, 0x1000, Rights::W) && !db.check(1, 0x1000, Rights::X));
        db.unmap(mmu, 0, fpage(RAM, 12, Rights::W), false);
        assert!(!db.check(1, 0x1000, Rights::W) && db.check(1, 0x1000, Rights::X));
        assert!(mmu.access(1, 0x1000, false));
        db.map(mmu, 0, fpage(RAM, 12, Rights::W), 1, 0x1000, Attr::Normal).unwrap();
        assert!(db.check(1, 0x1000, Rights::W) && !db.check(1, 0x1000, Rights::X));
        mmu.check_quiet();
    });
}

#[test]
fn bad_requests_change_nothing() {
    with_db(|db, mmu| {
        let before = db.stats();
        let mut map = |src, dest| db.map(mmu, 0, src, 1, dest, Attr::Normal);
        let page = fpage(RAM, 12, Rights::RW);
        assert_eq!(map(page.with_rights(Rights::NONE), 0x1000), Err(Error::BadArgument));
        assert_eq!(map(page, 0x1800), Err(Error::BadArgument));
        assert_eq!(map(page, layout::USER_END), Err(Error::BadArgument));
        assert_eq!(map(page, !0xfff), Err(Error::BadArgument));
        assert_eq!(map(page, layout::UTCB_BASE), Err(Error::BadArgument));
        assert_eq!(map(page, layout::PINNED_END - 0x1000), Err(Error::BadArgument));
        assert_eq!(map(fpage(RAM, 30, Rights::RW), 0), Err(Error::BadArgument));
        assert_eq!(map(fpage(0x1000, 12, Rights::RW), 0x1000), Err(Error::NothingMapped));
        assert_eq!(db.map(mmu, 0, page, 3, 0x1000, Attr::Normal), Err(Error::NoSuchSpace));
        assert_eq!(db.map(mmu, 77, page, 1, 0x1000, Attr::Normal), Err(Error::NoSuchSpace));
        assert_eq!(db.map(mmu, 0, page, 0, RAM, Attr::Normal), Err(Error::AlreadyMapped));
        assert_eq!(db.stats(), before);
    });
}

#[test]
fn mapping_again_is_idempotent_and_another_frame_is_refused() {
    with_db(|db, mmu| {
        let page = fpage(RAM, 12, Rights::R);
        assert_eq!(db.map(mmu, 0, page, 1, 0x1000, Attr::Normal), Ok(Mapped { pages: 1 }));
        let after = db.stats();
        assert_eq!(
            db.map(mmu, 0, page.with_rights(Rights::RW), 1, 0x1000, Attr::Normal),
            Ok(Mapped { pages: 1 })
        );
        assert_eq!(db.stats(), after);
        assert_eq!(db.lookup(1, 0x1000).unwrap().rights, Rights::RW);
        let other = fpage(RAM + 0x1000, 12, Rights::R);
        assert_eq!(db.map(mmu, 0, other, 1, 0x1000, Attr::Normal), Err(Error::AlreadyMapped));
        assert_eq!(db.map(mmu, 0, page, 1, 0x1000, Attr::Device), Err(Error::AlreadyMapped));
    });
}

#[test]
fn pinned_pages_are_out_of_reach() {
    with_db(|db, mmu| {
        db.map_pinned(1, layout::UTCB_BASE, 0x7000, true).unwrap();
        assert!(mmu.access(1, layout::UTCB_BASE, true));
        db.map_pinned(1, layout::INFO_PAGE_BASE, 0x8000, false).unwrap();
        assert!(mmu.access(1, layout::INFO_PAGE_BASE, false) && !mmu.access(1, layout::INFO_PAGE_BASE, true));
        let area = fpage(layout::UTCB_BASE, 20, Rights::RWX);
        assert_eq!(db.map(mmu, 1, area, 2, 0x10_0000, Attr::Normal), Err(Error::NothingMapped));
        assert_eq!(db.unmap(mmu, 1, area, true), Status::default());
        assert!(db.check(1, layout::UTCB_BASE, Rights::RW));
        db.unmap_pinned(mmu, 1, layout::UTCB_BASE);
        assert_eq!(db.lookup(1, layout::UTCB_BASE), None);
    });
}

#[test]
fn a_space_has_all_of_its_pinned_pages_or_does_not_begin() {
    with_db(|db, mmu| {
        // In the last page of a region and the first of the next one: root, two or three tables in between, two last ones.
        for (va, tables) in [(0x1000, 3), (0x1f_f000, 4), (0x3fff_f000, 5)] {
            let pinned = Pinned { va, pa: 0x7000, pages: 2 };
            let before = db.stats();
            for less in 0..tables {
                let quota = Quota { tables: less, nodes: 9 };
                assert_eq!(db.space_create_with(3, quota, pinned), Err(Error::OutOfKernelMemory));
                assert_eq!((db.stats(), db.used(3)), (before, Quota::default()));
            }
            db.space_create_with(3, Quota { tables, nodes: 0 }, pinned).unwrap();
            mmu.add_root(3, db.root_table(3));
            assert_eq!(db.used(3), Quota { tables, nodes: 0 });
            assert!(mmu.access(3, va, false) && mmu.access(3, va + 0x1000, false));
            assert!(!mmu.access(3, va, true) && !mmu.access(3, va + 0x2000, false));
            db.space_destroy(3, mmu);
            assert_eq!(db.stats(), before);
        }
        for pinned in [(0x1001, 0x7000), (0x1000, 0x7001), (layout::USER_END - 0x1000, 0x7000), (!0xfff, 0)] {
            let pinned = Pinned { va: pinned.0, pa: pinned.1, pages: 2 };
            assert_eq!(db.space_create_with(3, 9, pinned), Err(Error::BadArgument));
        }
        assert_eq!(db.space_create_with(1, 9, Pinned::NONE), Err(Error::WrongState));
    });
}

#[test]
fn a_quota_ends_at_the_space() {
    with_db(|db, mmu| {
        db.space_create(3, Quota { tables: 3, nodes: 2 }).unwrap();
        mmu.add_root(3, db.root_table(3));
        let mut map =
            |page: u64, dest| db.map(mmu, 0, fpage(RAM + page, 12, Rights::R), 3, dest, Attr::Normal);
        assert!(map(0, 0x1000).is_ok());
        assert_eq!(map(0, 0x20_1000), Err(Error::OutOfKernelMemory)); // a fourth table
        assert!(map(0, 0x2000).is_ok());
        assert_eq!(map(0, 0x3000), Err(Error::OutOfKernelMemory)); // a third node
        assert_eq!(db.used(3), Quota { tables: 3, nodes: 2 });
        // Empty tables come back when they are needed elsewhere.
        db.unmap(mmu, 3, fpage(0, 21, Rights::RWX), true);
        let src = fpage(RAM, 12, Rights::R);
        assert!(db.map(mmu, 0, src, 3, 0x4000_0000, Attr::Normal).is_ok());
        db.space_destroy(3, mmu);
        assert_eq!(db.used(3), Quota::default());
    });
}

#[test]
fn a_root_keeps_one_table_for_its_smaller_children_and_no_more() {
    with_db(|db, mmu| {
        // What seems to be lost after the first map and unmap is there for the next one, and goes with the space.
        let (src, all) = (fpage(RAM, 12, Rights::RW), fpage(RAM, 30, Rights::RWX));
        let used = db.used(0);
        for _ in 0..3 {
            db.map(mmu, 0, src, 1, 0x1000, Attr::Normal).unwrap();
            db.unmap(mmu, 0, all, false);
            assert_eq!(db.used(0), Quota { tables: used.tables + 1, ..used });
        }
    });
}

#[test]
fn a_status_is_whole_and_told_once_however_small_the_steps_are() {
    for helped in [false, true] {
        with_db(|db, mmu| {
            db.map(mmu, 0, fpage(RAM, 14, Rights::RW), 1, 0x4000, Attr::Normal).unwrap();
            for copy in 0..8 {
                let dest = 0x10_0000 * (copy + 1);
                db.map(mmu, 1, fpage(0x4000, 14, Rights::RW), 2, dest, Attr::Normal).unwrap();
            }
            // The first page was written by one, the third was read by another; the second and the fourth nobody has touched.
            assert!(mmu.access(2, 0x10_0000, true) && mmu.access(2, 0x80_2000, false));
            let mut pages = [Status::default(); 4];
            for (page, status) in (0..).zip(&mut pages) {
                let fpage = fpage(0x4000 + (page << 12), 12, Rights::W);
                let (mut at, mut steps) = (fpage.base(), 0);
                while !db.unmap_step(mmu, 1, fpage, false, &mut at, status, &mut Budget::new(1)) {
                    steps += 1;
                    mmu.check_quiet();
                    if helped && let Helped::Revoked(to, found) = db.help(mmu, &mut Budget::new(u32::MAX)) {
                        at = to;
                        let touched = status.touched + found.touched;
                        *status = Status { seen: status.seen | found.seen, touched };
                    }
                }
                assert!(steps > 0 && (helped || steps > 8), "{steps}");
                let again = db.unmap(mmu, 1, fpage.with_rights(Rights::NONE), false);
                assert_eq!(again, Status::default());
            }
            let seen = pages.map(|status| status.seen);
            assert_eq!(seen, [Rights::RW, Rights::NONE, Rights::R, Rights::NONE]);
            assert!(pages.iter().all(|status| status.touched == 8));
        });
    }
}

#[test]
fn what_is_promised_to_items_nobody_else_gets() {
    with_db(|db, mmu| {
        let items = |page: u64| Transfer {
            src: fpage(RAM + (page << 12), 12, Rights::R),
            dest: page << 30,
            attr: Attr::Normal,
            grant: false,
        };
        let items = [items(0), items(2), items(3), items(4)];
        let planned = db.plan_items(mmu, 0, 1, &items, &mut Budget::new(u32::MAX));
        assert_eq!(planned, Outcome::Planned);
        let mut outcome = db.commit_items(mmu, &mut Budget::new(1));
        assert_eq!(outcome, Outcome::Again);
        // The kernel's own pages are mapped meanwhile, until there is no table any more.
        let mut taken = 0;
        while db.map_pinned(2, taken << 30, 0x7000, false).is_ok() {
            taken += 1;
        }
        assert!(taken > 0 && db.stats().free_tables > 0);
        while outcome == Outcome::Again {
            outcome = match db.help(mmu, &mut Budget::new(1)) {
                Helped::Items(outcome) => outcome,
                _ => Outcome::Again,
            };
        }
        assert_eq!(outcome, Outcome::Done(Mapped { pages: 4 }));
        assert!(items.iter().all(|item| db.lookup(1, item.dest).is_some()));
    });
}

#[test]
fn a_large_leaf_replaces_an_empty_table() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 12, Rights::R), 1, 0x20_0000, Attr::Normal).unwrap();
        assert!(mmu.access(1, 0x20_0000, false));
        db.unmap(mmu, 0, fpage(RAM, 12, Rights::RWX), false);
        db.map(mmu, 0, fpage(RAM, 21, Rights::R), 1, 0x20_0000, Attr::Normal).unwrap();
        assert_eq!(db.lookup(1, 0x20_0000).unwrap().bits, 21);
        assert!(mmu.access(1, 0x20_0000, false));
    });
}

/// A kernel entry has a budget of a given size, always the same: who stops must get on with the next one.
#[test]
fn a_part_of_a_gigabyte_is_taken_away_in_steps_of_one_size() {
    const PAGE: u64 = 1 << 12;
    const PIECE: u64 = 2 << 20;
    let parts = [(0, 12), (PIECE - PAGE, 12), (3 * PIECE, 21), (0, 25), (7 * PIECE + (1 << 16), 16)];
    for (units, flush) in [(1, true), (1, false), (210, true), (210, false)] {
        with_db(|db, mmu| {
            db.map(mmu, 0, fpage(RAM, 30, Rights::RW), 1, 1 << 30, Attr::Normal).unwrap();
            // Each twice: the second time nothing is there.
            for (offset, bits) in parts.into_iter().chain(parts) {
                let (slot, base) = if flush { (1, 1 << 30) } else { (0, RAM) };
                let range = fpage(base + offset, bits, Rights::RWX);
                let (mut at, mut status, mut steps) = (range.base(), Status::default(), 0);
                while !db.unmap_step(mmu, slot, range, flush, &mut at, &mut status, &mut Budget::new(units)) {
                    steps += 1;
                    assert!(steps < 20_000, "{units} units, flush {flush}, offset {offset:#x}, {bits} bits");
                }
                assert!(!mmu.access(1, (1 << 30) + offset, false));
            }
            assert!(mmu.access(1, (1 << 30) + 20 * PIECE, false), "the rest is there");
        });
    }
}

/// Where nothing is left, a step does not look for pieces for ever.
#[test]
fn looking_for_pieces_takes_steps() {
    const PAGE: u64 = 1 << 12;
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 30, Rights::RW), 1, 1 << 30, Attr::Normal).unwrap();
        let mut unmap = |slot, range: Fpage| {
            let (mut at, mut status, mut steps) = (range.base(), Status::default(), 1);
            while !db.unmap_step(mmu, slot, range, slot == 1, &mut at, &mut status, &mut Budget::new(210)) {
                steps += 1;
            }
            steps
        };
        // Of the first 2 MiB the last page stays, of the others of this half nothing.
        (1..256).for_each(|piece| _ = unmap(1, fpage((1 << 30) + (piece << 21), 21, Rights::RWX)));
        (0..511).for_each(|page| _ = unmap(1, fpage((1 << 30) + page * PAGE, 12, Rights::RWX)));
        let steps = unmap(0, fpage(RAM, 29, Rights::W));
        assert!((11..20).contains(&steps), "{steps} steps");
    });
}
