//! State of the page.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{info, warn};

use super::super::file::ConfigFile;
use super::listeners;
use super::pending::PendingChange;
use super::processes::{Editor, Page};
use crate::admin::messages::{AccountText, ToAdmin, Token};
use crate::config::{Cidr, TunName};
use crate::logging::RateLimit;
use crate::netlink::find_ipv6_obstacle;
use crate::supervisor::context::Context;
use crate::supervisor::mode::EventSource;
use crate::supervisor::start::Starting;
use wontun_proto::time::Instant;

/// Minimum interval between two answers with the peers.
pub(super) const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// Delay before the process is restarted; doubled each time, up to [`MAX_RESTART_DELAY`].
const RESTART_DELAY: Duration = Duration::from_millis(500);
const MAX_RESTART_DELAY: Duration = Duration::from_secs(60);
/// Time without an end after which the next delay is [`RESTART_DELAY`] again.
const STABLE: Duration = Duration::from_secs(300);
/// Minimum interval between two log lines about failed attempts to sign in.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The page, if it is served.
#[derive(Debug, Default)]
pub(in crate::supervisor::wireguard) struct Admin(pub(super) Option<Box<AdminPage>>);

#[derive(Debug)]
pub(super) struct AdminPage {
    pub(super) tunnel: TunName,
    pub(super) is_sandboxed: bool,
    pub(super) listeners: Vec<(SocketAddr, OwnedFd)>,
    pub(super) account: Option<AccountText>,
    /// True if IPv6 packets of clients get further than the VPN.
    pub(super) reaches_ipv6: bool,
    pub(super) page: Option<Page>,
    pub(super) editor: Option<Editor>,
    /// Time of the next start of the page's process.
    pub(super) restart_at: Option<Instant>,
    pub(super) delay: Duration,
    pub(super) started_at: Instant,
    /// Number of its starts: answers to an earlier process are dropped.
    pub(super) generation: u32,
    /// Changes that the editor makes, in their order.
    pub(super) pending: VecDeque<PendingChange>,
    /// Connections of the control socket that wait for a link.
    pub(super) link_clients: VecDeque<u32>,
    /// Time of the last answer with the peers, and true if one is requested.
    pub(super) shown_at: Option<Instant>,
    pub(super) is_show_due: bool,
    pub(super) refusals: RateLimit,
}

impl Admin {
    /// Starts the editor, if the page is to be served. Must be called before this process is
    /// confined.
    pub(in crate::supervisor::wireguard) fn open(
        tunnel: &TunName,
        file: Option<&ConfigFile>,
        starting: &Starting,
    ) -> Self {
        let Some(file) = file.filter(|file| file.options.admin) else { return Self::default() };
        let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = std::path::absolute(folder.unwrap_or(std::path::Path::new(".")));
        let is_sandboxed = starting.is_sandboxed();
        let started = folder.map_err(|error| error.to_string()).and_then(|folder| {
            let name = TunName::of_file(&file.path).unwrap_or_else(|_| tunnel.clone());
            let editor = Editor::start(&folder, &name, &file.key_files, is_sandboxed, starting.stderr());
            editor.map_err(|error| error.to_string())
        });
        match started {
            Ok(editor) => Self(Some(Box::new(AdminPage {
                tunnel: tunnel.clone(),
                is_sandboxed,
                listeners: Vec::new(),
                account: None,
                reaches_ipv6: false,
                page: None,
                editor: Some(editor),
                restart_at: None,
                delay: RESTART_DELAY,
                started_at: Instant::default(),
                generation: 0,
                pending: VecDeque::new(),
                link_clients: VecDeque::new(),
                shown_at: None,
                is_show_due: false,
                refusals: RateLimit::new(LOG_INTERVAL),
            }))),
            Err(error) => {
                warn!(error, "the admin page is not served");
                Self::default()
            }
        }
    }

    /// Opens the sockets at the tunnel's `addresses`, and starts the process of the page.
    pub(in crate::supervisor::wireguard) fn start(&mut self, context: &mut Context, addresses: &[Cidr]) {
        let Some(admin) = &mut self.0 else { return };
        match admin.editor.as_mut().map(Editor::wait) {
            Some(Ok(account)) => admin.account = account,
            Some(Err(error)) => {
                warn!(error, "the admin page is not served: the process that edits the file did not start");
                self.0 = None;
                return;
            }
            None => return,
        }
        admin.listeners = listeners::open(addresses);
        admin.reaches_ipv6 = addresses.iter().any(|cidr| cidr.address().is_ipv6())
            && find_ipv6_obstacle(context.name.as_str()).is_none();
        if admin.account.is_none() {
            info!("the admin page has no password yet: 'wontun admin link' prints a link that sets it");
        }
        admin.start_page(context);
    }

    /// Returns the descriptors to wait for.
    pub(in crate::supervisor::wireguard) fn descriptors(
        &self,
    ) -> impl Iterator<Item = (EventSource, BorrowedFd<'_>, PollFlags)> {
        let page = self.0.as_ref().and_then(|admin| admin.page.as_ref()).map(Page::source);
        let editor = self.0.as_ref().and_then(|admin| admin.editor.as_ref()).map(Editor::source);
        let page = page.map(|(fd, flags)| (EventSource::Admin, fd, flags));
        page.into_iter().chain(editor.map(|(fd, flags)| (EventSource::Editor, fd, flags)))
    }

    /// Returns the time at which `WireGuard::handle_admin_timeout` must be called.
    pub(in crate::supervisor::wireguard) fn deadline(&self) -> Option<Instant> {
        let admin = self.0.as_ref()?;
        let show = admin.shown_at.map_or(Instant::default(), |at| at + SHOW_INTERVAL);
        [admin.restart_at, admin.is_show_due.then_some(show)].into_iter().flatten().min()
    }
}

impl AdminPage {
    pub(super) fn start_page(&mut self, context: &mut Context) {
        let stderr = context.lookups.stderr();
        let account = self.account.clone();
        let (listeners, tunnel) = (&self.listeners, &self.tunnel);
        self.started_at = context.now;
        self.generation = self.generation.wrapping_add(1);
        self.is_show_due = false;
        match Page::start(&mut context.nursery, stderr, tunnel, listeners, account, self.is_sandboxed) {
            Ok(page) => (self.page, self.restart_at) = (Some(page), None),
            Err(error) => {
                warn!(%error, "cannot start the process of the admin page; trying again later");
                self.schedule_restart(context.now);
            }
        }
    }

    pub(super) fn schedule_restart(&mut self, now: Instant) {
        if now.since(self.started_at) >= STABLE {
            self.delay = RESTART_DELAY;
        }
        self.restart_at = Some(now + self.delay);
        self.delay = (self.delay * 2).min(MAX_RESTART_DELAY);
    }

    /// Sends a message to the page; `None` if its process has ended.
    pub(super) fn tell(&mut self, message: &ToAdmin, descriptors: Vec<OwnedFd>) -> Option<()> {
        self.page.as_mut()?.send(message, descriptors).ok()
    }

    /// Returns the links with a token, one for each address.
    pub(super) fn links(&self, token: &Token) -> Vec<String> {
        let token = token.to_hex();
        let hosts = self.listeners.iter().map(|(address, _)| listeners::host_of(*address));
        hosts.map(|host| format!("http://{host}/link#{}", *token)).collect()
    }
}
