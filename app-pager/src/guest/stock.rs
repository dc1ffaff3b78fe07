//! Frames for pages that move to a node: for all pages of a round at a time, from the pager of that node.
//!
//! Its worker writes into each frame's record for which page it was taken and who has it in hand, so that the owner of the frames
//! always knows what they are for.

use app_pager::protocols::effect::Me;
use app_pager::protocols::record::Record;
use app_pager::protocols::revoke::MAX_PAGES;
use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_ipc::peer::{Claimed, MAX_FRAMES, Taker};

use super::audit;
use super::memory::Physical;
use super::state::Context;

/// Frames that one pager thread has for the pages of a round. What is taken for a round is handed to its leader in one go.
pub(super) struct Stock {
    /// By page; 0: there was none.
    frames: [u64; MAX_PAGES],
    /// The pages for which frames were asked for.
    asked: u64,
}

impl Stock {
    /// None.
    pub(super) const fn new() -> Self {
        Self { frames: [0; MAX_PAGES], asked: 0 }
    }

    /// A frame of `node` for a page of a round, 0 if there is none. The first one is asked for with all that `held` says that will be.
    #[inline(never)]
    pub(super) fn take(
        &mut self,
        context: &Context,
        (task, addresses): (u32, &[u64]),
        (page, held): (u8, u64),
        node: u16,
    ) -> u64 {
        let bit = 1 << page;
        if self.asked & bit == 0 {
            if held | bit == bit {
                let address = addresses.get(usize::from(page)).copied().unwrap_or(0);
                return frame_of(context, task, node, address).unwrap_or(0);
            }
            self.asked = held | bit;
            self.fetch(context, task, addresses, node);
        }
        self.asked &= !bit;
        self.frames.get_mut(usize::from(page)).map_or(0, core::mem::take)
    }

    fn fetch(&mut self, context: &Context, task: u32, addresses: &[u64], node: u16) {
        let mut left = self.asked;
        while left != 0 {
            // As many as go into one message.
            let (mut words, mut pages, mut count) = ([0; MAX_FRAMES], [0; MAX_FRAMES], 0);
            while left != 0 && count < MAX_FRAMES {
                let page = left.trailing_zeros() as usize;
                left &= left - 1;
                pages[count] = page;
                words[count] = addresses.get(page).copied().unwrap_or(0);
                count += 1;
            }
            let mut frames = [0; MAX_FRAMES];
            // Without an answer there is no frame.
            let _ = frames_of(context, task, node, &words[..count], &mut frames[..count]);
            for (&page, &frame) in pages[..count].iter().zip(&frames) {
                self.frames[page] = frame;
            }
        }
    }
}

/// A frame of a node for a page of a task, from whoever's it is.
pub(super) fn frame_of(context: &Context, task: u32, node: u16, page: u64) -> Result<u64, Error> {
    let cpu = context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
    let me = context.me(context.node);
    if cpu.cluster == context.cluster {
        let mut frame = [0];
        take(context, node, (task, me), &[page], &mut frame);
        return Ok(frame[0]);
    }
    let taker = Taker { task, seat: me.node, incarnation: me.incarnation };
    context.peer(cpu.cluster)?.frame_claim(taker, page | u64::from(node))
}

/// Frames of a node for pages of a task, from whoever's they are, as long as there are some; the rest is 0. As many pages as
/// fit into a message.
fn frames_of(
    context: &Context,
    task: u32,
    node: u16,
    pages: &[u64],
    frames: &mut [u64],
) -> Result<(), Error> {
    let cpu = context.boot.cpus().iter().find(|cpu| cpu.node == node).ok_or(Error::BadArgument)?;
    let me = context.me(context.node);
    if cpu.cluster == context.cluster {
        take(context, node, (task, me), pages, frames);
        return Ok(());
    }
    let mut words = [0; MAX_FRAMES];
    words.iter_mut().zip(pages).for_each(|(word, &page)| *word = page | u64::from(node));
    let taker = Taker { task, seat: me.node, incarnation: me.incarnation };
    let found =
        context.peer(cpu.cluster)?.frames_take(taker, Claimed::of(&words[..pages.len().min(MAX_FRAMES)]))?;
    frames.iter_mut().zip(found.words()).for_each(|(frame, &found)| *frame = found);
    Ok(())
}

/// Frames of a node of this cluster, likewise, for the pager `by`. Returns how many.
pub(super) fn take(
    context: &Context,
    node: u16,
    (task, by): (u32, Me),
    pages: &[u64],
    frames: &mut [u64],
) -> usize {
    let Some(mut cursor) = context.cursor(node) else { return 0 };
    let mut count = 0;
    for (&page, frame) in pages.iter().zip(frames) {
        let record = Record::taken(context.page_number(task, page & !(PAGE_SIZE - 1)), by);
        let taken = cursor.take(&Physical, record).or_else(|| {
            cursor = context.cursor(node)?;
            cursor.take(&Physical, record)
        });
        let Some(taken) = taken else { break };
        audit::taken(taken, 1);
        *frame = taken;
        count += 1;
    }
    count
}
