//! Policies on a naive mechanism: what each is called after, and that none does harm.

mod decisions;
mod naive;
mod properties;
