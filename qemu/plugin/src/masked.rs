//! How long a CPU keeps interrupts off: the longest run of instructions of the kernel between an exception and the return from it, or a sleep.
//!
//! The guest can count that itself only while one CPU runs, since its counter is everybody's. Here every CPU has its own count. Code of the
//! upper half of the addresses is the kernel's, which executes nothing with interrupts on. What a CPU does before it enters user mode
//! for the first time is booting, and does not count.

use serde::Serialize;

/// Returns from an exception.
const ERET: u32 = 0xd69f_03e0;
/// Sleeps until there is an interrupt.
const WFI: u32 = 0xd503_207f;
/// A stretch leaves word of where it is so often.
const SAMPLE: u64 = 100;

/// A block of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub pc: u64,
    /// Its instructions.
    pub instructions: u32,
    /// The last one.
    pub last: u32,
}

/// A stretch with interrupts off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Its instructions.
    pub instructions: u64,
    /// Where it began, and then where it was after about every hundredth one.
    pub way: Vec<u64>,
}

/// What is known about one CPU.
#[derive(Clone, Debug, Default)]
pub struct Masked {
    now: Stretch,
    longest: Stretch,
    stretches: u64,
    booted: bool,
}

impl Masked {
    /// A block begins.
    pub fn block(&mut self, piece: &Piece) {
        if piece.pc >> 55 & 1 == 0 {
            return;
        }
        if self.now.instructions >= self.now.way.len() as u64 * SAMPLE {
            self.now.way.push(piece.pc);
        }
        self.now.instructions += u64::from(piece.instructions);
        if piece.last == ERET || piece.last == WFI {
            self.end();
            self.booted |= piece.last == ERET;
        }
    }

    fn end(&mut self) {
        if self.booted {
            self.stretches += 1;
            if self.now.instructions > self.longest.instructions {
                std::mem::swap(&mut self.now, &mut self.longest);
            }
        }
        self.now.instructions = 0;
        self.now.way.clear();
    }

    /// The longest stretch, and how many there were.
    pub fn longest(&self) -> (&Stretch, u64) {
        (&self.longest, self.stretches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = 0xffff_ffe0_0000_b400;
    const NOP: u32 = 0xd503_201f;

    fn run(pieces: &[(u64, u32, u32)]) -> Masked {
        let mut masked = Masked::default();
        for &(pc, instructions, last) in pieces {
            masked.block(&Piece { pc, instructions, last });
        }
        masked
    }

    #[test]
    fn booting_and_programs_do_not_count() {
        let masked = run(&[(KERNEL, 9000, WFI), (KERNEL, 7000, ERET), (0x20_0000, 8000, NOP)]);
        assert_eq!(masked.longest(), (&Stretch::default(), 0));
    }

    #[test]
    fn a_return_or_a_sleep_ends_a_stretch() {
        let masked = run(&[
            (KERNEL, 1, ERET),
            (KERNEL, 30, NOP),
            (KERNEL + 8, 12, ERET),
            (KERNEL, 20, WFI),
            (KERNEL, 25, ERET),
            (KERNEL, 99, NOP),
        ]);
        let longest = Stretch { instructions: 42, way: vec![KERNEL] };
        assert_eq!(masked.longest(), (&longest, 3), "the last one has not ended");
    }

    #[test]
    fn a_long_stretch_says_where_it_was() {
        let pieces: Vec<_> = (0..30).map(|i| (KERNEL + i, 10, if i == 29 { ERET } else { NOP })).collect();
        let masked = run(&[vec![(KERNEL, 1, ERET)], pieces].concat());
        assert_eq!(masked.longest().0.way, [KERNEL, KERNEL + 10, KERNEL + 20]);
    }
}
