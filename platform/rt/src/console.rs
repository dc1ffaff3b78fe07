//! Printing. Lines are the unit: the receiver puts the pieces of a long one together, so lines never tear.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use skerry_abi::ThreadId;
use skerry_ipc::{Chunk, console, level, pager};

use crate::ipc::Kernel;

/// Servers print through the root pager of cluster 0, applications through the pager of their CPU.
static THROUGH_PAGER: AtomicBool = AtomicBool::new(false);

/// From now on lines go through the pager of the thread's CPU: for applications, whose `start` page says who that is.
pub fn use_pager() {
    THROUGH_PAGER.store(true, Ordering::Relaxed);
}

/// One line on its way to the console.
#[derive(Default)]
struct Line(Chunk);

impl Line {
    fn flush(&mut self, last: bool) {
        let chunk = core::mem::take(&mut self.0);
        // Who cannot reach the console has nobody to tell.
        let _ = if THROUGH_PAGER.load(Ordering::Relaxed) {
            pager::Client::new(Kernel::<level::App>::new(), crate::start::my_pager()).log(last, chunk)
        } else {
            console::Client::new(Kernel::<level::Root>::new(), ThreadId::root(0)).write(
                last,
                ThreadId::NIL,
                chunk,
            )
        };
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            if self.0.is_full() {
                self.flush(false);
            }
            let count = self.0.push(bytes);
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// Prints one line; [`println!`](crate::println) is the convenient way.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line::default();
    // Only a broken Display implementation fails; what it wrote until then is printed.
    let _ = line.write_fmt(arguments);
    line.flush(true);
}

/// Prints one line through the console server.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print_line(core::format_args!($($arg)*)) };
}
