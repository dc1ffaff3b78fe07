//! Issuing what [`app_pager::maintain`] says.

use app_pager::maintain::{Counts, Model, Operation, Site, line_bytes, lines, needed};
use skerry_rt::sys;

use super::state::Context;

/// What this pager did.
pub(super) static COUNTS: Counts = Counts::new();

/// A range that nobody maps any more changes hands.
#[inline(always)]
pub(super) fn hand_over(context: &Context, site: Site, base: u64, bytes: u64) {
    let model = if context.options.maintain_always { Model::Always } else { Model::Coherent };
    if let Some(operation) = needed(model, site) {
        let line = line_bytes(sys::cache_type());
        let mut count = 0;
        for address in lines(base, bytes, line) {
            match operation {
                Operation::Clean => sys::clean(address),
                Operation::CleanInvalidate => sys::clean_invalidate(address),
            }
            count += 1;
        }
        sys::maintained();
        COUNTS.add(operation, site, count);
    }
}
