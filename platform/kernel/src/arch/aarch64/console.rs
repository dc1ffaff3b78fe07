//! The last words of a kernel. Everything else is printed at user level.

use super::registers::physical;
use super::start::boot_info;
use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::ptr::NonNull;
use skerry_abi::layout::PHYSMAP;
use skerry_abi::syscall::exit;

struct Words(Option<Uart<'static>>);

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match &mut self.0 {
            Some(uart) => uart.write_str(text),
            None => Err(fmt::Error),
        }
    }
}

/// Prints what happened as one readable line and one JSON line. `code` is the exit code that will follow.
pub(super) fn report(who: &str, what: fmt::Arguments<'_>, code: u64) {
    let mut words = Words(uart());
    let verdict = if code == exit::SERVER_FAULT { "server-fault" } else { "kernel-panic" };
    // Nothing is left to be done if the console fails.
    _ = writeln!(words, "\nskerry-{who}: {what}");
    _ = write!(words, "{{\"verdict\":\"{verdict}\",\"reason\":\"");
    _ = write!(Escaped(&mut words), "{what}");
    _ = writeln!(words, "\"}}");
}

/// Escapes what JSON strings cannot hold.
struct Escaped<'a>(&'a mut Words);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                c if c.is_control() => self.0.write_char(' ')?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[expect(unsafe_code, reason = "device registers")]
fn uart() -> Option<Uart<'static>> {
    let info = boot_info()?;
    let registers = NonNull::new((PHYSMAP + info.uart.base) as *mut PL011Registers)?;
    debug_assert_eq!(physical(registers.as_ptr() as u64), info.uart.base);
    // SAFETY: the boot loader maps the PL011 there as device memory. The root pager of cluster 0 uses it too; the kernel does
    // only when the run is over, so at worst two lines mix.
    Some(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
}
