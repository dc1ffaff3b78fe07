//! How long a core waits for an answer that takes a while: the difference between the two core models.

use serde::{Deserialize, Serialize};

use crate::params::Prefetching;
use crate::time::Time;

/// What a core does while it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoreModel {
    /// Nothing: every miss is paid in full, one after the other.
    #[default]
    Blocking,
    /// It fetches streams ahead and lets independent misses overlap; what depends on an earlier miss is paid in full.
    Prefetching,
}

/// What an access is to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing can be done meanwhile.
    None,
    /// Other misses are on their way at the same time.
    Independent,
    /// It was asked for before it was needed.
    Stream,
}

/// The wait for something of this latency, whose line takes `line_time` on the narrowest part of its way.
pub fn wait(parameters: &Prefetching, overlap: Overlap, latency: Time, line_time: Time) -> Time {
    match overlap {
        Overlap::None => latency,
        Overlap::Independent => (latency / Time::from(parameters.parallel)).max(line_time),
        Overlap::Stream => (latency / Time::from(parameters.stream_parallel)).max(line_time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_costs_its_bandwidth_at_least() {
        let parameters = Prefetching { streams: 8, stream_parallel: 10, parallel: 4 };
        let of = |overlap, line| wait(&parameters, overlap, 400, line);
        assert_eq!((of(Overlap::None, 90), of(Overlap::Independent, 0)), (400, 100));
        assert_eq!((of(Overlap::Stream, 0), of(Overlap::Stream, 90)), (40, 90));
    }
}
