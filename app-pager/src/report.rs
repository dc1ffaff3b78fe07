//! What a dying thread's exception was, in words.

/// The name of an exception, from ESR_EL1 (Arm ARM, "ESR_EL1, Exception Syndrome Register").
pub const fn exception_name(esr: u64) -> &'static str {
    match esr >> 26 & 0x3f {
        0x00 => "undefined instruction",
        0x0e => "illegal execution state",
        0x15 => "unknown system call",
        0x18 => "access to a system register or privileged instruction",
        0x20 | 0x21 => match esr & 0x3c {
            0x04 => "instruction fetch from an unmapped page",
            0x0c => "instruction fetch from a page that is not executable",
            _ => "instruction abort",
        },
        0x22 => "misaligned instruction pointer",
        0x24 | 0x25 => match (esr & 0x3c, esr >> 6 & 1) {
            (0x04, 0) => "read from an unmapped page",
            (0x04, _) => "write to an unmapped page",
            (0x0c, 0) => "read without permission",
            (0x0c, _) => "write without permission",
            _ if esr & 0x3f == 0x21 => "misaligned access",
            _ => "data abort",
        },
        0x26 => "misaligned stack pointer",
        0x2c => "floating-point exception",
        0x3c => "breakpoint",
        _ => "exception",
    }
}

/// Frame records that a backtrace follows at most.
pub const MAX_FRAMES: usize = 16;

/// Return addresses from the chain of frame records that begins at `fp`: each record is (next record, return address). `read`
/// gives a word of the dead thread's memory, or `None`. The chain must go up the stack, so it ends.
pub fn backtrace(mut fp: u64, read: impl Fn(u64) -> Option<u64>) -> ([u64; MAX_FRAMES], usize) {
    let (mut addresses, mut count) = ([0; MAX_FRAMES], 0);
    while count < MAX_FRAMES && fp != 0 && fp.is_multiple_of(8) {
        let (Some(next), Some(address)) = (read(fp), fp.checked_add(8).and_then(&read)) else { break };
        if address == 0 {
            break;
        }
        addresses[count] = address;
        count += 1;
        if next <= fp {
            break;
        }
        fp = next;
    }
    (addresses, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end() {
        let memory = [0x20, 0xaaa, 0, 0, 0x10, 0xbbb];
        let read = |a: u64| memory.get((a as usize).checked_sub(0x00)? / 8).copied();
        let (addresses, count) = backtrace(0, read);
        assert_eq!((addresses[0], count), (0, 0));
        // 0x20 points back down: its own return address is taken, then the walk ends.
        let (addresses, count) = backtrace(0x20, read);
        assert_eq!((&addresses[..count], count), (&[0xbbb][..], 1));
        assert_eq!(backtrace(0x1000, read).1, 0);
        assert_eq!(backtrace(3, read).1, 0);
    }

    #[test]
    fn names() {
        assert_eq!(exception_name(0x24 << 26 | 0x47), "write to an unmapped page");
        assert_eq!(exception_name(0x20 << 26 | 0x0f), "instruction fetch from a page that is not executable");
        assert_eq!(exception_name(0), "undefined instruction");
    }
}
