//! Tests of the mapping database through its public interface.

mod golden;
mod groups;
mod mmu;
mod naive;
mod pages;
mod property;
mod scarcity;
mod scenarios;
