//! Crowds that other clusters have to deal with: many packets at once, and all that may wait for one and the same end.
//!
//! Every cluster takes part. Cluster 0 has a *victim*, for which many threads of all other clusters wait, and which ends. Then some of
//! them have their waits cancelled, and lose their space, by more privileged threads than may wait for that. How long interrupts are off
//! meanwhile, on each CPU, is measured from outside.
#![expect(unsafe_code, reason = "assembly, and memory at a fixed address")]

use core::arch::global_asm;
use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::boot::BootInfo;
use skerry_abi::id::domain;
use skerry_abi::syscall::{IPC, SPACE_CONTROL, THREAD_CONTROL, exchange, space_op, thread_op, thread_state};
use skerry_abi::{Error, SpaceId, ThreadId};
use skerry_rt::{ipc, sys};

use super::bounded::{bounded_call, bounded_wait, crowd, destroy};
use super::trouble::Trouble;
use super::world::{self, Failed, Outcome, World, call, ensure};

/// Whose threads may all send to each other.
const DOMAIN: u32 = domain::FIRST_TASK + 200;
/// Threads of a cluster that wait for the victim.
const THREADS: u16 = 150;
/// Threads that want the same end.
const WANT: u16 = 12;
const ROUNDS: u64 = 2;

global_asm!(
    r#"
    .pushsection .text.crowd, "ax"
    .balign 256
    .global crowd_watch, crowd_cancel, crowd_mourn
    // Threads without stacks. Receives from the thread in x0 only.
crowd_watch:
    mov     x1, x0
    mov     x0, xzr
    mov     x11, xzr
    mov     x12, #-1
    mov     x13, xzr
    svc     #{ipc}
    b       1f
    // Cancels the wait of the thread in x0.
crowd_cancel:
    mov     x1, x0
    mov     x0, #{exchange}
    mov     x2, #{cancel}
    svc     #{thread_control}
    b       1f
    // Ends the space in x0.
crowd_mourn:
    mov     x1, x0
    mov     x0, #{destroy}
    svc     #{space_control}
1:  mov     x0, #-1
    b       bounded_wait
    .popsection
    "#,
    ipc = const IPC,
    thread_control = const THREAD_CONTROL,
    space_control = const SPACE_CONTROL,
    exchange = const thread_op::EXCHANGE,
    cancel = const exchange::CANCEL,
    destroy = const space_op::DESTROY,
);

unsafe extern "C" {
    fn crowd_watch(from: u64) -> !;
    fn crowd_cancel(thread: u64) -> !;
    fn crowd_mourn(space: u64) -> !;
}

/// What the clusters share.
#[repr(C)]
struct Board {
    /// How often clusters have come to a barrier.
    arrived: AtomicU64,
    victim: AtomicU64,
    trouble: Trouble,
}

struct Stage<'w> {
    world: &'w mut World,
    board: &'static Board,
    clusters: u64,
    is_host: bool,
    barriers: u64,
}

/// What the root thread of every cluster does. Returns in cluster 0 only.
pub(crate) fn run(boot: &'static BootInfo, cluster: u16) -> Outcome {
    let mut world = World::new(boot)?;
    let board = with_exposed_provenance::<Board>(world.frames.base as usize);
    // SAFETY: memory that nobody uses, cleared, the same for all clusters, as atomic words.
    let board = unsafe { &*board };
    let clusters = boot.clusters().len() as u64;
    ensure!(clusters > 1, "boot with several clusters");
    let mut stage = Stage { world: &mut world, board, clusters, is_host: cluster == 0, barriers: 0 };
    let result = stage.play();
    if cluster == 0 {
        return result;
    }
    if let Err(Failed) = result {
        board.trouble.tell(cluster, &world::why());
    }
    ipc::sleep_forever()
}

impl Stage<'_> {
    fn play(&mut self) -> Outcome {
        for _ in 0..ROUNDS {
            self.wait_for_victim(bounded_call)?;
            self.wait_for_victim(crowd_watch)?;
            self.cancelled()?;
        }
        Ok(())
    }

    fn space(privileged: bool) -> Outcome<SpaceId> {
        call("creating a space", sys::space_create(DOMAIN, privileged))
    }

    /// All clusters have come so far.
    fn barrier(&mut self) -> Outcome {
        self.barriers += 1;
        self.board.arrived.fetch_add(1, Ordering::AcqRel);
        for _ in 0..10_000 {
            self.board.trouble.check()?;
            if self.board.arrived.load(Ordering::Acquire) >= self.barriers * self.clusters {
                return Ok(());
            }
            self.world.answer_faults_for(20_000)?;
        }
        ensure!(false, "a cluster does not come to the barrier");
        Ok(())
    }

    /// The victim's space, in cluster 0.
    fn victim(&mut self) -> Outcome<Option<SpaceId>> {
        let mut home = None;
        if self.is_host {
            let space = Self::space(false)?;
            let victim = crowd(self.world, space, 0, 1, bounded_wait, u64::MAX)?;
            self.board.victim.store(victim.0, Ordering::Release);
            home = Some(space);
        }
        self.barrier()?;
        Ok(home)
    }

    fn victims_name(&self) -> ThreadId {
        ThreadId(self.board.victim.load(Ordering::Acquire))
    }

    /// Many wait for the victim, and it ends.
    fn wait_for_victim(&mut self, how: unsafe extern "C" fn(u64) -> !) -> Outcome {
        let home = self.victim()?;
        let mut waiters = None;
        if !self.is_host {
            let (space, victim) = (Self::space(false)?, self.victims_name());
            crowd(self.world, space, 0, THREADS, how, victim.0)?;
            waiters = Some(space);
        }
        self.barrier()?;
        if let Some(home) = home {
            call("deleting the victim", sys::thread_delete(self.victims_name()))?;
            destroy(home)?;
        }
        self.barrier()?;
        if let Some(space) = waiters {
            self.world.answer_faults_for(200_000)?;
            destroy(space)?;
        }
        self.barrier()
    }

    /// Threads that wait for the victim have their waits cancelled, and then their space ends, for more than may wait for either.
    fn cancelled(&mut self) -> Outcome {
        let home = self.victim()?;
        if !self.is_host {
            let (space, masters, victim) = (Self::space(false)?, Self::space(true)?, self.victims_name());
            let last = crowd(self.world, space, 0, THREADS, bounded_call, victim.0)?;
            self.demand(masters, 0, crowd_cancel, last.0)?;
            let state = call("looking", sys::thread_exchange(last, sys::Exchange::default()))?.state;
            ensure!(state == thread_state::RECEIVING, "state {state} of a thread whose call was cancelled");
            self.demand(masters, WANT, crowd_mourn, space.0)?;
            let again = sys::space_destroy(space);
            ensure!(again == Err(Error::NoSuchSpace), "the space that many have ended: {again:?}");
            destroy(masters)?;
        }
        self.barrier()?;
        home.map_or(Ok(()), destroy)?;
        self.barrier()
    }

    /// Several privileged threads ask for the same.
    fn demand(
        &mut self,
        masters: SpaceId,
        slot: u16,
        what: unsafe extern "C" fn(u64) -> !,
        argument: u64,
    ) -> Outcome {
        let me = self.world.me;
        for slot in slot..slot + WANT {
            let thread = sys::thread_create(masters, self.world.cpu, me, me, slot, 30);
            let thread = call("a thread", thread)?;
            let pc = (what as *const ()).addr() as u64;
            call("starting", sys::thread_start(thread, pc, 0, argument))?;
        }
        // How many of them wait at a time depends on how soon other clusters have their turn.
        self.world.answer_faults_for(1_000_000)
    }
}
