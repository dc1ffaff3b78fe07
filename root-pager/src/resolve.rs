//! What a server's page fault is answered with.

use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::layout::BOOT_INFO_BASE;
use skerry_abi::{Fpage, MapItem, Rights};
use skerry_rt::image::Image;
use skerry_rt::start::{START_BASE, without};

use crate::layout::{STACK_STRIDE, START_BYTES};

/// What one server may see.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its program.
    pub image: &'a Image,
    /// The frames the program was loaded to: the parts one behind the other.
    pub frames: u64,
    /// Its stacks, at their own address.
    pub stacks: Range,
    /// The frames of its start page.
    pub start: u64,
    /// Whether it sees all pools of the machine, at their own addresses: the app pager.
    pub pools: bool,
    /// What was taken from the pools, by cluster.
    pub taken: &'a [Range],
}

fn page(frame: u64, dest: u64, rights: Rights) -> Option<MapItem> {
    Fpage::new(frame, PAGE_BITS, rights).map(|fpage| MapItem { fpage, dest })
}

fn identity(start: u64, end: u64, address: u64, rights: Rights) -> Option<MapItem> {
    Fpage::largest_block(start, end, address, rights).map(|fpage| MapItem { fpage, dest: fpage.base() })
}

impl View<'_> {
    /// The mapping for an access to `address`, or `None` if the server has no business there.
    pub fn resolve(&self, boot: &BootInfo, address: u64, access: Rights) -> Option<MapItem> {
        let item = self.find(boot, address)?;
        // Pool memory is given with all rights, for delegation; code comes to the pager through its image only.
        let installed = item.fpage.rights();
        let installed = if installed == Rights::RWX { Rights::RW } else { installed };
        installed.contains(access).then_some(item)
    }

    fn find(&self, boot: &BootInfo, address: u64) -> Option<MapItem> {
        let at = address & !(PAGE_SIZE - 1);
        let mut frame = self.frames;
        for part in self.image.parts() {
            if (part.va..part.end()).contains(&address) {
                return page(frame + (at - part.va), at, part.rights);
            }
            frame += part.pages * PAGE_SIZE;
        }
        if (START_BASE..START_BASE + START_BYTES).contains(&address) {
            return page(self.start + (at - START_BASE), at, Rights::R);
        }
        if (BOOT_INFO_BASE..BOOT_INFO_BASE + size_of::<BootInfo>() as u64).contains(&address) {
            return page(at, at, Rights::R);
        }
        if self.stacks.contains(address) {
            let guard = (at - self.stacks.base).is_multiple_of(STACK_STRIDE);
            return if guard { None } else { page(at, at, Rights::RW) };
        }
        if !self.pools {
            return None;
        }
        let archive_end = boot.archive.end().next_multiple_of(PAGE_SIZE);
        if (boot.archive.base..archive_end).contains(&address) {
            return identity(boot.archive.base & !(PAGE_SIZE - 1), archive_end, address, Rights::R);
        }
        let pool = boot.pools().iter().find(|pool| pool.range.contains(address))?;
        let taken = self.taken.get(usize::from(pool.cluster)).copied().unwrap_or_default();
        let piece = without(pool.range, taken).into_iter().find(|piece| piece.contains(address))?;
        identity(piece.base, piece.end(), address, Rights::RWX)
    }
}
