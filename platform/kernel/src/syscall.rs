//! Decoding of system calls. Every argument is checked here; what they do is elsewhere.

use crate::control::Done;
use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::lifecycle::{NewThread, quota};
use crate::thread::{Kind, Operation};
use skerry_abi::syscall::{
    INTERRUPT_CONTROL, IPC, NOTIFY, SCHEDULE, SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, UNMAP, exit,
    space_op,
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
            NOTIFY => {
                let x = &self.threads[t as usize].context.x;
                let (dest, bits) = (ThreadId(x[0]), x[1]);
                let result = self.notify_call(t, dest, bits);
                self.finish_call(t, result.map(|()| Done::NOTHING));
            }
            INTERRUPT_CONTROL => {
                let result = self.interrupt_control(t);
                self.finish_call(t, result.map(|()| Done::NOTHING));
            }
            THREAD_CONTROL | SPACE_CONTROL | SYSTEM_EXIT | SCHEDULE => match self.control_call(t, number) {
                Ok(Done::Visit(cpu)) => self.visit(t, cpu, number),
                Ok(Done::Waits) => {}
                result => self.finish_call(t, result),
            },
            // A program that does not know its kernel is not given the chance to go on.
            _ => self.raise(t, Kind::Exception { esr: ESR_SVC64 | u64::from(number), far: 0 }),
        }
    }

    /// Carries out a privileged system call with the arguments in the registers of `t`.
    pub(crate) fn control_call(&mut self, t: u32, number: u16) -> Result<Done, Error> {
        self.privileged(t)?;
        let x = core::array::from_fn(|i| self.threads[t as usize].context.x[i]);
        match number {
            THREAD_CONTROL => self.thread_control(t, &x),
            SPACE_CONTROL => self.space_control(t, &x),
            SCHEDULE => self.schedule(&x),
            _ if x[0] == exit::PARK_CLUSTER => {
                self.park();
                Ok(Done::NOTHING)
            }
            _ => self.hal.exit(x[0]),
        }
    }

    /// Puts the result of a system call other than IPC into the caller's registers.
    pub(crate) fn finish_call(&mut self, t: u32, result: Result<Done, Error>) {
        let context = &mut self.threads[t as usize].context;
        if result == Ok(Done::Again) {
            context.pc -= SVC_SIZE;
            return;
        }
        context.x[..CLOBBERED].fill(0);
        match result {
            Ok(Done::With(values)) => context.x[1..=values.len()].copy_from_slice(&values),
            Ok(_) => {}
            Err(error) => context.x[0] = error.code(),
        }
    }

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

    pub(crate) fn decode_create(&self, x: &[u64; 9]) -> Result<NewThread, Error> {
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

    fn space_control(&mut self, caller: u32, x: &[u64; 9]) -> Result<Done, Error> {
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
            space_op::GRANT_PARTNER => {
                self.spaces[usize::from(space)].grant_partner(ThreadId(x[2])).map(|()| Done::NOTHING)
            }
            space_op::MAP_TRACE => self.map_trace(space, x[2]).map(|()| Done::NOTHING),
            _ => Err(Error::BadArgument),
        }
    }
}
