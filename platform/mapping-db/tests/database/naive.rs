//! The naive model: a map from (space, page) to what is mapped there. No trees, no tables, no sizes.
//!
//! It only follows a grid of pages. Operations on less than 64 KiB begin at pages 0 to 3 of the first or second group of a block, so
//! page 7 stands for all other pages of a group; those on less than 2 MiB begin at one of these groups, so page 40 stands for all other
//! groups; and those on less than 1 GiB at blocks 0 to 3 of a region, so block 9 stands for all other blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use skerry_abi::{Error, Fpage, Rights};
use skerry_mapping_db::Attr;

pub(crate) const REGIONS: [u64; 3] = [1, 2, 3];
pub(crate) const BLOCKS: [u64; 5] = [0, 1, 2, 3, 9];
pub(crate) const PAGES: [u64; 11] = [0, 1, 2, 3, 16, 17, 18, 19, 7, 23, 40];
/// So many of them are where something can begin.
pub(crate) const STARTS: usize = 8;
/// Pages of the grid.
pub(crate) const SIZE: usize = REGIONS.len() * BLOCKS.len() * PAGES.len();

pub(crate) fn grid() -> impl Iterator<Item = u64> {
    REGIONS.iter().flat_map(|region| {
        BLOCKS
            .iter()
            .flat_map(move |block| PAGES.iter().map(move |page| region << 30 | block << 21 | page << 12))
    })
}

type Key = (u16, u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Page {
    pub(crate) frame: u64,
    pub(crate) rights: Rights,
    pub(crate) attr: Attr,
    pub(crate) parent: Option<Key>,
    /// Accessed, written: by its own space; by what is gone below and was not told; by what was told to its own space, but
    /// not to those above.
    pub(crate) used: [bool; 2],
    pub(crate) history: [bool; 2],
    pub(crate) past: [bool; 2],
}

#[derive(Clone, Default, Debug)]
pub(crate) struct Naive {
    pub(crate) pages: BTreeMap<Key, Page>,
}

fn merge(into: &mut [bool; 2], from: [bool; 2]) {
    into[0] |= from[0];
    into[1] |= from[1];
}

impl Naive {
    pub(crate) fn root(&mut self, va: u64, bits: u32, frame: u64, rights: Rights, attr: Attr) {
        let fpage = Fpage::new(va, bits, rights).unwrap();
        for at in grid().filter(|&at| fpage.contains(at)) {
            let page = Page {
                frame: frame + (at - va),
                rights,
                attr,
                parent: None,
                used: [false; 2],
                history: [false; 2],
                past: [false; 2],
            };
            self.pages.insert((0, at), page);
        }
    }
    pub(crate) fn map(&mut self, from: u16, src: Fpage, to: u16, dest: u64, attr: Attr) -> Result<(), Error> {
        let mut found = Vec::new();
        for at in grid().filter(|&at| src.contains(at)) {
            let Some(source) = self.pages.get(&(from, at)) else { continue };
            let target = (to, dest + (at - src.base()));
            let (parent, attr) = (Some((from, at)), attr.max(source.attr));
            if self.pages.get(&target).is_some_and(|there| (there.parent, there.attr) != (parent, attr)) {
                return Err(Error::AlreadyMapped);
            }
            let rights = (src.rights() | Rights::R) & source.rights;
            let [used, history, past] = [[false; 2]; 3];
            found.push((target, Page { frame: source.frame, rights, attr, parent, used, history, past }));
        }
        if found.is_empty() {
            return Err(Error::NothingMapped);
        }
        for (key, page) in found {
            self.pages
                .entry(key)
                .and_modify(|there| there.rights = there.rights | page.rights)
                .or_insert(page);
        }
        Ok(())
    }
    /// Moves pages that the database has found to be whole mappings.
    pub(crate) fn grant(&mut self, from: u16, src: Fpage, to: u16, dest: u64) {
        for at in grid().filter(|&at| src.contains(at)) {
            let (old, new) = ((from, at), (to, dest + (at - src.base())));
            let Some(mut page) = self.pages.remove(&old) else { continue };
            let withheld = page.rights.without(src.rights());
            for below in self.below(old) {
                let child = self.pages.get_mut(&below).unwrap();
                if !(child.rights & withheld).is_empty() {
                    child.rights = child.rights.without(withheld);
                    merge(&mut page.history, child.used);
                    merge(&mut page.history, child.history);
                    merge(&mut page.history, child.past);
                    [child.used, child.history, child.past] = [[false; 2]; 3];
                }
            }
            merge(&mut page.history, page.used);
            merge(&mut page.history, page.past);
            [page.used, page.past] = [[false; 2]; 2];
            page.rights = page.rights & (src.rights() | Rights::R);
            self.pages
                .values_mut()
                .filter(|child| child.parent == Some(old))
                .for_each(|child| child.parent = Some(new));
            assert!(self.pages.insert(new, page).is_none());
        }
    }
    /// Returns at least what must be reported.
    pub(crate) fn unmap(&mut self, space: u16, fpage: Fpage, flush: bool, roots_too: bool) -> [bool; 2] {
        self.unmap_range(space, fpage.base()..fpage.end(), fpage.rights(), flush, roots_too)
    }
    pub(crate) fn unmap_range(
        &mut self,
        space: u16,
        range: Range<u64>,
        r: Rights,
        flush: bool,
        roots_too: bool,
    ) -> [bool; 2] {
        let mut told = [false; 2];
        for at in grid().filter(|at| range.contains(at)) {
            let key = (space, at);
            let Some(&own) = self.pages.get(&key) else { continue };
            let mut seen = own.history;
            let mut concerned = self.below(key);
            self.pages.get_mut(&key).unwrap().history = [false; 2];
            if flush && (own.parent.is_some() || roots_too) {
                concerned.push(key);
            }
            for other in concerned {
                let page = self.pages.get_mut(&other).unwrap();
                let rights = page.rights;
                if !r.is_empty() && (rights & r).is_empty() {
                    continue;
                }
                merge(&mut seen, page.used);
                merge(&mut seen, page.history);
                merge(&mut seen, page.past);
                [page.used, page.history, page.past] = [[false; 2]; 3];
                page.rights = rights.without(r);
                if r.contains(Rights::R) {
                    self.pages.remove(&other);
                }
            }
            if let Some(own) = self.pages.get_mut(&key) {
                merge(&mut own.past, seen);
            } else if let Some(parent) = own.parent.and_then(|parent| self.pages.get_mut(&parent)) {
                merge(&mut parent.history, seen);
            }
            merge(&mut told, seen);
        }
        told
    }
    fn below(&self, top: Key) -> Vec<Key> {
        let mut all = Vec::new();
        let mut open = vec![top];
        while let Some(key) = open.pop() {
            let children =
                self.pages.iter().filter(|(_, page)| page.parent == Some(key)).map(|(&key, _)| key);
            let children: Vec<_> = children.collect();
            all.extend(&children);
            open.extend(children);
        }
        all
    }
}
