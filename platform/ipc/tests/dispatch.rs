//! Stub and dispatch agree, and no message, however malformed, makes a decoder panic or goes unanswered.

use std::cell::RefCell;

use proptest::prelude::*;
use skerry_abi::{Error, Tag, ThreadId};
use skerry_ipc::pager::{self, ANY_CPU, Birth, Free, MAY_START, Stats, TaskEnd, ThreadEnd};
use skerry_ipc::{Answer, Caller, Chunk, Message, Outcome, Sender, Unanswered, level};

/// A pager that remembers its last request.
#[derive(Default)]
struct Fake(Vec<String>);

impl pager::Server for Fake {
    fn unmap(&mut self, _: Sender, _: u64, _: u64) -> Answer<pager::Revoked> {
        Err(Unanswered::Parked)
    }
    fn protect(&mut self, _: Sender, _: u64, _: u64, _: u64) -> Answer<pager::Revoked> {
        Err(Unanswered::Parked)
    }
    fn revoke(&mut self, _: Sender, pages: pager::Pages) -> Answer<pager::RevokedPages> {
        let done = pages.words().len() as u64;
        Ok(pager::RevokedPages(pager::Revoked { done, ..pager::Revoked::default() }))
    }
    fn move_pages(&mut self, _: Sender, base: u64, pages: u64, node: u16) -> Answer<pager::Changed> {
        Ok(pager::Changed { done: pages, gone: base, full: node.into(), bad: 0 })
    }
    fn replicate(&mut self, _: Sender, _: u64, pages: u64) -> Answer<pager::Changed> {
        Ok(pager::Changed { done: pages, ..pager::Changed::default() })
    }
    fn make_local(&mut self, from: Sender, base: u64, pages: u64) -> Answer<pager::Changed> {
        self.replicate(from, base, pages)
    }
    fn make_global(&mut self, from: Sender, base: u64, pages: u64) -> Answer<pager::Changed> {
        self.replicate(from, base, pages)
    }
    fn thread_list(&mut self, _: Sender, _: u16, cursor: u64) -> Answer<(u64, Option<pager::Listed>)> {
        let listed = pager::Listed { task: 16, number: 1 << 20 | 3, cpu: 7, ready: true };
        Ok((cursor + 1, (cursor == 0).then_some(listed)))
    }
    fn thread_push(&mut self, _: Sender, _: u32, _: u32, _: u16) -> Answer<()> {
        Err(skerry_abi::Error::Refused.into())
    }
    fn crash_at(&mut self, _: Sender, _: u16, _: u16, _: u32) -> Answer<u32> {
        Err(Error::Refused.into())
    }
    fn page_history(
        &mut self,
        _: Sender,
        _: u32,
        _: u64,
        _: u16,
        _: u64,
    ) -> Answer<(u64, Option<skerry_ipc::pager::Event>)> {
        Err(Error::Refused.into())
    }
    fn maintenance(&mut self, _: Sender, node: u16) -> Answer<pager::Maintained> {
        Ok(pager::Maintained([[node.into(); 8]; 2]))
    }
    fn move_list(&mut self, _: Sender, pages: pager::Pages) -> Answer<pager::ChangedPages> {
        let done = pages.words().len() as u64;
        Ok(pager::ChangedPages(pager::Changed { done, ..pager::Changed::default() }))
    }
    fn thread_create(&mut self, _: Sender, cpu: u16, entry: u64, stack: u64, argument: u64) -> Answer<u32> {
        self.0.push(format!("thread_create {cpu} {entry} {stack} {argument}"));
        Ok(7)
    }
    fn thread_exit(&mut self, _: Sender, _: u64) -> Answer<()> {
        Err(Unanswered::Parked)
    }
    fn thread_join(&mut self, _: Sender, _: u32) -> Answer<ThreadEnd> {
        Ok(ThreadEnd::Exited(3))
    }
    fn region_create(&mut self, _: Sender, _: u64, _: u64, _: u64) -> Answer<()> {
        Err(Error::TableFull.into())
    }
    fn stats(&mut self, _: Sender, node: u16) -> Answer<Stats> {
        Ok(Stats { faults: u64::from(node), ..Stats::default() })
    }
    fn frames_by_node(&mut self, _: Sender, base: u64, pages: u64, _: u16) -> Answer<u64> {
        Ok(base.wrapping_add(pages))
    }
    fn log(&mut self, _: Sender, last: bool, text: Chunk) -> Answer<()> {
        self.0.push(format!("log {last} {text:?}"));
        Ok(())
    }
    fn task_end(&mut self, _: Sender, _: u64, _: Chunk) -> Answer<()> {
        Err(Unanswered::Parked)
    }
    fn thread_delete(&mut self, _: Sender, _: u32) -> Answer<()> {
        Ok(())
    }
    fn thread_migrate(&mut self, _: Sender, _: u32, _: u16) -> Answer<()> {
        Ok(())
    }
    fn thread_self(&mut self, _: Sender) -> Answer<u32> {
        Ok(4)
    }
    fn task_start(&mut self, _: Sender, birth: Birth, quota: u64, command: Chunk) -> Answer<u32> {
        self.0.push(format!("task_start {birth:?} {quota} {command:?}"));
        Ok(17)
    }
    fn task_wait(&mut self, _: Sender, task: u32) -> Answer<TaskEnd> {
        let ends =
            [TaskEnd::Exited(5), TaskEnd::Faulted, TaskEnd::Killed, TaskEnd::OutOfMemory, TaskEnd::OverQuota];
        ends.get(task as usize).copied().ok_or(Error::Refused.into())
    }
    fn task_kill(&mut self, _: Sender, _: u32) -> Answer<()> {
        Err(Error::Refused.into())
    }
    fn free(&mut self, _: Sender, _: u16) -> Answer<Free> {
        Ok(Free { frames: 1, tables: 2, map_nodes: 3 })
    }
}

const SENDER: Sender = Sender { thread: ThreadId::new(0, 9, 1), domain: 16 };

/// Calls a [`Fake`] directly.
#[derive(Default)]
struct Direct(RefCell<Fake>, pager::Counters);

impl Caller for &Direct {
    type Level = level::App;
    fn call(&self, _: ThreadId, message: &mut Message) -> Result<(), Error> {
        match pager::dispatch(&mut *self.0.borrow_mut(), SENDER, message, &self.1) {
            Outcome::Reply => Ok(()),
            Outcome::Parked => Err(Error::Cancelled),
        }
    }
}

#[test]
fn stubs_and_dispatch_agree() {
    let direct = Direct::default();
    let client = pager::Client::new(&direct, ThreadId::NIL);
    assert_eq!(client.thread_create(3, 0x20_0000, 0x1000, u64::MAX), Ok(7));
    assert_eq!(client.thread_join(1), Ok(ThreadEnd::Exited(3)));
    assert_eq!(client.region_create(0, 0, 0), Err(Error::TableFull));
    assert_eq!(client.stats(5).map(|s| s.faults), Ok(5));
    let ends: Vec<_> = (0..6).map(|task| client.task_wait(task)).collect();
    let (killed, last) = (ends[2], ends[5]);
    assert_eq!((ends[0], killed, last), (Ok(TaskEnd::Exited(5)), Ok(TaskEnd::Killed), Err(Error::Refused)));
    assert!(ends[..5].iter().all(|end| end.is_ok_and(|end| TaskEnd::from_word(end.to_word()) == Some(end))));
    assert_eq!(client.free(0), Ok(Free { frames: 1, tables: 2, map_nodes: 3 }));
    assert_eq!(client.thread_exit(0), Err(Error::Cancelled));
    assert_eq!(client.log(true, Chunk::of(b"hello, nine+ bytes")), Ok(()));
    let birth = Birth { parent: 7, cpu: ANY_CPU, flags: MAY_START };
    assert_eq!(client.task_start(birth, 9, Chunk::of(b"app x")), Ok(17));
    assert_eq!(
        direct.0.borrow().0,
        [
            "thread_create 3 2097152 4096 18446744073709551615",
            "log true hello, nine+ bytes",
            "task_start Birth { parent: 7, cpu: 65535, flags: 1 } 9 app x",
        ]
    );
    let op = |op| pager::Op::ALL.iter().position(|&o| o == op).map(|i| direct.1.op(i));
    assert_eq!(op(pager::Op::Log), Some(1));
    assert_eq!(direct.1.bad(), 0);
}

#[test]
fn ops_survive_their_labels() {
    for &op in pager::Op::ALL {
        assert_eq!(pager::Op::from_label(op.label()), Some(op));
    }
    assert_eq!(pager::Op::from_label(skerry_ipc::console::Op::Write.label()), None);
}

proptest! {
    #[test]
    fn text_survives(bytes in prop::collection::vec(any::<u8>(), 0..=480)) {
        let direct = Direct::default();
        let chunk = Chunk::of(&bytes);
        prop_assert_eq!(chunk.as_bytes(), &bytes[..]);
        pager::Client::new(&direct, ThreadId::NIL).log(false, chunk.clone()).unwrap();
        prop_assert_eq!(&direct.0.borrow().0, &[format!("log false {chunk:?}")]);
    }

    #[test]
    fn no_message_goes_unanswered(tag: u64, op in 0u64..20, known: bool, words in prop::collection::vec(any::<u64>(), 63)) {
        let tag = if known { tag & 0xffff_ffff | (u64::from(pager::ID) << 16 | op) << 32 } else { tag };
        let mut message = Message::new();
        message.buffer_mut().copy_from_slice(&words);
        message.tag = Tag(tag).sanitized();
        let counters = pager::Counters::new();
        let outcome = pager::dispatch(&mut Fake::default(), SENDER, &mut message, &counters);
        let served: u64 = (0..pager::OPS).map(|i| counters.op(i)).sum();
        prop_assert_eq!(served + counters.bad(), 1);
        if counters.bad() == 1 {
            prop_assert_eq!(outcome, Outcome::Reply);
            prop_assert_eq!(message.tag.label(), Error::BadRequest.code() as u32);
        }
    }
}
