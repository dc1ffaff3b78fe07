//! Crashing at a given step: see [`app_pager::step`].
//!
//! Without the boot option nothing is looked at: the short ways do not come here, since all places are *watched* with it ([`super::watch`]).

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use app_pager::step::{Step, crash};
use skerry_abi::Error;
use skerry_rt::{println, sys};

use super::state::Context;

/// The step's number plus 1, and how often it is still to come in the upper half; 0: none.
static ARMED: AtomicU64 = AtomicU64::new(0);

const fn armed(step: Step, times: u32) -> u64 {
    (times as u64) << 32 | (step.number() as u64 + 1)
}

/// What the boot option says about this life.
pub(super) fn begin(context: &Context) {
    let life = context.start.incarnation as usize;
    if let Some(crash) = context.options.crash.and_then(|option| crash(option, context.cluster, life)) {
        ARMED.store(armed(crash.step, crash.times), SeqCst);
    }
}

/// This pager crashes at that step, at the so-many-th time; with 0 it does not. Returns how often what was asked before was still to come.
///
/// # Errors
/// [`Error::Refused`] if it was not booted for that, [`Error::BadArgument`] if there is no such step.
pub(super) fn arm(context: &Context, step: u16, times: u32) -> Result<u32, Error> {
    if context.options.crash.is_none() {
        return Err(Error::Refused);
    }
    let step = Step::new(step).ok_or(Error::BadArgument)?;
    let before = ARMED.swap(if times == 0 { 0 } else { armed(step, times) }, SeqCst);
    Ok((before >> 32) as u32)
}

/// This thread is about to do that.
#[inline(always)]
pub(super) fn reach(context: &Context, step: impl FnOnce() -> Step) {
    if context.options.crash.is_some() {
        look(context, step());
    }
}

#[cold]
#[inline(never)]
fn look(context: &Context, step: Step) {
    let found = ARMED.load(SeqCst);
    if found as u32 != u32::from(step.number()) + 1 {
        return;
    }
    // Others may count, too; who takes the last one crashes.
    if ARMED.fetch_sub(1 << 32, SeqCst) >> 32 == 1 {
        ARMED.store(0, SeqCst);
        println!("crash: cluster {}, thread {}, at {step}", context.cluster, context.rank);
        let _ = sys::unknown_call();
    }
}
