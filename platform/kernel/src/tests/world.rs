//! A machine for the tests: kernels with leaked arenas, connected by real rings, on a fake [`Hal`].

use crate::hal::Hal;
use crate::kernel::{Arenas, Event, Kernel, Peer, Proxy, UtcbPage};
use crate::lifecycle::NewThread;
use crate::queue::{Link, Queue};
use crate::ring::{CREDIT, RING_WORDS, Ring};
use crate::sched::RunQueue;
use crate::space::Space;
use crate::thread::{State, Tcb};
use core::fmt;
use core::sync::atomic::AtomicU64;
use skerry_abi::syscall::IPC;
use skerry_abi::{CpuId, Domain, Fpage, SpaceId, Tag, ThreadId, Timeout};
use skerry_mapping_db::{HwTable, MappingDb, Node, SpaceTables};
use std::boxed::Box;
use std::panic::panic_any;
use std::vec::Vec;

/// How a fake machine ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended(pub(super) u64);

/// Counts what the kernel asks of the hardware.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) now: u64,
    pub(super) kicks: Vec<CpuId>,
    pub(super) invalidations: usize,
}

impl Hal for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn kick(&mut self, cpu: CpuId) {
        self.kicks.push(cpu);
    }
    fn publish(&mut self) {}
    fn invalidate_page(&mut self, _: u16, _: u64, _: bool) {
        self.invalidations += 1;
    }
    fn invalidate_asid(&mut self, _: u16, _: bool) {
        self.invalidations += 1;
    }
    fn sync(&mut self, _: bool) {}
    fn fatal(&mut self, code: u64, _: fmt::Arguments<'_>) -> ! {
        panic_any(Ended(code))
    }
    fn exit(&mut self, code: u64) -> ! {
        panic_any(Ended(code))
    }
}

pub(super) type TestKernel = Kernel<'static, Fake>;

fn leak<T>(count: usize, make: impl FnMut() -> T) -> &'static mut [T] {
    let mut make = make;
    Box::leak((0..count).map(|_| make()).collect::<Vec<_>>().into_boxed_slice())
}

/// `clusters` kernels of `cpus` CPUs each, with a root pager that waits for messages.
pub(super) fn world(clusters: usize, cpus: usize) -> Vec<TestKernel> {
    let rings: Vec<Vec<&'static [AtomicU64]>> = (0..clusters)
        .map(|_| (0..clusters).map(|_| &*leak(RING_WORDS, || AtomicU64::new(0))).collect())
        .collect();
    (0..clusters)
        .map(|me| {
            let peer = |other: usize| Peer {
                inbound: (me != other).then(|| Ring::new(rings[me][other])).flatten(),
                outbound: (me != other).then(|| Ring::new(rings[other][me])).flatten(),
                credit: CREDIT,
                waiting: Queue::EMPTY,
                doorbell: (other * cpus) as CpuId,
            };
            let zero = || UtcbPage([const { [const { AtomicU64::new(0) }; 128] }; 4]);
            let db = MappingDb::new(
                leak(256, HwTable::default),
                0x1000_0000,
                leak(256, || [0u32; 512]),
                leak(4096, Node::default),
                leak(16, SpaceTables::default),
                false,
            );
            let arenas = Arenas {
                db,
                threads: leak(64, || Tcb::FREE),
                spaces: leak(16, || Space::FREE),
                proxies: leak(64, || Proxy::UNUSED),
                links: leak(128, || Link::UNLINKED),
                utcbs: leak(32, zero),
                utcbs_pa: 0x2000_0000,
                utcb_links: leak(32, || Link::UNLINKED),
                cpus: leak(clusters * cpus, || RunQueue::EMPTY),
                peers: Box::leak((0..clusters).map(peer).collect::<Vec<_>>().into_boxed_slice()),
            };
            let mut kernel = Kernel::new(me as u16, Fake::default(), arenas);
            (0..cpus).for_each(|cpu| kernel.add_cpu((me * cpus + cpu) as CpuId));
            kernel.enter((me * cpus) as CpuId);
            // The root pager has nothing to do here, and never goes away.
            let root = kernel.create_space(1, true).unwrap();
            let root = thread(&mut kernel, root, 0, ThreadId::NIL);
            assert_eq!(root, ThreadId::root(me as u16));
            ipc(&mut kernel, root, Ipc::receive(ThreadId::ANY));
            kernel
        })
        .collect()
}

/// A started thread on the kernel's present CPU, with priority 100, UTCB slot `utcb_slot` and this pager.
pub(super) fn thread(k: &mut TestKernel, space: SpaceId, utcb_slot: u16, pager: ThreadId) -> ThreadId {
    let cpu = k.this_cpu;
    let new = NewThread { space: space.slot(), cpu, pager, handler: pager, utcb_slot, priority: 100 };
    let id = k.create_thread(new).unwrap();
    k.start_thread(k.find(id).unwrap(), 0x1000, 0x2000, 0).unwrap();
    id
}

/// A space of this domain with one thread in it.
pub(super) fn program(k: &mut TestKernel, domain: Domain) -> (SpaceId, ThreadId) {
    let space = k.create_space(domain, false).unwrap();
    let t = thread(k, space, 0, ThreadId::NIL);
    (space, t)
}

/// Makes `id` the thread that runs on the present CPU.
pub(super) fn run(k: &mut TestKernel, id: ThreadId) -> u32 {
    let t = k.find(id).expect("the thread lives");
    assert_eq!(k.thread(t).state, State::Ready, "{id:?} can run");
    k.tick();
    k.make_unready(t);
    k.cpus[usize::from(k.this_cpu)].current = Some(t);
    t
}

/// One IPC system call.
pub(super) struct Ipc {
    pub(super) dest: ThreadId,
    pub(super) from: ThreadId,
    pub(super) tag: Tag,
    pub(super) words: Vec<u64>,
    pub(super) wait: bool,
    pub(super) receive_timeout: Timeout,
    pub(super) window: Fpage,
}

impl Default for Ipc {
    fn default() -> Self {
        let (dest, from) = (ThreadId::NIL, ThreadId::NIL);
        let (tag, words) = (Tag::default(), Vec::new());
        Self { dest, from, tag, words, wait: true, receive_timeout: Timeout::NEVER, window: Fpage::NIL }
    }
}

impl Ipc {
    pub(super) fn call(to: ThreadId, label: u32, words: &[u64]) -> Self {
        let tag = Tag::new(label, words.len(), 0);
        Self { dest: to, from: to, tag, words: words.into(), ..Self::default() }
    }
    pub(super) fn send(to: ThreadId, label: u32, words: &[u64]) -> Self {
        Self { from: ThreadId::NIL, ..Self::call(to, label, words) }
    }
    pub(super) fn receive(from: ThreadId) -> Self {
        Self { from, ..Self::default() }
    }
    pub(super) fn reply_wait(to: ThreadId, label: u32, words: &[u64]) -> Self {
        Self { from: ThreadId::ANY, wait: false, ..Self::call(to, label, words) }
    }
}

/// Lets `id` execute the call.
pub(super) fn ipc(k: &mut TestKernel, id: ThreadId, call: Ipc) {
    let t = run(k, id);
    let utcb = k.utcb(t);
    for (mr, word) in utcb[crate::kernel::UTCB_MR0 + 1..].iter().zip(&call.words) {
        mr.store(*word, core::sync::atomic::Ordering::Relaxed);
    }
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[2]) = (call.dest.0, call.from.0, call.tag.0);
    x[3..11].fill(0);
    x[3..].iter_mut().zip(&call.words).take(8).for_each(|(x, w)| *x = *w);
    x[11] = if call.wait { Timeout::NEVER.0 } else { Timeout::ZERO.0 };
    x[12] = call.receive_timeout.0;
    x[13] = call.window.word();
    k.handle(Event::Syscall(IPC));
    k.pick();
}

/// Any other system call; returns x0..x8.
pub(super) fn syscall(k: &mut TestKernel, id: ThreadId, number: u16, args: &[u64]) -> [u64; 9] {
    let t = run(k, id);
    k.thread_mut(t).context.x[..args.len()].copy_from_slice(args);
    k.handle(Event::Syscall(number));
    core::array::from_fn(|i| k.thread(t).context.x[i])
}

/// What the last IPC of `id` gave: sender, tag, and the first words.
pub(super) fn outcome(k: &TestKernel, id: ThreadId) -> (ThreadId, Tag, Vec<u64>) {
    let t = k.find(id).expect("the thread lives");
    let thread = k.thread(t);
    assert_eq!(thread.state, State::Ready, "{id:?} is through with its IPC");
    let tag = Tag(thread.context.x[2]);
    let mut words: Vec<u64> = thread.context.x[3..11].into();
    words.extend(
        k.utcb(t)[crate::kernel::UTCB_MR0 + 9..][..55]
            .iter()
            .map(|w| w.load(core::sync::atomic::Ordering::Relaxed)),
    );
    words.truncate(tag.words());
    (ThreadId(thread.context.x[0]), tag, words)
}

/// What a thread does now.
pub(super) fn state(k: &TestKernel, id: ThreadId) -> State {
    k.find(id).map_or(State::Free, |t| k.thread(t).state)
}

/// Lets the clusters exchange packets until nothing moves.
pub(super) fn settle(kernels: &mut [TestKernel]) {
    loop {
        let before: usize = kernels.iter().map(|k| k.hal.kicks.len()).sum();
        kernels.iter_mut().for_each(|k| k.handle(Event::Kick));
        if before == kernels.iter().map(|k| k.hal.kicks.len()).sum() {
            return;
        }
    }
}
