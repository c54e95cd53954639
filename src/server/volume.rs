//! Detects a folder whose files are deleted along with the container that this process runs in.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Files that Docker and Podman put into each container.
const MARKERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// File systems that are in memory.
const IN_MEMORY: [&[u8]; 2] = [b"tmpfs", b"ramfs"];

/// Returns true if this process is in a container and `folder` is on none of its volumes. Device
/// numbers cannot tell: a volume is often on the same file system as the container's root.
pub(super) fn is_ephemeral(folder: &Path) -> bool {
    let is_container = std::process::id() == 1 || MARKERS.iter().any(|marker| Path::new(marker).exists());
    is_container
        && fs::canonicalize(folder)
            .and_then(|folder| Ok(is_lost(&fs::read("/proc/self/mountinfo")?, &folder)))
            .unwrap_or_default()
}

/// Returns true if the folder, an absolute path without symbolic links, is on the root or on a file
/// system in memory. A mounted part of a file system in memory was mounted deliberately, and is a
/// volume.
fn is_lost(mountinfo: &[u8], folder: &Path) -> bool {
    let mounts = mountinfo.split(|&byte| byte == b'\n').filter_map(Mount::parse);
    // of two mounts on one point, the later one hides the other
    let mount = mounts
        .filter(|mount| folder.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len());
    mount.is_some_and(|mount| mount.point == Path::new("/") || mount.is_in_memory && mount.is_whole)
}

/// A line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
struct Mount {
    point: PathBuf,
    /// True if the root of the file system is mounted, and not a subfolder.
    is_whole: bool,
    is_in_memory: bool,
}

impl Mount {
    /// Parses `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [FIELD]… - TYPE SOURCE OPTIONS`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let root = words.nth(3)?;
        let point = unescaped(words.next()?);
        let kind = words.skip_while(|&word| word != b"-").nth(1)?;
        Some(Self {
            point: PathBuf::from(OsStr::from_bytes(&point)),
            is_whole: root == b"/",
            is_in_memory: IN_MEMORY.contains(&kind),
        })
    }
}

/// Decodes a path in which the kernel escaped white space and backslashes as `\ooo`.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                out.push(escaped);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: &str = "\
        606 514 0:52 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d\n\
        607 606 0:55 / /proc rw,nosuid - proc proc rw\n\
        608 606 0:56 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k\n\
        609 606 8:1 /var/lib/docker/volumes/v/_data /etc/wontun rw,relatime - ext4 /dev/sda1 rw\n\
        610 606 0:60 / /srv/memory rw - tmpfs tmpfs rw\n\
        611 606 0:61 /volumes/v /srv/part rw - tmpfs tmpfs rw\n\
        612 606 8:1 /data /srv/a\\040b rw - ext4 /dev/sda1 rw\n";

    #[test]
    fn a_folder_is_kept_where_something_is_mounted() {
        for (folder, lost) in [
            ("/etc", true),
            ("/etc/wontun", false),
            ("/etc/wontun/deeper", false),
            ("/etc/wontun2", true),
            ("/srv/memory/etc", true),
            ("/srv/part", false),
            ("/srv/a b", false),
            ("/srv/a", true),
        ] {
            assert_eq!(is_lost(CONTAINER.as_bytes(), Path::new(folder)), lost, "{folder}");
        }
    }

    #[test]
    fn of_two_mounts_on_one_point_the_later_counts() {
        let over = format!("{CONTAINER}613 609 0:62 / /etc/wontun rw - tmpfs tmpfs rw\n");
        assert!(is_lost(over.as_bytes(), Path::new("/etc/wontun")));
    }

    #[test]
    fn what_is_no_list_of_mounts_says_nothing() {
        for text in ["", "\n", "1 2 3", "606 514 0:52 / / rw", "\\\\ - \\1"] {
            assert!(!is_lost(text.as_bytes(), Path::new("/etc")), "{text}");
        }
    }
}
