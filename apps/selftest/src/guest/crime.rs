//! What the victim does.
#![expect(unsafe_code, reason = "the point of these functions is to do what is not allowed")]

use core::arch::asm;
use core::hint::black_box;

use skerry_abi::layout::KERNEL_BASE;
use skerry_abi::syscall::exit;
use skerry_rt::{sys, task};

macro_rules! crimes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A misdeed.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u64)]
        pub(super) enum Crime { $($(#[$doc])* $variant,)* }
        impl Crime {
            const ALL: &[Self] = &[$(Self::$variant),*];
            /// Its name on the command line.
            pub(super) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

crimes! {
    /// None.
    Ok = "ok";
    /// Reads where the task has no region.
    FaultOutside = "fault-outside";
    /// Reads a register of the kernel.
    Privileged = "privileged";
    /// Jumps to the kernel.
    JumpKernel = "jump-kernel";
    /// Calls itself until the stack is used up.
    StackOverflow = "stack-overflow";
    /// Calls the kernel with a number that does not exist.
    UnknownSyscall = "unknown-syscall";
    /// Reads the kernel's memory.
    ReadKernel = "read-kernel";
    /// Writes to its own code.
    WriteCode = "write-code";
    /// Executes its own data.
    ExecData = "exec-data";
}

impl Crime {
    /// The crime with this name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|crime| crime.name() == name)
    }
}

/// Nobody's address.
const OUTSIDE: u64 = 0x7f_dead_b000;
/// The instruction `ret`, as data.
static DATA: u32 = 0xd65f_03c0;

fn read(address: u64) {
    // SAFETY: deliberately none: the access is expected to fault; if it does not, the value is thrown away.
    unsafe { core::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() };
}

fn jump(address: u64) {
    // SAFETY: deliberately none: the jump is expected to fault; if it does not, the code there is `ret`.
    unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) }
}

#[expect(unconditional_recursion, reason = "that is the crime")]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(frame[1] + 1) + black_box(frame)[2]
}

/// The victim: does it, and ends well if it could.
pub(super) extern "C" fn thread(which: u64) -> ! {
    match Crime::ALL.iter().find(|&&crime| crime as u64 == which) {
        None | Some(Crime::Ok) => {}
        Some(Crime::FaultOutside) => read(OUTSIDE),
        // SAFETY: deliberately none: the register does not exist for a program.
        Some(Crime::Privileged) => unsafe { asm!("mrs {}, sctlr_el1", out(reg) _) },
        Some(Crime::JumpKernel) => jump(KERNEL_BASE),
        Some(Crime::StackOverflow) => drop(black_box(recurse(0))),
        Some(Crime::UnknownSyscall) => drop(sys::unknown_call()),
        Some(Crime::ReadKernel) => read(KERNEL_BASE),
        Some(Crime::WriteCode) => {
            let code = (thread as *const ()).addr();
            // SAFETY: deliberately none: the write is expected to fault; if it does not, it changes nothing.
            unsafe { asm!("ldr {w:w}, [{a}]", "str {w:w}, [{a}]", w = out(reg) _, a = in(reg) code) }
        }
        Some(Crime::ExecData) => jump((&raw const DATA).addr() as u64),
    }
    task::exit(exit::PASS)
}
