//! What can go wrong, as one line for the user and one exit code for scripts.

use crate::ending::Ending;

/// A failure of the launcher.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// What was asked for does not make sense: an impossible machine, an illegal combination, an unknown name.
    #[error("{0}")]
    Usage(String),
    /// A tool is missing and could not, or must not, be installed.
    #[error("{0}")]
    Missing(String),
    /// The guest could not be built.
    #[error("{0}")]
    Build(String),
    /// A file or process of the host failed.
    #[error("{0}: {1}")]
    Host(String, String),
    /// Nobody reads standard output any more (`| head`): no reason to say anything.
    #[error("standard output is closed")]
    OutputClosed,
    /// A run did not end well.
    #[error("{ending}: {reason}")]
    Ended {
        /// How it ended.
        ending: Ending,
        /// What is known about it.
        reason: String,
    },
    /// The runs went well, but the numbers contradict what has to hold.
    #[error("{0}")]
    Check(String),
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code of the launcher. Endings of a run have their own, see [`Ending::exit_code`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Check(_) => Ending::Fail.exit_code(),
            Self::Usage(_) => 2,
            Self::Missing(_) => 3,
            Self::Build(_) => 4,
            Self::Host(..) => 5,
            // What a shell shows of a program that SIGPIPE has ended.
            Self::OutputClosed => 141,
            Self::Ended { ending, .. } => ending.exit_code(),
        }
    }

    /// For `map_err`: a host failure while doing `what`.
    pub fn host<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Host(what, error.to_string())
    }

    /// The user pressed Ctrl-C (or sent SIGTERM).
    pub fn interrupted() -> Self {
        Self::Ended { ending: Ending::Interrupted, reason: Ending::Interrupted.meaning().into() }
    }
}
