//! Crashes on purpose: the boot option `crash`, for tests of what follows.
//!
//! `crash=CLUSTER@MICROSECONDS[:THREAD]`, or several of them with commas between: so long after the start a root worker of this cluster, which is
//! more urgent than the app pager there, has a thread of it go on at an address where nothing is, in the midst of whatever it does. In
//! deterministic runs that is always the same instruction. The app pager knows nothing of it. (Parts that begin with a letter are about its
//! steps, and its own business.)

/// Whose instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    /// The pager thread of the cluster's first CPU.
    Pager,
    /// The worker.
    Worker,
    /// The unmap worker.
    Unmapper,
}

/// A crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    /// Where.
    pub cluster: u16,
    /// How long after the start of the first one, or after the one before is cleared up.
    pub microseconds: u64,
    /// Who.
    pub victim: Victim,
}

impl Strike {
    fn parse(text: &str) -> Option<Self> {
        let (cluster, rest) = text.split_once('@')?;
        let (time, victim) = rest.split_once(':').unwrap_or((rest, "pager"));
        let victim = match victim {
            "pager" => Victim::Pager,
            "worker" => Victim::Worker,
            "unmapper" => Victim::Unmapper,
            _ => return None,
        };
        Some(Self { cluster: cluster.parse().ok()?, microseconds: time.parse().ok()?, victim })
    }
}

/// The crashes that the option asks for. `None`: it is malformed.
pub fn parse(option: Option<&str>) -> Option<impl Iterator<Item = Strike> + Clone + '_> {
    let parts = option.into_iter().flat_map(|text| text.split(','));
    let parts =
        parts.filter(|part| !part.starts_with(|first: char| first.is_ascii_alphabetic())).map(Strike::parse);
    parts.clone().all(|strike| strike.is_some()).then(|| parts.flatten())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn options() {
        assert_eq!(parse(None).unwrap().count(), 0);
        let strikes: Vec<_> = parse(Some("1@500,2@90000:unmapper")).unwrap().collect();
        let first = Strike { cluster: 1, microseconds: 500, victim: Victim::Pager };
        let second = Strike { cluster: 2, microseconds: 90_000, victim: Victim::Unmapper };
        assert_eq!(strikes, [first, second]);
        assert_eq!(parse(Some("recover.end@2,1@500")).unwrap().collect::<Vec<_>>(), [first]);
        for bad in ["", "1", "1@", "1@5:me", "1@5,", "1@5;2@6", "lead.copy@1,"] {
            assert!(parse(Some(bad)).is_none(), "{bad}");
        }
    }
}
