//! The app pager: one instance per cluster; a thread per CPU for the tasks' faults and requests (level 1), and one worker for
//! the requests of other pagers (level 0).
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod ahead;
    mod alone;
    mod audit;
    mod balance;
    mod changes;
    mod crash;
    mod dead;
    mod fault;
    mod frames;
    mod grace;
    mod history;
    mod jobs;
    mod launch;
    mod lead;
    mod life;
    mod limbo;
    mod maintain;
    mod memory;
    mod moves;
    mod office;
    mod parked;
    mod place;
    mod policy;
    mod recover;
    mod serve;
    mod startup;
    mod state;
    mod step;
    mod stock;
    mod straight;
    mod table;
    mod take;
    mod takeover;
    mod task;
    mod unmapper;
    mod watch;
    mod work;

    use core::panic::PanicInfo;

    use skerry_abi::ThreadId;
    use skerry_ipc::{Chunk, level, root};
    use skerry_rt::ipc::{Kernel, sleep_forever};
    use skerry_rt::{println, sys};

    /// The directory and the end of the run. Everything in a pager may call it: it is below all levels of a pager.
    fn root_server() -> root::Client<Kernel<level::Worker>> {
        root::Client::new(Kernel::new(), ThreadId::root(0))
    }

    /// Ends the run.
    fn end_run(code: u64, reason: core::fmt::Arguments<'_>) -> ! {
        let _ = root_server().end(code, Chunk::format(reason));
        sleep_forever()
    }

    /// Says so, and crashes, so that the root pager sees to the rest.
    fn panicked(info: &PanicInfo<'_>) -> ! {
        println!("app pager panicked: {info}");
        let _ = sys::unknown_call();
        sleep_forever()
    }

    skerry_rt::entry!(startup::main, panic = panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "app-pager is a guest program; to boot it, type `cargo run` in the root folder of the repository"
    );
    std::process::exit(2);
}
