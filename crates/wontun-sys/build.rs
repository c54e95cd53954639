//! For the feature `ipsec-mb`: finds the static library, and sets `cfg(ipsec_mb)` on the processors
//! that it supports.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Folders in which distributions install it; `IPSEC_MB_LIB_DIR` names another one.
const FOLDERS: [&str; 4] = ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
const FILE: &str = "libIPSec_MB.a";
/// The function that is called. It is not a part of the library's interface (see src/ipsec_mb.rs),
/// so only versions are accepted of which is known that its parameters are those declared there.
const FUNCTION: &[u8] = b"aead_chacha20_poly1305_avx512";
const VERSIONS: [&str; 4] = ["1.3", "1.4", "1.5", "2.0"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(ipsec_mb)");
    let is_wanted = env::var_os("CARGO_FEATURE_IPSEC_MB").is_some();
    if !is_wanted || env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return ExitCode::SUCCESS;
    }
    // here, so that builds without the feature are not made again
    println!("cargo::rerun-if-env-changed=IPSEC_MB_LIB_DIR");
    let folders = match env::var_os("IPSEC_MB_LIB_DIR") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => FOLDERS.map(PathBuf::from).to_vec(),
    };
    let Some(folder) = folders.iter().find(|folder| has_library(folder)) else {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        println!(
            "cargo::error=the feature ipsec-mb needs {FILE} of intel-ipsec-mb {}, and there is none in {}: install \
             libipsec-mb-dev (Debian 12, Ubuntu 24.04 or newer), or set IPSEC_MB_LIB_DIR to the folder that \
             scripts/ipsec-mb.sh prints",
            VERSIONS.join(", "),
            folders.join(", ")
        );
        return ExitCode::FAILURE;
    };
    println!("cargo::rustc-cfg=ipsec_mb");
    println!("cargo::metadata=LINKED=1");
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=static=IPSec_MB");
    ExitCode::SUCCESS
}

/// Returns true for a folder with a library of one of the versions that are known.
fn has_library(folder: &Path) -> bool {
    let library = std::fs::read(folder.join(FILE)).unwrap_or_default();
    // the library returns its version, such as 2.0.1, as text that ends with a zero byte
    library.windows(FUNCTION.len()).any(|bytes| bytes == FUNCTION)
        && library.windows(6).any(|bytes| {
            matches!(bytes, [version @ .., b'.', patch, 0] if patch.is_ascii_digit()
                && VERSIONS.iter().any(|known| known.as_bytes() == version))
        })
}
