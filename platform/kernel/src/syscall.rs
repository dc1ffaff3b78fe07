//! Decoding of system calls. Every argument is checked here; what they do is elsewhere.

use crate::birth::NewThread;
use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::lifecycle::quota;
use crate::long::ENTRY;
use crate::thread::{Kind, Operation, Tcb};
use skerry_abi::syscall::{
    AUDIT, INTERRUPT_CONTROL, IPC, NOTIFY, SCHEDULE, SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, UNMAP, exit,
    space_op, thread_op,
};
use skerry_abi::{Error, Fpage, SpaceId, ThreadId, Timeout};
use skerry_checks::{Check, passes};
use skerry_mapping_db::Status;

/// ESR_EL1 of an `svc` in AArch64 state, without its immediate (ARM ARM D24.2.40: EC 0x15, IL).
pub const ESR_SVC64: u64 = 0x15 << 26 | 1 << 25;
/// Bytes of an `svc` instruction: so far back goes a thread that executes it again.
pub(crate) const SVC_SIZE: u64 = 4;
/// Registers x0..x18 are the caller's to lose.
pub(crate) const CLOBBERED: usize = 19;

/// x0 to x6 of a system call.
pub(crate) type Arguments = [u64; 7];

/// Whether a system call exists and leaves its result, if it has one, in x0 to x3.
pub const fn is_call(number: u16) -> bool {
    matches!(
        number,
        THREAD_CONTROL | SPACE_CONTROL | SYSTEM_EXIT | NOTIFY | SCHEDULE | INTERRUPT_CONTROL | AUDIT
    )
}

/// x0 to x3 of a caller whose call is over; `None`: it is not.
#[inline(always)]
fn answer(result: &Result<Done, Error>) -> Option<[u64; 4]> {
    match *result {
        Ok(Done::With([a, b, c])) => Some([0, a, b, c]),
        Ok(_) => None,
        Err(error) => Some([error.code(), 0, 0, 0]),
    }
}

/// Who goes on after a system call.
pub enum Next<'k> {
    /// The caller: x0 to x3 of its context are the result, and the others that a call may clobber are zero. This CPU wants the timer then.
    Caller(u64),
    /// The second one, instead of the first; all of its context counts.
    Switch(&'k mut Tcb, &'k mut Tcb),
    /// Whomever [`Kernel::pick`] names.
    Ask,
}

/// What became of a call that may be quick.
enum Quick {
    /// These are x0 and x1.
    Done(u64, u64),
    /// This thread starts, and runs next.
    Start(u32),
    /// It may not; nothing has been done.
    No,
}

/// The answer for one fpage: R for "was accessed", W for "was written".
pub(crate) fn status_word(fpage: Fpage, status: Status) -> u64 {
    fpage.with_rights(status.seen).word()
}

impl<H: Hal> Kernel<'_, H> {
    /// Thread `t` executed `svc #number`.
    pub(crate) fn syscall(&mut self, t: u32, number: u16) {
        match number {
            IPC => self.ipc(t),
            UNMAP => self.unmap(t),
            _ if is_call(number) => {
                let result = self.carry_out(t, number);
                self.conclude(t, number, result);
            }
            // A program that does not know its kernel is not given the chance to go on.
            _ => self.raise(t, Kind::Exception { esr: ESR_SVC64 | u64::from(number), far: 0 }),
        }
    }

    /// The thread that runs on this CPU executed `svc #number`, which [`is_call`], with x8 to x18 zeroed.
    #[inline(always)]
    pub fn call(&mut self, number: u16) -> Next<'_> {
        let t = self.running();
        match self.quick_call(t, number) {
            Quick::Done(x0, x1) => {
                let words = [x0, x1, 0, 0, 0, 0, 0, 0];
                self.threads[t as usize].context.x[..words.len()].copy_from_slice(&words);
                Next::Caller(u64::MAX)
            }
            Quick::Start(to) => self.start_at_once(t, to),
            Quick::No => self.slow_call(t, number).map_or(Next::Ask, Next::Caller),
        }
    }

    /// The calls that make a thread run, and the one that wakes a thread elsewhere: programs make them often.
    #[inline(always)]
    fn quick_call(&mut self, t: u32, number: u16) -> Quick {
        if number == NOTIFY {
            return if self.quick_notify(t) { Quick::Done(0, 0) } else { Quick::No };
        }
        let x = self.arguments(t);
        let quick = number == THREAD_CONTROL && matches!(x[0], thread_op::CREATE | thread_op::START);
        if !quick || self.privileged(t).is_err() {
            return Quick::No;
        }
        match x[0] {
            thread_op::CREATE => {
                let (x0, x1) = self.quick_create(t);
                Quick::Done(x0, x1)
            }
            thread_op::START => self.may_start_at_once(t, ThreadId(x[1])).map_or(Quick::No, Quick::Start),
            _ => Quick::No,
        }
    }

    /// Nothing of this concerns the scheduler. If something else has meanwhile, an interrupt says so as soon as the caller goes on.
    #[inline(never)]
    fn quick_create(&mut self, t: u32) -> (u64, u64) {
        let x = self.arguments(t);
        self.create_call(&x).map_or_else(|error| (error.code(), 0), |id| (0, id.0))
    }

    /// All calls. Returns when this CPU wants the timer, if the caller simply goes on.
    #[inline(never)]
    fn slow_call(&mut self, t: u32, number: u16) -> Option<u64> {
        self.budget = ENTRY;
        let result = self.carry_out(t, number);
        let again = matches!(result, Ok(Done::Again));
        let waits = matches!(result, Ok(Done::Waits));
        self.conclude(t, number, result);
        self.publish_free();
        if waits {
            return None;
        }
        let (current, timer) = self.goes_on()?;
        (current == t && !again).then_some(timer)
    }

    /// Carries out a system call that is neither IPC nor UNMAP.
    fn carry_out(&mut self, t: u32, number: u16) -> Result<Done, Error> {
        match number {
            NOTIFY => {
                let x = &self.threads[t as usize].context.x;
                let (dest, bits) = (ThreadId(x[0]), x[1]);
                self.notify_call(t, dest, bits).map(|()| Done::NOTHING)
            }
            INTERRUPT_CONTROL => self.interrupt_control(t).map(|()| Done::NOTHING),
            _ => self.control_call(t, number),
        }
    }

    /// Carries out a privileged system call with the arguments in the registers of `t`.
    pub(crate) fn control_call(&mut self, t: u32, number: u16) -> Result<Done, Error> {
        self.privileged(t)?;
        let x = self.arguments(t);
        match number {
            THREAD_CONTROL => self.thread_control(t, &x),
            SPACE_CONTROL => self.space_control(t, &x),
            SCHEDULE => self.schedule(&x),
            AUDIT => self.audit(t, &x),
            _ if x[0] == exit::PARK_CLUSTER => {
                self.park();
                Ok(Done::NOTHING)
            }
            _ => self.hal.exit(x[0]),
        }
    }

    /// The arguments of a thread's system call.
    #[inline(always)]
    pub(crate) fn arguments(&self, t: u32) -> Arguments {
        let [a, b, c, d, e, f, g, ..] = self.threads[t as usize].context.x;
        [a, b, c, d, e, f, g]
    }

    /// What becomes of a caller.
    fn conclude(&mut self, t: u32, number: u16, result: Result<Done, Error>) {
        match result {
            Ok(Done::Visit(cpu)) => self.visit(t, cpu, number),
            Ok(Done::Waits) => {}
            result => self.finish_call(t, result),
        }
    }

    /// Puts the result of a system call other than IPC into the caller's registers.
    pub(crate) fn finish_call(&mut self, t: u32, result: Result<Done, Error>) {
        let context = &mut self.threads[t as usize].context;
        match answer(&result) {
            Some(words) => {
                context.x[..CLOBBERED].fill(0);
                context.x[..words.len()].copy_from_slice(&words);
            }
            // It executes the call again.
            None => context.pc -= SVC_SIZE,
        }
    }

    #[inline(always)]
    pub(crate) fn privileged(&self, t: u32) -> Result<(), Error> {
        let space = self.threads[t as usize].space;
        let privileged = self.spaces[usize::from(space)].privileged;
        if passes(Check::Privileged, privileged) { Ok(()) } else { Err(Error::NotPrivileged) }
    }

    fn ipc(&mut self, t: u32) {
        let x = &self.threads[t as usize].context.x;
        let op = Operation {
            kind: Kind::Ipc,
            dest: ThreadId(x[0]),
            from: ThreadId(x[1]),
            send_timeout: Timeout(x[11]),
            receive_timeout: Timeout(x[12]),
            window: Fpage::decode(x[13]).unwrap_or(Fpage::NIL),
        };
        self.threads[t as usize].op = op;
        self.start_ipc(t);
    }

    pub(crate) fn decode_create(&self, x: &Arguments) -> Result<NewThread, Error> {
        let space = self.usable_space(SpaceId(x[1]))?;
        let pager = ThreadId(x[3]);
        Ok(NewThread {
            space,
            cpu: u16::try_from(x[2]).map_err(|_| Error::BadArgument)?,
            pager,
            handler: if x[4] == 0 { pager } else { ThreadId(x[4]) },
            utcb_slot: u16::try_from(x[5]).map_err(|_| Error::BadArgument)?,
            priority: u8::try_from(x[6]).map_err(|_| Error::BadArgument)?,
        })
    }

    /// If there is no room, in the place of one that has ended: a name is never used again, so nobody misses it.
    fn grant_partner(&mut self, space: u16, partner: ThreadId) -> Result<(), Error> {
        let granted = self.spaces[usize::from(space)].grant_partner(partner);
        if granted != Err(Error::TableFull) {
            return granted;
        }
        let is_gone = |id: &ThreadId| {
            id.cluster() == self.cluster && self.find(*id).is_none() && self.elsewhere(*id).is_none()
        };
        let gone = self.spaces[usize::from(space)].partners().find(is_gone).ok_or(Error::TableFull)?;
        self.spaces[usize::from(space)].replace_partner(gone, partner)
    }

    fn space_control(&mut self, caller: u32, x: &Arguments) -> Result<Done, Error> {
        if x[0] == space_op::CREATE {
            let domain = u32::try_from(x[1]).map_err(|_| Error::BadArgument)?;
            let created = self.create_space_within(domain, x[2] & 1 != 0, quota(x[3]));
            return created.map(|id| Done::value(id.0));
        }
        if x[0] == space_op::DESTROY {
            let space = self.find_space(SpaceId(x[1])).ok_or(Error::NoSuchSpace)?;
            return self.destroy_space_for(caller, space);
        }
        let space = self.usable_space(SpaceId(x[1]))?;
        match x[0] {
            space_op::SET_QUOTA => self.db.set_quota(space, quota(x[2])).map(|()| Done::NOTHING),
            space_op::GRANT_PARTNER => self.grant_partner(space, ThreadId(x[2])).map(|()| Done::NOTHING),
            // These addresses are any: items may be on their way to the same place.
            space_op::MAP_TRACE if !self.help() => Ok(self.done_again()),
            space_op::MAP_TRACE => self.map_trace(caller, space, x[2]),
            _ => Err(Error::BadArgument),
        }
    }
}
