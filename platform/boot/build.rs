//! Hands the linker script to the guest build; on the host there is nothing to link specially.

fn main() {
    println!("cargo::rerun-if-changed=boot.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-T{directory}/boot.ld");
        println!("cargo::rustc-link-arg-bins=-static");
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
