//! A message in memory: the tag and the words behind it.

use skerry_abi::message::MAX_WORDS;
use skerry_abi::{MapItem, Tag};

/// A message buffer. Servers keep one and use it again and again, so that a fault costs no clearing of 63 words.
///
/// Words behind those the tag counts are left over from earlier messages; no accessor shows them.
#[derive(Clone, Debug)]
pub struct Message {
    /// MR0.
    pub tag: Tag,
    words: [u64; MAX_WORDS],
}

impl Message {
    /// An empty message.
    pub const fn new() -> Self {
        Self { tag: Tag(0), words: [0; MAX_WORDS] }
    }
    /// The untyped words.
    pub fn untyped(&self) -> &[u64] {
        &self.words[..self.tag.untyped().min(MAX_WORDS)]
    }
    /// All words that the tag counts: MR1 is the first.
    pub fn words(&self) -> &[u64] {
        &self.words[..self.tag.words().min(MAX_WORDS)]
    }
    /// The whole buffer, for whoever moves messages in and out of registers.
    pub const fn buffer(&self) -> &[u64; MAX_WORDS] {
        &self.words
    }
    /// As [`Message::buffer`].
    pub const fn buffer_mut(&mut self) -> &mut [u64; MAX_WORDS] {
        &mut self.words
    }
    /// Makes it a message without words.
    pub fn set_empty(&mut self, label: u32) {
        self.tag = Tag::new(label, 0, 0);
    }
    /// Makes it the message `label` with one map item and no untyped words: the answer to a page fault.
    pub fn set_item(&mut self, label: u32, item: MapItem) {
        self.words[..2].copy_from_slice(&item.words());
        self.tag = Tag::new(label, 0, 2);
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}
