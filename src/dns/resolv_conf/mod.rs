//! The back end for a plain /etc/resolv.conf, as in containers and on small systems.
//!
//! The tunnel's name servers are written into the file in place, with the previous contents as
//! comments (`layers`). When another program writes the file (a DHCP client, NetworkManager,
//! resolvconf), its contents become the previous ones, and the tunnel's are written over them.
//!
//! A symbolic link is followed. The files that it may lead to, of NetworkManager and resolvconf,
//! have no documented interface but a command, and none is run; systemd-resolved has a back end of
//! its own.

mod error;
mod file;
mod layers;
mod lines;
mod watch;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::sys::stat::{Mode, umask};

pub(crate) use error::ResolvConfError;
use file::ResolvConfFile;
pub(crate) use layers::Stack;
use watch::{Change, Watch};

use super::{Backend, DnsError, DnsEvent, DnsSettings};
use crate::config::TunName;
use crate::repair_limit::RepairLimit;
use crate::sandbox::{RESOLV_CONF_PATH, Sandbox, SandboxError};
use wontun_proto::time::Instant;

/// Time for a program to finish writing the file.
const SETTLE: Duration = Duration::from_millis(100);
/// Folders of files that systemd-resolved writes.
const OF_RESOLVED: [&str; 3] = ["/run/systemd/resolve/", "/var/run/systemd/resolve/", "/usr/lib/systemd/"];

const RESTORED: &str = "/etc/resolv.conf was changed by another program, and the tunnel's name servers were written again; have that \
     program leave the file alone (NetworkManager: dns=none in [main] of NetworkManager.conf; dhcpcd: nohook resolv.conf)";
const IN_EFFECT: &str = "the tunnel's name servers are in /etc/resolv.conf now";
const LEFT_ALONE: &str =
    "/etc/resolv.conf was changed by another program, and is left as that program wrote it";

/// The back end.
#[derive(Debug)]
pub(in crate::dns) struct ResolvConf {
    tunnel: TunName,
    watch: Watch,
    applied: Option<Applied>,
    /// Time of the next check; `None` if nothing has changed.
    due: Option<Instant>,
    limit: RepairLimit,
}

/// The applied settings.
#[derive(Debug)]
struct Applied {
    settings: DnsSettings,
    /// Lines of the tunnel in the file.
    lines: Vec<u8>,
    /// True if the file is not as it should be, which was reported.
    is_lost: bool,
}

/// Returns true if /etc/resolv.conf is a symbolic link to a file that systemd-resolved writes.
pub(in crate::dns) fn is_of_resolved() -> bool {
    let target = watch::link_target(RESOLV_CONF_PATH);
    let target = target.as_deref().and_then(|target| target.to_str().ok()).unwrap_or_default();
    // relative to /etc
    let target = target.strip_prefix("..").unwrap_or(target);
    OF_RESOLVED.iter().any(|folder| target.starts_with(folder))
}

impl ResolvConf {
    /// Opens the back end for the tunnel that was started as `tunnel`.
    ///
    /// # Errors
    /// [`ResolvConfError`].
    pub(in crate::dns) fn open(tunnel: &TunName) -> Result<Self, ResolvConfError> {
        if is_of_resolved() {
            return Err(ResolvConfError::OfResolved);
        }
        // that of a new file
        umask(Mode::S_IWGRP | Mode::S_IWOTH);
        let watch = Watch::open()?;
        Ok(Self { tunnel: tunnel.clone(), watch, applied: None, due: None, limit: RepairLimit::default() })
    }

    /// Writes the tunnel's lines over the present contents, unless they are there. Returns the
    /// lines, the warnings, and true if the file was changed.
    fn write(&self, settings: &DnsSettings) -> Result<(Vec<u8>, Vec<String>, bool), ResolvConfError> {
        // opened for reading first: the end of an opening for writing is an event of its own
        let found = Stack::parse(file::read()?.as_deref());
        let (lines, warnings) = lines::lines(settings, &found.beneath(self.tunnel.as_str()));
        let is_there = found.layer(&self.tunnel).is_some_and(|layer| layer.lines == lines);
        if is_there && !found.is_damaged {
            return Ok((lines, warnings, false));
        }
        let file = ResolvConfFile::open()?;
        let mut stack = file.stack();
        if stack.is_damaged {
            self.keep_added_lines(&mut stack);
        }
        let (lines, warnings) = lines::lines(settings, &stack.beneath(self.tunnel.as_str()));
        stack.set(&self.tunnel, lines.clone()).map_err(|_| ResolvConfError::TooManyLayers)?;
        file.write(stack.render().as_deref())?;
        Ok((lines, warnings, true))
    }

    /// Adds the lines that another program has added to this tunnel's to the previous contents, so
    /// that they are there once the tunnel has ended.
    fn keep_added_lines(&self, stack: &mut Stack) {
        let Some(applied) = &self.applied else { return };
        let Some(found) = stack.layers.first().filter(|layer| layer.tunnel == self.tunnel.as_str()) else {
            return;
        };
        let own: Vec<_> = applied.lines.split_inclusive(|&byte| byte == b'\n').collect();
        let added: Vec<_> =
            found.lines.split_inclusive(|&byte| byte == b'\n').filter(|line| !own.contains(line)).collect();
        let added = added.concat();
        if stack.layers.len() == 1 && !added.is_empty() {
            stack.base.get_or_insert_default().extend(added);
        }
    }

    fn restore(&mut self, now: Instant) -> Option<DnsEvent> {
        let applied = self.applied.as_ref()?;
        let written = self.write(&applied.settings);
        let applied = self.applied.as_mut()?;
        let was_lost = applied.is_lost;
        applied.is_lost = written.is_err();
        match written {
            Ok((_, _, false)) if !was_lost => None,
            Ok((lines, ..)) => {
                applied.lines = lines;
                self.limit.record(now);
                Some(DnsEvent::Restored(if was_lost { IN_EFFECT.to_owned() } else { RESTORED.to_owned() }))
            }
            Err(error) => (!was_lost).then(|| DnsEvent::Lost(error.to_string())),
        }
    }
}

impl Backend for ResolvConf {
    fn name(&self) -> &'static str {
        "/etc/resolv.conf"
    }

    fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        Sandbox::for_resolv_conf()
    }

    fn apply(&mut self, settings: &DnsSettings) -> Result<Vec<String>, DnsError> {
        let written = self.write(settings);
        let is_lost = written.is_err();
        // if it fails, it is tried again when the file changes
        let lines = written.as_ref().map(|(lines, ..)| lines.clone()).unwrap_or_default();
        self.applied = Some(Applied { settings: settings.clone(), lines, is_lost });
        Ok(written.map(|(_, warnings, _)| warnings)?)
    }

    fn revert(&mut self) -> Result<Vec<String>, DnsError> {
        let Some(applied) = self.applied.take() else { return Ok(Vec::new()) };
        let is_restored = restore_previous(&self.tunnel)?;
        Ok(if is_restored || applied.is_lost { Vec::new() } else { vec![LEFT_ALONE.to_owned()] })
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.watch.as_fd()]
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.due
    }

    fn check(&mut self, now: Instant) -> Vec<DnsEvent> {
        if let Some(change) = self.watch.drain() {
            let at = if change == Change::Finished { now } else { now + SETTLE };
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        let allowed = self.limit.allowed_at(now);
        self.due = (now < allowed).then_some(allowed);
        if self.due.is_some() { Vec::new() } else { self.restore(now).into_iter().collect() }
    }
}

/// Restores the contents of the file that were there before the tunnel `tunnel`. Returns false if
/// it has not written any.
///
/// # Errors
/// [`ResolvConfError::Changed`] if another program has changed them meanwhile; or the file cannot
/// be written.
pub(crate) fn restore_previous(tunnel: &TunName) -> Result<bool, ResolvConfError> {
    if Stack::parse(file::read()?.as_deref()).layer(tunnel).is_none() {
        return Ok(false);
    }
    let file = ResolvConfFile::open()?;
    let mut stack = file.stack();
    if stack.is_damaged {
        return Err(ResolvConfError::Changed);
    }
    if !stack.remove(tunnel) {
        return Ok(false);
    }
    file.write(stack.render().as_deref())?;
    Ok(true)
}

/// Returns the tunnels whose name servers are in the file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn tunnels() -> Result<Vec<TunName>, ResolvConfError> {
    let stack = Stack::parse(file::read()?.as_deref());
    Ok(stack.layers.iter().filter_map(|layer| layer.tunnel.parse().ok()).collect())
}
