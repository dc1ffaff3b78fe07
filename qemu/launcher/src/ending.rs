//! How a run can end. Every ending has a name, a meaning, and an exit code of its own.

use std::fmt;

use skerry_abi::syscall::exit;

/// The typed ending of one QEMU run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The program ended well, and said so.
    Pass,
    /// A check of the program failed.
    Fail,
    /// A kernel panicked.
    KernelPanic,
    /// A server panicked or faulted.
    ServerFault,
    /// The application died of a fault or exception.
    AppFault,
    /// A pool or a kernel heap is used up.
    OutOfMemory,
    /// Command line, modules or device tree are unusable.
    BadBoot,
    /// Nothing came for so long that the run was given up.
    Silence,
    /// QEMU failed, or ended without a verdict of the guest.
    QemuError,
    /// The user stopped it.
    Interrupted,
}

impl Ending {
    /// All endings.
    pub const ALL: [Self; 10] = [
        Self::Pass,
        Self::Fail,
        Self::KernelPanic,
        Self::ServerFault,
        Self::AppFault,
        Self::OutOfMemory,
        Self::BadBoot,
        Self::Silence,
        Self::QemuError,
        Self::Interrupted,
    ];

    /// The ending that the guest chose with its exit code; `None` for a code that no guest sends.
    pub fn from_guest(code: u64) -> Option<Self> {
        Some(match code {
            exit::PASS => Self::Pass,
            exit::FAIL => Self::Fail,
            exit::KERNEL_PANIC => Self::KernelPanic,
            exit::SERVER_FAULT => Self::ServerFault,
            exit::APP_FAULT => Self::AppFault,
            exit::OUT_OF_MEMORY => Self::OutOfMemory,
            exit::BAD_BOOT => Self::BadBoot,
            _ => return None,
        })
    }

    /// The exit code of the launcher for a run that ended like this.
    pub fn exit_code(self) -> u8 {
        let code = match self {
            Self::Pass => exit::PASS,
            Self::Fail => exit::FAIL,
            Self::KernelPanic => exit::KERNEL_PANIC,
            Self::ServerFault => exit::SERVER_FAULT,
            Self::AppFault => exit::APP_FAULT,
            Self::OutOfMemory => exit::OUT_OF_MEMORY,
            Self::BadBoot => exit::BAD_BOOT,
            Self::Silence => 110,
            Self::QemuError => 111,
            Self::Interrupted => 130,
        };
        code as u8
    }

    /// Its name in messages and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::KernelPanic => "kernel-panic",
            Self::ServerFault => "server-fault",
            Self::AppFault => "app-fault",
            Self::OutOfMemory => "out-of-memory",
            Self::BadBoot => "bad-boot",
            Self::Silence => "silence",
            Self::QemuError => "qemu-error",
            Self::Interrupted => "interrupted",
        }
    }

    /// One line that says what it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Pass => "the program ended well",
            Self::Fail => "a check of the program failed",
            Self::KernelPanic => "a kernel panicked",
            Self::ServerFault => "a server panicked or faulted",
            Self::AppFault => "the application died of a fault or an exception",
            Self::OutOfMemory => "a memory pool or a kernel heap ran out",
            Self::BadBoot => "the guest refused its command line, its modules or the machine",
            Self::Silence => "the guest said nothing for too long and was stopped",
            Self::QemuError => "QEMU failed or ended without a verdict from the guest",
            Self::Interrupted => "stopped by a signal (Ctrl-C)",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_ending_has_its_own_name_and_exit_code() {
        assert_eq!(
            Ending::ALL.map(Ending::exit_code).into_iter().collect::<HashSet<_>>().len(),
            Ending::ALL.len()
        );
        assert_eq!(
            Ending::ALL.map(Ending::name).into_iter().collect::<HashSet<_>>().len(),
            Ending::ALL.len()
        );
    }

    #[test]
    fn guest_codes_survive_the_launcher() {
        for ending in Ending::ALL {
            if let Some(same) = Ending::from_guest(ending.exit_code().into()) {
                assert_eq!(same, ending);
            }
        }
        assert_eq!(Ending::from_guest(42), None);
    }
}
