//! Machine code: finding the conditional branches of a stretch of it, and taking one instruction out of a program.

use std::ops::Range;
use std::path::Path;

use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use libtest_mimic::Failed;

/// Does nothing.
const NOP: u32 = 0xd503_201f;
/// `cmp xzr, xzr`: finds equality.
const EQUAL: u32 = 0xeb1f_03ff;

/// What becomes of an instruction that is a check, or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// A conditional branch is never taken; a conditional comparison leaves the verdict to those before it; a comparison is one of
    /// equals.
    Passes,
    /// A conditional branch is always taken.
    Taken,
}

/// A branch of this kind: how many bits its offset has.
fn offset_bits(word: u32) -> Option<u32> {
    match word {
        // B.cond
        _ if word & 0xff00_0010 == 0x5400_0000 => Some(19),
        // CBZ, CBNZ
        _ if word & 0x7e00_0000 == 0x3400_0000 => Some(19),
        // TBZ, TBNZ
        _ if word & 0x7e00_0000 == 0x3600_0000 => Some(14),
        _ => None,
    }
}

/// What stands for the instruction when its check is gone; `None`: it is no instruction of a check.
fn without(word: u32, removal: Removal) -> Option<u32> {
    let compares_conditionally = word & 0x7fe0_0410 & !0x4000_0000 == 0x3a40_0000;
    // ADDS and SUBS (immediate, shifted register) with the zero register as the result
    let compares =
        word & 0x1f == 31 && (word & 0x3f80_0000 == 0x3100_0000 || word & 0x3f20_0000 == 0x2b00_0000);
    match (offset_bits(word), removal) {
        (Some(_), Removal::Passes) => Some(NOP),
        (Some(bits), Removal::Taken) => {
            // Sign-extended into the 26 bits of B.
            let offset = (word << (27 - bits)) as i32 >> (32 - bits);
            Some(0x1400_0000 | offset as u32 & 0x03ff_ffff)
        }
        (None, Removal::Passes) if compares_conditionally => Some(NOP),
        (None, Removal::Passes) if compares => Some(EQUAL),
        _ => None,
    }
}

/// A program's ELF file.
#[derive(Clone)]
pub(crate) struct Image {
    name: String,
    bytes: Vec<u8>,
}

impl Image {
    pub(crate) fn read(path: &Path) -> Result<Self, Failed> {
        Ok(Self { name: path.display().to_string(), bytes: std::fs::read(path)? })
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Where in the file the instruction at this address is.
    fn place(&self, address: u64) -> Result<Range<usize>, Failed> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(&self.bytes)?;
        let segments = file.segments().ok_or("no segments")?;
        let mut loads = segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        let segment = loads
            .find(|load| (load.p_vaddr..load.p_vaddr + load.p_filesz).contains(&address))
            .ok_or_else(|| format!("{}: nothing at {address:#x}", self.name))?;
        let start = (segment.p_offset + address - segment.p_vaddr) as usize;
        Ok(start..start + 4)
    }

    fn word(&self, address: u64) -> Result<u32, Failed> {
        Ok(u32::from_le_bytes(self.bytes[self.place(address)?].try_into()?))
    }

    /// The addresses of the conditional branches between two addresses.
    pub(crate) fn branches(&self, addresses: Range<u64>) -> Result<Vec<u64>, Failed> {
        let mut found = Vec::new();
        for address in addresses.step_by(4) {
            if offset_bits(self.word(address)?).is_some() {
                found.push(address);
            }
        }
        Ok(found)
    }

    /// Takes out the check at an address.
    pub(crate) fn remove(&mut self, address: u64, removal: Removal) -> Result<(), Failed> {
        let word = self.word(address)?;
        let new = without(word, removal).ok_or_else(|| {
            format!("{word:#010x} at {address:#x} is no check that can be taken out like this")
        })?;
        let place = self.place(address)?;
        self.bytes[place].copy_from_slice(&new.to_le_bytes());
        Ok(())
    }
}

/// Instructions and what they become, as an assembler sees them.
pub(crate) fn known_instructions() -> Result<(), Failed> {
    for (word, removal, expected) in [
        // b.ne .+8
        (0x5400_0041, Removal::Passes, Some(NOP)),
        (0x5400_0041, Removal::Taken, Some(0x1400_0002)),
        // b.hs .-4
        (0x54ff_ffe2, Removal::Taken, Some(0x17ff_ffff)),
        // cbz x0, .+16; cbnz w0, .+16
        (0xb400_0080, Removal::Passes, Some(NOP)),
        (0x3500_0080, Removal::Taken, Some(0x1400_0004)),
        // tbnz x27, #6, .+12
        (0x3730_007b, Removal::Taken, Some(0x1400_0003)),
        // cmn w15, #1; cmp x0, x1; cmn x1, #1
        (0x3100_05ff, Removal::Passes, Some(EQUAL)),
        (0xeb01_001f, Removal::Passes, Some(EQUAL)),
        (0xb100_043f, Removal::Passes, Some(EQUAL)),
        // ccmp x13, #0, #0, eq; ccmn x22, #1, #4, ne; ccmp x15, x20, #4, ne
        (0xfa40_09a0, Removal::Passes, Some(NOP)),
        (0xba41_1ac4, Removal::Passes, Some(NOP)),
        (0xfa54_11e4, Removal::Passes, Some(NOP)),
        // add x0, x0, #1; subs x27, x27, #8; svc #0; b .+4: no checks
        (0x9100_0400, Removal::Passes, None),
        (0xf100_237b, Removal::Passes, None),
        (0xd400_0001, Removal::Passes, None),
        (0x1400_0001, Removal::Taken, None),
        (0xeb01_001f, Removal::Taken, None),
    ] {
        let found = without(word, removal);
        if found != expected {
            return Err(format!("{word:#010x} {removal:?}: {found:x?} instead of {expected:x?}").into());
        }
    }
    Ok(())
}
