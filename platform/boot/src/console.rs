//! The PL011, for error messages.
#![expect(unsafe_code, reason = "the driver wants to be told where the device is")]

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};

/// Where the `virt` machine has its PL011: for complaints about the device tree itself.
const DEFAULT_BASE: u64 = 0x900_0000;

static BASE: AtomicU64 = AtomicU64::new(DEFAULT_BASE);

/// Tells where the device tree says the PL011 is.
pub(crate) fn set_base(base: u64) {
    BASE.store(base, Relaxed);
}

/// The console.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let registers = core::ptr::with_exposed_provenance_mut::<PL011Registers>(BASE.load(Relaxed) as usize);
        let registers = NonNull::new(registers).ok_or(fmt::Error)?;
        // SAFETY: the address is that of a PL011 by the device tree (or by the machine's definition, before the tree is
        // read), it is not RAM, and nobody else drives it: no kernel runs while the loader prints, except after a
        // failed CPU_ON, when interleaved output is the worst that can happen.
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        for byte in text.bytes() {
            while uart.is_tx_fifo_full() {
                crate::arch::relax();
            }
            uart.write_word(byte);
        }
        Ok(())
    }
}
