//! What a kernel does with the boot information: its root space and the first thread.

use crate::birth::NewThread;
use crate::hal::Hal;
use crate::kernel::Kernel;
use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::id::domain;
use skerry_abi::layout::BOOT_INFO_BASE;
use skerry_abi::{Error, Fpage, Rights, ThreadId};
use skerry_mapping_db::Attr;

/// Priority of the first root thread.
const ROOT_PRIORITY: u8 = 220;

impl<H: Hal> Kernel<'_, H> {
    /// Creates the cluster's root space and its first thread, and makes it ready. `info_pa` is where this
    /// cluster's copy of the boot information lies.
    ///
    /// # Errors
    /// [`Error::OutOfKernelMemory`] if the heap is too small for the machine's memory.
    pub fn start_root(&mut self, info: &BootInfo, info_pa: u64) -> Result<(), Error> {
        let space = self.create_space(domain::ROOT, true)?.slot();
        for memory in info.memory() {
            let mut rest = memory.range;
            // What the kernels own is left out; the kernel ranges inside one memory range come in any order.
            while rest.size != 0 {
                let kernels = info.clusters().iter().flat_map(|c| c.kernel_memory());
                let next =
                    kernels.filter(|k| k.base < rest.end() && k.end() > rest.base).min_by_key(|k| k.base);
                let end = next.map_or(rest.end(), |k| k.base.max(rest.base));
                self.map_identity(space, Range { base: rest.base, size: end - rest.base })?;
                let start = next.map_or(rest.end(), |k| k.end().min(rest.end()));
                rest = Range { base: start, size: rest.end() - start };
            }
        }
        let cluster = &info.clusters()[usize::from(self.cluster)];
        for segment in cluster.root.iter().filter(|s| s.size != 0) {
            let rights = Rights::from_bits(segment.rights);
            self.map_pages(space, segment.va, segment.pa, segment.size, rights, Attr::Normal)?;
        }
        self.map_pages(
            space,
            BOOT_INFO_BASE,
            info_pa,
            size_of::<BootInfo>() as u64,
            Rights::R,
            Attr::Normal,
        )?;
        if self.cluster == 0 {
            self.map_pages(space, info.uart.base, info.uart.base, PAGE_SIZE, Rights::RW, Attr::Device)?;
        }
        self.hal.publish();
        let new = NewThread {
            space,
            cpu: cluster.first_cpu,
            pager: ThreadId::NIL,
            handler: ThreadId::NIL,
            utcb_slot: 0,
            priority: ROOT_PRIORITY,
        };
        let id = self.create_thread(new)?;
        self.publish_free();
        let t = self.find(id).ok_or(Error::NoSuchThread)?;
        self.start_thread(t, cluster.root_entry, 0, u64::from(self.cluster))
    }

    fn map_identity(&mut self, space: u16, range: Range) -> Result<(), Error> {
        let mut at = range.base;
        while let Some(block) = Fpage::largest_block(at, range.end(), at, Rights::RWX) {
            self.db.map_root(space, at, at, block.bits(), Rights::RWX, Attr::Normal)?;
            at = block.end();
        }
        Ok(())
    }

    fn map_pages(
        &mut self,
        space: u16,
        va: u64,
        pa: u64,
        size: u64,
        rights: Rights,
        attr: Attr,
    ) -> Result<(), Error> {
        for offset in (0..size).step_by(PAGE_SIZE as usize) {
            self.db.map_root(space, va + offset, pa + offset, PAGE_BITS, rights, attr)?;
        }
        Ok(())
    }
}
