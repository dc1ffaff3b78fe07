//! Decoding of system calls. Every argument is checked here; what they do is elsewhere.

use crate::hal::Hal;
use crate::kernel::Kernel;
use crate::lifecycle::NewThread;
use crate::thread::{Kind, Operation};
use skerry_abi::syscall::{
    IPC, NOTIFY, SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, UNMAP, space_op, thread_op,
};
use skerry_abi::{Counter, Error, Fpage, Rights, SpaceId, ThreadId, Timeout};

/// ESR_EL1 of an `svc` in AArch64 state, without its immediate (ARM ARM D24.2.40: EC 0x15, IL).
pub const ESR_SVC64: u64 = 0x15 << 26 | 1 << 25;
/// Registers x0..x18 are the caller's to lose.
const CLOBBERED: usize = 19;

impl<H: Hal> Kernel<'_, H> {
    /// Thread `t` executed `svc #number`.
    pub(crate) fn syscall(&mut self, t: u32, number: u16) {
        let x = self.threads[t as usize].context.x;
        let result = match number {
            IPC => return self.ipc(t),
            UNMAP => return self.unmap(t),
            THREAD_CONTROL => self.privileged(t).and_then(|()| self.thread_control(&x)),
            SPACE_CONTROL => self.privileged(t).and_then(|()| self.space_control(&x)),
            SYSTEM_EXIT => self.privileged(t).and_then(|()| self.hal.exit(x[0])),
            NOTIFY => self.notify_call(t, ThreadId(x[0]), x[1]).map(|()| 0),
            // A program that does not know its kernel is not given the chance to go on.
            _ => {
                let esr = ESR_SVC64 | u64::from(number);
                return self.raise(t, Kind::Exception { esr, far: 0 });
            }
        };
        let registers = &mut self.threads[t as usize].context.x;
        registers[..CLOBBERED].fill(0);
        match result {
            Ok(value) => registers[1] = value,
            Err(error) => registers[0] = error.code(),
        }
    }

    fn privileged(&self, t: u32) -> Result<(), Error> {
        let space = self.threads[t as usize].space;
        if self.spaces[usize::from(space)].privileged { Ok(()) } else { Err(Error::NotPrivileged) }
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

    fn unmap(&mut self, t: u32) {
        let thread = &self.threads[t as usize];
        let (x, space) = (thread.context.x, thread.space);
        let (flush, count) = (x[0] & 1 != 0, (x[0] >> 8 & 0xf) as usize);
        let mut results = [0; 8];
        let mut outcome = if (1..=results.len()).contains(&count) { Ok(()) } else { Err(Error::BadArgument) };
        if outcome.is_ok() && x[1..=count].iter().any(|&word| Fpage::decode(word).is_none()) {
            outcome = Err(Error::BadArgument);
        }
        if outcome.is_ok() {
            for (result, fpage) in
                results.iter_mut().zip(x[1..=count].iter().filter_map(|&w| Fpage::decode(w)))
            {
                let (db, mut tlb) = self.db_and_tlb();
                let status = db.unmap(&mut tlb, space, fpage, flush);
                self.counters.add(Counter::Unmaps, u64::from(status.touched));
                let seen = |flag, right| if flag { right } else { Rights::NONE };
                let seen = seen(status.accessed, Rights::R) | seen(status.written, Rights::W);
                *result = fpage.with_rights(seen).word();
            }
        }
        let registers = &mut self.threads[t as usize].context.x;
        registers[..CLOBBERED].fill(0);
        match outcome {
            Ok(()) => registers[1..=results.len()].copy_from_slice(&results),
            Err(error) => registers[0] = error.code(),
        }
    }

    fn thread_control(&mut self, x: &[u64; 31]) -> Result<u64, Error> {
        match x[0] {
            thread_op::CREATE => {
                let space = self.find_space(SpaceId(x[1])).ok_or(Error::NoSuchSpace)?;
                let pager = ThreadId(x[3]);
                let handler = if x[4] == 0 { pager } else { ThreadId(x[4]) };
                let new = NewThread {
                    space,
                    cpu: u16::try_from(x[2]).map_err(|_| Error::BadArgument)?,
                    pager,
                    handler,
                    utcb_slot: u16::try_from(x[5]).map_err(|_| Error::BadArgument)?,
                    priority: u8::try_from(x[6]).map_err(|_| Error::BadArgument)?,
                };
                self.create_thread(new).map(|id| id.0)
            }
            thread_op::START => {
                let t = self.find(ThreadId(x[1])).ok_or(Error::NoSuchThread)?;
                self.start_thread(t, x[2], x[3], x[4]).map(|()| 0)
            }
            thread_op::DELETE => {
                let t = self.find(ThreadId(x[1])).ok_or(Error::NoSuchThread)?;
                self.delete_thread(t).map(|()| 0)
            }
            _ => Err(Error::BadArgument),
        }
    }

    fn space_control(&mut self, x: &[u64; 31]) -> Result<u64, Error> {
        if x[0] == space_op::CREATE {
            let domain = u32::try_from(x[1]).map_err(|_| Error::BadArgument)?;
            return self.create_space(domain, x[2] & 1 != 0).map(|id| id.0);
        }
        let space = self.find_space(SpaceId(x[1])).ok_or(Error::NoSuchSpace)?;
        match x[0] {
            space_op::DESTROY => self.destroy_space(space).map(|()| 0),
            space_op::GRANT_PARTNER => {
                self.spaces[usize::from(space)].grant_partner(ThreadId(x[2])).map(|()| 0)
            }
            _ => Err(Error::BadArgument),
        }
    }
}
