//! Several single pages of one message.

use skerry_abi::Rights;
use skerry_mapping_db::{Attr, MappingDb, Pairs};
use std::sync::atomic::AtomicU64;

use crate::golden::{fpage, with_db};
use crate::mmu::Mmu;

const RAM: u64 = 0x8000_0000;
const BLOCK: u64 = 0x20_0000;
const HERE: u64 = 0x60_0000;

/// Pairs of words for pages of the block, by number, to places by number.
fn pairs(pages: &[(u64, u64)]) -> Vec<u64> {
    let pair =
        |&(from, to): &(u64, u64)| [fpage(BLOCK + (from << 12), 12, Rights::RW).word(), HERE + (to << 12)];
    pages.iter().flat_map(pair).collect()
}

fn map(db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>, pages: &[(u64, u64)]) -> Option<u32> {
    let words = pairs(pages);
    let pairs = Pairs { first: [words[0], words[1]], joined: &words[2..], more: &[], flags: 0 };
    db.map_pages(mmu, 1, 2, &pairs)
}

#[test]
fn all_of_them_or_none() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
        // There is no table yet.
        assert_eq!(map(db, mmu, &[(0, 0), (1, 1)]), None);
        db.map(mmu, 1, fpage(BLOCK, 12, Rights::RW), 2, HERE + 0x7000, Attr::Normal).unwrap();
        let before = (db.used(2), db.stats());
        let refused: [&[(u64, u64)]; 5] = [
            // Something is there; not in this order; twice; another table; a hole.
            &[(1, 5), (2, 6), (3, 7)],
            &[(1, 5), (2, 4)],
            &[(1, 5), (2, 5)],
            &[(1, 5), (2, 512)],
            &[(1, 5), (0, 6), (600, 8)],
        ];
        for pages in refused {
            assert_eq!(map(db, mmu, pages), None, "{pages:?}");
            assert_eq!((db.used(2), db.stats()), before, "{pages:?}");
            assert!(db.lookup(2, HERE + 0x5000).is_none());
        }
        // The words come in pieces, with flags in the second of each pair.
        let (first, mut others) = (pairs(&[(9, 0)]), pairs(&[(4, 2), (4, 3), (8, 8)]));
        others.iter_mut().skip(1).step_by(2).for_each(|dest| *dest |= 4);
        let (joined, more) = others.split_at(2);
        let more: Vec<_> = more.iter().map(|&word| AtomicU64::new(word)).collect();
        let pairs = Pairs { first: [first[0], first[1]], joined, more: &more, flags: 4 };
        assert_eq!(db.map_pages(mmu, 1, 2, &pairs), Some(4));
        for (from, to) in [(9, 0), (4, 2), (4, 3), (8, 8), (0, 7)] {
            let found = db.lookup(2, HERE + (to << 12)).unwrap();
            assert_eq!((found.pa, found.rights), (RAM + (from << 12), Rights::RW));
            assert!(mmu.access(2, HERE + (to << 12), true));
        }
        assert_eq!(db.used(2).nodes, before.0.nodes + 4);
        // They go one by one, and with what they were derived from.
        db.unmap(mmu, 1, fpage(BLOCK + 0x4000, 12, Rights::RWX), false);
        assert!(db.lookup(2, HERE + 0x2000).is_none() && db.lookup(2, HERE + 0x3000).is_none());
        db.unmap(mmu, 0, fpage(RAM, 21, Rights::RWX), false);
        assert_eq!((db.lookup(2, HERE), db.used(2).nodes), (None, 0));
    });
}

/// A space that is destroyed leaves behind how the pages of a block were used. Pages of that block still go the short way, and are told
/// what the general way tells.
#[test]
fn what_a_space_left_behind_keeps_nobody_from_the_short_way() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, BLOCK, Attr::Normal).unwrap();
        let page = |number: u64| BLOCK + (number << 12);
        let give = |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>, number: u64, to: u16| {
            let dest = HERE + (number << 12);
            db.map(mmu, 1, fpage(page(number), 12, Rights::RW), to, dest, Attr::Normal).unwrap();
        };
        db.space_create(3, 9).unwrap();
        mmu.add_root(3, db.root_table(3));
        give(db, mmu, 0, 3);
        assert!(mmu.access(3, HERE, true));
        db.space_destroy(3, mmu);
        // Nobody knows any more which page it was: all of the block may be written.
        for number in [1, 2] {
            give(db, mmu, number, 2);
        }
        let short = db.unmap_page(mmu, 1, page(1)).unwrap();
        assert!(short.0 && short.1.touched == 1 && db.lookup(2, HERE + 0x1000).is_none());
        let general = db.unmap(mmu, 1, fpage(page(2), 12, Rights::W), false);
        assert_eq!((short.1.seen, general.seen), (Rights::RW, Rights::RW));
        let none = db.unmap_page(mmu, 1, page(5)).unwrap();
        assert_eq!((none.0, none.1.seen, none.1.touched), (true, Rights::RW, 0));
        // Who asks for the whole block hears it once.
        assert_eq!(db.unmap(mmu, 1, fpage(BLOCK, 21, Rights::RWX), false).seen, Rights::RW);
        give(db, mmu, 3, 2);
        assert_eq!(db.unmap_page(mmu, 1, page(3)).unwrap().1.seen, Rights::NONE);
    });
}
