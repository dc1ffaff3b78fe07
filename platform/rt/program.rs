//! Build script of all guest programs (`build =` in their manifests): a plain static image at the program base
//! (`skerry_abi::layout::PROGRAM_BASE`), segments page-separate.

fn main() {
    println!("cargo::rerun-if-changed=Cargo.toml");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in
            ["--image-base=0x200000", "-static", "-znorelro", "-zmax-page-size=4096", "--entry=_start"]
        {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
