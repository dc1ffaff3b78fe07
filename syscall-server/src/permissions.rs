//! Who may ask for what: the whole table.
//!
//! A row names an operation and the domain that may call it. What the operation may be applied to is checked against the
//! [`Ledger`](crate::Ledger): only spaces and threads that this server made.

use skerry_abi::Domain;
use skerry_abi::id::domain;
use skerry_ipc::syscall::Op;

/// The rows.
pub const TABLE: &[(Op, Domain)] = &[
    (Op::SpaceCreate, domain::APP_PAGER),
    (Op::SpaceDestroy, domain::APP_PAGER),
    (Op::GrantPartner, domain::APP_PAGER),
    (Op::ThreadCreate, domain::APP_PAGER),
    (Op::ThreadStart, domain::APP_PAGER),
    (Op::ThreadDelete, domain::APP_PAGER),
    (Op::ThreadMigrate, domain::APP_PAGER),
    (Op::ThreadPlace, domain::APP_PAGER),
    (Op::ThreadState, domain::APP_PAGER),
    (Op::Audit, domain::APP_PAGER),
    (Op::Reset, domain::ROOT),
];

/// Highest priority of a task's thread: below the pagers, which must always be able to run.
pub const MAX_TASK_PRIORITY: u16 = 199;

/// Whether a caller of `caller` domain may ask for `op`.
pub fn may_call(op: Op, caller: Domain) -> bool {
    TABLE.contains(&(op, caller))
}

/// Whether a pager may create a space of this domain: tasks' only, never one of the system.
pub fn may_create_domain(wanted: Domain) -> bool {
    wanted >= domain::FIRST_TASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pagers_may_call_and_only_for_tasks() {
        for &op in Op::ALL {
            let (allowed, refused) = match op {
                Op::Reset => (domain::ROOT, domain::APP_PAGER),
                _ => (domain::APP_PAGER, domain::ROOT),
            };
            assert!(may_call(op, allowed));
            for other in [domain::KERNEL, refused, domain::SYSCALL_SERVER, domain::FIRST_TASK, u32::MAX] {
                assert!(!may_call(op, other));
            }
        }
        for system in [domain::KERNEL, domain::ROOT, domain::APP_PAGER, domain::SYSCALL_SERVER] {
            assert!(!may_create_domain(system));
        }
        assert!(may_create_domain(domain::FIRST_TASK));
    }
}
