//! What a program finds in memory when it starts: the machine ([`boot_info`]), and a start page made by whoever started it.
//!
//! The pages are read-only, at fixed addresses, and hold nothing but integers and bytes.
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "fixed addresses become references"))]

use skerry_abi::boot::{MAX_CLUSTERS, MAX_CPUS, Range};

/// Where a program finds its start page: [`AppStart`] or [`ServerStart`].
pub const START_BASE: u64 = 0x3900_0000;
/// [`AppStart::magic`].
pub const APP_MAGIC: u64 = 0x534b_4552_5259_4101;
/// [`ServerStart::magic`].
pub const SERVER_MAGIC: u64 = 0x534b_4552_5259_5301;
/// Bytes of arguments at most.
pub const MAX_ARGUMENTS: usize = 1024;

/// A CPU as an application sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct AppCpu {
    /// The pager thread of threads there.
    pub pager: u64,
    /// Its node.
    pub node: u64,
}

/// What an application is told: made by the app pager that starts the task, one copy per node.
#[repr(C)]
#[derive(Debug)]
pub struct AppStart {
    /// [`APP_MAGIC`].
    pub magic: u64,
    /// CPUs in use.
    pub cpu_count: u64,
    /// Nodes in use (with or without CPUs).
    pub node_count: u64,
    /// Used bytes of `arguments`.
    pub argument_bytes: u64,
    /// What followed `--` on the command line.
    pub arguments: [u8; MAX_ARGUMENTS],
    /// The CPUs, by index.
    pub cpus: [AppCpu; MAX_CPUS],
}

impl AppStart {
    /// The arguments as text.
    pub fn arguments(&self) -> &str {
        let bytes = &self.arguments[..(self.argument_bytes as usize).min(MAX_ARGUMENTS)];
        core::str::from_utf8(bytes).unwrap_or("")
    }
    /// The CPUs in use.
    pub fn cpus(&self) -> &[AppCpu] {
        &self.cpus[..(self.cpu_count as usize).min(MAX_CPUS)]
    }
    /// For every node with CPUs, in ascending order: the node and its first CPU.
    pub fn places(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        (0..self.node_count).filter_map(|node| {
            self.cpus().iter().position(|cpu| cpu.node == node).map(|cpu| (node as u16, cpu as u16))
        })
    }
}

/// A CPU of the server's cluster.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerCpu {
    /// Its index in `BootInfo`.
    pub cpu: u64,
    /// The pager thread there.
    pub pager: u64,
    /// Where that thread's stack ends.
    pub stack: u64,
    /// The system-call server's thread to use there.
    pub syscall: u64,
    /// The root pager's thread there.
    pub root: u64,
}

/// What the servers of one cluster are told by their root pager.
#[repr(C)]
#[derive(Debug)]
pub struct ServerStart {
    /// [`SERVER_MAGIC`].
    pub magic: u64,
    /// The cluster.
    pub cluster: u64,
    /// Used entries of `cpus`.
    pub cpu_count: u64,
    /// The app pager's worker.
    pub worker: u64,
    /// Where the worker's stack ends.
    pub worker_stack: u64,
    /// The app pager's unmap worker.
    pub unmapper: u64,
    /// Where that one's stack ends.
    pub unmapper_stack: u64,
    /// The thread that clears up after pagers that died.
    pub undertaker: u64,
    /// Where that one's stack ends.
    pub undertaker_stack: u64,
    /// Which life of this cluster's app pager it is, from 1 on.
    pub incarnation: u64,
    /// Usable bytes below the end of each stack.
    pub stack_bytes: u64,
    /// Memory of the app pager besides the pools, to be touched at start-up; unused entries have size 0.
    pub own: [Range; 16],
    /// What each root pager took from its pools for servers, by cluster: never part of a pool.
    pub taken: [Range; MAX_CLUSTERS],
    /// The CPUs of the cluster.
    pub cpus: [ServerCpu; MAX_CPUS],
}

impl ServerStart {
    /// The CPUs of the cluster.
    pub fn cpus(&self) -> &[ServerCpu] {
        &self.cpus[..(self.cpu_count as usize).min(MAX_CPUS)]
    }
}

/// The pieces of `range` that are left when `taken` is removed: at most one before and one behind.
pub fn without(range: Range, taken: Range) -> [Range; 2] {
    let (start, end) =
        (taken.base.clamp(range.base, range.end()), taken.end().clamp(range.base, range.end()));
    if start >= end {
        return [range, Range::default()];
    }
    [Range { base: range.base, size: start - range.base }, Range { base: end, size: range.end() - end }]
}

#[cfg(target_os = "none")]
mod fixed {
    use super::{AppStart, START_BASE, ServerStart};
    use skerry_abi::ThreadId;
    use skerry_abi::boot::BootInfo;
    use skerry_abi::layout::BOOT_INFO_BASE;

    /// The machine. For root pagers and servers.
    pub fn boot_info() -> &'static BootInfo {
        // SAFETY: the kernel maps it read-only into the root pager, which maps it on to servers on their first touch; it is
        // never changed, and every field is valid for any bits.
        unsafe { &*core::ptr::with_exposed_provenance(BOOT_INFO_BASE as usize) }
    }
    /// The application's start page. For applications.
    pub fn app() -> &'static AppStart {
        // SAFETY: the app pager maps it read-only on the first touch and never changes it; any bits are valid.
        unsafe { &*core::ptr::with_exposed_provenance(START_BASE as usize) }
    }
    /// The server's start page. For servers.
    pub fn server() -> &'static ServerStart {
        // SAFETY: the root pager maps it read-only on the first touch and changes it no more; any bits are valid.
        unsafe { &*core::ptr::with_exposed_provenance(START_BASE as usize) }
    }
    /// The pager thread of the CPU that the running application thread is on.
    pub fn my_pager() -> ThreadId {
        let cpu = usize::from(crate::utcb::cpu());
        app().cpus().get(cpu).map_or(ThreadId::NIL, |cpu| ThreadId(cpu.pager))
    }
}
#[cfg(target_os = "none")]
pub use fixed::{app, boot_info, my_pager, server};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone() {
        let range = |base, size| Range { base, size };
        let all = range(0x1000, 0x9000);
        assert_eq!(without(all, range(0x1000, 0x2000)), [range(0x1000, 0), range(0x3000, 0x7000)]);
        assert_eq!(without(all, range(0x3000, 0x1000)), [range(0x1000, 0x2000), range(0x4000, 0x6000)]);
        assert_eq!(without(all, range(0x20000, 0x1000)), [all, range(0, 0)]);
        assert_eq!(without(all, range(0, 0)), [all, range(0, 0)]);
        assert_eq!(without(all, range(0, 0x10_0000)), [range(0x1000, 0), range(0xa000, 0)]);
    }
}
