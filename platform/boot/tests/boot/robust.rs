//! Damaged archives and programs are errors, never panics; the last words are valid JSON.

use crate::fake::{archive, blank_info, program};
use proptest::prelude::*;
use skerry_abi::boot::Range;
use skerry_boot::registers::{Features, MAIR};
use skerry_boot::{Archive, Image, report};

const WINDOW: Range = Range { base: 0x20_0000, size: 0x100_0000 };

proptest! {
    #[test]
    fn damaged_programs(mutations in prop::collection::vec((0..300_usize, any::<u8>()), 1..10), cut in 0..400_usize) {
        let mut file = program(0x20_0000, &[(0x20_0000, 5, b"code", 4), (0x20_1000, 6, &[1; 100], 5000)]);
        for (index, value) in mutations {
            if let Some(byte) = file.get_mut(index) {
                *byte = value;
            }
        }
        file.truncate(cut);
        if let Ok(image) = Image::parse("x", &file, WINDOW, 4) {
            prop_assert!(image.parts.iter().all(|part| WINDOW.base <= part.pages.base));
            prop_assert!(image.parts.iter().all(|part| part.pages.end() <= WINDOW.end()));
            prop_assert!(image.size() <= WINDOW.size);
        }
    }

    #[test]
    fn damaged_archives(mutations in prop::collection::vec((0..3000_usize, any::<u8>()), 0..5), cut in 0..4096_usize) {
        let mut file = archive(&[("a", b"first"), ("b", &[7; 600])]);
        for (index, value) in mutations {
            if let Some(byte) = file.get_mut(index) {
                *byte = value;
            }
        }
        file.truncate(cut);
        let mut info = blank_info();
        let archive = Archive::new(0x4000_0000, &file);
        if archive.list(&mut info).is_ok() {
            let inside = |range: Range| range.base >= 0x4000_0000 && range.end() <= archive.range().end();
            prop_assert!(info.modules().iter().all(|module| inside(module.range)));
        }
    }
}

#[test]
fn the_last_words_are_one_line_each() {
    let mut text = String::new();
    report(&mut text, &"a \"quoted\"\npanic \\ message").unwrap();
    assert_eq!(
        text,
        "skerry-boot: error: a \"quoted\" panic \\ message\n\
         {\"verdict\":\"bad-boot\",\"reason\":\"a \\\"quoted\\\" panic \\\\ message\"}\n"
    );
}

#[test]
fn registers_follow_the_features() {
    assert_eq!(MAIR, 0x44_04ff);
    let a76 = Features { mmfr0: 0x10_1122, mmfr1: 0x1021_2122 };
    assert_eq!(a76.tcr(), 0x192_b519_3519);
    assert_eq!(a76.sctlr() >> 23 & 1, 0, "PAN is set on exceptions");
    // Cortex-A57: 44 bits, 16-bit ASIDs, no PAN, no hardware flags.
    let a57 = Features { mmfr0: 0x1124, mmfr1: 0 };
    assert_eq!(a57.tcr() >> 39, 0);
    assert_eq!(a57.sctlr() & 0x30d0_0800, 0x30d0_0800, "the bits that ARMv8.0 wants as one");
    assert!(Features { mmfr0: 0xf000_0000, mmfr1: 0 }.check().is_err());
}
