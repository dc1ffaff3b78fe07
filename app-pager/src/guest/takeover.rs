//! Taking over the whole master table of a task that is new on a node, before its first thread comes (boot option `takeover=eager`).
//!
//! Every page that is there already is joined as by a fault that only reads, but nothing is mapped: when a thread faults later, the pager knows the
//! page. With `takeover=lazy`, the default, each fault looks for its page in the master table.

use app_pager::page::Page;
use app_pager::protocols::effect::{Access, Me, Word};
use app_pager::protocols::entry::{Entry, State};
use app_pager::protocols::fault::{Effect, Fault, Scope};
use app_pager::release::{entry_frame, master, walk};
use app_pager::seat::MANY_WORDS;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::{Error, Rights};

use super::memory::Physical;
use super::place::{Place, find};
use super::state::{Context, board_at};

/// Takes over all tables of the task for threads on `node`, where it has a space.
pub(super) fn all(context: &Context, id: u32, board: u64, node: u16) -> Result<(), Error> {
    let w = context.seats().words();
    let board = board_at(board)?;
    // The region that the walk is in.
    let mut place = Place::NONE;
    let mut cursor = 0;
    let mut result = Ok(());
    loop {
        cursor = walk(
            &board,
            cursor,
            |_, region| master(region, w),
            |table, count| Physical.words_at(table, count),
            entry_frame,
            |region, page, _| {
                let address = region.base + page * PAGE_SIZE;
                if !place.covers(id, address) {
                    match find(context, id, node, address) {
                        Ok(found) => place = found,
                        Err(error) => return result = Err(error),
                    }
                }
                let page = match w {
                    1 => place.page::<1>(address),
                    _ => place.page::<MANY_WORDS>(address),
                };
                join(context, context.me(node), page, region.rights);
            },
        );
        if cursor == 0 || result.is_err() {
            return result;
        }
    }
}

/// Joins the sharers of a page that is there. If it is being changed just now, a fault will find out later.
fn join(context: &Context, me: Me, page: Page<'_>, rights: Rights) {
    if Entry(page.access(Word::Master, Access::Load)).state() == State::Replicated {
        // No copy is made before somebody needs it.
        return;
    }
    let mut machine = Fault::new(me, Scope::Global, Rights::R, rights);
    let mut answer = 0;
    loop {
        answer = match machine.step(answer) {
            Effect::Access(word, access) => page.access(word, access),
            // Not there any more: no frame for it.
            Effect::Allocate => 0,
            // Replicated meanwhile: it can be read where it is.
            Effect::Copy(source) => source,
            Effect::Duplicate(_) => 0,
            Effect::GiveBack(frame) => {
                context.give_back(frame, PAGE_SIZE);
                0
            }
            Effect::WakeNode => {
                context.wake_node();
                0
            }
            Effect::Map(_)
            | Effect::Park
            | Effect::Collapse
            | Effect::Reject
            | Effect::OutOfMemory
            | Effect::Pass => return,
        };
    }
}
