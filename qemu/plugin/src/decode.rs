//! The instructions of A64 that the instrument wants to know about (Arm ARM, C4.1).
//!
//! Two questions: does it do something that the cost model charges besides an access ([`Event`]), and which registers do its results and its
//! address come from ([`Effect`])? What is not decoded is taken for an instruction that changes no general register, which can only make a
//! load look more or less dependent, never change what is counted.

use skerry_abi::marker::{LOCK, UNLOCK};
use skerry_cost_model::maintenance::Maintenance;

/// A cache maintenance instruction by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintain {
    /// DC CVAC.
    Clean,
    /// DC CIVAC.
    CleanInvalidate,
    /// DC IVAC.
    Invalidate,
    /// DC CVAU.
    CleanForFetch,
    /// IC IVAU.
    DropFetched,
    /// DC ZVA.
    Zero,
}

impl Maintain {
    /// What the cost model charges for.
    pub fn charged(self) -> Maintenance {
        match self {
            Self::Clean => Maintenance::Clean,
            Self::CleanInvalidate => Maintenance::CleanInvalidate,
            Self::Invalidate => Maintenance::Invalidate,
            Self::CleanForFetch | Self::DropFetched => Maintenance::Unification,
            Self::Zero => Maintenance::Zero,
        }
    }
}

/// A marker: `movz xzr, #id, lsl #16`, `lsl #32` or `lsl #48`, which does nothing on any CPU and that no compiler writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A phase begins.
    Begin(u16),
    /// A phase ends.
    End(u16),
    /// `lsl #48`: the program asks for something.
    Request(u16),
}

/// Which entries a TLBI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of the operand's address space.
    Asid,
    /// One page in the operand's address space.
    Page,
    /// One page in all address spaces.
    PageAllAsids,
}

/// What has to be told to the model. `register` holds the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// MSR TTBR0_EL1 (half 0) or TTBR1_EL1 (half 1).
    Table {
        /// Which.
        half: u8,
        /// The operand.
        register: u8,
    },
    /// TLBI.
    Invalidate {
        /// Which entries.
        scope: Scope,
        /// For all CPUs.
        broadcast: bool,
        /// The operand.
        register: u8,
    },
    /// DC or IC by address.
    Maintain {
        /// Which.
        what: Maintain,
        /// The operand.
        register: u8,
    },
    /// MSR ICC_SGI1R_EL1: an interrupt for other CPUs.
    Interrupt {
        /// The operand.
        register: u8,
    },
    /// MSR TPIDRRO_EL0: another thread runs; the operand is where its UTCB is.
    Thread {
        /// The operand.
        register: u8,
    },
    /// MSR SCTLR_EL1: the MMU and the caches.
    Control {
        /// The operand.
        register: u8,
    },
    /// MSR MAIR_EL1: memory attributes.
    Attributes {
        /// The operand.
        register: u8,
    },
    /// IC IALLU, IC IALLUIS.
    DropFetched,
    /// MRS ICC_IAR1_EL1: an interrupt is taken.
    Acknowledge,
    /// WFI or WFE.
    Sleep,
    /// A marker.
    Marker(Marker),
}

impl Event {
    /// The register whose value has to be looked at afterwards.
    pub fn operand(self) -> Option<u8> {
        match self {
            Self::Table { register, .. }
            | Self::Invalidate { register, .. }
            | Self::Maintain { register, .. }
            | Self::Thread { register }
            | Self::Control { register }
            | Self::Attributes { register }
            | Self::Interrupt { register } => Some(register),
            Self::Marker(Marker::Request(LOCK | UNLOCK)) => Some(0),
            Self::DropFetched | Self::Acknowledge | Self::Sleep | Self::Marker(_) => None,
        }
    }
}

/// The event of an instruction.
pub fn event(word: u32) -> Option<Event> {
    let register = (word & 31) as u8;
    let maintain = |what| Some(Event::Maintain { what, register });
    match word & !31 {
        0xd518_2000 => return Some(Event::Table { half: 0, register }),
        0xd518_2020 => return Some(Event::Table { half: 1, register }),
        0xd51b_d060 => return Some(Event::Thread { register }),
        0xd518_cba0 => return Some(Event::Interrupt { register }),
        0xd538_cc00 => return Some(Event::Acknowledge),
        0xd518_1000 => return Some(Event::Control { register }),
        0xd518_a200 => return Some(Event::Attributes { register }),
        0xd508_7500 | 0xd508_7100 => return Some(Event::DropFetched),
        0xd50b_7a20 => return maintain(Maintain::Clean),
        0xd50b_7e20 => return maintain(Maintain::CleanInvalidate),
        0xd508_7620 => return maintain(Maintain::Invalidate),
        0xd50b_7b20 => return maintain(Maintain::CleanForFetch),
        0xd50b_7520 => return maintain(Maintain::DropFetched),
        0xd50b_7420 => return maintain(Maintain::Zero),
        _ => {}
    }
    if matches!(word, 0xd503_207f | 0xd503_205f) {
        return Some(Event::Sleep);
    }
    if word & 0xfff8_f000 == 0xd508_8000 {
        // CRm: 1 and 3 are the outer and inner shareable forms, 7 is this CPU's.
        let broadcast = match word >> 8 & 15 {
            1 | 3 => true,
            7 => false,
            _ => return None,
        };
        let scope = match word >> 5 & 7 {
            0 | 4 | 6 => Scope::All,
            1 | 5 => Scope::Page,
            2 => Scope::Asid,
            _ => Scope::PageAllAsids,
        };
        return Some(Event::Invalidate { scope, broadcast, register });
    }
    if word & 0xff80_001f == 0xd280_001f {
        let id = (word >> 5) as u16;
        return match word >> 21 & 3 {
            1 => Some(Event::Marker(Marker::Begin(id))),
            2 => Some(Event::Marker(Marker::End(id))),
            3 => Some(Event::Marker(Marker::Request(id))),
            _ => None,
        };
    }
    None
}

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    #[default]
    None,
    /// It reads.
    Load,
    /// It writes.
    Store,
    /// It does both to the same place, as one.
    ReadModifyWrite,
}

/// What an instruction does, as sets of registers; bit 31 (stack pointer or zero) is never in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Memory.
    pub kind: Kind,
    /// Registers that it loads from memory.
    pub loaded: u32,
    /// Registers that make up its address.
    pub address: u32,
    /// Registers that it computes…
    pub computed: u32,
    /// …from these.
    pub sources: u32,
}

/// Whether it is an atomic read-modify-write, or the store of a pair of exclusives.
pub fn is_atomic(word: u32) -> bool {
    let bit = |at: u32| word >> at & 1 != 0;
    let exclusive_store = word >> 24 & 0x3f == 0b00_1000 && !bit(23) && !bit(22) && (!bit(21) || bit(31));
    exclusive_store || effect(word).kind == Kind::ReadModifyWrite
}

/// The set of the register at bit `at`.
fn field(word: u32, at: u32) -> u32 {
    (1 << (word >> at & 31)) & !(1 << 31)
}

/// What an instruction does.
pub fn effect(word: u32) -> Effect {
    match word >> 25 & 15 {
        0b0100 | 0b0110 | 0b1100 | 0b1110 => memory(word),
        0b1000 | 0b1001 => immediate(word),
        0b0101 | 0b1101 => register(word),
        0b1010 | 0b1011 => branch_or_system(word),
        _ => Effect::default(),
    }
}

fn memory(word: u32) -> Effect {
    let bit = |at: u32| word >> at & 1 != 0;
    let vector = bit(26);
    let (target, base) = (field(word, 0), field(word, 5));
    let general = |set: u32| if vector { 0 } else { set };
    match word >> 27 & 7 {
        // Exclusive, ordered, compare-and-swap.
        0b001 if !vector && !bit(24) => {
            let (o2, load, o1) = (bit(23), bit(22), bit(21));
            let pair = o1 && !o2;
            let second = if pair { field(word, 10) } else { 0 };
            if o1 && (o2 || !bit(31)) {
                // CAS gives the old value in Rs, CASP in Rs and the one behind it.
                let old = field(word, 16);
                let old = if o2 { old } else { old | old << 1 };
                return Effect {
                    kind: Kind::ReadModifyWrite,
                    loaded: old & !(1 << 31),
                    address: base,
                    ..Effect::default()
                };
            }
            if load {
                return Effect {
                    kind: Kind::Load,
                    loaded: target | second,
                    address: base,
                    ..Effect::default()
                };
            }
            // A store-exclusive gives its status in Rs.
            let status = if o2 { 0 } else { field(word, 16) };
            Effect { kind: Kind::Store, address: base, computed: status, ..Effect::default() }
        }
        // Vector structures.
        0b001 => Effect {
            kind: if bit(22) { Kind::Load } else { Kind::Store },
            address: base,
            ..Effect::default()
        },
        // Literals: the address is known.
        0b011 if !bit(24) => {
            let prefetch = word >> 30 == 3 && !vector;
            let kind = if prefetch { Kind::None } else { Kind::Load };
            Effect { kind, loaded: general(if prefetch { 0 } else { target }), ..Effect::default() }
        }
        // LDAPUR, STLUR.
        0b011 => {
            let load = word >> 22 & 3 != 0;
            Effect {
                kind: if load { Kind::Load } else { Kind::Store },
                loaded: if load { target } else { 0 },
                address: base,
                ..Effect::default()
            }
        }
        // Pairs.
        0b101 => {
            let load = bit(22);
            let loaded = if load { general(target | field(word, 10)) } else { 0 };
            let written = if word >> 23 & 1 != 0 { base } else { 0 };
            Effect {
                kind: if load { Kind::Load } else { Kind::Store },
                loaded,
                address: base,
                computed: written,
                sources: written,
            }
        }
        0b111 => single(word, vector, target, base),
        _ => Effect::default(),
    }
}

/// Loads and stores of one register.
fn single(word: u32, vector: bool, target: u32, base: u32) -> Effect {
    let (unsigned_offset, atomic_or_register) = (word >> 24 & 1 != 0, word >> 21 & 1 != 0);
    let mode = word >> 10 & 3;
    let (size, opc) = (word >> 30, word >> 22 & 3);
    if !unsigned_offset && atomic_or_register && mode == 0 {
        // LDADD and its family, SWP; LDAPR is a load among them.
        if word >> 12 & 15 == 0b1100 {
            return Effect { kind: Kind::Load, loaded: target, address: base, ..Effect::default() };
        }
        return Effect { kind: Kind::ReadModifyWrite, loaded: target, address: base, ..Effect::default() };
    }
    let load = if vector { opc & 1 != 0 } else { opc != 0 };
    if !vector && size == 3 && opc == 2 {
        return Effect::default(); // PRFM
    }
    let index = if !unsigned_offset && atomic_or_register { field(word, 16) } else { 0 };
    let writes_base = !unsigned_offset && !atomic_or_register && mode & 1 != 0;
    let written = if writes_base { base } else { 0 };
    Effect {
        kind: if load { Kind::Load } else { Kind::Store },
        loaded: if load && !vector { target } else { 0 },
        address: base | index,
        computed: written,
        sources: written,
    }
}

fn immediate(word: u32) -> Effect {
    let (target, source) = (field(word, 0), field(word, 5));
    let sources = match word >> 23 & 7 {
        0 | 1 => 0, // ADR, ADRP
        5 => {
            if word >> 29 & 3 == 3 {
                target
            } else {
                0
            }
        } // MOVK keeps the rest
        7 => source | field(word, 16), // EXTR
        _ => source,
    };
    Effect { computed: target, sources, ..Effect::default() }
}

fn register(word: u32) -> Effect {
    let (target, first, second) = (field(word, 0), field(word, 5), field(word, 16));
    let three = word >> 24 & 31 == 0b11011;
    let conditional_compare = word >> 21 & 0xff == 0b1101_0010;
    let one = word >> 21 & 0xff == 0b1101_0110 && word >> 30 & 1 != 0;
    if conditional_compare {
        return Effect::default();
    }
    let third = if three { field(word, 10) } else { 0 };
    let second = if one { 0 } else { second };
    Effect { computed: target, sources: first | second | third, ..Effect::default() }
}

fn branch_or_system(word: u32) -> Effect {
    let link = word >> 26 == 0b10_0101 || word & 0xffff_fc1f == 0xd63f_0000;
    let read = word >> 20 == 0xd53;
    let computed = if link {
        1 << 30
    } else if read {
        field(word, 0)
    } else {
        0
    };
    Effect { computed, ..Effect::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(registers: &[u32]) -> u32 {
        registers.iter().map(|r| 1 << r).sum()
    }

    #[test]
    fn system_instructions() {
        let maintain = |what, register| Some(Event::Maintain { what, register });
        assert_eq!(event(0xd50b7423), maintain(Maintain::Zero, 3), "dc zva, x3");
        assert_eq!(event(0xd50b7e21), maintain(Maintain::CleanInvalidate, 1), "dc civac, x1");
        assert_eq!(event(0xd5182011), Some(Event::Table { half: 0, register: 17 }), "msr ttbr0_el1, x17");
        assert_eq!(event(0xd5181005), Some(Event::Control { register: 5 }), "msr sctlr_el1, x5");
        assert_eq!(event(0xd518a204), Some(Event::Attributes { register: 4 }), "msr mair_el1, x4");
        assert_eq!(event(0xd508751f), Some(Event::DropFetched), "ic iallu");
        assert_eq!(event(0xd518cba2), Some(Event::Interrupt { register: 2 }));
        assert_eq!(event(0xd51bd070), Some(Event::Thread { register: 16 }), "msr tpidrro_el0, x16");
        let lock = event(0xd2e0_009f);
        assert_eq!(lock, Some(Event::Marker(Marker::Request(LOCK))));
        assert_eq!(lock.and_then(Event::operand), Some(0));
        assert_eq!(event(0xd538cc00), Some(Event::Acknowledge));
        assert_eq!(event(0xd503207f), Some(Event::Sleep), "wfi");
        assert_eq!(event(0xd503203f), None, "yield");
    }

    #[test]
    fn tlb_invalidations() {
        let invalidate = |word| match event(word) {
            Some(Event::Invalidate { scope, broadcast, register }) => (scope, broadcast, register),
            other => panic!("{other:?}"),
        };
        assert_eq!(invalidate(0xd5088320), (Scope::Page, true, 0), "tlbi vae1is, x0");
        assert_eq!(invalidate(0xd5088721), (Scope::Page, false, 1), "tlbi vae1, x1");
        assert_eq!(invalidate(0xd5088742), (Scope::Asid, false, 2), "tlbi aside1, x2");
        assert_eq!(invalidate(0xd508871f), (Scope::All, false, 31), "tlbi vmalle1");
        assert_eq!(invalidate(0xd5088363), (Scope::PageAllAsids, true, 3), "tlbi vaae1is, x3");
    }

    #[test]
    fn markers() {
        assert_eq!(event(0xd2a000ff), Some(Event::Marker(Marker::Begin(7))), "movz xzr, #7, lsl #16");
        assert_eq!(event(0xd2c000ff), Some(Event::Marker(Marker::End(7))), "movz xzr, #7, lsl #32");
        assert_eq!(event(0xd2e0001f), Some(Event::Marker(Marker::Request(0))), "movz xzr, #0, lsl #48");
        assert_eq!(event(0xd28000ff), None, "movz xzr, #7");
        assert_eq!(event(0xd2a000e0), None, "movz x0, #7, lsl #16");
    }

    #[test]
    fn loads_and_stores() {
        let check = |word, kind, loaded: &[u32], address: &[u32], what: &str| {
            let effect = effect(word);
            assert_eq!(
                (effect.kind, effect.loaded, effect.address),
                (kind, set(loaded), set(address)),
                "{what}"
            );
        };
        check(0xf9400021, Kind::Load, &[1], &[1], "ldr x1, [x1]");
        check(0xf8627820, Kind::Load, &[0], &[1, 2], "ldr x0, [x1, x2, lsl #3]");
        check(0xf9000020, Kind::Store, &[], &[1], "str x0, [x1]");
        check(0xa9400c02, Kind::Load, &[2, 3], &[0], "ldp x2, x3, [x0]");
        check(0xad400400, Kind::Load, &[], &[0], "ldp q0, q1, [x0]");
        check(0xa9bf7bfd, Kind::Store, &[], &[], "stp x29, x30, [sp, #-16]!");
        check(0x58000043, Kind::Load, &[3], &[], "ldr x3, literal");
        check(0xf8210002, Kind::ReadModifyWrite, &[2], &[0], "ldadd x1, x2, [x0]");
        check(0xf8bfc001, Kind::Load, &[1], &[0], "ldapr x1, [x0]");
        check(0xc8a17c02, Kind::ReadModifyWrite, &[1], &[0], "cas x1, x2, [x0]");
        check(0xc85f7c01, Kind::Load, &[1], &[0], "ldxr x1, [x0]");
        check(0xc8027c01, Kind::Store, &[], &[0], "stxr w2, x1, [x0]");
        check(0xc8dffc01, Kind::Load, &[1], &[0], "ldar x1, [x0]");
        check(0xc89ffc01, Kind::Store, &[], &[0], "stlr x1, [x0]");
        check(0x4c407000, Kind::Load, &[], &[0], "ld1 {v0.16b}, [x0]");
        check(0xf9800000, Kind::None, &[], &[], "prfm");
        check(0xb8404420, Kind::Load, &[0], &[1], "ldr w0, [x1], #4");
        assert_eq!(effect(0xb8404420).computed, set(&[1]));
        check(0x3dc00000, Kind::Load, &[], &[0], "ldr q0, [x0]");
    }

    #[test]
    fn atomics() {
        for (word, atomic, what) in [
            (0xc8027c01, true, "stxr w2, x1, [x0]"),
            (0xc802fc01, true, "stlxr w2, x1, [x0]"),
            (0xc85f7c01, false, "ldxr x1, [x0]"),
            (0xc89ffc01, false, "stlr x1, [x0]"),
            (0xf8210002, true, "ldadd x1, x2, [x0]"),
            (0xc8a17c02, true, "cas x1, x2, [x0]"),
            (0xf9000020, false, "str x0, [x1]"),
        ] {
            assert_eq!(is_atomic(word), atomic, "{what}");
        }
    }

    #[test]
    fn computations() {
        let check = |word, computed: &[u32], sources: &[u32], what: &str| {
            let effect = effect(word);
            assert_eq!(
                (effect.computed, effect.sources, effect.kind),
                (set(computed), set(sources), Kind::None),
                "{what}"
            );
        };
        check(0x91002001, &[1], &[0], "add x1, x0, #8");
        check(0x8b020020, &[0], &[1, 2], "add x0, x1, x2");
        check(0xaa0103e0, &[0], &[1], "mov x0, x1");
        check(0xd2800020, &[0], &[], "mov x0, #1");
        check(0xf2a00020, &[0], &[0], "movk x0, #1, lsl #16");
        check(0x90000000, &[0], &[], "adrp x0, .");
        check(0x9b020c20, &[0], &[1, 2, 3], "madd x0, x1, x2, x3");
        check(0xfa410800, &[], &[], "ccmp x0, #1, #0, eq");
        check(0xdac00020, &[0], &[1], "rbit x0, x1");
        check(0x94000000, &[30], &[], "bl");
        check(0xd53be040, &[0], &[], "mrs x0, cntvct_el0");
        check(0x54000001, &[], &[], "b.ne");
    }
}
