//! A thread of a task died: the report, and its end.

use app_pager::report::{backtrace, exception_name};
use skerry_abi::message::EXCEPTION_WORDS;
use skerry_ipc::Sender;
use skerry_ipc::pager::ThreadEnd;
use skerry_rt::println;

use super::memory::Physical;
use super::place::frame_of;
use super::state::Context;
use super::{moves, task};

/// Reports the exception and ends the thread; the rest of the task goes on.
pub(super) fn report(context: &Context, from: Sender, words: &[u64]) {
    let mut known = [0; EXCEPTION_WORDS];
    known.iter_mut().zip(words).for_each(|(to, &word)| *to = word);
    let [esr, far, pc, sp, pstate, x @ ..] = &known;
    println!(
        "app thread {:?} on node {} (cpu {}) died: {}",
        from.thread,
        context.node,
        context.cpu,
        exception_name(*esr)
    );
    println!("  address {far:#x}  ip {pc:#x}  sp {sp:#x}  esr {esr:#x}  pstate {pstate:#x}");
    for (row, values) in x.chunks(4).enumerate() {
        struct Row<'a>(usize, &'a [u64]);
        impl core::fmt::Display for Row<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let registers = self.1.iter().enumerate();
                registers
                    .map(|(i, v)| (self.0 * 4 + i, v))
                    .try_for_each(|(i, v)| write!(f, "  x{i:<2} {v:016x}"))
            }
        }
        println!("{}", Row(row, values));
    }
    let read = |address: u64| {
        let frame = frame_of(context, from.domain, address)?;
        let word = Physical.words_at(frame + (address & 0xff8), 1).first()?;
        Some(word.load(core::sync::atomic::Ordering::Relaxed))
    };
    let (addresses, count) = backtrace(x[29], read);
    for (depth, address) in addresses[..count].iter().enumerate() {
        println!("  #{depth} {address:#x}");
    }
    let ended = task::known(context, from.domain).and_then(|task| {
        let number = task.view.roll().number_of(from.thread)?;
        moves::end(context, task, number, ThreadEnd::Died)
    });
    if let Err(error) = ended {
        println!("  it cannot be ended: {error}");
    }
}
