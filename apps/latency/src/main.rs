//! latency: what a load costs, at every level of the memory hierarchy and in the memory of every node.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod chase;

    use latency::{Options, list};
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
        for &(node, _) in &places[..count] {
            for &size in options.sizes() {
                let parameters = [("home", u64::from(node)), ("bytes", size), ("stride", options.stride)];
                emit(
                    ("latency", "latency.loads", "loads"),
                    options.loads(size),
                    "loads",
                    Kind::Exact,
                    &parameters,
                );
            }
        }
        Ok(())
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
