//! `console`: lines of text to the serial port, served by the root pager of cluster 0.
//!
//! A long line comes in several chunks; the server puts the chunks of one sender together and prints whole lines only.

use skerry_abi::ThreadId;

use crate::{Chunk, level};

interface! {
    "console", id 1, level level::Console;
    /// Appends to the line of `origin` (nil: of the sender itself); `last` ends and prints it. The server adds the line feed.
    /// Only app pagers speak for others.
    1 = Write write(last: bool, origin: ThreadId, text: Chunk) -> ();
}
