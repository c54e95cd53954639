//! Writes the text of `wontun --version`: version, revision if known, features, target; and the
//! time of the sources, if the build is told
//! (<https://reproducible-builds.org/specs/source-date-epoch/>).

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=WONTUN_REVISION");
    let variable = |name| env::var(name).unwrap_or_default();
    let revision = match env::var("WONTUN_REVISION") {
        Ok(revision) => Some(revision),
        // other builds are not made again for each commit
        Err(_) if variable("PROFILE") == "release" => revision(Path::new(&variable("CARGO_MANIFEST_DIR"))),
        Err(_) => None,
    };
    let revision = revision.filter(|revision| !revision.is_empty());
    let revision = revision.map(|revision| format!("revision: {revision}\n")).unwrap_or_default();
    let features = if env::var_os("CARGO_FEATURE_IPSEC_MB").is_some() { "ipsec-mb" } else { "none" };
    let (version, target) = (variable("CARGO_PKG_VERSION"), variable("TARGET"));
    let text = format!("{version}\n{revision}features: {features}\ntarget: {target}");
    let folder = PathBuf::from(variable("OUT_DIR"));
    fs::write(folder.join("version.txt"), text)?;
    // the time before which this program cannot run, by which `wontun doctor` judges the clock
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let time = env::var("SOURCE_DATE_EPOCH").ok().and_then(|time| time.trim().parse::<u64>().ok());
    fs::write(folder.join("time.txt"), time.map(|time| time.to_string()).unwrap_or_default())
}

/// Returns the commit, if `folder` is a clone of the repository.
fn revision(folder: &Path) -> Option<String> {
    // a source archive may be unpacked in another repository
    if git(folder, &["rev-parse", "--show-cdup"]).as_deref() != Some("") {
        return None;
    }
    let revision = git(folder, &["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])?;
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(folder, &["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for path in ["Cargo.lock", "Cargo.toml", "crates", "src"] {
        println!("cargo::rerun-if-changed={path}");
    }
    Some(revision)
}

/// Returns what `git` prints, without the line break, or `None` if it fails.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}
