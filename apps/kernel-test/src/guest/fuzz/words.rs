//! Random arguments: mostly nearly right, since what is plainly wrong ends at the first check.

use fastrand::Rng;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::layout::{
    BOOT_INFO_BASE, INFO_PAGE_BASE, KERNEL_BASE, KERNEL_STACKS, PHYSMAP, PROGRAM_BASE, USER_END, UTCB_BASE,
    UTCB_SIZE,
};
use skerry_abi::message::MAX_WORDS;
use skerry_abi::{Fpage, Rights, Tag, ThreadId, Timeout};
use skerry_rt::sys;

use super::areas::{BLOCK, HOSTILE};
use super::board::Board;

/// Words behind the tag.
pub(super) type Words = [u64; MAX_WORDS];

/// What random words are made of.
pub(super) struct Dictionary {
    pub(super) rng: Rng,
    pub(super) board: &'static Board,
    pub(super) clusters: u16,
    pub(super) cluster: u16,
    /// The thread itself, and who it heard of last.
    pub(super) me: ThreadId,
    pub(super) last: ThreadId,
    /// Base of its own block and stack, and of memory to map to and fro.
    pub(super) own: u64,
    pub(super) play: u64,
    /// Whether `own` may be named where it would be lost.
    pub(super) reckless: bool,
}

const BOUNDARIES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0xfff,
    0x1000,
    USER_END - PAGE_SIZE,
    USER_END,
    1 << 47,
    1 << 48,
    1 << 63,
    u64::MAX - 0xfff,
    u64::MAX - 1,
    u64::MAX,
];

impl Dictionary {
    /// In `0..n`; `n` is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.rng.u64(0..n.max(1))
    }
    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
    pub(super) fn pick(&mut self, from: &[u64]) -> u64 {
        let index = self.below(from.len() as u64) as usize;
        from.get(index).copied().unwrap_or(0)
    }
    fn any_cluster(&mut self) -> u16 {
        if self.percent(60) { self.cluster } else { self.below(self.clusters.into()) as u16 }
    }

    /// Anything.
    pub(super) fn word(&mut self) -> u64 {
        match self.below(6) {
            0 => self.rng.u64(..),
            1 => self.below(1024),
            2 => self.address(),
            3 => self.thread().0,
            4 => self.fpage(),
            _ => self.pick(&BOUNDARIES),
        }
    }

    /// A thread: mostly one that there is, was, or could be.
    pub(super) fn thread(&mut self) -> ThreadId {
        let at = self.any_cluster();
        let there = self.board.cluster(at);
        ThreadId(match self.below(100) {
            0..45 => {
                let index = self.below(there.threads.len() as u64) as usize;
                there.threads[index].get()
            }
            45..58 => self.last.0,
            58..66 => {
                let index = self.below(there.stale.len() as u64) as usize;
                there.stale[index].get()
            }
            66..71 => self.me.0,
            71..76 => ThreadId::ANY.0,
            76..80 => ThreadId::NIL.0,
            80..85 => self.board.cluster(self.cluster).boss.get(),
            85..88 => there.boss.get(),
            88..94 => {
                let index = self.below(2) as usize;
                there.witness[index].get()
            }
            94..98 => self.misnamed(there.threads[0].get()),
            98 => self.rng.u64(..),
            _ => self.pick(&BOUNDARIES),
        })
    }
    /// A name like `id` that nobody has, not even later.
    pub(super) fn misnamed(&mut self, id: u64) -> u64 {
        let id = ThreadId(id);
        match self.below(5) {
            0 => ThreadId::new(id.cluster(), id.slot(), id.generation().wrapping_add(1 << 24)).0,
            1 => ThreadId::new(id.cluster(), id.slot() | 0xf000, id.generation()).0,
            2 => ThreadId::new(id.cluster() | 0x100, id.slot(), id.generation()).0,
            3 => id.0 | 1 << 28,
            _ => id.0 & 0xffff_ffff,
        }
    }

    /// An address: mostly one that means something to somebody.
    pub(super) fn address(&mut self) -> u64 {
        let page = self.below(512) * PAGE_SIZE;
        let base = match self.below(100) {
            0..45 => self.play + page,
            45..52 if self.reckless => self.own + page % (4 * PAGE_SIZE),
            // The same, of somebody else.
            52..58 => self.play.wrapping_add(self.below(32) << 21) + page,
            58..61 => PROGRAM_BASE + page % (32 * PAGE_SIZE),
            61..68 => UTCB_BASE + self.below(1024) * UTCB_SIZE,
            68..72 => INFO_PAGE_BASE + page % (4 * PAGE_SIZE),
            72..74 => BOOT_INFO_BASE,
            74..78 => PHYSMAP + self.play + page,
            78..81 => KERNEL_BASE + page,
            81..83 => KERNEL_STACKS + page,
            83..87 => USER_END - PAGE_SIZE - page,
            87..91 => self.rng.u64(..) & (USER_END - PAGE_SIZE),
            91..94 => self.rng.u64(..),
            _ => self.pick(&BOUNDARIES),
        };
        base.wrapping_add(match self.below(8) {
            0 => self.below(PAGE_SIZE),
            1 => self.below(PAGE_SIZE / 8) * 8,
            _ => 0,
        })
    }

    /// The word of an fpage.
    pub(super) fn fpage(&mut self) -> u64 {
        if self.percent(5) {
            return self.rng.u64(..);
        }
        let bits = match self.below(16) {
            0..9 => 12,
            9 => 13,
            10 => 16,
            11 => 17,
            12..14 => 21,
            14 if self.reckless => self.pick(&[22, 25, 30, 31, 39]) as u32,
            _ => self.below(64) as u32,
        };
        let rights = self.pick(&[7, 7, 6, 6, 5, 4, 4, 3, 2, 1, 0]);
        let base = match self.reckless {
            true => self.address(),
            // Stays with what may be lost.
            false => self.play + self.below(512) * PAGE_SIZE,
        };
        let aligned = base & !((1u64 << bits.min(63)) - 1);
        let word = Fpage::new(aligned, bits, Rights::from_bits(rights)).map(Fpage::word);
        match word {
            Some(word) if self.reckless || bits <= 21 => word,
            _ if self.reckless => aligned & !0xfff | u64::from(bits & 63) << 4 | rights,
            _ => Fpage::NIL.word(),
        }
    }

    /// A receive window.
    pub(super) fn window(&mut self) -> u64 {
        match self.below(10) {
            0..4 => Fpage::NIL.word(),
            4..7 if self.reckless => Fpage::COMPLETE.word(),
            7..9 => Fpage::new(self.play, 21, Rights::RWX).map_or(0, Fpage::word),
            _ => self.fpage(),
        }
    }

    /// A time-out.
    pub(super) fn timeout(&mut self) -> u64 {
        match self.below(40) {
            0..18 => Timeout::ZERO.0,
            18..22 => Timeout::REPLY.0,
            22..37 => sys::counter_time().wrapping_add(self.below(4000)),
            37 if self.reckless => self.pick(&[2, 1000, u64::MAX - 1, 1 << 63]),
            _ if self.reckless => Timeout::NEVER.0,
            _ => Timeout::ZERO.0,
        }
    }

    /// A message: its tag and its words.
    pub(super) fn message(&mut self) -> (u64, Words) {
        let untyped = match self.below(8) {
            0..4 => self.below(9),
            4..7 => self.below(64),
            _ => 0,
        };
        let typed = match self.below(8) {
            0..4 => 0,
            4..6 => 2,
            6 => 2 * self.below(8),
            _ => self.below(64),
        };
        let label = match self.below(8) {
            0 => 0xffff_0000 + self.below(8),
            1 => self.below(u32::MAX.into()),
            _ => self.below(32),
        };
        let mut words = [0; MAX_WORDS];
        words.iter_mut().take(untyped as usize).for_each(|word| *word = self.word());
        let mut at = untyped as usize;
        for _ in 0..typed / 2 {
            let Some(item) = words.get_mut(at..at + 4) else { break };
            let (words, used) = self.item();
            item.copy_from_slice(&words);
            at += used;
        }
        let tag = Tag::new(label as u32, untyped as usize, typed as usize).0;
        (if self.percent(3) { tag ^ 1 << self.below(64) } else { tag }, words)
    }

    /// A map item, a grant, with or without a guard: its words, and how many.
    fn item(&mut self) -> ([u64; 4], usize) {
        let mut fpage = self.fpage();
        let covers = |own| Fpage::decode(fpage).is_some_and(|fpage| fpage.contains(own));
        if (0..4).any(|page| covers(self.own + page * PAGE_SIZE)) {
            // Who shares its block would let others write down what it has not found.
            fpage = Fpage::new(self.play, 12, Rights::RWX).map_or(0, Fpage::word);
        }
        let size = 1u64 << (fpage >> 4 & 0x3f);
        let dest = match self.below(8) {
            // Where the other side may have its window.
            0..4 => {
                let at = self.any_cluster();
                let far = self.below(HOSTILE.len() as u64) << 21;
                (if at == self.cluster { self.play } else { self.play.wrapping_add(far) })
                    + self.below(512) * PAGE_SIZE
            }
            _ => self.address(),
        } & !size.wrapping_sub(1);
        // Not where a colleague has its stack or its program, should that just be unmapped: nobody could believe it any more.
        let covers = |base: u64, end: u64| dest < end && base < dest.saturating_add(size);
        let blocks = self.own & !(BLOCK - 1);
        let vital = covers(blocks, blocks + BLOCK) || covers(PROGRAM_BASE, UTCB_BASE);
        let dest = if vital { self.play } else { dest };
        let grant = u64::from(self.percent(25));
        let cacheability = self.pick(&[0, 0, 0, 0, 0, 1, 2, 3]) << 4;
        let guarded = self.percent(25);
        let guard = if self.percent(70) { self.play + self.below(512) * 8 } else { self.address() };
        let expected = if self.percent(80) { 0 } else { self.word() };
        let flags = grant | cacheability | u64::from(guarded) << 1;
        let words = [fpage, dest | if self.percent(95) { flags } else { self.below(4096) }, guard, expected];
        (words, if guarded { 4 } else { 2 })
    }
}
