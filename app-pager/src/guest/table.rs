//! The master table of another pager, reached by messages: the boot option `table=ipc`.
//!
//! What a machine wants of a page's entry and sharers in a row goes to the worker of the pager in whose memory they are, which performs it
//! ([`app_pager::protocols::remote`]). The table stays where it was made, also when the role of the master is handed over. Only what machines
//! want goes this way: who walks over whole tables (a task's end, a space that goes, the undertaker) reads them.
//!
//! If that pager dies, nobody says whether the last access took place, and so whether a frame that it was about is in the table. Such frames
//! are left to the dead ([`leave`]): the undertaker frees what is in no table when there are no tables of the dead any more.

use app_pager::options::MasterTable;
use app_pager::page::{self, perform};
use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::record::Record;
use app_pager::protocols::remote::{self, Answers, MAX_STEPS, MAX_WORDS};
use core::sync::atomic::Ordering::SeqCst;
use skerry_abi::Error;
use skerry_ipc::peer::{Found, Script};

use super::memory::Physical;
use super::place::Place;
use super::state::Context;

/// The cluster whose pager is to be asked about the master table at this address, if any is.
pub(super) fn remote_owner(context: &Context, table: u64) -> Option<u16> {
    if context.options.table == MasterTable::Shared || table == 0 {
        return None;
    }
    owner(context, table).filter(|&cluster| cluster != context.cluster)
}

fn owner(context: &Context, address: u64) -> Option<u16> {
    context.boot.pools().iter().find(|pool| pool.range.contains(address)).map(|pool| pool.cluster)
}

/// What a machine has not heard of yet.
pub(super) struct Remote(Answers);

impl Remote {
    pub(super) const fn new() -> Self {
        Self(Answers::NONE)
    }
    /// What an access of a machine found that was performed already.
    pub(super) fn next(&mut self, word: Word, access: Access) -> Option<u64> {
        self.0.next(word, access)
    }
    /// What an access of a machine found. `script` says what it wants and what it is likely to want next.
    ///
    /// # Errors
    /// The other pager is dead.
    pub(super) fn access<const W: usize>(
        &mut self,
        context: &Context,
        (place, address): (&Place, u64),
        (word, access): (Word, Access),
        script: impl FnOnce() -> remote::Script,
    ) -> Result<u64, Error> {
        if let Some(found) = self.0.next(word, access) {
            return Ok(found);
        }
        let script = script();
        let mut words = [0; MAX_WORDS];
        let count = script.encode(&mut words);
        let peer = context.peer(place.master_of.ok_or(Error::BadArgument)?)?;
        let found = peer.table(place.entry_at::<W>(address), Script::of(&words[..count]))?;
        let mut answers = [0; MAX_STEPS];
        answers.iter_mut().zip(found.words()).for_each(|(answer, &word)| *answer = word);
        self.0 = Answers::new(script, answers, found.words().len());
        self.0.next(word, access).ok_or(Error::BadRequest)
    }
}

/// Leaves a frame to the pager that has the table of its page and is dead, if this pager had it in hand.
pub(super) fn leave(context: &Context, place: &Place, address: u64, frame: u64) {
    let Some(record) = context.pools().and_then(|pools| pools.record(&Physical, frame)) else { return };
    let Some(dead) = place.master_of.map(|cluster| context.seats().of(cluster, context.node)) else { return };
    let own = Record::taken(context.page_number(place.task, address), context.me(context.node));
    // Whoever else has had it in hand since sees to it.
    let _ = record.compare_exchange(own.0, own.left(dead).0, SeqCst, SeqCst);
}

/// Performs a script on a table of this pager.
pub(super) fn serve(context: &Context, entry: u64, script: &Script) -> Result<Found, Error> {
    let script = remote::Script::decode(script.words()).ok_or(Error::BadArgument)?;
    if !entry.is_multiple_of(8) || owner(context, entry) != Some(context.cluster) {
        return Err(Error::BadArgument);
    }
    let words = Physical.words_at(entry, page::words(context.seats().words()));
    let on = |word: Word, access: Access| {
        let index = if let Word::Sharers(index) = word { 1 + usize::from(index) } else { 0 };
        words.get(index).map_or(0, |word| perform(word, access))
    };
    let mut answers = [0; MAX_STEPS];
    let found = script.perform(on, &mut answers);
    Ok(Found::of(&answers[..found]))
}
