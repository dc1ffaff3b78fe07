//! System-call stubs, and the instructions that have no Rust name.
#![expect(unsafe_code, reason = "the only home of svc and of reads of system registers")]

use core::arch::asm;

use skerry_abi::syscall::{self, interrupt_op, space_op, thread_op};
use skerry_abi::{CpuId, Domain, Error, Fpage, Rights, SpaceId, Tag, ThreadId, Timeout};

/// Performs the IPC system call; `mr` is MR1..MR8 in and out. The words from MR9 on are in the UTCB.
#[inline]
pub fn ipc(
    to: ThreadId,
    from: ThreadId,
    tag: Tag,
    mr: &mut [u64; 8],
    (send, receive): (Timeout, Timeout),
    window: Fpage,
) -> (ThreadId, Domain, Tag) {
    let (sender, domain, answer);
    // SAFETY: the kernel keeps the ABI of `skerry_abi::syscall::IPC`: it changes x0..x18 and this thread's UTCB only, apart from
    // pages the program itself asked to have mapped (`window`), which no Rust object covers before that.
    unsafe {
        asm!("svc #{call}", call = const syscall::IPC,
            inlateout("x0") to.0 => sender, inlateout("x1") from.0 => domain, inlateout("x2") tag.0 => answer,
            inlateout("x3") mr[0], inlateout("x4") mr[1], inlateout("x5") mr[2], inlateout("x6") mr[3],
            inlateout("x7") mr[4], inlateout("x8") mr[5], inlateout("x9") mr[6], inlateout("x10") mr[7],
            inlateout("x11") send.0 => _, inlateout("x12") receive.0 => _, inlateout("x13") window.word() => _,
            lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _, lateout("x18") _,
            options(nostack));
    }
    let domain: u64 = domain;
    (ThreadId(sender), domain as Domain, Tag(answer))
}

/// Any other system call: x0..x8 in and out.
fn call<const NUMBER: u16>(mut x: [u64; 9]) -> [u64; 9] {
    // SAFETY: as above; no call but IPC writes to the program's memory. What UNMAP and the control calls take away is not
    // memory of this program's Rust objects, unless a privileged program asks for just that.
    unsafe {
        asm!("svc #{call}", call = const NUMBER,
            inlateout("x0") x[0], inlateout("x1") x[1], inlateout("x2") x[2], inlateout("x3") x[3],
            inlateout("x4") x[4], inlateout("x5") x[5], inlateout("x6") x[6], inlateout("x7") x[7],
            inlateout("x8") x[8], lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
            lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            lateout("x18") _, options(nostack));
    }
    x
}

fn value<const NUMBER: u16>(arguments: &[u64]) -> Result<u64, Error> {
    let mut x = [0; 9];
    x.iter_mut().zip(arguments).for_each(|(x, &argument)| *x = argument);
    let x = call::<NUMBER>(x);
    if x[0] == 0 { Ok(x[1]) } else { Err(Error::from_code(x[0])) }
}

/// Takes the rights in `fpages` away from those they were mapped to (and from the caller with `flush`); each fpage comes back
/// with R for "was accessed" and W for "was written".
///
/// # Errors
/// The kernel's; [`Error::BadArgument`] for none or more than eight fpages.
pub fn unmap(fpages: &mut [Fpage], flush: bool) -> Result<(), Error> {
    if fpages.is_empty() || fpages.len() > 8 {
        return Err(Error::BadArgument);
    }
    let mut x = [0; 9];
    x[0] = u64::from(flush) | (fpages.len() as u64) << 8;
    x[1..].iter_mut().zip(fpages.iter()).for_each(|(x, fpage)| *x = fpage.word());
    let x = call::<{ syscall::UNMAP }>(x);
    if x[0] != 0 {
        return Err(Error::from_code(x[0]));
    }
    for (fpage, word) in fpages.iter_mut().zip(&x[1..]) {
        *fpage = Fpage::decode(*word).unwrap_or(Fpage::NIL);
    }
    Ok(())
}

/// Takes these rights to the page at `address` away from those it was mapped to. Returns R for "was accessed" and W for "was written";
/// nothing if the caller has no such page.
#[inline(always)]
pub fn unmap_page(address: u64, rights: Rights) -> Rights {
    let (mut error, mut seen) = (1 << 8, Fpage::page(address, rights).word());
    // SAFETY: as in `call`. Of x0..x18 only the arguments carry something.
    unsafe {
        asm!("svc #{call}", call = const syscall::UNMAP, inlateout("x0") error, inlateout("x1") seen,
            lateout("x2") _, lateout("x3") _, lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _, lateout("x12") _,
            lateout("x13") _, lateout("x14") _, lateout("x15") _, lateout("x16") _, lateout("x17") _,
            lateout("x18") _, options(nostack));
    }
    if error == 0 { Rights::from_bits(seen) } else { Rights::NONE }
}

/// ORs `bits` into the notification word of `thread`; never waits for it.
///
/// # Errors
/// The kernel's.
#[inline]
pub fn notify(thread: ThreadId, bits: u64) -> Result<(), Error> {
    value::<{ syscall::NOTIFY }>(&[thread.0, bits]).map(drop)
}

/// Privileged: a new, suspended thread.
///
/// # Errors
/// The kernel's.
pub fn thread_create(
    space: SpaceId,
    cpu: CpuId,
    pager: ThreadId,
    handler: ThreadId,
    slot: u16,
    priority: u8,
) -> Result<ThreadId, Error> {
    value::<{ syscall::THREAD_CONTROL }>(&[
        thread_op::CREATE,
        space.0,
        cpu.into(),
        pager.0,
        handler.0,
        slot.into(),
        priority.into(),
    ])
    .map(ThreadId)
}

/// Privileged: starts a thread that never ran.
///
/// # Errors
/// The kernel's.
pub fn thread_start(thread: ThreadId, ip: u64, sp: u64, argument: u64) -> Result<(), Error> {
    value::<{ syscall::THREAD_CONTROL }>(&[thread_op::START, thread.0, ip, sp, argument]).map(drop)
}

/// Privileged: ends a thread.
///
/// # Errors
/// The kernel's.
pub fn thread_delete(thread: ThreadId) -> Result<(), Error> {
    value::<{ syscall::THREAD_CONTROL }>(&[thread_op::DELETE, thread.0]).map(drop)
}

/// Privileged: stops a thread until it is resumed.
///
/// # Errors
/// The kernel's.
pub fn thread_suspend(thread: ThreadId) -> Result<(), Error> {
    value::<{ syscall::THREAD_CONTROL }>(&[thread_op::SUSPEND, thread.0]).map(drop)
}

/// Privileged: lets a suspended thread go on.
///
/// # Errors
/// The kernel's.
pub fn thread_resume(thread: ThreadId) -> Result<(), Error> {
    value::<{ syscall::THREAD_CONTROL }>(&[thread_op::RESUME, thread.0]).map(drop)
}

/// What [`thread_exchange`] changes; `None` and `false`: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    /// The instruction pointer.
    pub ip: Option<u64>,
    /// The stack pointer.
    pub sp: Option<u64>,
    /// x0.
    pub argument: Option<u64>,
    /// End what it waits for.
    pub cancel: bool,
}

/// What a thread did and where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// One of [`syscall::thread_state`].
    pub state: u64,
}

/// Privileged: reads and changes registers of another thread.
///
/// # Errors
/// The kernel's.
pub fn thread_exchange(thread: ThreadId, new: Exchange) -> Result<Exchanged, Error> {
    let flag = |on, flag| if on { flag } else { 0 };
    let flags = flag(new.ip.is_some(), syscall::exchange::PC)
        | flag(new.sp.is_some(), syscall::exchange::SP)
        | flag(new.argument.is_some(), syscall::exchange::X0)
        | flag(new.cancel, syscall::exchange::CANCEL);
    let x = call::<{ syscall::THREAD_CONTROL }>([
        thread_op::EXCHANGE,
        thread.0,
        flags,
        new.ip.unwrap_or(0),
        new.sp.unwrap_or(0),
        new.argument.unwrap_or(0),
        0,
        0,
        0,
    ]);
    if x[0] == 0 { Ok(Exchanged { ip: x[1], sp: x[2], state: x[3] }) } else { Err(Error::from_code(x[0])) }
}

/// Privileged: moves a thread with all its state into a space of another cluster, onto a CPU there. Returns when it has arrived, or
/// was refused and goes on where it was.
///
/// # Errors
/// The kernel's, of either cluster; [`Error::Moved`] if it is not in this cluster any more.
pub fn thread_migrate(
    thread: ThreadId,
    space: SpaceId,
    cpu: CpuId,
    pager: ThreadId,
    handler: ThreadId,
) -> Result<(), Error> {
    let arguments = [thread_op::MIGRATE, thread.0, space.0, cpu.into(), pager.0, handler.0];
    value::<{ syscall::THREAD_CONTROL }>(&arguments).map(drop)
}

/// Privileged: changes priority, time slice (in steps of the counter; 0 = none) or CPU of a thread; `None` leaves it as it is.
///
/// # Errors
/// The kernel's; [`Error::BadArgument`] for a CPU of another cluster.
pub fn schedule(
    thread: ThreadId,
    priority: Option<u8>,
    slice: Option<u64>,
    cpu: Option<CpuId>,
    pager: Option<ThreadId>,
) -> Result<(), Error> {
    value::<{ syscall::SCHEDULE }>(&[
        0,
        thread.0,
        priority.map_or(!0, u64::from),
        slice.unwrap_or(!0),
        cpu.map_or(!0, u64::from),
        pager.map_or(0, |pager| pager.0),
    ])
    .map(drop)
}

/// Privileged: a new space.
///
/// # Errors
/// The kernel's.
pub fn space_create(domain: Domain, privileged: bool) -> Result<SpaceId, Error> {
    value::<{ syscall::SPACE_CONTROL }>(&[space_op::CREATE, domain.into(), privileged.into()]).map(SpaceId)
}

/// Privileged: changes how much kernel memory a space may use: page tables in the low half, map nodes in the high half, 0 = no limit.
///
/// # Errors
/// The kernel's.
pub fn set_quota(space: SpaceId, quota: u64) -> Result<(), Error> {
    value::<{ syscall::SPACE_CONTROL }>(&[space_op::SET_QUOTA, space.0, quota]).map(drop)
}

/// Privileged: ends a space with its threads and mappings.
///
/// # Errors
/// The kernel's.
pub fn space_destroy(space: SpaceId) -> Result<(), Error> {
    value::<{ syscall::SPACE_CONTROL }>(&[space_op::DESTROY, space.0]).map(drop)
}

/// Privileged: lets the threads of `space` send to `partner`.
///
/// # Errors
/// The kernel's.
pub fn grant_partner(space: SpaceId, partner: ThreadId) -> Result<(), Error> {
    value::<{ syscall::SPACE_CONTROL }>(&[space_op::GRANT_PARTNER, space.0, partner.0]).map(drop)
}

/// Privileged: maps the trace rings of this cluster's CPUs, one behind the other, read-only at `va` into a space.
///
/// # Errors
/// The kernel's; [`Error::WrongState`] if it does not trace.
pub fn map_trace(space: SpaceId, va: u64) -> Result<(), Error> {
    value::<{ syscall::SPACE_CONTROL }>(&[space_op::MAP_TRACE, space.0, va]).map(drop)
}

/// Privileged: lets a device's interrupt notify a thread of this cluster.
///
/// # Errors
/// The kernel's.
pub fn interrupt_attach(irq: u32, thread: ThreadId, bits: u64) -> Result<(), Error> {
    value::<{ syscall::INTERRUPT_CONTROL }>(&[interrupt_op::ATTACH, irq.into(), thread.0, bits]).map(drop)
}

/// Privileged: nobody gets the interrupt any more.
///
/// # Errors
/// The kernel's.
pub fn interrupt_detach(irq: u32) -> Result<(), Error> {
    value::<{ syscall::INTERRUPT_CONTROL }>(&[interrupt_op::DETACH, irq.into()]).map(drop)
}

/// Privileged, or for the attached thread: the interrupt may come again.
///
/// # Errors
/// The kernel's.
pub fn interrupt_ack(irq: u32) -> Result<(), Error> {
    value::<{ syscall::INTERRUPT_CONTROL }>(&[interrupt_op::ACK, irq.into()]).map(drop)
}

/// Privileged: who has the frame at an address of the root space: the leaf behind `after`, or the first one. A leaf is a space, the fpage with its
/// rights, and the space's domain. `None`: there are no more.
///
/// # Errors
/// The kernel's; [`Error::WrongState`] if `after` is gone meanwhile: begin again.
pub fn audit(frame: u64, after: Option<(SpaceId, Fpage)>) -> Result<Option<(SpaceId, Fpage, Domain)>, Error> {
    let (space, leaf) = after.map_or((0, 0), |(space, leaf)| (space.0, leaf.word()));
    let x = call::<{ syscall::AUDIT }>([0, frame, space, leaf, 0, 0, 0, 0, 0]);
    match x {
        [0, 0, ..] => Ok(None),
        [0, space, leaf, domain, ..] => {
            let leaf = Fpage::decode(leaf).ok_or(Error::BadArgument)?;
            Ok(Some((SpaceId(space), leaf, domain as Domain)))
        }
        [code, ..] => Err(Error::from_code(code)),
    }
}

/// Privileged: ends the run.
pub fn exit(code: u64) -> ! {
    loop {
        // Comes back only if the caller is not privileged; then there is nothing left to do but to wait.
        let _ = value::<{ syscall::SYSTEM_EXIT }>(&[code]);
        wait();
    }
}

/// The system call that does nothing.
///
/// # Errors
/// None.
pub fn null() -> Result<u64, Error> {
    value::<{ syscall::NULL }>(&[])
}

/// A system call that does not exist: the caller dies of it. For tests.
///
/// # Errors
/// Not known: no kernel has returned from it.
pub fn unknown_call() -> Result<u64, Error> {
    value::<0xfff>(&[])
}

/// Lets other threads, or in the emulator other CPUs, run: belongs into every spin loop.
#[inline]
pub fn wait() {
    // SAFETY: WFE changes nothing but the event register; EL0 may execute it.
    unsafe { asm!("wfe", options(nomem, nostack, preserves_flags)) }
}

/// Wakes all CPUs that are in [`wait`], after all earlier stores became visible.
#[inline]
pub fn wake() {
    // SAFETY: a barrier and an event; both are allowed at EL0.
    unsafe { asm!("dsb ish", "sev", options(nostack, preserves_flags)) }
}

/// The virtual counter: the time of IPC time-outs.
#[inline]
pub fn counter_time() -> u64 {
    let value;
    // SAFETY: a read of a register that the kernel opened for EL0.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// The cycle counter; in deterministic runs exactly the instructions of all CPUs together.
#[inline]
pub fn cycles() -> u64 {
    let value;
    // SAFETY: a read of a register that the kernel opened for EL0.
    unsafe { asm!("isb", "mrs {}, pmccntr_el0", out(reg) value, options(nostack, preserves_flags)) }
    value
}

/// `CTR_EL0`: sizes of cache lines.
pub fn cache_type() -> u64 {
    let ctr;
    // SAFETY: a read of a register that the kernel opened for EL0.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) }
    ctr
}

/// Writes the data cache line at an address back to the Point of Coherency. Complete after [`maintained`].
#[inline(always)]
pub fn clean(address: u64) {
    // SAFETY: as for `clean_invalidate`.
    unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) }
}

/// Writes the data cache line at an address back to the Point of Coherency and drops it from all caches. Complete after
/// [`maintained`].
#[inline(always)]
pub fn clean_invalidate(address: u64) {
    // SAFETY: does not change what memory holds; an address the program may not read ends in its pager's report.
    unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) }
}

/// All cache maintenance so far is complete, for everybody.
pub fn maintained() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) }
}

/// Makes `bytes` bytes from `start` on, just written as data, fetchable as code (Arm ARM, "Synchronization and
/// coherency issues between data and instruction accesses").
pub fn sync_code(start: u64, bytes: u64) {
    let ctr = cache_type();
    let line = |field: u64| 4u64 << (field & 0xf);
    let each = |step: u64, operation: &dyn Fn(u64)| {
        let mut address = start & !(step - 1);
        while address < start + bytes {
            operation(address);
            address += step;
        }
    };
    let clean = |address: u64| {
        // SAFETY: cache maintenance does not change memory contents; on an address the program may not read it faults, which
        // the pager reports.
        unsafe { asm!("dc cvau, {}", in(reg) address, options(nostack, preserves_flags)) }
    };
    let invalidate = |address: u64| {
        // SAFETY: as above.
        unsafe { asm!("ic ivau, {}", in(reg) address, options(nostack, preserves_flags)) }
    };
    if ctr >> 28 & 1 == 0 {
        each(line(ctr >> 16), &clean);
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) }
    if ctr >> 29 & 1 == 0 {
        each(line(ctr), &invalidate);
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) }
}
