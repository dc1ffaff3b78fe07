//! A program that changes itself, while all nodes have copies of its code.
#![expect(unsafe_code, reason = "words become code")]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{CODE, RegionKind};
use skerry_rt::{sys, task};

use super::crowd::{Failure, PAGES, cpus, ensure, join, page, spawn};

const ROUNDS: u64 = 12;

/// The round, and how many threads have called the code in it.
static ROUND: AtomicU64 = AtomicU64::new(0);
static CALLED: AtomicU64 = AtomicU64::new(0);
/// A thread has executed something else.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// `movz w0, #value; ret`.
const fn code(value: u64) -> u64 {
    0xd65f_03c0 << 32 | 0x5280_0000 | (value & 0xffff) << 5
}

/// Calls what lies at an address.
fn call(address: u64) -> u64 {
    // What was fetched before is fetched again.
    sys::sync_code(address, 0);
    // SAFETY: a function of two instructions, which this file has put there before anybody is told; it keeps the calling convention.
    let function: extern "C" fn() -> u64 = unsafe { core::mem::transmute(address as usize) };
    function()
}

extern "C" fn caller(_: u64) -> ! {
    let mut last = 0;
    loop {
        let round = ROUND.load(Ordering::SeqCst);
        if round == u64::MAX {
            task::exit(exit::PASS)
        }
        if round != last {
            if call(PAGES) != round || call(patched_address()) != round {
                FAILED.store(1, Ordering::SeqCst);
                task::exit(exit::FAIL)
            }
            last = round;
            CALLED.fetch_add(1, Ordering::SeqCst);
        }
        sys::wait();
    }
}

global_asm!(
    r#"
    // Code of the program itself, alone in its page.
    .pushsection .text.pager_test_patched, "ax"
    .balign 4096
    .global pager_test_patched
pager_test_patched:
    mov     w0, #0x77
    ret
    .balign 4096
    .popsection
"#
);

unsafe extern "C" {
    fn pager_test_patched() -> u64;
}

fn patched_address() -> u64 {
    (pager_test_patched as *const ()).addr() as u64
}

/// Writes other code to an address, and makes it what is fetched there, on all nodes.
fn write(address: u64, value: u64) -> Result<(), Failure> {
    let page_of = address & !(PAGE_SIZE - 1);
    ensure(task::protect(page_of, 1, Rights::RW)?.done == 1, "the program may not write its own code")?;
    page(address, 0)[0].store(code(value), Ordering::SeqCst);
    sys::sync_code(address, 8);
    ensure(task::protect(page_of, 1, Rights::RX)?.done == 1, "nor execute it afterwards")
}

pub(super) fn run(_: u64) -> Result<(), Failure> {
    task::region(PAGES, PAGE_SIZE, RegionKind::Global, CODE)?;
    ensure(call(patched_address()) == 0x77, "the program's own code is not what it was")?;
    // Never at a time.
    for page in [PAGES, patched_address()] {
        ensure(task::protect(page, 1, Rights::RWX)?.bad == 1, "code is writable and executable at a time")?;
    }
    let mut threads = [0; 64];
    let count = cpus().min(threads.len() as u64);
    for (index, number) in (0..count).zip(&mut threads) {
        *number = spawn(index, caller, index)?;
    }
    for round in 1..=ROUNDS {
        write(PAGES, round)?;
        write(patched_address(), round)?;
        // From the second round on every node has copies when it is written.
        ensure(task::replicate(PAGES, 1)?.done == 1, "code is not replicated")?;
        if round % 2 == 0 {
            task::replicate(patched_address(), 1)?;
        }
        CALLED.store(0, Ordering::SeqCst);
        ROUND.store(round, Ordering::SeqCst);
        while CALLED.load(Ordering::SeqCst) != count && FAILED.load(Ordering::SeqCst) == 0 {
            skerry_rt::ipc::pause(1000);
        }
        ensure(CALLED.load(Ordering::SeqCst) == count, "a node executes old code")?;
    }
    ROUND.store(u64::MAX, Ordering::SeqCst);
    threads[..count as usize].iter().try_for_each(|&number| join(number))
}
