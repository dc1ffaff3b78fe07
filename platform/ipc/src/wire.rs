//! How arguments and results become message words.

use core::fmt;
use skerry_abi::{SpaceId, ThreadId};

/// Text bytes that fit into one message.
pub const CHUNK_BYTES: usize = 480;

/// Appends words to a message under construction.
pub struct Writer<'a> {
    words: &'a mut [u64],
    used: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the first word.
    pub fn new(words: &'a mut [u64]) -> Self {
        Self { words, used: 0 }
    }
    /// Appends one word. The interface macro has checked at compile time that all of them fit.
    pub fn put(&mut self, word: u64) {
        if let Some(slot) = self.words.get_mut(self.used) {
            *slot = word;
            self.used += 1;
        }
    }
    /// Words so far.
    pub fn used(&self) -> usize {
        self.used
    }
}

/// Takes words off a received message.
pub struct Reader<'a>(&'a [u64]);

impl<'a> Reader<'a> {
    /// Reads `words` from the first on.
    pub fn new(words: &'a [u64]) -> Self {
        Self(words)
    }
    /// The next word, or `None` at the end.
    pub fn take(&mut self) -> Option<u64> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value that travels in messages.
pub trait Wire: Sized {
    /// Words it needs at most.
    const WORDS: usize;
    /// Appends it.
    fn put(&self, out: &mut Writer<'_>);
    /// Takes it; `None` if the words are no such value.
    fn take(input: &mut Reader<'_>) -> Option<Self>;
}

impl Wire for () {
    const WORDS: usize = 0;
    fn put(&self, _: &mut Writer<'_>) {}
    fn take(_: &mut Reader<'_>) -> Option<Self> {
        Some(())
    }
}

macro_rules! integers {
    ($($type:ty),*) => { $(impl Wire for $type {
        const WORDS: usize = 1;
        fn put(&self, out: &mut Writer<'_>) {
            out.put(u64::from(*self));
        }
        fn take(input: &mut Reader<'_>) -> Option<Self> {
            Self::try_from(input.take()?).ok()
        }
    })* };
}
integers!(u64, u32, u16);

impl Wire for bool {
    const WORDS: usize = 1;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(u64::from(*self));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        match input.take()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

macro_rules! ids {
    ($($type:ident),*) => { $(impl Wire for $type {
        const WORDS: usize = 1;
        fn put(&self, out: &mut Writer<'_>) {
            out.put(self.0);
        }
        fn take(input: &mut Reader<'_>) -> Option<Self> {
            input.take().map($type)
        }
    })* };
}
ids!(ThreadId, SpaceId);

impl<A: Wire, B: Wire> Wire for (A, B) {
    const WORDS: usize = A::WORDS + B::WORDS;
    fn put(&self, out: &mut Writer<'_>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Some((A::take(input)?, B::take(input)?))
    }
}

/// A piece of text: at most [`CHUNK_BYTES`] bytes, by value, because it outlives the message buffer it came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Chunk {
    length: usize,
    bytes: [u8; CHUNK_BYTES],
}

impl Chunk {
    /// No text.
    pub const fn new() -> Self {
        Self { length: 0, bytes: [0; CHUNK_BYTES] }
    }
    /// As much of `bytes` as fits.
    pub fn of(bytes: &[u8]) -> Self {
        let mut chunk = Self::new();
        chunk.push(bytes);
        chunk
    }
    /// The text of `arguments`, cut where the chunk is full.
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut chunk = Self::new();
        // The only error is "full": cut off, as documented.
        let _ = fmt::write(&mut chunk, arguments);
        chunk
    }
    /// Appends what fits and returns how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CHUNK_BYTES - self.length);
        self.bytes[self.length..self.length + count].copy_from_slice(&bytes[..count]);
        self.length += count;
        count
    }
    /// Forgets the text.
    pub fn clear(&mut self) {
        self.length = 0;
    }
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.length == CHUNK_BYTES
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl fmt::Write for Chunk {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.push(text.as_bytes()) == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Wire for Chunk {
    const WORDS: usize = 1 + CHUNK_BYTES / 8;
    fn put(&self, out: &mut Writer<'_>) {
        out.put(self.length as u64);
        for piece in self.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..piece.len()].copy_from_slice(piece);
            out.put(u64::from_le_bytes(word));
        }
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        let length = usize::try_from(input.take()?).ok().filter(|&length| length <= CHUNK_BYTES)?;
        let mut chunk = Self { length, bytes: [0; CHUNK_BYTES] };
        for piece in chunk.bytes[..length].chunks_mut(8) {
            let word = input.take()?.to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Some(chunk)
    }
}
