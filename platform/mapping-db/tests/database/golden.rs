//! Mapping trees as a reviewer can read them.

use skerry_abi::{Error, Fpage, Rights};
use skerry_mapping_db::{Attr, HwTable, MappingDb, Node, SpaceTables, Transfer};

use crate::mmu::{Mmu, TABLES_PA};

const RAM: u64 = 0x8000_0000;

/// A database with 600 tables, three empty spaces, and 1 GiB of RAM as root in space 0.
pub(crate) fn with_db(test: impl FnOnce(&mut MappingDb<'_>, &mut Mmu<'_>)) {
    with_room(600, 1200, test);
}

/// The same with room for fewer objects.
pub(crate) fn with_room(count: usize, nodes: usize, test: impl FnOnce(&mut MappingDb<'_>, &mut Mmu<'_>)) {
    let tables: Vec<HwTable> = (0..count).map(|_| HwTable::new()).collect();
    let (mut shadow, mut nodes) = (vec![[0; 512]; count], vec![Node::default(); nodes]);
    let mut spaces = [SpaceTables::default(); 4];
    let mut db = MappingDb::new(&tables, TABLES_PA, &mut shadow, &mut nodes, &mut spaces);
    let mut mmu = Mmu::new(&tables, true);
    let everything = db.stats();
    for space in 0..3 {
        db.space_create(space, 600).unwrap();
        mmu.add_root(space, db.root_table(space));
    }
    db.map_root(0, RAM, RAM, 30, Rights::RWX, Attr::Normal).unwrap();
    test(&mut db, &mut mmu);
    mmu.check_quiet();
    (0..3).for_each(|space| db.space_destroy(space, &mut mmu));
    assert_eq!(db.stats(), everything);
}

pub(crate) fn fpage(base: u64, bits: u32, rights: Rights) -> Fpage {
    Fpage::new(base, bits, rights).unwrap()
}

#[test]
fn a_tree_of_all_sizes() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, 0x20_0000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x20_3000, 12, Rights::R), 2, 0x5000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x20_0000, 21, Rights::RW), 2, 0x4000_0000, Attr::Normal).unwrap();
        db.map(mmu, 0, fpage(RAM + 0x3000, 12, Rights::RWX), 2, 0x2000, Attr::Normal).unwrap();
        assert_eq!(
            db.dump(0, RAM).to_string(),
            "0: space=0 vaddr=0x80000000 size=1G rwx\n\
             1: => space=2 vaddr=0x2000 size=4K rwx\n\
             1: => space=1 vaddr=0x200000 size=2M rw-\n\
             2:   => space=2 vaddr=0x40000000 size=2M rw-\n\
             2:   => space=2 vaddr=0x5000 size=4K r--\n"
        );
    });
}

#[test]
fn unmapping_a_page_splits_what_is_larger_and_spares_the_rest() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 21, Rights::RWX), 1, 0x20_0000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x20_0000, 21, Rights::RW), 2, 0x4000_0000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x20_3000, 12, Rights::R), 2, 0x5000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x20_4000, 12, Rights::R), 2, 0x6000, Attr::Normal).unwrap();
        db.unmap(mmu, 1, fpage(0x20_3000, 12, Rights::RWX), false);
        assert_eq!(
            db.dump(1, 0x20_0000).to_string(),
            "0: space=1 vaddr=0x200000 size=2M rwx\n\
             1: => space=2 vaddr=0x40000000 size=2M rw- split, 511 pages left\n\
             1: => space=2 vaddr=0x6000 size=4K r--\n"
        );
        db.unmap(mmu, 0, fpage(RAM, 30, Rights::W), false);
        assert_eq!(
            db.dump(0, RAM).to_string(),
            "0: space=0 vaddr=0x80000000 size=1G rwx\n\
             1: => space=1 vaddr=0x200000 size=2M r-x\n\
             2:   => space=2 vaddr=0x40000000 size=2M r-- split, 511 pages left\n\
             2:   => space=2 vaddr=0x6000 size=4K r--\n"
        );
    });
}

#[test]
fn a_gibibyte_splits_down_to_a_page() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 30, Rights::RW), 1, 0x4000_0000, Attr::Normal).unwrap();
        db.unmap(mmu, 0, fpage(RAM + 0x20_1000, 12, Rights::RWX), false);
        assert_eq!(
            db.dump(0, RAM).to_string(),
            "0: space=0 vaddr=0x80000000 size=1G rwx\n\
             1: => space=1 vaddr=0x40000000 size=1G rw- split, 262143 pages left\n"
        );
        // The hole takes another mapping, and outlives the one around it.
        db.map(mmu, 0, fpage(RAM + 0x9000, 12, Rights::R), 1, 0x4020_1000, Attr::Normal).unwrap();
        db.unmap(mmu, 0, fpage(RAM + 0x4000_0000 / 2, 29, Rights::RWX), false);
        db.unmap(mmu, 0, fpage(RAM + 0x20_0000, 21, Rights::RWX), false);
        assert_eq!(db.lookup(1, 0x4020_1000).unwrap().pa, RAM + 0x9000);
        assert_eq!(db.lookup(1, 0x4020_2000), None);
        assert_eq!(db.dump(1, 0x4020_1000).to_string(), "0: space=1 vaddr=0x40201000 size=4K r--\n");
    });
}

#[test]
fn a_granted_page_takes_its_children_along() {
    with_db(|db, mmu| {
        db.map(mmu, 0, fpage(RAM, 12, Rights::RW), 1, 0x1000, Attr::Normal).unwrap();
        db.map(mmu, 1, fpage(0x1000, 12, Rights::RW), 2, 0x2000, Attr::Normal).unwrap();
        assert!(mmu.access(1, 0x1000, true) && mmu.access(2, 0x2000, false));
        let grant = |src, dest| Transfer { src, dest, attr: Attr::Normal, grant: true };
        db.map_items(mmu, 1, 2, &[grant(fpage(0x1000, 12, Rights::RW), 0x9000)]).unwrap();
        assert_eq!(
            db.dump(0, RAM).to_string(),
            "0: space=0 vaddr=0x80000000 size=1G rwx\n\
             1: => space=2 vaddr=0x9000 size=4K rw-\n\
             2:   => space=2 vaddr=0x2000 size=4K rw-\n"
        );
        assert_eq!((db.lookup(1, 0x1000), db.used(1).nodes), (None, 0));
        // Rights that are not granted are taken from below too; what was written before is told to those above.
        db.map_items(mmu, 2, 1, &[grant(fpage(0x9000, 12, Rights::R), 0x1000)]).unwrap();
        assert_eq!(
            db.dump(0, RAM).to_string(),
            "0: space=0 vaddr=0x80000000 size=1G rwx\n\
             1: => space=1 vaddr=0x1000 size=4K r--\n\
             2:   => space=2 vaddr=0x2000 size=4K r--\n"
        );
        assert!(db.unmap(mmu, 0, fpage(RAM, 12, Rights::NONE), false).seen.contains(Rights::W));
        // A part of a mapping, and a root, cannot be granted; a mapping with children gets no stricter.
        db.map(mmu, 0, fpage(RAM, 21, Rights::RW), 1, 0x20_0000, Attr::Normal).unwrap();
        let refused = [grant(fpage(0x20_1000, 12, Rights::RW), 0x9000)];
        assert_eq!(db.map_items(mmu, 1, 2, &refused), Err(Error::Refused));
        assert_eq!(
            db.map_items(mmu, 0, 2, &[grant(fpage(RAM, 30, Rights::RW), 1 << 30)]),
            Err(Error::Refused)
        );
        let stricter = Transfer { attr: Attr::Device, ..grant(fpage(0x1000, 12, Rights::R), 0x9000) };
        assert_eq!(db.map_items(mmu, 1, 2, &[stricter]), Err(Error::Refused));
    });
}
