//! What the load balancer may ask and do: see who is here, and move others' threads.

use app_pager::roll::Roll;
use skerry_abi::Error;
use skerry_abi::syscall::thread_state;
use skerry_ipc::pager::{Listed, MAY_BALANCE};

use super::state::{Context, board_at};
use super::{moves, task};

/// Whether a task is the load balancer.
fn is_balancer(roll: &Roll<'_>) -> bool {
    roll.flags() & u64::from(MAY_BALANCE) != 0
}

/// Refuses all others.
pub(super) fn permit(roll: &Roll<'_>) -> Result<(), Error> {
    if is_balancer(roll) { Ok(()) } else { Err(Error::Refused) }
}

/// The next thread on a node of this pager, behind a cursor: a task's place in the upper half, a slot of its threads in the lower one.
pub(super) fn list(context: &Context, node: u16, cursor: u64) -> Result<(u64, Option<Listed>), Error> {
    if !context.start.cpus().iter().any(|own| context.node_of(own.cpu as u16) == Ok(node)) {
        return Err(Error::BadArgument);
    }
    let (mut index, mut slot) = ((cursor >> 32) as usize, cursor as u32 as usize);
    loop {
        let (id, board) = match context.state().tasks.get(index) {
            Some(task) if task.id != 0 && task.retired == 0 => (task.id, task.board),
            Some(_) => (0, 0),
            None => return Ok((cursor, None)),
        };
        if id != 0
            && let roll = board_at(board)?.roll()
            && !is_balancer(&roll)
        {
            while slot < roll.slots() {
                let number = roll.last_in(slot);
                slot += 1;
                let (thread, cpu) = roll.thread(number);
                let here = context.node_of(cpu) == Ok(node) && context.cluster_of(cpu) == Ok(context.cluster);
                if here && !thread.is_nil() && roll.thread_end(number) == Ok(None) {
                    let ready = context.syscalls().thread_state(thread) == Ok(thread_state::READY);
                    let listed = Listed { task: id, number, cpu, ready };
                    return Ok(((index as u64) << 32 | slot as u64, Some(listed)));
                }
            }
        }
        (index, slot) = (index + 1, 0);
    }
}

/// Moves a thread of any task but the balancer itself. Only if it runs or wants to: what it waits for it would not get.
pub(super) fn push(context: &Context, id: u32, number: u32, cpu: u16) -> Result<(), Error> {
    let task = task::known(context, id)?;
    let roll = task.view.roll();
    if is_balancer(&roll) {
        return Err(Error::Refused);
    }
    if roll.thread_end(number)?.is_some() {
        return Err(Error::NoSuchThread);
    }
    let (thread, _) = roll.thread(number);
    if context.syscalls().thread_state(thread)? != thread_state::READY {
        return Err(Error::WrongState);
    }
    moves::migrate(context, task, number, cpu)
}
