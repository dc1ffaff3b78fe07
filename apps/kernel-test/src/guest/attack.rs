//! Attacks on the fast paths in assembly: what a program must not get from them.
//!
//! Each attack is one thing that one check in `ipc_fast.rs` or `entry.rs` of the kernel stops. On the kernel as it is none works. The tests
//! take the checks out of the kernel's image one at a time, and then the attacks on that check must work: so no check can go,
//! or lose its meaning, unseen. Which attack belongs to which check says `qemu/launcher/tests/qemu/removal.rs`.
//!
//! `attack NAME` tries one, `attack` all that the machine allows. Whether one has worked goes out as a measurement; a failure is a failure of
//! the preparations only.

mod answers;
mod calls;
mod cast;
mod faults;
mod guards;
mod messages;
mod script;
mod waits;

use super::world::{Outcome, World, emit, ensure};
use cast::Cast;

/// Whether it has worked.
type Attack = fn(&mut Cast<'_>) -> Outcome<bool>;

const GROUPS: [&[(&str, Attack)]; 6] = [
    &messages::ATTACKS,
    &waits::ATTACKS,
    &answers::ATTACKS,
    &guards::ATTACKS,
    &faults::ATTACKS,
    &calls::ATTACKS,
];

pub(crate) fn run(world: &mut World) -> Outcome {
    let wanted = world.argument;
    let shared = world.other_cpus().next().is_some();
    let all = || GROUPS.into_iter().flatten();
    let mut tried = 0;
    for (name, attack) in all().filter(|(name, _)| wanted.is_empty() || *name == wanted) {
        if wanted.is_empty() && shared != (*name == calls::SHARED) {
            continue;
        }
        let worked = Cast::play(world, *attack)?;
        emit("attack", name, worked.into(), "successes");
        tried += 1;
    }
    ensure!(tried != 0, "no such attack: {wanted}");
    Ok(())
}
