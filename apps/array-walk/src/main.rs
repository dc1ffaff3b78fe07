//! array-walk: one thread per node walks an array of its own, which overlaps with its neighbours' by a chosen share.
//!
//! `--local` has the arrays in memory of each node's own, `--touched` has the pages there before the walk, `--per-cpu` has a thread on
//! every CPU.
//!
//! A first set of threads does the timed walk; a second one checks that the threads of all nodes see the same memory. Threads that
//! are done end, and the first thread waits in the kernel: nobody spins while others are measured.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod report;
    mod walk;

    use array_walk::{BASE, Options};
    use skerry_abi::syscall::exit;
    use skerry_abi::{Error, boot::MAX_NODES};
    use skerry_ipc::pager::{MEASURED, RegionKind, ThreadEnd};
    use skerry_rt::{console, println, start, task};

    /// Stacks of the threads, with unmapped space between them.
    const STACKS: u64 = 0x8_0000_0000;
    const STACK_STRIDE: u64 = 1 << 20;
    const STACK_BYTES: u64 = 64 << 10;

    /// A thread's place in the machine.
    #[derive(Clone, Copy, Default)]
    struct Place {
        node: u16,
        cpu: u16,
    }

    fn main(_: u64) -> ! {
        console::use_pager();
        let options = match Options::parse(start::app().arguments()) {
            Ok(options) => options,
            Err(error) => task::end(exit::BAD_BOOT, format_args!("{error}")),
        };
        let mut places = [Place::default(); MAX_NODES];
        let mut threads = 0;
        let app = start::app();
        let firsts = app.places().map(|(node, cpu)| Place { node, cpu });
        let all = (0..).zip(app.cpus()).map(|(cpu, described)| Place { node: described.node as u16, cpu });
        // As many as there is room for: one per node always fits.
        let (mut all, mut firsts) = (all, firsts);
        let mut next = || if options.per_cpu { all.next() } else { firsts.next() };
        while let Some((slot, place)) = places.get_mut(threads).zip(next()) {
            *slot = place;
            threads += 1;
        }
        match run(&options, &places[..threads]) {
            Ok(0) => task::exit(exit::PASS),
            Ok(wrong) => {
                task::end(exit::FAIL, format_args!("array-walk: {wrong} words or threads were wrong"))
            }
            Err(Error::OutOfMemory) => {
                task::end(exit::OUT_OF_MEMORY, format_args!("array-walk: out of memory"))
            }
            Err(error) => task::end(exit::FAIL, format_args!("array-walk: {error}")),
        }
    }

    fn run(options: &Options, places: &[Place]) -> Result<u64, Error> {
        let threads = places.len() as u64;
        println!(
            "array-walk: {threads} threads, {} bytes each, overlap {:.4} (asked: {}), {} iterations, {}",
            options.size,
            options.actual_overlap(),
            options.overlap,
            options.iterations,
            if options.write { "writing" } else { "reading" }
        );
        let kind = if options.local { RegionKind::Local } else { RegionKind::Global };
        task::region(BASE, options.total(threads), kind, MEASURED)?;
        for thread in 0..threads {
            task::stack(stack_end(thread), STACK_BYTES)?;
        }
        walk::prepare(options, threads);
        let mut wrong = all(places, walk::timed)?;
        report::emit(options, places)?;
        wrong += all(places, walk::check)?;
        wrong += walk::wrong_words();
        report::checksum(wrong == 0);
        Ok(wrong)
    }

    const fn stack_end(thread: u64) -> u64 {
        STACKS + (thread + 1) * STACK_STRIDE
    }

    /// Runs `entry` in a thread at every place; returns how many of them did not end well.
    fn all(places: &[Place], entry: task::Entry) -> Result<u64, Error> {
        let mut numbers = [0; MAX_NODES];
        for (thread, (place, number)) in (0u64..).zip(places.iter().zip(&mut numbers)) {
            *number = task::spawn(place.cpu, entry, stack_end(thread), thread)?;
        }
        let mut failed = 0;
        for &number in &numbers[..places.len()] {
            failed += u64::from(task::join(number)? != ThreadEnd::Exited(exit::PASS));
        }
        Ok(failed)
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "array-walk is a guest program; to boot it, type `cargo run` in the root folder of the repository"
    );
    std::process::exit(2);
}
