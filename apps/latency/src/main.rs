//! latency: what a load costs, at every level of the memory hierarchy and in the memory of every node.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod chase;

    use latency::{Options, list};
    use skerry_abi::modelled::Modelled;
    use skerry_abi::syscall::exit;
    use skerry_abi::{Error, boot::MAX_NODES};
    use skerry_ipc::pager::{RegionKind, ThreadEnd};
    use skerry_rt::record::{Kind, emit};
    use skerry_rt::{console, println, start, task};

    const STACK: u64 = 0x8_0000_0000;
    const STACK_BYTES: u64 = 64 << 10;

    fn main(_: u64) -> ! {
        console::use_pager();
        let options = match Options::parse(start::app().arguments()) {
            Ok(options) => options,
            Err(error) => task::end(exit::BAD_BOOT, format_args!("{error}")),
        };
        match run(&options) {
            Ok(()) => task::exit(exit::PASS),
            Err(Error::OutOfMemory) => task::end(exit::OUT_OF_MEMORY, format_args!("latency: out of memory")),
            Err(error) => task::end(exit::FAIL, format_args!("latency: {error}")),
        }
    }

    fn run(options: &Options) -> Result<(), Error> {
        let mut places = [(0, 0); MAX_NODES];
        let mut count = 0;
        for (slot, place) in places.iter_mut().zip(start::app().places()) {
            *slot = place;
            count += 1;
        }
        if !options.fits(count) {
            task::end(exit::BAD_BOOT, format_args!("latency: too many sizes for {count} nodes"));
        }
        task::stack(STACK, STACK_BYTES)?;
        chase::prepare(count);
        for (place, &(node, cpu)) in places[..count].iter().enumerate() {
            task::region(list(place), options.largest(), RegionKind::Global, 0)?;
            println!("latency: list {place} in the memory of node {node}");
            done(cpu, chase::link, place as u64)?;
        }
        done(places[0].1, chase::walk_all, 0)?;
        for (place, &(node, _)) in places[..count].iter().enumerate() {
            for (index, &size) in options.sizes().iter().enumerate() {
                let parameters = [("home", u64::from(node)), ("bytes", size), ("stride", options.stride)];
                let loads = options.loads(size);
                emit(("latency", "latency.loads", "loads"), loads, "loads", Kind::Exact, &parameters);
                report(options.phase(place, index), loads, &parameters);
            }
        }
        Ok(())
    }

    /// What the instrument told the walking thread about a phase.
    fn report(phase: u16, loads: u64, parameters: &[(&str, u64)]) {
        let cycles = chase::modelled(phase, Modelled::Cycles);
        if cycles == 0 {
            println!(
                "latency: modelled time is not available: no instrument watches (`run latency --model CORE`)"
            );
            return;
        }
        let per_load = cycles as f64 / loads as f64;
        let of = ("latency", "latency.modelled", "cycles-per-load");
        emit(of, format_args!("{per_load:.2}"), "cycles", Kind::Modelled, parameters);
        for what in [Modelled::DramLocal, Modelled::DramRemote, Modelled::TlbMisses, Modelled::WalkCycles] {
            let unit = if what == Modelled::WalkCycles { "cycles" } else { "events" };
            let of = ("latency", "latency.modelled", what.name());
            emit(of, chase::modelled(phase, what), unit, Kind::Modelled, parameters);
        }
    }

    /// Runs a thread to its end.
    fn done(cpu: u16, entry: task::Entry, argument: u64) -> Result<(), Error> {
        match task::join(task::spawn(cpu, entry, STACK, argument)?)? {
            ThreadEnd::Exited(exit::PASS) => Ok(()),
            _ => Err(Error::WrongState),
        }
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("latency is a guest program; to boot it, type `cargo run -- run latency` in the repository");
    std::process::exit(2);
}
