//! A pattern in frames that nobody has.
//!
//! Whoever reads a freed frame reads something that cannot be meant, and whoever writes to it is found when it is taken again. The first
//! word is left out: lists of frames that came back go through it ([`crate::pool`]).

use core::sync::atomic::Ordering::Relaxed;

use skerry_abi::fpage::PAGE_SIZE;

use crate::Memory;

const WORDS: usize = (PAGE_SIZE / 8) as usize;
/// No address that a program could use, as a number implausible.
const PATTERN: u64 = 0xdead_f4a3_dead_f4a3;

/// Fills a frame.
pub fn poison(memory: &impl Memory, frame: u64) {
    memory.words(frame, WORDS)[1..].iter().for_each(|word| word.store(PATTERN, Relaxed));
}

/// Where somebody wrote to a frame since, and what.
pub fn disturbed(memory: &impl Memory, frame: u64) -> Option<(u64, u64)> {
    let mut words = (0u64..).step_by(8).zip(memory.words(frame, WORDS)).skip(1);
    words.find_map(|(offset, word)| {
        let found = word.load(Relaxed);
        (found != PATTERN).then_some((frame + offset, found))
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    struct Frame(Vec<AtomicU64>);
    impl Memory for Frame {
        fn words(&self, _: u64, count: usize) -> &[AtomicU64] {
            &self.0[..count]
        }
        fn clear(&self, _: u64, _: u64) {}
        fn copy(&self, _: u64, _: u64, _: u64) {}
    }

    #[test]
    fn every_word_but_the_first_counts() {
        let frame = Frame((0..WORDS).map(|_| AtomicU64::new(0)).collect());
        assert_eq!(disturbed(&frame, 0x5000), Some((0x5008, 0)));
        poison(&frame, 0x5000);
        frame.0[0].store(7, Relaxed);
        assert_eq!(disturbed(&frame, 0x5000), None);
        for word in [1, 100, WORDS - 1] {
            frame.0[word].fetch_xor(1, Relaxed);
            assert_eq!(disturbed(&frame, 0x5000), Some((0x5000 + word as u64 * 8, PATTERN ^ 1)));
            frame.0[word].fetch_xor(1, Relaxed);
        }
    }
}
