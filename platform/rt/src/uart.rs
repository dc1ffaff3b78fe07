//! The serial port, for the root program of cluster 0 alone: everybody else prints through it.
#![expect(unsafe_code, reason = "device registers at the address of the device tree")]

use core::fmt;
use core::ptr::NonNull;

use arm_pl011_uart::{PL011Registers, UniqueMmioPointer};
use skerry_abi::boot::BootInfo;

/// The PL011 (or nothing, if the machine has none), as the emulator and the loader left it: enabled.
pub struct Uart(Option<arm_pl011_uart::Uart<'static>>);

impl Uart {
    /// The port of the device tree.
    ///
    /// Called by the first thread of cluster 0: once to serve the console, and again only when that thread ends the run.
    pub fn new(boot: &BootInfo) -> Self {
        let registers =
            NonNull::new(core::ptr::with_exposed_provenance_mut::<PL011Registers>(boot.uart.base as usize));
        Self(registers.map(|registers| {
            // SAFETY: the kernel of cluster 0 maps the PL011's page, as a device, into its root space at this address; the
            // caller is the only thread that uses it (see above).
            arm_pl011_uart::Uart::new(unsafe { UniqueMmioPointer::new(registers) })
        }))
    }
    /// Writes bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let Some(uart) = &mut self.0 else { return };
        for &byte in bytes {
            while uart.is_tx_fifo_full() {
                core::hint::spin_loop();
            }
            uart.write_word(byte);
        }
    }
}

impl fmt::Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
