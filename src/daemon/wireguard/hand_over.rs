//! The sessions as a file for another process, and back.
//!
//! The file contains records of the engine, each after its length (4 bytes, little-endian): that of
//! the interface, one for each peer, and one of length 0. The accounts of the peers' traffic follow
//! in the same form, [`ACCOUNTS_PER_RECORD`] in each; an earlier version neither writes nor reads
//! them.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{SealFlags, fcntl_add_seals};
use zeroize::Zeroizing;

use super::ledger::Account;
use super::tunnel::WireGuard;
use crate::daemon::core::Core;
use crate::daemon::error::DaemonError;
use crate::daemon::sockets_in_use::Connected;
use crate::daemon::token::Token;
use crate::messages::ConnectedSocket;
use crate::net::udp::UdpSocket;
use crate::process::{CodecError, MAX_MESSAGE, decode, encode};
use wontun_proto::wireguard::{ImportError, MAX_RECORD, PeerId, PublicKey};

/// Length of the length of a record, in bytes.
const PREFIX: usize = 4;
/// Maximum number of accounts in a record, which is a message of at most [`MAX_MESSAGE`] bytes.
const ACCOUNTS_PER_RECORD: usize = 256;

/// Reason why sessions are not continued.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandOverError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    File(#[from] io::Error),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the interface has no private key")]
    NoKey,
}

impl WireGuard {
    /// Writes the sessions to `to`, which is sealed then. Returns the connected sockets of the
    /// peers.
    ///
    /// # Errors
    /// [`HandOverError`].
    pub(super) fn export_sessions(
        &self,
        core: &Core,
        to: OwnedFd,
    ) -> Result<Vec<(ConnectedSocket, Arc<UdpSocket>)>, HandOverError> {
        let mut file = File::from(to);
        let mut buffer = Zeroizing::new(vec![0; PREFIX + MAX_RECORD]);
        write_record(&mut file, &mut buffer, |room| self.engine.export(core.now, room))?;
        for id in self.engine.peer_ids() {
            write_record(&mut file, &mut buffer, |room| self.engine.export_peer(id, room))?;
        }
        file.write_all(&[0; PREFIX])?;
        self.export_accounts(&mut file)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).map_err(io::Error::from)?;
        let describe = |connected: &Connected<PeerId>| {
            let described = ConnectedSocket {
                peer: *self.engine.peer(connected.owner)?.public_key(),
                worker: u16::try_from(connected.worker).unwrap_or(u16::MAX),
                remote: connected.remote.into(),
                local: connected.local,
                has_gso: connected.socket.has_gso(),
            };
            Some((described, Arc::clone(&connected.socket)))
        };
        Ok(self.sockets.all_connected().filter_map(describe).collect())
    }

    /// Continues the sessions in `from`, and returns the number of peers that have some.
    ///
    /// # Errors
    /// [`HandOverError`]: none is continued.
    pub(super) fn import_sessions(
        &mut self,
        core: &mut Core,
        from: OwnedFd,
        sockets: Vec<(ConnectedSocket, OwnedFd)>,
    ) -> Result<u32, HandOverError> {
        let imported = self.import_records(core, &File::from(from)).inspect_err(|_| {
            // none of them, rather than some
            self.engine.handle_suspended(Duration::ZERO, core.now);
        })?;
        for (described, descriptor) in sockets {
            self.adopt_socket(core, described, descriptor)?;
        }
        let mut count = 0;
        for id in imported {
            self.report_endpoint(core, id);
            self.report_path(core, id);
            count += u32::from(self.engine.peer(id).is_some_and(|peer| peer.has_session(core.now)));
        }
        self.adopt_connections(core);
        self.state_reports.schedule_comparison(core.now);
        self.connect_peers(core)?;
        Ok(count)
    }

    fn import_records(&mut self, core: &Core, file: &File) -> Result<Vec<PeerId>, HandOverError> {
        let mut buffer = Zeroizing::new(vec![0; MAX_RECORD]);
        let mut offset = 0;
        let interface = read_record(file, &mut offset, &mut buffer)?;
        self.engine.import(interface, core.now)?;
        let mut imported = Vec::new();
        loop {
            let record = read_record(file, &mut offset, &mut buffer)?;
            if record.is_empty() {
                break;
            }
            imported.extend(self.engine.import_peer(record, core.now)?);
        }
        // without an account of the other process's, its traffic since its last report is not
        // counted
        for id in &imported {
            let entered = self.engine.peer(*id).map(|peer| peer.transfer()).unwrap_or_default();
            self.ledger.restore(*id, Account { entered, ..self.ledger.get(*id) });
        }
        self.import_accounts(file, &mut offset)?;
        self.apply_quotas(core);
        Ok(imported)
    }

    /// Writes the accounts of the peers that have one.
    fn export_accounts(&self, file: &mut File) -> Result<(), HandOverError> {
        let ids: Vec<_> =
            self.engine.peer_ids().filter(|id| self.ledger.get(*id) != Account::default()).collect();
        for ids in ids.chunks(ACCOUNTS_PER_RECORD) {
            let account = |id: &PeerId| Some((*self.engine.peer(*id)?.public_key(), self.ledger.get(*id)));
            let accounts: Vec<(PublicKey, Account)> = ids.iter().filter_map(account).collect();
            let record = encode(&accounts)?;
            file.write_all(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            file.write_all(&record)?;
        }
        file.write_all(&[0; PREFIX])?;
        Ok(())
    }

    /// Reads the accounts, as far as the other process has written some that can be read: the
    /// sessions are more important.
    fn import_accounts(&mut self, file: &File, offset: &mut u64) -> Result<(), HandOverError> {
        let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
        loop {
            let record = match read_record(file, offset, &mut buffer) {
                Ok([]) | Err(HandOverError::Import(ImportError::Malformed)) => return Ok(()),
                read => read?,
            };
            let Ok(accounts) = decode::<Vec<(PublicKey, Account)>>(record) else { return Ok(()) };
            for (key, account) in accounts {
                if let Some(id) = self.engine.peer_id(&key) {
                    self.ledger.restore(id, account);
                }
            }
        }
    }

    /// Uses a connected socket of the other process, if the peer is still at that address.
    fn adopt_socket(
        &mut self,
        core: &mut Core,
        described: ConnectedSocket,
        descriptor: OwnedFd,
    ) -> Result<(), HandOverError> {
        let ConnectedSocket { peer, worker, remote, local, has_gso } = described;
        let (worker, remote) = (usize::from(worker), SocketAddr::from(remote));
        let Some(id) = self.engine.peer_id(&peer).filter(|_| worker < core.worker_count()) else {
            return Ok(());
        };
        if self.sockets.connected(id).is_some() {
            return Ok(());
        }
        let socket = UdpSocket::from_parts(descriptor, has_gso);
        self.sockets.add_connected(id, worker, remote, local, socket);
        self.connected_at.insert(id, core.now);
        if let Some(connected) = self.sockets.connected(id) {
            core.register(worker, connected.socket.as_ref(), Token::Socket(connected.id))?;
        }
        // datagrams may have arrived before it was registered
        core.post_to(worker, self.sockets.connected(id).map_or(Token::Wake, |each| Token::Socket(each.id)));
        let endpoint = self.engine.peer(id).and_then(|peer| peer.endpoint());
        if endpoint.is_none_or(|endpoint| !self.sockets.connected(id).is_some_and(|it| it.is_for(endpoint))) {
            self.disconnect(core, id);
        }
        Ok(())
    }
}

/// Writes the record that `export` writes into the given room, after its length.
fn write_record(
    file: &mut File,
    buffer: &mut [u8],
    export: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Result<(), HandOverError> {
    let Some((prefix, room)) = buffer.split_first_chunk_mut::<PREFIX>() else {
        return Err(HandOverError::NoKey);
    };
    let len = export(room).ok_or(HandOverError::NoKey)?;
    *prefix = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    file.write_all(buffer.get(..PREFIX + len).unwrap_or_default())?;
    Ok(())
}

/// Reads the record at `offset` into `buffer`, and advances `offset`.
fn read_record<'b>(file: &File, offset: &mut u64, buffer: &'b mut [u8]) -> Result<&'b [u8], HandOverError> {
    let mut prefix = [0; PREFIX];
    file.read_exact_at(&mut prefix, *offset).map_err(truncated)?;
    let len = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    let record = buffer.get_mut(..len).ok_or(ImportError::Malformed)?;
    *offset += PREFIX as u64;
    file.read_exact_at(record, *offset).map_err(truncated)?;
    *offset += len as u64;
    Ok(record)
}

/// Returns the error of a file that ends too early, or of the kernel.
fn truncated(error: io::Error) -> HandOverError {
    if error.kind() == io::ErrorKind::UnexpectedEof { ImportError::Malformed.into() } else { error.into() }
}
