//! The boot loader: what QEMU starts as `-kernel`, as a flat image, with the MMU off.
//!
//! It is entered once, on one CPU, with the device tree's address in x0. What it decides is in the library part of this
//! package; here are the steps that touch the machine: find tree and archive, load, clean the caches, start the other
//! CPUs, become the last of them. It prints only if something is wrong.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod physical;

#[cfg(target_os = "none")]
mod guest {
    use core::fmt::Display;
    use core::panic::PanicInfo;
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use skerry_abi::boot::{BootInfo, Range};
    use skerry_abi::syscall::exit::BAD_BOOT;
    use skerry_boot::registers::Features;
    use skerry_boot::{Archive, Error, Input, Loaded, load, report};
    use skerry_topology::{Conduit, Topology, tree_size};
    use smccc::{Hvc, Smc, psci};

    use crate::physical::{self, Ram};
    use crate::{arch, console};

    /// How PSCI is called, once known: 0 = not yet, 1 = hvc, 2 = smc.
    static CONDUIT: AtomicU8 = AtomicU8::new(0);

    /// Called by the entry code, on a stack, with bss cleared.
    pub(crate) fn main(device_tree: u64) -> ! {
        match boot(device_tree) {
            Ok(start) => arch::enter_kernel(start),
            Err(error) => fail(&error),
        }
    }

    /// Gets everything ready and starts all other CPUs. Gives the address of the boot CPU's start block.
    fn boot(device_tree: u64) -> Result<u64, Error> {
        if arch::exception_level() != 1 {
            return Err(Error::Cpu("the loader must be started at EL1: use -M virt,virtualization=off"));
        }
        let semihosting = arch::has_semihosting();
        let size = tree_size(physical::bytes(Range { base: device_tree, size: 8 }))? as u64;
        let device_tree = Range { base: device_tree, size };
        let topology = Topology::parse(physical::bytes(device_tree))?;
        console::set_base(topology.uart.base);
        CONDUIT.store(topology.conduit.map_or(0, |conduit| 1 + conduit as u8), Relaxed);

        let initrd = topology.initrd.ok_or(Error::NoArchive)?;
        let input = Input {
            topology: &topology,
            archive: Archive::new(initrd.base, physical::bytes(initrd)),
            device_tree,
            loader: arch::image(),
            trampoline: arch::trampoline(),
            features: Features { mmfr0: arch::mmfr0(), mmfr1: arch::mmfr1() },
            semihosting,
        };
        let info = physical::boot_info();
        let loaded = load(&input, &mut Ram, info)?;
        loaded.written(info).for_each(arch::clean_to_poc);
        arch::clean_to_poc(input.loader);
        start_others(&topology, info, &loaded)
    }

    fn start_others(topology: &Topology, info: &BootInfo, loaded: &Loaded) -> Result<u64, Error> {
        let here = arch::affinity();
        let mut boot_cpu = None;
        for (cpu, description) in topology.cpus.iter().enumerate() {
            let start = loaded.start(info, cpu).address;
            if description.mpidr == here {
                boot_cpu = Some(start);
                continue;
            }
            let entry = arch::trampoline().base;
            let started = match topology.conduit {
                Some(Conduit::Hvc) => psci::cpu_on::<Hvc>(description.mpidr, entry, start),
                Some(Conduit::Smc) => psci::cpu_on::<Smc>(description.mpidr, entry, start),
                None => Err(psci::Error::NotSupported),
            };
            started.map_err(|error| Error::CpuOn { cpu, code: i64::from(error) })?;
        }
        boot_cpu.ok_or(Error::UnknownBootCpu(here))
    }

    /// Says why and ends the run.
    pub(crate) fn fail(reason: &dyn Display) -> ! {
        // The console cannot fail.
        let _ = report(&mut console::Console, reason);
        arch::exit(BAD_BOOT);
        // No semihosting: at least stop. PSCI cannot tell the host a code.
        match CONDUIT.load(Relaxed) {
            1 => drop(psci::system_off::<Hvc>()),
            2 => drop(psci::system_off::<Smc>()),
            _ => {}
        }
        arch::stop()
    }

    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        fail(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a guest program; to boot it, type `cargo run` in the root folder of the repository");
    std::process::exit(2);
}
