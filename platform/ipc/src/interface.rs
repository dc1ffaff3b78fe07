//! The machinery behind an interface declaration.

use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{Domain, Error, Tag, ThreadId};

use crate::level::Level;
use crate::{Message, Reader, Wire, Writer};

/// Who sent a request: the kernel's word, not the sender's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// The thread.
    pub thread: ThreadId,
    /// The domain of its space.
    pub domain: Domain,
}

/// Something that can perform a call for code of one level.
pub trait Caller {
    /// The level of the code that calls.
    type Level: Level;
    /// Sends `message` to `to` and waits for the answer, which replaces it.
    ///
    /// # Errors
    /// Whatever the kernel reports; an answer that *says* error is not one of them.
    fn call(&self, to: ThreadId, message: &mut Message) -> Result<(), Error>;
    /// The same for what travels in registers, there and back: `words` are MR1 to MR8. Returns the answer's tag.
    ///
    /// # Errors
    /// As for [`Caller::call`].
    fn call_short(&self, to: ThreadId, tag: Tag, words: &mut [u64; REGISTER_WORDS]) -> Result<Tag, Error> {
        let mut message = Message::new();
        message.tag = tag;
        message.buffer_mut()[..REGISTER_WORDS].copy_from_slice(words);
        self.call(to, &mut message)?;
        words.copy_from_slice(&message.buffer()[..REGISTER_WORDS]);
        Ok(message.tag)
    }
}

/// Why a server method returns no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// The caller gets this error.
    Error(Error),
    /// The caller waits: somebody answers later, or the caller's thread is gone.
    Parked,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What a server method returns.
pub type Answer<T> = Result<T, Unanswered>;

/// What to do after a dispatch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The message now holds the answer.
    Reply,
    /// No answer now.
    Parked,
}

/// Requests per operation, and those that were unknown or malformed.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    ops: [AtomicU64; N],
    bad: AtomicU64,
}

impl<const N: usize> Counters<N> {
    /// All zero.
    pub const fn new() -> Self {
        Self { ops: [const { AtomicU64::new(0) }; N], bad: AtomicU64::new(0) }
    }
    /// Requests of the operation with this index in `Op::ALL`.
    pub fn op(&self, index: usize) -> u64 {
        self.ops.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
    }
    /// Requests that were answered with [`Error::BadRequest`].
    pub fn bad(&self) -> u64 {
        self.bad.load(Ordering::Relaxed)
    }
    /// Counts a request: `None` is a bad one.
    pub fn count(&self, index: Option<usize>) {
        let counter = index.and_then(|index| self.ops.get(index)).unwrap_or(&self.bad);
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the answer to a request into `message`: label 0 and the value, or the error's code as the label.
pub fn encode_reply<T: Wire>(message: &mut Message, result: Result<T, Error>) {
    match result {
        Ok(value) => {
            let mut out = Writer::new(message.buffer_mut());
            value.put(&mut out);
            let used = out.used();
            message.tag = Tag::new(0, used, 0);
        }
        Err(error) => message.set_empty(error.code() as u32),
    }
}

/// The inverse of [`encode_reply`].
///
/// # Errors
/// The server's error, or [`Error::BadRequest`] if the answer is not a `T`.
pub fn decode_reply<T: Wire>(message: &Message) -> Result<T, Error> {
    decode(message.tag, message.untyped())
}

/// The same from a tag and the untyped words, or more.
pub(crate) fn decode<T: Wire>(tag: Tag, words: &[u64]) -> Result<T, Error> {
    match tag.label() {
        0 => T::take(&mut Reader::new(&words[..tag.untyped().min(words.len())])).ok_or(Error::BadRequest),
        code => Err(Error::from_code(u64::from(code))),
    }
}

/// Whether arguments of these sizes, and a result of this one, travel in registers.
pub(crate) const fn is_short(words: &[usize], result: usize) -> bool {
    let (mut sum, mut i) = (0, 0);
    while i < words.len() {
        sum += words[i];
        i += 1;
    }
    sum <= REGISTER_WORDS && result <= REGISTER_WORDS
}

/// Fails to compile if arguments of these sizes do not fit into a message.
pub(crate) const fn assert_fits(words: &[usize]) {
    let (mut sum, mut i) = (0, 0);
    while i < words.len() {
        sum += words[i];
        i += 1;
    }
    assert!(sum <= skerry_abi::message::MAX_WORDS, "the arguments do not fit into a message");
}

/// Declares an interface. See the files of this crate for examples.
macro_rules! interface {
    (
        $name:literal, id $id:literal, level $level:ty;
        $( $(#[$doc:meta])* $number:literal = $variant:ident $op:ident($($arg:ident: $type:ty),* $(,)?) -> $ret:ty; )*
    ) => {
        /// Number of the interface: the upper half of a request's label.
        pub const ID: u16 = $id;
        /// Its name, for people.
        pub const NAME: &str = $name;
        /// Only code of a higher level may call it.
        pub type Level = $level;
        /// Number of operations.
        pub const OPS: usize = Op::ALL.len();
        /// Requests per operation.
        pub type Counters = $crate::Counters<OPS>;

        /// The operations.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Op { $( $(#[$doc])* $variant = $number, )* }

        impl Op {
            /// All of them, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The label of a request.
            pub const fn label(self) -> u32 {
                (ID as u32) << 16 | self as u32
            }
            /// The inverse of [`Op::label`].
            pub const fn from_label(label: u32) -> Option<Self> {
                if label >> 16 != ID as u32 {
                    return None;
                }
                match label as u16 { $($number => Some(Self::$variant),)* _ => None }
            }
            /// The name, for people.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($op),)* }
            }
            fn index(self) -> Option<usize> {
                Self::ALL.iter().position(|&op| op == self)
            }
        }

        /// What a server implements. Methods run with arguments that decoded well; who may call is their business.
        #[allow(clippy::too_many_arguments, reason = "the words of a message, by name")]
        pub trait Server {
            $( $(#[$doc])*
            ///
            /// # Errors
            /// What the caller is told, or that it is parked.
            fn $op(&mut self, from: $crate::Sender $(, $arg: $type)*) -> $crate::Answer<$ret>; )*
        }

        /// The client's side: one method per operation.
        #[derive(Clone, Copy, Debug)]
        pub struct Client<C> {
            caller: C,
            to: skerry_abi::ThreadId,
        }

        #[allow(clippy::too_many_arguments, reason = "the words of a message, by name")]
        impl<C: $crate::Caller> Client<C>
        where
            C::Level: $crate::level::Above<Level>,
        {
            /// Requests go to the thread `to`.
            pub const fn new(caller: C, to: skerry_abi::ThreadId) -> Self {
                Self { caller, to }
            }
            $( $(#[$doc])*
            ///
            /// # Errors
            /// The kernel's, if the message did not get through, else the server's.
            pub fn $op(&self $(, $arg: $type)*) -> Result<$ret, skerry_abi::Error> {
                const { $crate::interface::assert_fits(&[$(<$type as $crate::Wire>::WORDS),*]) };
                if const { $crate::interface::is_short(&[$(<$type as $crate::Wire>::WORDS),*], <$ret as $crate::Wire>::WORDS) } {
                    let mut words = [0; skerry_abi::message::REGISTER_WORDS];
                    #[allow(unused_mut, reason = "operations without arguments write nothing")]
                    let mut out = $crate::Writer::new(&mut words);
                    $( $crate::Wire::put(&$arg, &mut out); )*
                    let tag = skerry_abi::Tag::new(Op::$variant.label(), out.used(), 0);
                    let tag = self.caller.call_short(self.to, tag, &mut words)?;
                    return $crate::interface::decode(tag, &words);
                }
                let mut message = $crate::Message::new();
                #[allow(unused_mut, reason = "operations without arguments write nothing")]
                let mut out = $crate::Writer::new(message.buffer_mut());
                $( $crate::Wire::put(&$arg, &mut out); )*
                let used = out.used();
                message.tag = skerry_abi::Tag::new(Op::$variant.label(), used, 0);
                self.caller.call(self.to, &mut message)?;
                $crate::decode_reply(&message)
            } )*
        }

        /// Decodes the request in `message`, has `server` do it, and leaves the answer in `message`.
        pub fn dispatch<S: Server>(
            server: &mut S,
            from: $crate::Sender,
            message: &mut $crate::Message,
            counters: &Counters,
        ) -> $crate::Outcome {
            let op = if message.tag.typed() == 0 { Op::from_label(message.tag.label()) } else { None };
            match op {
                $( Some(Op::$variant) => {
                    #[allow(unused_mut, reason = "operations without arguments read nothing")]
                    let mut input = $crate::Reader::new(message.untyped());
                    $( let $arg = <$type as $crate::Wire>::take(&mut input); )*
                    let complete = input.is_empty();
                    #[allow(irrefutable_let_patterns, reason = "operations without arguments match ()")]
                    if let ($(Some($arg),)*) = ($($arg,)*) && complete {
                        counters.count(Op::$variant.index());
                        return match server.$op(from $(, $arg)*) {
                            Ok(value) => {
                                $crate::encode_reply::<$ret>(message, Ok(value));
                                $crate::Outcome::Reply
                            }
                            Err($crate::Unanswered::Error(error)) => {
                                $crate::encode_reply::<$ret>(message, Err(error));
                                $crate::Outcome::Reply
                            }
                            Err($crate::Unanswered::Parked) => $crate::Outcome::Parked,
                        };
                    }
                } )*
                None => {}
            }
            counters.count(None);
            $crate::encode_reply::<()>(message, Err(skerry_abi::Error::BadRequest));
            $crate::Outcome::Reply
        }
    };
}
