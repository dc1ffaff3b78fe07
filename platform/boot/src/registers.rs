//! Values of the system registers with which a kernel is entered (Arm ARM, D19.2).

use crate::Error;

/// Index into MAIR_EL1: normal memory, write-back, read- and write-allocating.
pub const ATTR_NORMAL: u64 = 0;
/// Index into MAIR_EL1: Device-nGnRE.
pub const ATTR_DEVICE: u64 = 1;
/// Index into MAIR_EL1: normal memory, non-cacheable.
pub const ATTR_NON_CACHEABLE: u64 = 2;

/// MAIR_EL1.
pub const MAIR: u64 =
    0xff << (8 * ATTR_NORMAL) | 0x04 << (8 * ATTR_DEVICE) | 0x44 << (8 * ATTR_NON_CACHEABLE);

/// What the registers depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// ID_AA64MMFR0_EL1.
    pub mmfr0: u64,
    /// ID_AA64MMFR1_EL1.
    pub mmfr1: u64,
}

impl Features {
    const fn field(register: u64, shift: u32) -> u64 {
        (register >> shift) & 15
    }

    /// Whether a kernel can run at all.
    ///
    /// # Errors
    /// [`Error::Cpu`] if the CPU has no 4 KiB granule, or 8-bit ASIDs.
    pub const fn check(self) -> Result<(), Error> {
        match Self::field(self.mmfr0, 28) {
            15 => Err(Error::Cpu("the CPU has no 4 KiB pages: use -cpu cortex-a76")),
            // A space has an ASID of its own for as long as it lives.
            _ if Self::field(self.mmfr0, 4) < 2 => {
                Err(Error::Cpu("the CPU has 8-bit ASIDs, a kernel needs 16: use -cpu cortex-a76"))
            }
            _ => Ok(()),
        }
    }

    /// TCR_EL1: 39-bit addresses in both halves, 4 KiB granule, walks through the caches, as much of the physical address
    /// space as the CPU has, 16-bit ASIDs and hardware management of access flag and dirty state where it has them.
    pub const fn tcr(self) -> u64 {
        const T0SZ: u64 = 25;
        const T1SZ: u64 = 25 << 16;
        // Inner and outer write-back write-allocate (1, 1), inner shareable (3).
        const WALKS: u64 = 1 << 8 | 1 << 10 | 3 << 12;
        const TG1_4K: u64 = 2 << 30; // TG0 = 0 is 4 KiB already
        const AS: u64 = 1 << 36;
        const HA: u64 = 1 << 39;
        const HD: u64 = 1 << 40;

        let range = Self::field(self.mmfr0, 0);
        let ips = if range > 5 { 5 } else { range }; // 52 bits would need another descriptor format
        let asids = if Self::field(self.mmfr0, 4) >= 2 { AS } else { 0 };
        let flags = match Self::field(self.mmfr1, 0) {
            0 => 0,
            1 => HA,
            _ => HA | HD,
        };
        T0SZ | T1SZ | WALKS | WALKS << 16 | TG1_4K | ips << 32 | asids | flags
    }

    /// SCTLR_EL1: MMU, caches, stack alignment checks, writable means not executable (WXN), PAN set on every exception to
    /// EL1 where the CPU has it; user programs may clean caches by address, read CTR_EL0, use `DC ZVA`, `WFE` and `WFI`.
    /// Alignment checks stay off; bits that older architecture versions want as one are one.
    pub const fn sctlr(self) -> u64 {
        const M: u64 = 1 << 0;
        const C: u64 = 1 << 2;
        const SA: u64 = 1 << 3;
        const SA0: u64 = 1 << 4;
        const EOS: u64 = 1 << 11;
        const I: u64 = 1 << 12;
        const DZE: u64 = 1 << 14;
        const UCT: u64 = 1 << 15;
        const NTWI: u64 = 1 << 16;
        const NTWE: u64 = 1 << 18;
        const WXN: u64 = 1 << 19;
        const TSCXT: u64 = 1 << 20;
        const EIS: u64 = 1 << 22;
        const SPAN: u64 = 1 << 23;
        const UCI: u64 = 1 << 26;
        const NTLSMD: u64 = 1 << 28;
        const LSMAOE: u64 = 1 << 29;

        let span = if Self::field(self.mmfr1, 20) == 0 { SPAN } else { 0 };
        let base = M | C | I | SA | SA0 | WXN | DZE | UCT | UCI | NTWI | NTWE;
        base | EOS | TSCXT | EIS | NTLSMD | LSMAOE | span
    }
}
