//! The migrations are compiled in: a new one makes this crate anew.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
