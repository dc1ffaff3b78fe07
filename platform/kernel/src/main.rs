//! The kernel image: glue between the exceptions of the machine and [`skerry_kernel::kernel::Kernel`].
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod arch;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a guest program; to boot it, type `cargo run` in the root folder of the repository");
    std::process::exit(2);
}
