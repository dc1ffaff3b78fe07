//! How programs begin, and how they panic.
#![expect(unsafe_code, reason = "the entry point is assembly; the program's hooks are linked by name")]

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::panic::PanicInfo;

const BOOT_STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(16))]
struct BootStack(UnsafeCell<[u8; BOOT_STACK_SIZE]>);

// SAFETY: only `_start` takes its address, as the stack of the one thread that is started without one (the root pager's first).
unsafe impl Sync for BootStack {}

static BOOT_STACK: BootStack = BootStack(UnsafeCell::new([0; BOOT_STACK_SIZE]));

// x0 is the argument. Frame and link register are cleared so that a backtrace ends here.
global_asm!(
    ".pushsection .text._start, \"ax\", %progbits",
    ".global _start",
    ".type _start, %function",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x9, sp",
    "cbnz x9, 1f",
    "adrp x9, {stack}",
    "add x9, x9, :lo12:{stack}",
    "mov x10, #{size}",
    "add x9, x9, x10",
    "mov sp, x9",
    "1: bl skerry_main",
    "brk #1",
    ".popsection",
    stack = sym BOOT_STACK,
    size = const BOOT_STACK_SIZE,
);

unsafe extern "C" {
    fn _start();
}

/// Address of `_start`, for starting further threads in the same space.
pub fn address() -> u64 {
    (_start as unsafe extern "C" fn() as *const ()).addr() as u64
}

unsafe extern "Rust" {
    safe fn skerry_panic(info: &PanicInfo<'_>) -> !;
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    skerry_panic(info)
}

/// Names the program's main function, `fn(u64) -> !`, and its panic hook, `fn(&PanicInfo) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path, panic = $panic:path) => {
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn skerry_main(argument: u64) -> ! {
                let main: fn(u64) -> ! = $main;
                main(argument)
            }
            #[unsafe(no_mangle)]
            fn skerry_panic(info: &core::panic::PanicInfo<'_>) -> ! {
                let hook: fn(&core::panic::PanicInfo<'_>) -> ! = $panic;
                hook(info)
            }
        };
    };
}
