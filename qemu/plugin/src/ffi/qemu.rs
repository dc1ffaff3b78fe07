//! QEMU as the instrument sees it: registers, memory, translation, turns.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::Host;

use super::functions::{ByteArray, Handle};
use super::{State, fail, register};

/// QEMU, for the instrument.
pub(super) struct Qemu<'a>(pub(super) &'a State);

impl Qemu<'_> {
    fn cpu(&self, number: u16) -> Handle {
        // SAFETY: QEMU looks the number up in its list and gives null for one that is not there.
        let cpu = unsafe { (self.0.functions.qemu_get_cpu)(number.into()) };
        if cpu.is_null() { fail("a CPU that QEMU does not have") } else { cpu }
    }
}

impl Host for Qemu<'_> {
    fn register(&mut self, cpu: u16, number: u8) -> u64 {
        static BUFFER: AtomicUsize = AtomicUsize::new(0);
        let functions = &self.0.functions;
        if BUFFER.load(Ordering::Relaxed) == 0 {
            // SAFETY: it takes nothing and gives a new array, which is kept for good.
            BUFFER.store(unsafe { (functions.g_byte_array_new)() }.expose_provenance(), Ordering::Relaxed);
        }
        let buffer: Handle = std::ptr::with_exposed_provenance_mut(BUFFER.load(Ordering::Relaxed));
        // SAFETY: the array was made by GLib and is used by this thread only; the CPU is QEMU's; register numbers below 31 are
        // general ones, of which QEMU appends eight bytes. The data are read before anything else can change the array.
        unsafe {
            (functions.g_byte_array_set_size)(buffer, 0);
            let length = (functions.aarch64_cpu_gdb_read_register)(self.cpu(cpu), buffer, number.into());
            let array = &*buffer.cast::<ByteArray>();
            if length != 8 || array.length != 8 {
                fail("QEMU does not give a general register");
            }
            array.data.cast::<u64>().read_unaligned()
        }
    }

    fn read(&mut self, physical: u64) -> u64 {
        let mut word = 0u64;
        // SAFETY: QEMU writes eight bytes into `word`. The caller asks for RAM only, so no device notices.
        unsafe { (self.0.functions.cpu_physical_memory_rw)(physical, (&raw mut word).cast(), 8, false) };
        word
    }

    fn write(&mut self, physical: u64, word: u64) {
        let mut word = word;
        // SAFETY: QEMU reads eight bytes out of `word`. The caller names RAM only, so no device notices.
        unsafe { (self.0.functions.cpu_physical_memory_rw)(physical, (&raw mut word).cast(), 8, true) };
    }

    fn translate(&mut self, cpu: u16, address: u64) -> Option<u64> {
        // Attributes that nobody looks at: 4 bytes in 7.2, 8 in 10.0.
        let mut attributes = [0u64; 8];
        let page = address & !0xfff;
        // SAFETY: the CPU is QEMU's and is the one that executes, or is stopped; the attributes have room enough.
        let found = unsafe {
            (self.0.functions.cpu_get_phys_page_attrs_debug)(
                self.cpu(cpu),
                page,
                attributes.as_mut_ptr().cast(),
            )
        };
        (found != u64::MAX).then_some(found & !0xfff | address & 0xfff)
    }

    fn yield_turn(&mut self, cpu: u16) {
        // SAFETY: it sets flags that the CPU looks at after this block.
        unsafe { (self.0.functions.cpu_exit)(self.cpu(cpu)) };
    }

    fn start(&mut self) {
        // SAFETY: allowed in callbacks. It drops all callbacks and translations at the next safe point, and then calls `register`.
        unsafe { (self.0.functions.qemu_plugin_reset)(self.0.id, register) };
    }
}
