//! The load balancer: a thread per node, of which the first is the master.
//!
//! It is a task like others, started by the pager of cluster 0 before the first program if the boot option `balance=on` says so, but the pagers
//! let it ask who is where, and move others' threads. What its threads tell each other is in its own memory, which they share.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use load_balancer::{Load, Move, Node, Seen, between};
    use skerry_abi::boot::MAX_NODES;
    use skerry_rt::ipc::{pause, sleep_forever};
    use skerry_rt::spin::TicketLock;
    use skerry_rt::{console, println, start, task};

    /// Time between two looks: 200 microseconds.
    const PERIOD_TICKS: u64 = 12_500;
    /// Stacks, with nothing between them.
    const STACKS: u64 = 0x8_0000_0000;
    const STACK_STRIDE: u64 = 1 << 20;
    const STACK_BYTES: u64 = 16 << 10;
    /// CPUs of a node that are looked at.
    const MAX_CPUS: usize = 64;

    /// By node: busy threads in the upper half, CPUs in the lower one; and its CPU with the least to do.
    static LOADS: [AtomicU64; MAX_NODES] = [const { AtomicU64::new(0) }; MAX_NODES];
    static IDLEST: [AtomicU64; MAX_NODES] = [const { AtomicU64::new(0) }; MAX_NODES];
    /// By node: the node that it gives a thread to, and one; 0: none.
    static ORDERS: [AtomicU64; MAX_NODES] = [const { AtomicU64::new(0) }; MAX_NODES];
    /// Large tables, not on the stack: each is its node's thread's alone.
    static NODES: [TicketLock<Node>; MAX_NODES] = [const { TicketLock::new(Node::new()) }; MAX_NODES];

    fn load(node: usize) -> Load {
        let word = LOADS[node].load(Relaxed);
        Load { busy: (word >> 32) as u32, cpus: word as u32 }
    }

    fn main(_: u64) -> ! {
        console::use_pager();
        let mut places = start::app().places();
        let own = places.next();
        for (node, cpu) in places {
            let stack = task::stack(STACKS + (u64::from(node) + 1) * STACK_STRIDE, STACK_BYTES);
            if let Err(error) = stack.and_then(|stack| task::spawn(cpu, serve, stack, node.into())) {
                println!("load-balancer: node {node} has none: {error}");
            }
        }
        match own {
            Some((node, _)) => balance(node, true),
            None => sleep_forever(),
        }
    }

    extern "C" fn serve(node: u64) -> ! {
        balance(node as u16, false)
    }

    /// Looks after a node for ever.
    fn balance(node: u16, is_master: bool) -> ! {
        let index = usize::from(node) % MAX_NODES;
        let (mut cpus, mut count) = ([0; MAX_CPUS], 0);
        for ((cpu, _), place) in
            (0u16..).zip(start::app().cpus()).filter(|(_, cpu)| cpu.node == u64::from(node)).zip(&mut cpus)
        {
            *place = cpu;
            count += 1;
        }
        let cpus = &cpus[..count];
        loop {
            pause(PERIOD_TICKS);
            let mut threads = NODES[index].lock();
            look(&mut threads, node);
            if let Some(it) = threads.inside(cpus) {
                carry_out(it);
            }
            let order = ORDERS[index].swap(0, Relaxed);
            if let Some(to) = (order as usize).checked_sub(1) {
                let cpu = IDLEST[to % MAX_NODES].load(Relaxed) as u16;
                if let Some(it) = threads.away(cpus, load(to % MAX_NODES), cpu) {
                    carry_out(it);
                }
            }
            LOADS[index].store(u64::from(threads.busy()) << 32 | count as u64, Relaxed);
            IDLEST[index].store(threads.idlest(cpus).unwrap_or(0).into(), Relaxed);
            drop(threads);
            if is_master {
                let loads: [Load; MAX_NODES] = core::array::from_fn(load);
                if let Some((from, to)) = between(&loads) {
                    ORDERS[from].store(to as u64 + 1, Relaxed);
                }
            }
        }
    }

    /// Asks this node's pager who is here.
    fn look(threads: &mut Node, node: u16) {
        let mut next = 0;
        threads.look(
            core::iter::from_fn(|| Some(()))
                .map_while(|()| {
                    let (cursor, told) = task::pager().thread_list(node, next).ok()?;
                    next = cursor;
                    told
                })
                .map(|told| Seen { task: told.task, number: told.number, cpu: told.cpu, ready: told.ready }),
        );
    }

    /// What is refused is tried again when it has rested: the thread has ended, or somebody else has it in hand.
    fn carry_out(Move { task, number, cpu }: Move) {
        let _ = task::pager().thread_push(task, number, cpu);
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "load-balancer is a guest program; to boot it, type `cargo run -- run APP --balance` in the root folder of the repository"
    );
    std::process::exit(2);
}
