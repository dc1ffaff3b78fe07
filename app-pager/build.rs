//! Linker arguments of guest programs: a plain static image at the program base, segments page-separate.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in
            ["--image-base=0x200000", "-static", "-znorelro", "-zmax-page-size=4096", "--entry=_start"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
