//! Whole lines from chunks: the lines of two senders never mix.

use skerry_abi::ThreadId;

/// Longer lines are printed in pieces of this many bytes.
pub const MAX_LINE: usize = 2048;
/// Senders in the middle of a line at a time. One more, and the oldest unfinished line is printed as it is.
pub const OPEN_LINES: usize = 16;

#[derive(Clone, Copy)]
struct Open {
    sender: ThreadId,
    since: u64,
    length: usize,
    bytes: [u8; MAX_LINE],
}

/// The unfinished lines.
pub struct Lines {
    open: [Open; OPEN_LINES],
    clock: u64,
}

impl Lines {
    /// None.
    pub const fn new() -> Self {
        let open = Open { sender: ThreadId::NIL, since: 0, length: 0, bytes: [0; MAX_LINE] };
        Self { open: [open; OPEN_LINES], clock: 0 }
    }

    /// Takes a chunk; calls `print` with every line that is complete (without line feed).
    pub fn write(&mut self, sender: ThreadId, last: bool, text: &[u8], mut print: impl FnMut(&[u8])) {
        self.clock += 1;
        let found = self.open.iter().position(|open| open.length != 0 && open.sender == sender);
        if last && found.is_none() && text.len() <= MAX_LINE {
            return print(text);
        }
        let index = found.unwrap_or_else(|| {
            let free_first = |i: &usize| (self.open[*i].length != 0, self.open[*i].since);
            (0..OPEN_LINES).min_by_key(free_first).unwrap_or(0)
        });
        let open = &mut self.open[index];
        if found.is_none() {
            if open.length != 0 {
                print(&open.bytes[..open.length]);
            }
            (open.sender, open.since, open.length) = (sender, self.clock, 0);
        }
        let mut rest = text;
        while !rest.is_empty() {
            if open.length == MAX_LINE {
                print(&open.bytes);
                open.length = 0;
            }
            let count = rest.len().min(MAX_LINE - open.length);
            open.bytes[open.length..open.length + count].copy_from_slice(&rest[..count]);
            open.length += count;
            rest = &rest[count..];
        }
        if last {
            print(&open.bytes[..open.length]);
            open.length = 0;
        }
    }

    /// Prints what is unfinished, at the end of the run.
    pub fn flush(&mut self, mut print: impl FnMut(&[u8])) {
        for open in self.open.iter_mut().filter(|open| open.length != 0) {
            print(&open.bytes[..open.length]);
            open.length = 0;
        }
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{string::String, vec, vec::Vec};

    const A: ThreadId = ThreadId::new(0, 1, 1);

    fn written(chunks: &[(ThreadId, bool, &str)]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new(), vec![]);
        for (sender, last, text) in chunks {
            lines.write(*sender, *last, text.as_bytes(), |l| {
                out.push(String::from_utf8_lossy(l).into_owned())
            });
        }
        lines.flush(|l| out.push(String::from_utf8_lossy(l).into_owned()));
        out
    }

    #[test]
    fn lines_of_two_senders_do_not_mix() {
        let b = ThreadId::new(1, 1, 1);
        assert_eq!(written(&[(A, false, "one "), (b, true, "two"), (A, true, "line")]), ["two", "one line"]);
        assert_eq!(written(&[(A, true, "")]), [""]);
        assert_eq!(written(&[(A, false, "dead")]), ["dead"]);
    }

    #[test]
    fn the_oldest_unfinished_line_gives_way() {
        let mut chunks: Vec<_> =
            (0..OPEN_LINES as u16).map(|i| (ThreadId::new(0, i, 1), false, "x")).collect();
        chunks.push((ThreadId::new(0, 99, 1), false, "y"));
        let out = written(&chunks);
        assert_eq!((out.len(), out.iter().filter(|l| *l == "x").count()), (OPEN_LINES + 1, OPEN_LINES));
    }

    #[test]
    fn endless_lines_are_cut() {
        let text = "z".repeat(400);
        let out = written(&[(A, false, text.as_str()); 6]);
        assert_eq!(out.iter().map(String::len).collect::<Vec<_>>(), [2048, 352]);
    }
}
