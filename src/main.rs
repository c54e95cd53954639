//! wontun
fn main() {}
