//! Reasons why /etc/resolv.conf is not changed.

use std::io;

/// Error of the back end for /etc/resolv.conf.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolvConfError {
    /// It cannot be read.
    #[error(
        "/etc/resolv.conf cannot be read ({0}): make it readable; if it has become a link to another folder, restart the tunnel"
    )]
    Read(io::Error),
    /// It cannot be opened for writing.
    #[error("/etc/resolv.conf cannot be written ({cause}): {}", remedy(.cause))]
    Open {
        /// Error of the kernel.
        cause: io::Error,
    },
    /// Writing fails.
    #[error("writing to /etc/resolv.conf failed ({0}): check that its file system has free space")]
    Write(io::Error),
    /// It is a folder or a device.
    #[error("/etc/resolv.conf is not a regular file: replace it by one")]
    NotAFile,
    /// It is too long.
    #[error("/etc/resolv.conf is longer than {} bytes: shorten it", super::layers::MAX_LENGTH)]
    TooLong,
    /// It is a link to a file that does not exist.
    #[error(
        "/etc/resolv.conf is a symbolic link to a file that does not exist: start the program that writes that file, \
         or replace the link by a file"
    )]
    DanglingLink,
    /// It is a link to a file of systemd-resolved.
    #[error(
        "/etc/resolv.conf is a symbolic link to a file that systemd-resolved writes: start systemd-resolved and use \
         --apply-dns resolved, or replace the link by a file"
    )]
    OfResolved,
    /// Too many tunnels have changed it.
    #[error(
        "/etc/resolv.conf has the name servers of too many tunnels: stop some of them, or run wontun unlock"
    )]
    TooManyLayers,
    /// Another program has changed what the tunnel had written.
    #[error(
        "/etc/resolv.conf was changed by another program, and is left alone: its comments have the previous contents, \
         after \"#|\""
    )]
    Changed,
    /// Changes cannot be noticed.
    #[error("/etc/resolv.conf cannot be watched ({0}): raise fs.inotify.max_user_instances")]
    Watch(io::Error),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "mount it writable (systemd: ReadWritePaths=/etc, and a user that may write it; a container: without \
             --read-only), set the name servers by other means (docker run --dns), or start with --apply-dns off"
        }
        io::ErrorKind::PermissionDenied => {
            "start wontun as the file's owner, root usually (an immutable file: chattr -i), use systemd-resolved, or \
             set the name servers by other means and start with --apply-dns off"
        }
        _ => "set the name servers by other means, and start with --apply-dns off",
    }
}
