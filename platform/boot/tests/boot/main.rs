//! The loader on the host, where physical memory is a map.

mod fake;
mod load;
mod mutations;
mod robust;
