//! State of the page.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::PollFlags;
use tracing::{info, warn};

use super::super::file::ConfigFile;
use super::listeners::{self, Listener};
use super::pending::PendingChange;
use super::processes::{Editor, EditorReady, Page};
use super::restart::Restart;
use crate::admin::messages::{
    AccountsText, CertificateResult, CertificateSource, CertificateText, Fingerprint, ToAdmin, ToEditor,
    Token, TokensText,
};
use crate::config::wg_quick::Peer;
use crate::config::{AdminName, AdminSettings, Cidr, TunName};
use crate::logging::RateLimit;
use crate::netlink::find_ipv6_obstacle;
use crate::process::Nursery;
use crate::resolver::messages::ErrorMessage;
use crate::supervisor::context::Context;
use crate::supervisor::mode::EventSource;
use crate::supervisor::start::Starting;
use wontun_proto::time::Instant;

/// Minimum interval between two answers with the peers.
pub(super) const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// Minimum interval between two log lines about failed attempts to sign in.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The page, if it is served.
#[derive(Debug, Default)]
pub(in crate::supervisor::wireguard) struct Admin(pub(super) Option<Box<AdminPage>>);

#[derive(Debug)]
pub(super) struct AdminPage {
    pub(super) tunnel: TunName,
    pub(super) is_sandboxed: bool,
    pub(super) settings: AdminSettings,
    pub(super) listeners: Vec<Listener>,
    /// The certificate of connections over TLS.
    pub(super) certificate: Option<(CertificateText, Fingerprint)>,
    pub(super) accounts: AccountsText,
    /// Tokens of the API.
    tokens: TokensText,
    /// True if IPv6 packets of clients get further than the VPN.
    pub(super) reaches_ipv6: bool,
    pub(super) page: Option<Page>,
    pub(super) page_restart: Restart,
    pub(super) editor: Option<Editor>,
    pub(super) editor_restart: Restart,
    /// Starts the editor as this process's user.
    editor_nursery: Nursery,
    editor_start: ToEditor,
    /// Number of its starts: answers to an earlier process are dropped.
    pub(super) generation: u32,
    /// Changes that the editor makes, in their order.
    pub(super) pending: VecDeque<PendingChange>,
    /// Connections of the control socket that wait for a link.
    pub(super) link_clients: VecDeque<u32>,
    /// Connections of the control socket that wait until changed tokens of the API are in force.
    pub(super) token_clients: VecDeque<u32>,
    /// True if a command has changed the tunnel, and probably the file, since the page's peers were
    /// read from that.
    pub(super) is_stale: bool,
    /// The peers of the file after such a change; `None` for those of the last reload.
    pub(super) changed_peers: Option<Vec<Peer>>,
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
        starting: &mut Starting,
    ) -> Self {
        let Some((file, settings)) = file.and_then(|file| Some((file, file.options.admin.clone()?))) else {
            return Self::default();
        };
        let folder = file.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = std::path::absolute(folder.unwrap_or(Path::new(".")));
        let is_sandboxed = starting.is_sandboxed();
        let started = folder.map_err(|error| error.to_string()).and_then(|folder| {
            let name = TunName::of_file(&file.path).unwrap_or_else(|_| tunnel.clone());
            let start =
                editor_start(&folder, &name, &file.key_files, certificate_source(&settings), is_sandboxed);
            let nursery = starting.take_own_nursery();
            let mut nursery = nursery.ok_or("there is no process to start its editor: report this bug")?;
            let editor = Editor::start(&mut nursery, starting.stderr(), &start);
            Ok((editor.map_err(|error| error.to_string())?, nursery, start))
        });
        match started {
            Ok((editor, editor_nursery, editor_start)) => Self(Some(Box::new(AdminPage {
                tunnel: tunnel.clone(),
                is_sandboxed,
                settings,
                listeners: Vec::new(),
                certificate: None,
                accounts: AccountsText::default(),
                tokens: TokensText::default(),
                reaches_ipv6: false,
                page: None,
                page_restart: Restart::default(),
                editor: Some(editor),
                editor_restart: Restart::default(),
                editor_nursery,
                editor_start,
                generation: 0,
                pending: VecDeque::new(),
                link_clients: VecDeque::new(),
                token_clients: VecDeque::new(),
                is_stale: false,
                changed_peers: None,
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

    /// Opens the sockets at the tunnel's `addresses`, and starts the process of the page. The
    /// sockets of a process whose tunnel is taken over are still open.
    pub(in crate::supervisor::wireguard) fn start(
        &mut self,
        context: &mut Context,
        addresses: &[Cidr],
        is_taken_over: bool,
    ) {
        let Some(admin) = &mut self.0 else { return };
        match admin.editor.as_mut().map(Editor::wait) {
            Some(Ok(EditorReady { accounts, certificate, tokens })) => {
                admin.accounts = accounts;
                match tokens {
                    Ok(tokens) => admin.tokens = tokens,
                    Err(error) => warn!(error = error.into_string(), "the API has no tokens"),
                }
                match certificate {
                    Some(Ok(certificate)) => admin.certificate = Some(certificate),
                    Some(Err(error)) => warn!(
                        error = error.into_string(),
                        "the admin page is not served outside of the tunnel: there is no certificate"
                    ),
                    None => {}
                }
            }
            Some(Err(error)) => {
                warn!(error, "the admin page is not served: the process that edits the file did not start");
                self.0 = None;
                return;
            }
            None => return,
        }
        let has_certificate = admin.certificate.is_some();
        admin.listeners = listeners::open(addresses, &admin.settings, has_certificate, is_taken_over);
        if let Some((_, fingerprint)) = &admin.certificate {
            info!(sha256 = %fingerprint, "the certificate of the admin page");
        }
        admin.editor_restart.handle_start(context.now);
        admin.reaches_ipv6 = addresses.iter().any(|cidr| cidr.address().is_ipv6())
            && find_ipv6_obstacle(context.name.as_str(), addresses).is_none();
        if admin.accounts == AccountsText::default() {
            info!("the admin page has no password yet: 'wontun admin link' prints a link that sets it");
        }
        admin.start_page(context);
    }

    /// Handles a change of the tunnel by a command, which has changed the file before.
    pub(in crate::supervisor::wireguard) fn handle_command(&mut self) {
        if let Some(admin) = &mut self.0 {
            admin.is_stale = true;
        }
    }

    /// Handles a reload of the file.
    pub(in crate::supervisor::wireguard) fn handle_reload(&mut self) {
        if let Some(admin) = &mut self.0 {
            (admin.is_stale, admin.changed_peers) = (false, None);
        }
    }

    /// Lets the process that takes the tunnel over serve the page at the same ports.
    pub(in crate::supervisor::wireguard) fn share(&self) {
        if let Some(admin) = &self.0 {
            listeners::share(&admin.listeners);
        }
    }

    /// Has the certificate read again, if it is in files.
    pub(in crate::supervisor::wireguard) fn reload_certificate(&mut self) {
        if let Some(admin) = self.0.as_mut().filter(|admin| admin.settings.certificate.is_some()) {
            admin.tell_editor(&ToEditor::ReadCertificate);
        }
    }

    /// Has the accounts read again, of which a command may have removed one.
    pub(in crate::supervisor::wireguard) fn reload_accounts(&mut self) {
        if let Some(admin) = &mut self.0 {
            admin.tell_editor(&ToEditor::ReadAccounts);
        }
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
        let restarts = [admin.page_restart.at(), admin.editor_restart.at()];
        restarts.into_iter().chain([admin.is_show_due.then_some(show)]).flatten().min()
    }
}

/// Returns the first message to the editor.
pub(in crate::supervisor::wireguard) fn editor_start(
    folder: &Path,
    tunnel: &TunName,
    key_files: &[PathBuf],
    certificate: Option<CertificateSource>,
    is_sandboxed: bool,
) -> ToEditor {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    ToEditor::Start {
        folder: text(folder),
        tunnel: tunnel.as_str().to_owned(),
        key_files: key_files.iter().map(|file| text(file)).collect(),
        certificate,
        is_sandboxed,
    }
}

/// Returns the place of the certificate, if one is needed: in files, or self-signed for the names
/// and the addresses.
fn certificate_source(settings: &AdminSettings) -> Option<CertificateSource> {
    if !settings.uses_tls() {
        return None;
    }
    Some(match &settings.certificate {
        Some((certificate, key)) => {
            CertificateSource::Files { certificate: absolute(certificate), key: absolute(key) }
        }
        None => {
            let addresses = settings.outside.iter().map(std::net::SocketAddr::ip);
            let specific = addresses.filter(|address| !address.is_unspecified());
            let names = settings.names.iter().cloned().chain(specific.map(AdminName::Address));
            CertificateSource::SelfSigned { names: names.collect() }
        }
    })
}

fn absolute(path: &Path) -> String {
    // fails for an empty path only, which is reported where the file is read
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

impl AdminPage {
    pub(super) fn start_page(&mut self, context: &mut Context) {
        let stderr = context.lookups.stderr();
        let listeners = self.listeners.iter();
        let start = ToAdmin::Start {
            tunnel: self.tunnel.as_str().to_owned(),
            listeners: listeners.map(|each| (each.address.into(), each.exposure)).collect(),
            names: self.settings.names.clone(),
            proxy: self.settings.proxy.clone(),
            certificate: self.certificate.as_ref().map(|(certificate, _)| certificate.clone()),
            accounts: self.accounts.clone(),
            urls: listeners::urls(&self.listeners, &self.settings),
            is_sandboxed: self.is_sandboxed,
        };
        self.page_restart.handle_start(context.now);
        self.generation = self.generation.wrapping_add(1);
        self.is_show_due = false;
        match Page::start(&mut context.nursery, stderr, &start, &self.listeners) {
            Ok(page) => {
                self.page = Some(page);
                // apart, since all of it may be longer than a message
                self.tell(&ToAdmin::Tokens(self.tokens.clone()), Vec::new());
            }
            Err(error) => {
                warn!(%error, "cannot start the process of the admin page; trying again later");
                self.page_restart.schedule(context.now);
            }
        }
    }

    pub(super) fn start_editor(&mut self, context: &Context) {
        self.editor_restart.handle_start(context.now);
        match Editor::start(&mut self.editor_nursery, context.lookups.stderr(), &self.editor_start) {
            Ok(editor) => self.editor = Some(editor),
            Err(error) => {
                warn!(%error, "cannot start the process that edits the file; trying again later");
                self.editor_restart.schedule(context.now);
            }
        }
    }

    /// Sends a message to the page; `None` if its process has ended.
    pub(super) fn tell(&mut self, message: &ToAdmin, descriptors: Vec<OwnedFd>) -> Option<()> {
        self.page.as_mut()?.send(message, descriptors).ok()
    }

    /// Puts tokens of the API in force.
    pub(super) fn set_tokens(&mut self, tokens: TokensText) {
        self.tell(&ToAdmin::Tokens(tokens.clone()), Vec::new());
        self.tokens = tokens;
    }

    fn tell_editor(&mut self, message: &ToEditor) {
        if let Some(editor) = &mut self.editor {
            // its end is noticed by its channel
            let _ = editor.send(message, Vec::new());
        }
    }

    /// Handles accounts that were read again.
    pub(super) fn handle_accounts(&mut self, result: Result<AccountsText, ErrorMessage>) {
        match result {
            Ok(accounts) if accounts == self.accounts => {}
            Ok(accounts) => {
                info!("the accounts of the admin page were changed by a command");
                self.accounts = accounts.clone();
                self.tell(&ToAdmin::Accounts(accounts), Vec::new());
            }
            Err(error) => warn!(
                error = error.into_string(),
                "the accounts of the admin page were not read again: the previous ones are used"
            ),
        }
    }

    /// Returns the links with a token, one for each address.
    pub(super) fn links(&self, token: &Token) -> Vec<String> {
        let token = token.to_hex();
        let urls = listeners::urls(&self.listeners, &self.settings);
        urls.iter().map(|url| format!("{url}/link#{}", *token)).collect()
    }

    /// Handles a certificate that was read again.
    pub(super) fn handle_certificate(&mut self, result: CertificateResult) {
        match result {
            Ok(certificate) if Some(&certificate) == self.certificate.as_ref() => {}
            Ok((text, fingerprint)) if self.certificate.is_some() => {
                info!(sha256 = %fingerprint, "the admin page has another certificate");
                self.certificate = Some((text.clone(), fingerprint));
                self.tell(&ToAdmin::Certificate(text), Vec::new());
            }
            Ok(_) => {
                warn!("the certificate of the admin page can be used now: restart the tunnel to serve it");
            }
            Err(error) => warn!(
                error = error.into_string(),
                "the certificate of the admin page was not read again: the previous one is used"
            ),
        }
    }
}
