//! Delivers the files of clients: on standard output, to files of their own, as QR codes.

use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, poll};
use zeroize::Zeroizing;

use crate::cli::{DeliveryOptions, InviteOptions};
use crate::commands::error::CommandError;
use crate::commands::output::{print_secret, stdout, write};
use crate::config::PeerName;
use crate::enroll::code::InvitationCode;
use crate::server::peers::AddedPeer;
use crate::server::{QrCode, ServerError, create_secret, create_unsynced, sync_all_in};
use crate::uapi::SecretText;

/// Time for an answer on the terminal, in ms.
const ANSWER_TIME: u16 = 10_000;

/// Destination of the files of clients.
#[derive(Debug)]
pub(super) struct Delivery {
    /// File of the client, or folder of several clients' files; `None` for standard output.
    out: Option<PathBuf>,
    /// True to print the files as QR codes.
    qr: bool,
    /// True to print the files as text even if QR codes are.
    text: bool,
    qr_file: Option<PathBuf>,
    is_only_copy: bool,
}

/// The file of a client.
#[derive(Debug)]
pub(super) struct ClientText {
    pub(super) name: String,
    pub(super) text: Zeroizing<Vec<u8>>,
}

/// Files that are ready to be delivered. The created ones are removed when this is dropped, unless
/// they are kept.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The text for standard output.
    text: Option<Zeroizing<Vec<u8>>>,
    /// QR codes, with the names of the clients.
    codes: Vec<(String, QrCode)>,
    /// The text that is shown on request after the codes.
    offered: Option<Zeroizing<Vec<u8>>>,
    created: Vec<PathBuf>,
    is_terminal: bool,
    is_only_copy: bool,
}

impl ClientText {
    /// Returns the file of a client.
    pub(super) fn new(AddedPeer { peer, client }: &AddedPeer) -> Result<Self, ServerError> {
        let name = peer.name.clone().ok_or_else(|| ServerError::Edit(PathBuf::new()))?;
        Ok(Self { name: name.into(), text: client.to_text() })
    }

    /// Returns the code of an invitation, or its link to the page at `page`, in a line.
    pub(super) fn of_code(name: PeerName, code: &InvitationCode, page: Option<&str>) -> Self {
        let mut text = SecretText::default();
        match page {
            Some(page) => {
                text.push(page.as_bytes());
                text.push(b"/invite#");
                text.push(code.secret.to_token().as_bytes());
            }
            None => text.push(code.to_text().as_bytes()),
        }
        text.push(b"\n");
        Self { name: name.into(), text: text.into_inner() }
    }
}

impl Delivery {
    /// Reads the options. `is_only_copy` is true if the private keys are nowhere else.
    pub(super) fn new(options: &DeliveryOptions, is_only_copy: bool) -> Self {
        let DeliveryOptions { out, qr, text, qr_file } = options.clone();
        Self { out, qr, text, qr_file, is_only_copy }
    }

    /// Returns true if a QR code is to be made.
    pub(super) const fn has_code(&self) -> bool {
        self.qr || self.qr_file.is_some()
    }

    /// Reads the options of an invitation, whose code is printed as text in any case.
    pub(super) fn of_code(options: &InviteOptions) -> Self {
        let InviteOptions { out, qr, qr_file, .. } = options;
        Self { out: out.clone(), qr: *qr, text: true, qr_file: qr_file.clone(), is_only_copy: false }
    }

    /// Does everything that can fail, except for writing to standard output.
    ///
    /// # Errors
    /// [`ServerError`]: a file exists or cannot be created, or a text is too long for a QR code. No
    /// file was left.
    pub(super) fn prepare(&self, clients: Vec<ClientText>) -> Result<Prepared, ServerError> {
        let is_terminal = io::stdout().is_terminal();
        let mut prepared = Prepared {
            text: None,
            codes: Vec::new(),
            offered: None,
            created: Vec::new(),
            is_terminal,
            is_only_copy: self.is_only_copy,
        };
        if self.has_code() {
            for client in &clients {
                prepared.codes.push((client.name.clone(), QrCode::new(&client.text)?));
            }
        }
        if let (Some(path), [(_, code), ..]) = (&self.qr_file, &prepared.codes[..]) {
            let svg = code.svg();
            prepared.create(path.clone(), &svg)?;
        }
        if !self.qr {
            prepared.codes.clear();
        }
        match &self.out {
            Some(out) => self.write_files(out, &clients, &mut prepared)?,
            // on a terminal the code is enough
            None if self.qr && is_terminal && !self.text => prepared.offered = Some(joined(&clients)),
            None => prepared.text = Some(joined(&clients)),
        }
        Ok(prepared)
    }

    fn write_files(
        &self,
        out: &Path,
        clients: &[ClientText],
        prepared: &mut Prepared,
    ) -> Result<(), ServerError> {
        if let ([client], false) = (clients, out.is_dir()) {
            return prepared.create(out.to_owned(), &client.text);
        }
        for client in clients {
            if client.name.contains('/') {
                return Err(ServerError::NoFileName(client.name.clone()));
            }
        }
        match DirBuilder::new().mode(0o700).create(out) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(ServerError::Write { path: out.to_owned(), source: error, remedy: "" });
            }
            _ => {}
        }
        for client in clients {
            let path = out.join(format!("{}.conf", client.name));
            create_unsynced(&path, &client.text)?;
            prepared.created.push(path);
        }
        // at once: a thousand files take as long as one
        sync_all_in(out)
    }
}

impl Prepared {
    fn create(&mut self, path: PathBuf, content: &[u8]) -> Result<(), ServerError> {
        create_secret(&path, content)?;
        self.created.push(path);
        Ok(())
    }

    /// Adds a file that was created, and is removed with the others.
    pub(super) fn add_created(&mut self, path: PathBuf) {
        self.created.push(path);
    }

    /// Prints what is to be printed.
    ///
    /// # Errors
    /// [`CommandError::Output`]: nobody has the clients' files.
    pub(super) fn print(&self) -> Result<(), CommandError> {
        if let Some(text) = &self.text {
            print_secret(text)?;
        }
        for (name, code) in &self.codes {
            let mut shown = SecretText::default();
            if self.codes.len() > 1 {
                shown.push(format!("{name}:\n").as_bytes());
            }
            shown.push(&code.terminal());
            if self.is_terminal {
                write(&mut stdout()?, shown.as_bytes())?;
            } else {
                io::stderr().write_all(shown.as_bytes()).map_err(CommandError::Output)?;
            }
        }
        if let Some(text) = &self.offered {
            offer(text, self.is_only_copy)?;
        }
        Ok(())
    }

    /// Keeps the created files.
    pub(super) fn keep(mut self) {
        self.created.clear();
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        for path in &self.created {
            let _ = fs::remove_file(path);
        }
    }
}

/// Prints the text after a QR code if somebody at the terminal wants it.
fn offer(text: &[u8], is_only_copy: bool) -> Result<(), CommandError> {
    let copy = if is_only_copy { "This code is the only copy of the client's private key. " } else { "" };
    if !io::stdin().is_terminal() {
        let _ = writeln!(io::stderr(), "wontun: {copy}--text prints the file, too, --out writes it");
        return Ok(());
    }
    write(&mut stdout()?, format!("{copy}Print the text, too? [y/N] ").as_bytes())?;
    let mut answer = String::new();
    // an answer that cannot be read is none; nobody can answer after `docker exec -t` without -i
    let stdin = io::stdin();
    let mut wanted = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wanted, ANSWER_TIME).is_ok_and(|ready| ready > 0) {
        let _ = stdin.read_line(&mut answer);
    } else {
        write(&mut stdout()?, b"\n")?;
    }
    let is_yes = ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes));
    if is_yes { print_secret(text) } else { Ok(()) }
}

/// Returns the files of the clients in one text. Of several, each begins with a comment that has
/// the client's name.
fn joined(clients: &[ClientText]) -> Zeroizing<Vec<u8>> {
    let mut text = SecretText::default();
    for (index, client) in clients.iter().enumerate() {
        if clients.len() > 1 {
            let gap = if index == 0 { "" } else { "\n" };
            text.push(format!("{gap}# Name = {}\n", client.name).as_bytes());
        }
        text.push(&client.text);
    }
    text.into_inner()
}
