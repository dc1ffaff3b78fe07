//! unmap: what it costs to take a page away, by the number of nodes that map it and by what their CPUs do meanwhile.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod work;

    use skerry_abi::syscall::exit;
    use skerry_abi::{Error, boot::MAX_NODES};
    use skerry_ipc::pager::{RegionKind, ThreadEnd};
    use skerry_rt::record::{Kind, emit};
    use skerry_rt::{console, start, task};
    use unmap::{BASE, Options, ROUNDS};

    /// Stacks of the threads, with unmapped space between them.
    const STACKS: u64 = 0x8_0000_0000;
    const STACK_STRIDE: u64 = 1 << 20;
    const STACK_BYTES: u64 = 64 << 10;

    fn main(_: u64) -> ! {
        console::use_pager();
        let options = match Options::parse(start::app().arguments()) {
            Ok(options) => options,
            Err(error) => task::end(exit::BAD_BOOT, format_args!("{error}")),
        };
        match run(&options) {
            Ok(()) => task::exit(exit::PASS),
            Err(Error::OutOfMemory) => task::end(exit::OUT_OF_MEMORY, format_args!("unmap: out of memory")),
            Err(error) => task::end(exit::FAIL, format_args!("unmap: {error}")),
        }
    }

    fn run(options: &Options) -> Result<(), Error> {
        let mut cpus = [0; MAX_NODES];
        let mut count = 0;
        for (slot, (_, cpu)) in cpus.iter_mut().zip(start::app().places()) {
            *slot = cpu;
            count += 1;
        }
        let cpus = &cpus[..count];
        let Some((&here, others)) = cpus.get(..options.sharers).and_then(|cpus| cpus.split_first()) else {
            task::end(
                exit::BAD_BOOT,
                format_args!("unmap: {} nodes cannot share: there are {count}", options.sharers),
            )
        };
        task::region(BASE, options.pages() * skerry_abi::fpage::PAGE_SIZE, RegionKind::Global, 0)?;
        work::prepare(options);
        let mut companions = [0; MAX_NODES];
        for ((place, &cpu), companion) in (1u64..).zip(others).zip(&mut companions) {
            *companion = spawn(cpu, work::share, place)?;
        }
        let measured = spawn(here, work::measure, 0)?;
        let end = task::join(measured)?;
        for &companion in &companions[..others.len()] {
            task::delete(companion)?;
            task::join(companion)?;
        }
        if end != ThreadEnd::Exited(exit::PASS) {
            return Err(Error::WrongState);
        }
        let pages = ROUNDS * options.pages_per_round();
        let parameters = [("sharers", options.sharers as u64), ("polling", u64::from(options.polling))];
        emit(("unmap", "unmap.pages", "pages"), pages, "pages", Kind::Exact, &parameters);
        // Those of all CPUs together, and whoever polls executes many.
        if !options.polling {
            let instructions = work::instructions() as f64 / pages as f64;
            let of = ("unmap", "unmap.instructions", "instructions");
            emit(of, format_args!("{instructions:.1}"), "instructions", Kind::Exact, &parameters);
        }
        Ok(())
    }

    fn spawn(cpu: u16, entry: task::Entry, place: u64) -> Result<u32, Error> {
        let stack = task::stack(STACKS + (place + 1) * STACK_STRIDE, STACK_BYTES)?;
        task::spawn(cpu, entry, stack, place)
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("unmap is a guest program; to boot it, type `cargo run -- run unmap` in the repository");
    std::process::exit(2);
}
