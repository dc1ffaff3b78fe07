//! What pagers remember about a page, on all nodes, by time: [`skerry_ipc::pager::Op::PageHistory`].

use skerry_abi::Error;
use skerry_abi::boot::MAX_NODES;
use skerry_ipc::pager::Event;

use crate::record::{self, Kind};
use crate::{start, task};

/// The next event that a node knows of.
#[derive(Clone, Copy)]
struct Source {
    node: u16,
    from: u64,
    event: Option<Event>,
}

/// The events about a page, the oldest first. What comes while it is being read may be left out.
pub struct History {
    task: u32,
    address: u64,
    sources: [Source; MAX_NODES],
    count: usize,
    error: Option<Error>,
}

impl History {
    /// Of a page of the running task, or of one that it has started.
    pub fn of(task: u32, address: u64) -> Self {
        let mut history = Self {
            task,
            address,
            sources: [Source { node: 0, from: 0, event: None }; MAX_NODES],
            count: 0,
            error: None,
        };
        for (source, (node, _)) in history.sources.iter_mut().zip(start::app().places()) {
            source.node = node;
            history.count += 1;
        }
        for index in 0..history.count {
            history.fetch(index);
        }
        history
    }
    fn fetch(&mut self, index: usize) {
        let Self { task, address, .. } = *self;
        let source = &mut self.sources[index];
        match task::pager().page_history(task, address, source.node, source.from) {
            Ok((from, event)) => (source.from, source.event) = (from, event),
            Err(error) => self.error = Some(error),
        }
    }
}

impl Iterator for History {
    type Item = Result<Event, Error>;
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.error.take() {
            self.count = 0;
            return Some(Err(error));
        }
        let known = (0..self.count).filter_map(|index| Some((self.sources[index].event?, index)));
        let (event, index) = known.min_by_key(|(event, _)| event.time)?;
        self.fetch(index);
        Some(Ok(event))
    }
}

/// Emits a page's history as records: one per event, with time, node, thread and frame.
///
/// # Errors
/// The pager's.
pub fn emit(task: u32, address: u64) -> Result<(), Error> {
    for event in History::of(task, address) {
        let event = event?;
        let more = [
            ("task", task.into()),
            ("address", address),
            ("node", event.node.into()),
            ("thread", event.who.0),
            ("frame", event.frame),
        ];
        record::emit(("history", "history", event.what.name()), event.time, "ticks", Kind::Exact, &more);
    }
    Ok(())
}
