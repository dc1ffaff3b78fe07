//! The rings under real threads. `sanitizers.rs` runs this with the thread sanitizer, to which every plain variable that only
//! a ring keeps apart is a witness.

#[cfg(not(feature = "loom"))]
#[path = "threads/run.rs"]
mod run;

fn main() {
    #[cfg(not(feature = "loom"))]
    {
        run::a_ring_keeps_its_two_sides_apart();
        println!("test result: ok");
    }
}
