//! The kernel's view of the hardware: TLB, barriers, doorbells, the end.
#![expect(unsafe_code, reason = "semihosting is a trap instruction")]

use super::registers::{dsb_ish, dsb_ishst, dsb_nsh, isb, read_sysreg, tlbi, wfi, write_sysreg};
use super::{cache, console, fp, gic, percpu, shootdown, timer, words};
use core::arch::asm;
use core::fmt;
use core::sync::atomic::AtomicU64;
use skerry_abi::boot::BootInfo;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{CpuId, Error, ThreadId};
use skerry_kernel::hal::Hal;
use skerry_kernel::shootdown::Invalidation;
use skerry_kernel::thread::{FP_WORDS, FpState};

/// This machine.
pub(super) struct Machine {
    pub(super) info: &'static BootInfo,
    /// What rings the doorbell of each CPU.
    pub(super) doorbells: &'static [u64],
    /// A time slice in steps of the counter.
    pub(super) tick_steps: u64,
    /// Bytes of a cache line.
    pub(super) line: u64,
}

impl Hal for Machine {
    fn now(&self) -> u64 {
        timer::now()
    }
    fn tick_end(&self) -> u64 {
        // Every CPU's slices begin at its own offset into the period, evenly spread over the CPUs: ticks do not pile up on the lock, and
        // in deterministic emulation, where a tick is what passes the turn on, every CPU gets the same share.
        let (now, cpus) = (timer::now(), u64::from(self.info.cpu_count.max(1)));
        let offset = percpu::with(|cpu| u64::from(cpu.cpu)) * self.tick_steps / cpus;
        (now.saturating_sub(offset) / self.tick_steps + 1) * self.tick_steps + offset
    }
    fn zero_words(&mut self, words: &[AtomicU64]) {
        super::registers::zero(words);
    }
    fn save_fp(&mut self, state: &mut FpState) {
        fp::release(state);
    }
    fn send_fp(&mut self, state: &mut FpState, packet: &[AtomicU64; FP_WORDS]) {
        fp::send(state, packet);
    }
    fn fp_owner(&self) -> ThreadId {
        percpu::with(|cpu| cpu.fp_owner)
    }
    fn forget_fp(&mut self) {
        fp::forget();
    }
    fn take_fp(&mut self, owner: ThreadId, packet: &[AtomicU64; FP_WORDS]) {
        fp::take(owner, packet);
    }
    #[inline(always)]
    fn kick(&mut self, cpu: CpuId) {
        if let Some(&bell) = self.doorbells.get(usize::from(cpu)) {
            gic::ring(bell);
        }
    }
    fn copy_words(&mut self, from: &[AtomicU64], to: &[AtomicU64]) {
        words::copy(from, to);
    }
    fn copy_out(&mut self, from: &[u64], to: &[AtomicU64]) {
        words::copy_out(from, to);
    }
    fn copy_in(&mut self, from: &[AtomicU64], to: &mut [u64]) {
        words::copy_in(from, to);
    }
    #[inline(always)]
    fn put_registers(&mut self, from: &[u64; REGISTER_WORDS], to: &[AtomicU64; REGISTER_WORDS]) {
        words::put(from, to);
    }
    #[inline(always)]
    fn take_registers(&mut self, from: &[AtomicU64; REGISTER_WORDS], to: &mut [u64; REGISTER_WORDS]) {
        words::take(from, to);
    }
    fn clean(&mut self, words: &[AtomicU64]) -> u64 {
        cache::clean(words, self.line)
    }
    fn invalidate(&mut self, words: &[AtomicU64]) -> u64 {
        cache::invalidate(words, self.line)
    }
    fn read_user(&mut self, ttbr0: u64, address: u64) -> u64 {
        let present = read_sysreg!("ttbr0_el1");
        write_sysreg!("ttbr0_el1", ttbr0);
        isb();
        let word: u64;
        // SAFETY: an unprivileged load (LDTR), so it reads what a program in that space could read, PAN or not, and nothing of the
        // kernel's: `address` is below USER_END. It does not fault: the caller has found the page in these tables, with the access
        // flag set, and holds the cluster lock, without which nobody takes it away.
        unsafe {
            asm!("ldtr {}, [{}]", out(reg) word, in(reg) address, options(nostack, preserves_flags, readonly))
        };
        write_sysreg!("ttbr0_el1", present);
        isb();
        word
    }
    fn publish(&mut self) {
        // The walker must see the new entry before the access that follows (D8.13.1).
        dsb_ishst();
        isb();
    }
    fn invalidate_page(&mut self, asid: u16, va: u64, broadcast: bool) {
        let operand = shootdown::operand(asid, va);
        // The entry was made invalid by a store: order it before the invalidation.
        dsb_ishst();
        if broadcast {
            tlbi!("vae1is", operand);
        } else {
            tlbi!("vae1", operand);
        }
    }
    fn invalidate_asid(&mut self, asid: u16, broadcast: bool) {
        let operand = u64::from(asid) << 48;
        dsb_ishst();
        if broadcast {
            tlbi!("aside1is", operand);
        } else {
            tlbi!("aside1", operand);
        }
    }
    fn claim_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error> {
        gic::claim(self.info, irq, self.info.cpus()[usize::from(cpu)].mpidr)
    }
    fn release_interrupt(&mut self, irq: u32) {
        gic::release(self.info, irq);
    }
    fn route_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error> {
        gic::route(self.info, irq, self.info.cpus()[usize::from(cpu)].mpidr)
    }
    fn mask_interrupt(&mut self, irq: u32, masked: bool) {
        gic::mask(self.info, irq, masked);
    }
    fn shoot(&mut self, cpus: impl Iterator<Item = CpuId> + Clone, list: &[Invalidation]) {
        shootdown::shoot(self.doorbells, cpus, list);
    }
    fn sync(&mut self, broadcast: bool) {
        if broadcast {
            dsb_ish()
        } else {
            dsb_nsh()
        }
        isb();
    }
    fn fatal(&mut self, code: u64, what: fmt::Arguments<'_>) -> ! {
        console::report("kernel", what, code);
        end(self.info.semihosting != 0, code)
    }
    fn exit(&mut self, code: u64) -> ! {
        end(self.info.semihosting != 0, code)
    }
}

/// Ends the run: by semihosting, which carries the code, or by PSCI SYSTEM_OFF.
pub(super) fn end(semihosting: bool, code: u64) -> ! {
    const SYS_EXIT: u64 = 0x18;
    const APPLICATION_EXIT: u64 = 0x20026;
    const SYSTEM_OFF: u64 = 0x8400_0008;
    let block = [APPLICATION_EXIT, code];
    if semihosting {
        // SAFETY: the emulator reads the block of two words and ends the process (Semihosting for AArch32 and AArch64,
        // SYS_EXIT); if it does not, we go on below.
        unsafe { asm!("hlt #0xf000", inout("x0") SYS_EXIT => _, in("x1") block.as_ptr(), options(nostack)) };
    }
    // SAFETY: PSCI SYSTEM_OFF has no operands and does not return.
    unsafe { asm!("hvc #0", inout("x0") SYSTEM_OFF => _, options(nostack)) };
    loop {
        wfi();
    }
}
