//! The long ways through the machines, for places where the short ones do not do.
//!
//! Most faults, and most unmaps of single pages, go through a machine where the interpreter is written out effect by effect ([`super::fault`],
//! [`super::alone`]). What a boot option wants at every step costs nothing there: a place that is *watched* does not look like the one
//! that the short ways look for ([`Place::covers`]), so what is about it comes here.

use app_pager::protocols::effect::{Access, Word};
use app_pager::protocols::fault::Fault;
use app_pager::protocols::lead::{Effect, Lead};
use app_pager::protocols::remote::Script;
use skerry_abi::Rights;

use super::fault::{Decision, Faults, NOTHING, Run, scope_of};
use super::lead::{Desk, give_up};
use super::table::{self, Remote};

impl<const W: usize> Faults<W> {
    /// A fault at the place that is in company's.
    #[cold]
    #[inline(never)]
    pub(super) fn watched(&mut self, address: u64, access: Rights) -> Decision {
        let Self { context, me, cursor, company, .. } = self;
        let place = company.place;
        let (scope, by_policy) = (scope_of(&place), place.by_policy);
        let run = Run::<W> { context, me: *me, cursor, place: &place, address, scope, access, by_policy };
        let mut machine = Fault::new(*me, run.scope, access, place.region.rights);
        let effect = machine.step(0);
        let (page, mut remote) = (place.page::<W>(address), Remote::new());
        company.cost = NOTHING;
        run.by::<true>((machine, effect, NOTHING), &mut company.cost, |machine, word, access| {
            match (word, place.master_of) {
                (Word::Master | Word::Sharers(_), Some(_)) => {
                    let script = || Script::new(machine, word, access);
                    remote.access::<W>(context, (&place, address), (word, access), script)
                }
                _ => Ok(page.access(word, access)),
            }
        })
    }
}

impl Desk<'_> {
    /// Performs an access of a leader to a word of a page at such a place. Returns what the leader wants then. `None`: the task is over, or
    /// ends with the pager that has its table; what the leader had in hand is seen to.
    #[cold]
    #[inline(never)]
    pub(super) fn watched<const N: usize, const W: usize>(
        &mut self,
        lead: &mut Lead<N, W>,
        (page, word, access): (u8, Word, Access),
    ) -> Option<Effect> {
        let address = self.addresses.get(usize::from(page)).copied().filter(|&address| self.locate(address));
        let Some(address) = address else {
            give_up(self.context, lead);
            return None;
        };
        if self.place.master_of.is_none() || matches!(word, Word::Local | Word::Group) {
            return Some(lead.step(self.place.page::<W>(address).access(word, access)));
        }
        let (mut remote, script) = (Remote::new(), Script::of_lead(lead, (page, word, access)));
        let place = (&*self.place, address);
        let Ok(found) = remote.access::<W>(self.context, place, (word, access), || script) else {
            for (page, frame) in lead.book.in_doubt() {
                let address = self.addresses.get(usize::from(page)).copied().unwrap_or(0);
                table::leave(self.context, self.place, address, frame);
            }
            return None;
        };
        let mut effect = lead.step(found);
        while let Effect::Access(_, word, access) = effect
            && let Some(found) = remote.next(word, access)
        {
            effect = lead.step(found);
        }
        Some(effect)
    }
}
