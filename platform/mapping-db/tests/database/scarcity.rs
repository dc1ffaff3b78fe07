//! Every allocation of the database fails once: room for none, one, two … more tables or nodes, until the operation succeeds. (The
//! kernel's tests do the same with whole system calls.)

use skerry_abi::{Error, Fpage, Rights};
use skerry_mapping_db::{Attr, MappingDb, Quota, Transfer};

use crate::golden::{fpage, with_db, with_room};
use crate::mmu::Mmu;

const RAM: u64 = 0x8000_0000;
const FAR: u64 = 0x20_0000_0000;

/// Every mapping there is.
fn tree(db: &MappingDb<'_>) -> String {
    (0..512).map(|block| db.dump(0, RAM + (block << 21)).to_string()).collect()
}

/// Tries it with more and more room; returns how often it failed for want of tables, of nodes, and of quota.
fn failures(
    prepare: impl Fn(&mut MappingDb<'_>, &mut Mmu<'_>),
    attempt: impl Fn(&mut MappingDb<'_>, &mut Mmu<'_>) -> Result<(), Error>,
) -> [usize; 4] {
    let mut used = (0, 0);
    with_db(|db, mmu| {
        let all = db.stats();
        prepare(db, mmu);
        used = (all.free_tables - db.stats().free_tables, all.free_nodes - db.stats().free_nodes);
        // What there was before: root tables and the RAM of space 0, and object 0.
        used = (used.0 + 600 - all.free_tables, used.1 + 1200 - all.free_nodes);
    });
    let used = (used.0 as usize, used.1 as usize);
    let once = |tables: usize, nodes: usize, quota: Option<Quota>| {
        let mut result = Ok(());
        with_room(tables, nodes, |db, mmu| {
            prepare(db, mmu);
            if let Some(Quota { tables, nodes }) = quota {
                let used = db.used(1);
                let quota = Quota {
                    tables: used.tables.saturating_add(tables),
                    nodes: used.nodes.saturating_add(nodes),
                };
                db.set_quota(1, quota).unwrap();
            }
            let before = (tree(db), db.stats(), db.used(1), db.used(2));
            result = attempt(db, mmu);
            if result.is_err() {
                assert_eq!((tree(db), db.stats(), db.used(1), db.used(2)), before);
            }
            mmu.check_quiet();
        });
        result
    };
    let count = |room: &dyn Fn(usize) -> Result<(), Error>| {
        let mut failed = 0;
        while let Err(error) = room(failed) {
            assert_eq!(error, Error::OutOfKernelMemory, "attempt {failed}");
            failed += 1;
            assert!(failed < 700);
        }
        failed
    };
    let quota = |tables, nodes| Some(Quota { tables, nodes });
    [
        count(&|spare| once(used.0 + spare, 1200, None)),
        count(&|spare| once(600, used.1 + spare, None)),
        count(&|spare| once(600, 1200, quota(spare as u32, u32::MAX))),
        count(&|spare| once(600, 1200, quota(u32::MAX, spare as u32))),
    ]
}

fn nothing(_: &mut MappingDb<'_>, _: &mut Mmu<'_>) {}

#[test]
fn a_gigabyte_has_all_the_tables_to_split_it_or_is_not_mapped() {
    let map = |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>| {
        db.map(mmu, 0, fpage(RAM, 30, Rights::RW), 1, FAR, Attr::Normal)?;
        // Splitting it to the last page takes nothing.
        for page in [0, 5, 511 << 9] {
            db.unmap(mmu, 0, fpage(RAM + (page << 12), 12, Rights::RWX), false);
        }
        assert!(db.lookup(1, FAR).is_none() && db.lookup(1, FAR + 0x1000).is_some());
        Ok(())
    };
    assert_eq!(failures(nothing, map), [513, 1, 513, 1]);
}

#[test]
fn mappings_of_each_size_in_all_places() {
    let at = |bits: u32| {
        let map = move |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>| {
            db.map(mmu, 0, fpage(RAM, bits, Rights::RW), 1, FAR, Attr::Normal).map(drop)
        };
        failures(nothing, map)
    };
    // Two tables on the way, and one for the giver to know where in its gigabyte they are.
    assert_eq!(at(12), [3, 1, 2, 1]);
    assert_eq!(at(15), [3, 8, 2, 8]);
    // A group is one mapping, and splits in place.
    assert_eq!(at(16), [3, 1, 2, 1]);
    assert_eq!(at(18), [3, 4, 2, 4]);
    // One on the way, one to split it.
    assert_eq!(at(21), [3, 1, 2, 1]);
    assert_eq!(at(24), [10, 8, 9, 8]);
}

#[test]
fn a_group_of_items_is_mapped_or_not() {
    let item = |page: u64, dest, grant| {
        let src = Fpage::new(0x1000_0000 + (page << 12), 12, Rights::RW).unwrap();
        Transfer { src, dest, attr: Attr::Normal, grant }
    };
    let prepare = |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>| {
        for page in 0..4 {
            let src = fpage(RAM + (page << 12), 12, Rights::RW);
            db.map(mmu, 0, src, 2, 0x1000_0000 + (page << 12), Attr::Normal).unwrap();
        }
    };
    let group = |db: &mut MappingDb<'_>, mmu: &mut Mmu<'_>| {
        // In ascending order: tables that items share are counted once then.
        let items = [
            item(0, FAR, false),
            item(2, FAR + 0x1000, false),
            item(1, FAR + (1 << 30), true),
            item(3, FAR + (2 << 30), true),
        ];
        db.map_items(mmu, 2, 1, &items).map(drop)
    };
    assert_eq!(failures(prepare, group), [6, 2, 6, 4]);
}
