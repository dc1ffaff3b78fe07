//! Address-space layout. User space: 39 bits below (TTBR0); kernel: 39 bits above (TTBR1); three table levels each.

/// log2 of the size of a user address space.
pub const USER_BITS: u32 = 39;
/// First address that no user mapping can have.
pub const USER_END: u64 = 1 << USER_BITS;

/// Where every user program is linked.
pub const PROGRAM_BASE: u64 = 0x20_0000;
/// First address of the area of the kernel's own pages: UTCBs and the information page. No item can be mapped over it.
pub const PINNED_BASE: u64 = UTCB_BASE;
/// UTCB slots of a space: slot *i* lies at `UTCB_BASE + i * UTCB_SIZE`.
pub const UTCB_BASE: u64 = 0x3000_0000;
/// Size of one UTCB in bytes.
pub const UTCB_SIZE: u64 = 1024;
/// UTCB slots (so threads) per space.
pub const UTCB_SLOTS: u64 = 1024;
/// First address behind the UTCB area.
pub const UTCB_END: u64 = UTCB_BASE + UTCB_SLOTS * UTCB_SIZE;
/// Where every program finds the kernel information page ([`crate::info`]), read-only: behind the UTCBs, so that they share
/// a page table.
pub const INFO_PAGE_BASE: u64 = UTCB_END;
/// First address behind the kernel's own pages.
pub const PINNED_END: u64 = PINNED_BASE + (2 << 20);
/// Where the root pager finds [`crate::boot::BootInfo`], read-only, and may map it on to others.
pub const BOOT_INFO_BASE: u64 = 0x3800_0000;
/// From here on, pagers see physical memory at its own address (`virt` machine: RAM starts here).
pub const IDENTITY_BASE: u64 = 0x4000_0000;

/// Kernel: physical address `pa` of the cluster's own memory, the rings and the devices is at `PHYSMAP + pa`.
pub const PHYSMAP: u64 = 0xffff_ff80_0000_0000;
/// Kernel: where its image is linked; the same in every cluster, in front of different frames.
pub const KERNEL_BASE: u64 = 0xffff_ffe0_0000_0000;
/// Kernel: stack of CPU *i* ends at `KERNEL_STACKS + (i + 1) * KERNEL_STACK_STRIDE`.
pub const KERNEL_STACKS: u64 = 0xffff_fff0_0000_0000;
/// Distance between two kernel stacks; what is not stack is an unmapped guard.
pub const KERNEL_STACK_STRIDE: u64 = 0x1_0000;
/// Mapped bytes of a kernel stack.
pub const KERNEL_STACK_SIZE: u64 = 0x8000;

const _: () =
    assert!(INFO_PAGE_BASE < PINNED_END && PINNED_END <= BOOT_INFO_BASE && BOOT_INFO_BASE < IDENTITY_BASE);
const _: () = assert!(KERNEL_STACK_SIZE < KERNEL_STACK_STRIDE);
