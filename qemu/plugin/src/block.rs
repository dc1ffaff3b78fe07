//! What is known of a block of code when it is translated: how much it executes, and where its results come from.
//!
//! A load is *dependent* if its address comes from a load that missed: it cannot start before that one has ended. At run time
//! a CPU keeps a set of registers whose value came from a miss; here it is computed which of them an address depends on, through
//! all that is calculated in between. The set is carried from block to block.

use crate::decode::{Effect, Event, Kind, effect, event};

/// A block of code, as far as running it is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its instructions.
    pub instructions: u32,
    /// Those that access memory.
    pub accesses: u32,
    /// It is a program's, not a kernel's.
    pub user: bool,
    /// Registers that it computes anew, and the registers from which: those at its beginning, or its loads.
    computed: Vec<(u8, u32)>,
    /// All registers in `computed`.
    touched: u32,
}

impl Block {
    /// No code at all.
    pub const NOTHING: Self = Self::of(0);

    /// Instructions that neither access memory nor compute anything.
    pub const fn of(instructions: u32) -> Self {
        Self { instructions, accesses: 0, user: false, computed: Vec::new(), touched: 0 }
    }

    /// The registers whose value comes from a miss, after the block.
    pub fn carry(&self, missed: u32) -> u32 {
        if missed & self.touched == 0 {
            return missed;
        }
        self.computed.iter().fold(missed, |set, &(register, sources)| {
            let bit = 1 << register;
            if missed & sources != 0 { set | bit } else { set & !bit }
        })
    }
}

/// An instruction's access, packed so that QEMU can hand it back without memory of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Registers that it loads.
    pub loaded: u32,
    /// Registers that its address comes from.
    pub address: u32,
    /// It writes, too or only. Versions of QEMU report read-modify-writes in different ways, so what the instruction is decides.
    pub store: bool,
}

const STORE: u64 = 1 << 63;

impl Use {
    /// As one word.
    pub fn pack(self) -> u64 {
        u64::from(self.address) | u64::from(self.loaded) << 32 | if self.store { STORE } else { 0 }
    }
    /// Back from there.
    pub fn unpack(word: u64) -> Self {
        Self { address: word as u32, loaded: (word >> 32) as u32 & !(1 << 31), store: word & STORE != 0 }
    }
}

/// What to watch of an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Its access, if it has one.
    pub memory: Option<Use>,
    /// What it does besides.
    pub event: Option<Event>,
}

/// Looks at the instructions of a block.
pub fn analyse(words: &[u32]) -> (Block, Vec<Plan>) {
    let mut block = Block { instructions: words.len() as u32, ..Block::default() };
    // For each register the set of registers, at the block's beginning or loaded in it, that its value comes from.
    let mut origin: [u32; 32] = std::array::from_fn(|register| 1 << register);
    let from = |origin: &[u32; 32], set: u32| members(set).fold(0, |all, register| all | origin[register]);
    let plans = words.iter().map(|&word| {
        let Effect { kind, loaded, address, computed, sources } = effect(word);
        let address = from(&origin, address);
        let new = from(&origin, sources);
        members(computed).for_each(|register| origin[register] = new);
        members(loaded).for_each(|register| origin[register] = 1 << register);
        block.accesses += u32::from(kind != Kind::None);
        let store = kind != Kind::Load;
        Plan {
            memory: (kind != Kind::None).then_some(Use { loaded, address: address & !(1 << 31), store }),
            event: event(word),
        }
    });
    let plans = plans.collect();
    let changed = (0..31u8).filter(|&register| origin[usize::from(register)] != 1 << register);
    block.computed = changed.map(|register| (register, origin[usize::from(register)])).collect();
    block.touched = block.computed.iter().fold(0, |all, &(register, sources)| all | 1 << register | sources);
    (block, plans)
}

fn members(set: u32) -> impl Iterator<Item = usize> {
    (0..31).filter(move |register| set >> register & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LDR_X0_X0: u32 = 0xf9400000;
    const LDR_X1_X0: u32 = 0xf9400001;
    const LDR_X2_X1: u32 = 0xf9400022;
    const ADD_X1_X0_8: u32 = 0x91002001;
    const MOV_X0_X1: u32 = 0xaa0103e0;
    const MOV_X0_1: u32 = 0xd2800020;
    const STR_X0_X1: u32 = 0xf9000020;

    fn memory(plan: &Plan) -> Use {
        plan.memory.unwrap()
    }

    #[test]
    fn a_chain_depends_on_itself() {
        let (block, plans) = analyse(&[LDR_X0_X0]);
        assert_eq!(memory(&plans[0]), Use { loaded: 1, address: 1, store: false });
        assert_eq!((block.instructions, block.accesses), (1, 1));
        assert_eq!(block.carry(1), 1, "what the load itself found out is kept");
    }

    #[test]
    fn addresses_that_are_computed_depend_on_what_they_are_computed_from() {
        let (_, plans) = analyse(&[LDR_X0_X0, ADD_X1_X0_8, LDR_X2_X1]);
        assert_eq!(memory(&plans[2]), Use { loaded: 4, address: 1, store: false });
        let (_, plans) = analyse(&[LDR_X0_X0, MOV_X0_1, LDR_X1_X0]);
        assert_eq!(memory(&plans[2]).address, 0, "nothing of the load is left");
    }

    #[test]
    fn values_are_carried_to_the_next_block() {
        let (block, _) = analyse(&[LDR_X1_X0, MOV_X0_X1]);
        assert_eq!(block.carry(0b10), 0b11, "x1 missed, and x0 is x1");
        assert_eq!(block.carry(0b01), 0b00, "x1 did not, and the old x0 is gone");
        assert_eq!(analyse(&[MOV_X0_1]).0.carry(0b1001), 0b1000);
        assert_eq!(analyse(&[STR_X0_X1]).0.carry(0b1001), 0b1001);
    }

    #[test]
    fn uses_are_packed() {
        let (_, plans) = analyse(&[LDR_X1_X0, STR_X0_X1, 0xf8210002, 0xc8027c01]);
        for plan in &plans {
            assert_eq!(Use::unpack(memory(plan).pack()), memory(plan));
        }
        assert_eq!(plans.iter().map(|p| memory(p).store).collect::<Vec<_>>(), [false, true, true, true]);
    }
}
