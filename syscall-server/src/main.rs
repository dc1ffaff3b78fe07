//! The system-call server: one instance per cluster, one thread per CPU, all running this loop.
//!
//! It calls nobody; the root pager made its threads and answers its page faults.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    use core::panic::PanicInfo;

    use skerry_abi::id::domain::FIRST_TASK;
    use skerry_abi::{Error, SpaceId, ThreadId};
    use skerry_ipc::syscall::{self, Counters, Holder, Op, Server};
    use skerry_ipc::{Answer, Chunk, Message, Outcome, Sender, level, root};
    use skerry_rt::ipc::{Handler, Kernel, serve, sleep_forever};
    use skerry_rt::{info, println, sys};
    use syscall_server::permissions::{MAX_TASK_PRIORITY, may_create_domain};
    use syscall_server::{Ledger, may_call};

    /// Leaves that are looked at for one frame: of the root pager and the app pager there is one each.
    const MAX_LEAVES: usize = 1000;

    static LEDGER: Ledger = Ledger::new();
    static COUNTERS: Counters = Counters::new();

    /// One thread's loop; all state is shared and atomic.
    struct Loop;

    fn permit(op: Op, from: Sender) -> Result<(), Error> {
        if may_call(op, from.domain) { Ok(()) } else { Err(Error::Refused) }
    }

    /// Whether a thread was made by the system-call server of another cluster.
    fn is_immigrant(thread: ThreadId) -> bool {
        u64::from(thread.cluster()) != info::header().cluster
    }

    /// Refuses threads that no system-call server made. A thread of another cluster can only be here because its server let it go; the
    /// kernel says whether it is.
    fn check(thread: ThreadId) -> Result<(), Error> {
        if is_immigrant(thread) { Ok(()) } else { LEDGER.check_thread(thread) }
    }

    impl Server for Loop {
        fn space_create(&mut self, from: Sender, domain: u32) -> Answer<SpaceId> {
            permit(Op::SpaceCreate, from)?;
            if !may_create_domain(domain) {
                return Err(Error::Refused.into());
            }
            let space = sys::space_create(domain, false)?;
            LEDGER.add_space(space).inspect_err(|_| {
                let _ = sys::space_destroy(space);
            })?;
            Ok(space)
        }
        fn space_destroy(&mut self, from: Sender, space: SpaceId) -> Answer<()> {
            permit(Op::SpaceDestroy, from)?;
            LEDGER.check_space(space)?;
            Ok(sys::space_destroy(space)?)
        }
        fn grant_partner(&mut self, from: Sender, space: SpaceId, partner: ThreadId) -> Answer<()> {
            permit(Op::GrantPartner, from)?;
            LEDGER.check_space(space)?;
            Ok(sys::grant_partner(space, partner)?)
        }
        fn thread_create(
            &mut self,
            from: Sender,
            space: SpaceId,
            cpu: u16,
            pager: ThreadId,
            handler: ThreadId,
            slot: u16,
            priority: u16,
        ) -> Answer<ThreadId> {
            permit(Op::ThreadCreate, from)?;
            LEDGER.check_space(space)?;
            if priority > MAX_TASK_PRIORITY {
                return Err(Error::Refused.into());
            }
            let thread = sys::thread_create(space, cpu, pager, handler, slot, priority as u8)?;
            LEDGER.add_thread(thread).inspect_err(|_| {
                let _ = sys::thread_delete(thread);
            })?;
            Ok(thread)
        }
        fn thread_start(
            &mut self,
            from: Sender,
            thread: ThreadId,
            ip: u64,
            sp: u64,
            argument: u64,
        ) -> Answer<()> {
            permit(Op::ThreadStart, from)?;
            LEDGER.check_thread(thread)?;
            Ok(sys::thread_start(thread, ip, sp, argument)?)
        }
        fn thread_delete(&mut self, from: Sender, thread: ThreadId) -> Answer<()> {
            permit(Op::ThreadDelete, from)?;
            check(thread)?;
            if is_immigrant(thread) {
                // Only threads of tasks move to other clusters; a thread of another cluster that is not here may be anybody's.
                sys::thread_exchange(thread, sys::Exchange::default())?;
            }
            Ok(sys::thread_delete(thread)?)
        }
        fn thread_migrate(
            &mut self,
            from: Sender,
            thread: ThreadId,
            space: SpaceId,
            cpu: u16,
            pager: ThreadId,
        ) -> Answer<()> {
            permit(Op::ThreadMigrate, from)?;
            check(thread)?;
            Ok(sys::thread_migrate(thread, space, cpu, pager, ThreadId::NIL)?)
        }
        fn thread_place(&mut self, from: Sender, thread: ThreadId, cpu: u16, pager: ThreadId) -> Answer<()> {
            permit(Op::ThreadPlace, from)?;
            check(thread)?;
            Ok(sys::schedule(thread, None, None, Some(cpu), Some(pager))?)
        }
        fn thread_state(&mut self, from: Sender, thread: ThreadId) -> Answer<u64> {
            permit(Op::ThreadState, from)?;
            check(thread)?;
            Ok(sys::thread_exchange(thread, sys::Exchange::default())?.state)
        }
        fn reset(&mut self, from: Sender) -> Answer<()> {
            permit(Op::Reset, from)?;
            let cluster = info::header().cluster as u16;
            // One that has ended already is no trouble.
            LEDGER.take_spaces(cluster).for_each(|space| _ = sys::space_destroy(space));
            Ok(())
        }
        fn audit(&mut self, from: Sender, frame: u64) -> Answer<Option<Holder>> {
            permit(Op::Audit, from)?;
            let mut last = None;
            for _ in 0..MAX_LEAVES {
                match sys::audit(frame, last) {
                    Ok(Some((space, leaf, domain))) if domain >= FIRST_TASK => {
                        return Ok(Some(Holder { space, leaf, domain }));
                    }
                    Ok(Some((space, leaf, _))) => last = Some((space, leaf)),
                    Ok(None) | Err(Error::NothingMapped) => return Ok(None),
                    // It is being changed: once more from the beginning.
                    Err(Error::WrongState) => last = None,
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Error::Timeout.into())
        }
    }

    impl Handler for Loop {
        fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
            syscall::dispatch(self, from, message, &COUNTERS) == Outcome::Reply
        }
    }

    fn main(_: u64) -> ! {
        serve(&mut Loop)
    }

    fn panicked(info: &PanicInfo<'_>) -> ! {
        println!("syscall-server: {info}");
        let reason = Chunk::format(format_args!("system-call server panicked: {info}"));
        let root = root::Client::new(Kernel::<level::SyscallServer>::new(), ThreadId::root(0));
        let _ = root.end(skerry_abi::syscall::exit::SERVER_FAULT, reason);
        sleep_forever()
    }

    skerry_rt::entry!(main, panic = panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "syscall-server is a guest program; to boot it, type `cargo run` in the root folder of the repository"
    );
    std::process::exit(2);
}
