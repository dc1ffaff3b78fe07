//! `syscall`: the privileged kernel calls for servers that are not privileged themselves, served by the system-call server of
//! the caller's cluster. Arguments are those of `skerry_abi::syscall`.

use skerry_abi::{Domain, Fpage, SpaceId, ThreadId};

use crate::{Reader, Wire, Writer, level};

interface! {
    "syscall", id 3, level level::SyscallServer;
    /// A new, unprivileged space of a task's domain, at home in this cluster.
    1 = SpaceCreate space_create(domain: u32) -> SpaceId;
    /// Ends the threads of a space and removes its mappings.
    2 = SpaceDestroy space_destroy(space: SpaceId) -> ();
    /// Threads of `space` may send to `partner` from now on.
    3 = GrantPartner grant_partner(space: SpaceId, partner: ThreadId) -> ();
    /// A new, suspended thread.
    4 = ThreadCreate thread_create(
        space: SpaceId, cpu: u16, pager: ThreadId, handler: ThreadId, slot: u16, priority: u16) -> ThreadId;
    /// Starts a thread that never ran.
    5 = ThreadStart thread_start(thread: ThreadId, ip: u64, sp: u64, argument: u64) -> ();
    /// Ends a thread.
    6 = ThreadDelete thread_delete(thread: ThreadId) -> ();
    /// Moves a thread with all its state to a space of another cluster. Returns when it has arrived, or was refused.
    7 = ThreadMigrate thread_migrate(thread: ThreadId, space: SpaceId, cpu: u16, pager: ThreadId) -> ();
    /// Moves a thread to another CPU of this cluster.
    8 = ThreadPlace thread_place(thread: ThreadId, cpu: u16, pager: ThreadId) -> ();
    /// Which task has a frame mapped in this cluster, one of them if there are several.
    9 = Audit audit(frame: u64) -> Option<Holder>;
    /// From the root pager of the cluster, when its app pager is gone: ends all spaces of tasks.
    10 = Reset reset() -> ();
    /// What a thread does just now: one of [`thread_state`](skerry_abi::syscall::thread_state).
    11 = ThreadState thread_state(thread: ThreadId) -> u64;
}

/// A task that has a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its space.
    pub space: SpaceId,
    /// Where, and with which rights.
    pub leaf: Fpage,
    /// The task.
    pub domain: Domain,
}

impl Wire for Option<Holder> {
    const WORDS: usize = 3;
    fn put(&self, out: &mut Writer<'_>) {
        let holder = self.unwrap_or(Holder { space: SpaceId::NIL, leaf: Fpage::NIL, domain: 0 });
        [holder.space.0, holder.leaf.word(), holder.domain.into()].iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let (space, leaf, domain) = (SpaceId(input.take()?), Fpage::decode(input.take()?), u32::take(input)?);
        if space == SpaceId::NIL { Some(None) } else { leaf.map(|leaf| Some(Holder { space, leaf, domain })) }
    }
}
