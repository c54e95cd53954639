//! Sets `cfg(ipsec_mb)` where wontun-sys links the library.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(ipsec_mb)");
    if std::env::var_os("DEP_IPSEC_MB_LINKED").is_some() {
        println!("cargo::rustc-cfg=ipsec_mb");
    }
}
