//! Build script of all guest programs (`build =` in their manifests): a plain static image between
//! `skerry_abi::layout::PROGRAM_BASE` and `UTCB_BASE`, segments page-separate.
//!
//! Each server has a base of its own, and all others share one: an address in code then tells whose code it is, in a debugger and in
//! the ledger of a path through several programs.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let base = match std::env::var("CARGO_PKG_NAME").as_deref() {
            Ok("root-pager") => 0x0800_0000,
            Ok("syscall-server") => 0x0c00_0000,
            Ok("app-pager") => 0x1000_0000,
            _ => 0x20_0000,
        };
        println!("cargo::rustc-link-arg-bins=--image-base={base:#x}");
        for argument in ["-static", "-znorelro", "-zmax-page-size=4096", "--entry=_start"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
