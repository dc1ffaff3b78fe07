//! `pager`: what a task asks of the app pager thread of its CPU (which also gets its page faults). Level 1.

pub use crate::history::{Event, What};
use crate::{Chunk, Reader, Wire, Writer, level};

interface! {
    "pager", id 4, level level::Pager;
    /// A new thread of the task on any CPU of the machine, started at once with `argument` in x0. Returns its number.
    1 = ThreadCreate thread_create(cpu: u16, entry: u64, stack: u64, argument: u64) -> u32;
    /// Ends the calling thread; never answered. The task ends with its last thread. Of the code the lower half counts.
    2 = ThreadExit thread_exit(code: u64) -> ();
    /// Waits until the thread with this number has ended.
    3 = ThreadJoin thread_join(number: u32) -> ThreadEnd;
    /// A new region of the task: `base` and `size` are multiples of the page size, `kind` a [`RegionKind`] with flags.
    4 = RegionCreate region_create(base: u64, size: u64, kind: u64) -> ();
    /// What the task's faults on measured regions cost on one node.
    5 = Stats stats(node: u16) -> Stats;
    /// How many of the `pages` pages from `base` on lie in frames of `node`.
    6 = FramesByNode frames_by_node(base: u64, pages: u64, node: u16) -> u64;
    /// Text for the console, as in the interface `console`.
    7 = Log log(last: bool, text: Chunk) -> ();
    /// Ends the whole task; never answered.
    8 = TaskEnd task_end(code: u64, reason: Chunk) -> ();
    /// Ends a thread of the task.
    9 = ThreadDelete thread_delete(number: u32) -> ();
    /// Moves a thread of the task to another CPU. A thread that moves itself to another node gets no answer but `Cancelled`, there.
    10 = ThreadMigrate thread_migrate(number: u32, cpu: u16) -> ();
    /// The caller's number.
    11 = ThreadSelf thread_self() -> u32;
    /// Starts a program of the archive as a task of its own. `command` is the module's name and, behind a blank, its arguments; `quota` is
    /// how many frames of memory it may use, 0 for any number. For tasks that may start others; `birth.parent` is not looked at.
    12 = TaskStart task_start(birth: Birth, quota: u64, command: Chunk) -> u32;
    /// Waits until a task that the caller's task has started is over, and everything that it had has been returned. One cluster at a time
    /// can wait for a task; its end is told once.
    13 = TaskWait task_wait(task: u32) -> TaskEnd;
    /// Ends a task that the caller's task has started.
    14 = TaskKill task_kill(task: u32) -> ();
    /// What is free on a node.
    15 = Free free(node: u16) -> Free;
    /// Takes the `pages` pages from `base` on away from all threads of the task, on all nodes; whoever touches one afterwards gets a new
    /// one. Of a region where every node has frames of its own, this node's. When it returns, no access succeeds
    /// any more through what was mapped.
    16 = Unmap unmap(base: u64, pages: u64) -> Revoked;
    /// From now on threads have these [`Rights`](skerry_abi::Rights) to the pages, no more and no less, whether somebody has touched them
    /// already or not. A region's own rights are the most there can be; but of itself a program may write
    /// what it only reads or executes, if it says so. No page can be written and executed at a time: whoever changes code takes the right to
    /// execute it from all threads, writes, and gives it back.
    17 = Protect protect(base: u64, pages: u64, rights: u64) -> Revoked;
    /// As [`Op::Unmap`] and [`Op::Protect`], for any pages: see [`Pages`].
    18 = Revoke revoke(pages: Pages) -> RevokedPages;
    /// Has the `pages` pages from `base` on lie in frames of `node`, with what is in them. Threads may go on using them meanwhile. A page
    /// whose copies are on several nodes becomes one again. Pages that each node has for itself are bad.
    19 = MovePages move_pages(base: u64, pages: u64, node: u16) -> Changed;
    /// The same for any pages: in bits 0..12 of each word the node, the same in all.
    20 = MoveList move_list(pages: Pages) -> ChangedPages;
    /// From now on every node that reads one of these pages has a copy of its own. Whoever writes to one ends that for the page: all copies
    /// go first, and then there is one frame again, for all nodes.
    21 = Replicate replicate(base: u64, pages: u64) -> Changed;
    /// From now on every node has these pages for itself: each begins with what is in them now and sees what its own threads write. A
    /// node that the task leaves forgets its own.
    22 = MakeLocal make_local(base: u64, pages: u64) -> Changed;
    /// The contrary: all nodes share these pages again, with what was in them when they were made local; what nodes have written since is
    /// forgotten.
    23 = MakeGlobal make_global(base: u64, pages: u64) -> Changed;
    /// The cache lines that the pager of a node has maintained so far.
    24 = Maintenance maintenance(node: u16) -> Maintained;
    /// From the load balancer: the next thread of any task on the called pager's node behind this cursor, 0 in the beginning, and the cursor
    /// behind it. None: there are no more.
    25 = ThreadList thread_list(node: u16, cursor: u64) -> (u64, Option<Listed>);
    /// From the load balancer: moves a thread of another task, which runs or wants to, to another CPU.
    26 = ThreadPush thread_push(task: u32, number: u32, cpu: u16) -> ();
    /// On machines booted with `crash=…`: the pager of a node crashes when it is about to do this step (see the app pager's `step` module) for
    /// the `times`-th time; 0: it does not. Returns how often what was asked before was still to come: 0 if it has crashed since.
    27 = CrashAt crash_at(node: u16, step: u16, times: u32) -> u32;
    /// On machines booted with `history=on`: what the pager of a node remembers about a page of the caller's task, or of one that it has started:
    /// the first [`Event`] that has this number or a later one, and the number behind it.
    28 = PageHistory page_history(task: u32, address: u64, node: u16, from: u64) -> (u64, Option<Event>);
}

/// Any CPU, in [`Birth::cpu`].
pub const ANY_CPU: u16 = u16::MAX;
/// In [`Birth::flags`]: the task may start others.
pub const MAY_START: u16 = 1;
/// In [`Birth::flags`]: the task is the load balancer. No task can start one.
pub const MAY_BALANCE: u16 = 2;

/// A thread, as the load balancer is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its task.
    pub task: u32,
    /// Its number there.
    pub number: u32,
    /// Its CPU.
    pub cpu: u16,
    /// It runs or wants to.
    pub ready: bool,
}

impl Wire for Option<Listed> {
    const WORDS: usize = 2;
    fn put(&self, out: &mut Writer<'_>) {
        let there = 1 << 17;
        let words = self.map_or([0; 2], |Listed { task, number, cpu, ready }| {
            [u64::from(task) << 32 | u64::from(number), there | u64::from(ready) << 16 | u64::from(cpu)]
        });
        words.iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let (who, rest) = (input.take()?, input.take()?);
        let listed = Listed {
            task: (who >> 32) as u32,
            number: who as u32,
            cpu: rest as u16,
            ready: rest >> 16 & 1 != 0,
        };
        Some((rest >> 17 == 1).then_some(listed))
    }
}

/// How a task is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Birth {
    /// The task that starts it.
    pub parent: u32,
    /// Where its first thread begins; [`ANY_CPU`]: where the option `master` says.
    pub cpu: u16,
    /// [`MAY_START`].
    pub flags: u16,
}

impl Wire for Birth {
    const WORDS: usize = 1;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(u64::from(self.parent) << 32 | u64::from(self.flags) << 16 | u64::from(self.cpu));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let word = input.take()?;
        Some(Self { parent: (word >> 32) as u32, flags: (word >> 16) as u16, cpu: word as u16 })
    }
}

/// Cache lines that were maintained because frames changed hands: by operation and site, in the order of [`OPERATIONS`] and [`SITES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Maintained(pub [[u64; SITES.len()]; OPERATIONS.len()]);

/// Names of the operations: `DC CVAC`, `DC CIVAC`.
pub const OPERATIONS: [&str; 2] = ["clean", "clean-invalidate"];
/// Names of the sites: nobody maps the frame any more; the same with fewer rights; it is going to be copied to another node; it was copied to;
/// copies of it are made from now on; no more copies are made; its copy on a node goes; it goes back to its pool.
pub const SITES: [&str; 8] =
    ["unmap", "restrict", "migrate", "copy", "replicate", "collapse", "replica", "free"];

impl Wire for Maintained {
    const WORDS: usize = SITES.len() * OPERATIONS.len();
    fn put(&self, out: &mut Writer<'_>) {
        self.0.iter().flatten().for_each(|&count| out.put(count));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let mut all = Self::default();
        for count in all.0.iter_mut().flatten() {
            *count = input.take()?;
        }
        Some(all)
    }
}

/// Memory that nobody uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Free {
    /// Frames in the pools of the node's pager.
    pub frames: u64,
    /// Frames for page tables in the node's kernel.
    pub tables: u64,
    /// Nodes of mapping trees there.
    pub map_nodes: u64,
}

impl Wire for Free {
    const WORDS: usize = 3;
    fn put(&self, out: &mut Writer<'_>) {
        [self.frames, self.tables, self.map_nodes].iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Some(Self { frames: input.take()?, tables: input.take()?, map_nodes: input.take()? })
    }
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskEnd {
    /// Its threads ended; the code is the largest of theirs, or what one of them said for the task.
    Exited(u64),
    /// A thread of it died of a fault or an exception.
    Faulted,
    /// It was killed.
    Killed,
    /// There was no memory left for it, on any node that it may use.
    OutOfMemory,
    /// It wanted more memory than its quota.
    OverQuota,
    /// An app pager died that it had threads, memory or its master with.
    PagerDied,
}

impl TaskEnd {
    /// In one word, which is not 0. Of codes the lower half counts.
    pub const fn to_word(self) -> u64 {
        match self {
            Self::Exited(code) => 1 << 32 | code & 0xffff_ffff,
            Self::Faulted => 2 << 32,
            Self::Killed => 3 << 32,
            Self::OutOfMemory => 4 << 32,
            Self::OverQuota => 5 << 32,
            Self::PagerDied => 6 << 32,
        }
    }
    /// The inverse of [`TaskEnd::to_word`].
    pub const fn from_word(word: u64) -> Option<Self> {
        match (word >> 32, word as u32) {
            (1, code) => Some(Self::Exited(code as u64)),
            (2, 0) => Some(Self::Faulted),
            (3, 0) => Some(Self::Killed),
            (4, 0) => Some(Self::OutOfMemory),
            (5, 0) => Some(Self::OverQuota),
            (6, 0) => Some(Self::PagerDied),
            _ => None,
        }
    }
}

impl Wire for TaskEnd {
    const WORDS: usize = 1;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(self.to_word());
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Self::from_word(input.take()?)
    }
}

impl Wire for Option<TaskEnd> {
    const WORDS: usize = 1;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(self.map_or(0, TaskEnd::to_word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        match input.take()? {
            0 => Some(None),
            word => TaskEnd::from_word(word).map(Some),
        }
    }
}

/// Who shares a region's frames. The word also carries [`MEASURED`], [`CODE`] and an [`Ahead`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum RegionKind {
    /// The same frame on every node; readable and writable.
    Global = 0,
    /// A frame of its own on every node; readable and writable.
    Local = 1,
    /// The same on every node, from a copy on each that reads it; not writable.
    ReadOnly = 2,
}

/// Flag of a region's kind word: its faults are counted in [`Stats`].
pub const MEASURED: u64 = 1 << 8;
/// Flag of a region's kind word: what is there may be made executable ([`Op::Protect`]).
pub const CODE: u64 = 1 << 11;

/// How many pages of a region a fault may establish at a time, in bits 9..11 of the kind word. More than one only if the region begins with
/// zeros, nobody executes there, and the task has no quota; pages that somebody has already are left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u64)]
pub enum Ahead {
    /// What the boot option `ahead` says.
    #[default]
    AsBooted = 0,
    /// The one that was touched.
    One = 1 << 9,
    /// The sixteen of the same 64 KiB, in any frames.
    Sixteen = 2 << 9,
    /// The same, in one 64 KiB of frames if the node has one to give.
    Block = 3 << 9,
}

impl Ahead {
    /// Bits of a kind word.
    pub const MASK: u64 = 3 << 9;
    /// What a kind word says.
    pub const fn of(word: u64) -> Self {
        match word >> 9 & 3 {
            0 => Self::AsBooted,
            1 => Self::One,
            2 => Self::Sixteen,
            _ => Self::Block,
        }
    }
}

impl RegionKind {
    /// Decodes a kind word into the kind and whether the region is measured.
    pub const fn decode(word: u64) -> Option<(Self, bool)> {
        let kind = match word & !(MEASURED | Ahead::MASK) {
            0 => Self::Global,
            1 => Self::Local,
            2 => Self::ReadOnly,
            _ => return None,
        };
        Some((kind, word & MEASURED != 0))
    }
}

/// What became of a range of pages: how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Revoked {
    /// Were taken away, or got their new rights.
    pub done: u64,
    /// Nobody had them, or somebody else took them away first.
    pub gone: u64,
    /// Were read, written or executed since they were mapped, on any node. (Of those that were done.)
    pub accessed: u64,
    /// Were written.
    pub dirty: u64,
    /// Are no pages of the task, or may not have such rights: nothing has happened to them.
    pub bad: u64,
}

/// The same for a list of pages: which of them, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RevokedPages(pub Revoked);

impl Revoked {
    /// As an array, in the order of the fields.
    pub const fn to_array(self) -> [u64; 5] {
        [self.done, self.gone, self.accessed, self.dirty, self.bad]
    }
    /// The inverse of [`Revoked::to_array`].
    pub const fn from_array([done, gone, accessed, dirty, bad]: [u64; 5]) -> Self {
        Self { done, gone, accessed, dirty, bad }
    }
}

impl Wire for Revoked {
    const WORDS: usize = 5;
    fn put(&self, out: &mut Writer<'_>) {
        self.to_array().iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let mut words = [0; 5];
        for word in &mut words {
            *word = input.take()?;
        }
        Some(Self::from_array(words))
    }
}

impl Wire for RevokedPages {
    const WORDS: usize = Revoked::WORDS;
    fn put(&self, out: &mut Writer<'_>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Revoked::take(input).map(Self)
    }
}

/// What became of pages that were to be changed: how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// Are as they were to be.
    pub done: u64,
    /// Nobody has them.
    pub gone: u64,
    /// Are as they were, for there is no frame left on the node.
    pub full: u64,
    /// Are no pages of the task, or none to which that can be done: nothing has happened to them.
    pub bad: u64,
}

/// The same for a list of pages: which of them, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChangedPages(pub Changed);

impl Wire for Changed {
    const WORDS: usize = 4;
    fn put(&self, out: &mut Writer<'_>) {
        [self.done, self.gone, self.full, self.bad].iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Some(Self { done: input.take()?, gone: input.take()?, full: input.take()?, bad: input.take()? })
    }
}

impl Wire for ChangedPages {
    const WORDS: usize = Changed::WORDS;
    fn put(&self, out: &mut Writer<'_>) {
        self.0.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Changed::take(input).map(Self)
    }
}

/// Pages of one message at most.
pub const MAX_LIST: usize = 63;

/// A list of pages (one that comes twice is gone the second time). A word each: the address, and in the lower bits what shall become of
/// it, the same in all. In [`Op::Revoke`] those are, in bits 0..3, the [`Rights`](skerry_abi::Rights) that it shall have (none: it is taken away).
pub type Pages = List<MAX_LIST>;

/// Up to `N` words, but not none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct List<const N: usize> {
    count: usize,
    words: [u64; N],
}

impl<const N: usize> List<N> {
    /// As many of these words as fit.
    pub fn of(words: &[u64]) -> Self {
        let mut list = Self { count: words.len().min(N), words: [0; N] };
        list.words[..list.count].copy_from_slice(&words[..list.count]);
        list
    }
    /// The words.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.count]
    }
}

impl<const N: usize> Wire for List<N> {
    const WORDS: usize = N;
    fn put(&self, out: &mut Writer<'_>) {
        self.words().iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let mut list = Self::of(&[]);
        while let Some(word) = input.take() {
            *list.words.get_mut(list.count)? = word;
            list.count += 1;
        }
        (list.count != 0).then_some(list)
    }
}

/// How a thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadEnd {
    /// It called exit with this code, of which the lower half counts.
    Exited(u64),
    /// It died of a fault or an exception.
    Died,
    /// Another thread ended it, or its task was ended.
    Killed,
}

impl Wire for ThreadEnd {
    const WORDS: usize = 2;
    fn put(&self, out: &mut Writer<'_>) {
        let (kind, code) = match *self {
            Self::Exited(code) => (0, code),
            Self::Died => (1, 0),
            Self::Killed => (2, 0),
        };
        out.put(kind);
        out.put(code);
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        match (input.take()?, input.take()?) {
            (0, code) => Some(Self::Exited(code)),
            (1, 0) => Some(Self::Died),
            (2, 0) => Some(Self::Killed),
            _ => None,
        }
    }
}

/// Counts of one task on one node, over its measured regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Page faults answered with a new mapping.
    pub faults: u64,
    /// Page faults on what was mapped already (another thread of the space was faster).
    pub spurious: u64,
    /// Questions to the master table.
    pub lookups: u64,
    /// Mappings taken over from the master table.
    pub takeovers: u64,
    /// Frames taken from the pool (including those given back after a lost race).
    pub allocations: u64,
}

impl Stats {
    /// As an array, in the order of the fields.
    pub const fn to_array(self) -> [u64; 5] {
        [self.faults, self.spurious, self.lookups, self.takeovers, self.allocations]
    }
    /// The inverse of [`Stats::to_array`].
    pub const fn from_array([faults, spurious, lookups, takeovers, allocations]: [u64; 5]) -> Self {
        Self { faults, spurious, lookups, takeovers, allocations }
    }
    /// Adds another node's or pager's counts.
    pub fn add(&mut self, other: Self) {
        let (mut sum, other) = (self.to_array(), other.to_array());
        sum.iter_mut().zip(other).for_each(|(sum, value)| *sum = sum.wrapping_add(value));
        *self = Self::from_array(sum);
    }
}

impl Wire for Stats {
    const WORDS: usize = 5;
    fn put(&self, out: &mut Writer<'_>) {
        self.to_array().iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let mut words = [0; 5];
        for word in &mut words {
            *word = input.take()?;
        }
        Some(Self::from_array(words))
    }
}
