//! Links the guest image at its address in the upper half.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for arg in [
            "--image-base=0xffffffe000000000",
            "--entry=_start",
            "-znorelro",
            "-zmax-page-size=4096",
            "-static",
        ] {
            println!("cargo:rustc-link-arg-bins={arg}");
        }
    }
}
