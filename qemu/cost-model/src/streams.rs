//! The table of a hardware prefetcher: which misses walk through memory line by line.

use std::collections::VecDeque;

/// What is followed: the last line, the direction, and whether the direction is known.
#[derive(Clone, Copy, Debug)]
struct Stream {
    last: u64,
    step: i64,
}

/// The streams of one CPU.
#[derive(Clone, Debug)]
pub struct Streams {
    table: VecDeque<Stream>,
    capacity: usize,
}

impl Streams {
    /// Follows so many at the same time.
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity as usize;
        Self { table: VecDeque::with_capacity(capacity), capacity }
    }

    /// A miss; whether a stream saw it coming, which takes two sequential lines before it.
    pub fn miss(&mut self, line: u64) -> bool {
        for stream in &mut self.table {
            let step = line.wrapping_sub(stream.last) as i64;
            if step.abs() == 1 && (stream.step == 0 || stream.step == step) {
                let known = stream.step != 0;
                *stream = Stream { last: line, step };
                return known;
            }
        }
        if self.table.len() == self.capacity {
            self.table.pop_front();
        }
        self.table.push_back(Stream { last: line, step: 0 });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(streams: &mut Streams, lines: &[u64]) -> Vec<bool> {
        lines.iter().map(|&line| streams.miss(line)).collect()
    }

    #[test]
    fn the_third_line_is_covered_in_both_directions() {
        let mut streams = Streams::new(4);
        assert_eq!(covered(&mut streams, &[10, 11, 12, 13]), [false, false, true, true]);
        assert_eq!(covered(&mut streams, &[99, 98, 97]), [false, false, true]);
        assert_eq!(covered(&mut streams, &[20, 22, 24]), [false; 3], "not line by line");
    }

    #[test]
    fn streams_mix_up_to_the_size_of_the_table() {
        let mixed = [100, 200, 101, 201, 102, 202];
        assert_eq!(covered(&mut Streams::new(2), &mixed)[4..], [true, true]);
        assert_eq!(covered(&mut Streams::new(1), &mixed), [false; 6]);
    }
}
