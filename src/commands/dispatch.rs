//! Runs the command that the command line selects.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use super::locate::locate;
use super::{
    CheckOptions, CommandError, DoctorOptions, ServerTunnel, ShowOptions, TopOptions, add_peers, add_token,
    admin_link, admin_remove, check, completions, deliver_file, disable_peers, doctor, down, enroll, genkey,
    genpsk, hold, import, init, invite_peer, kill_switch_off, kill_switch_on, list_peers, list_tokens,
    prepare, pubkey, remove_peers, remove_token, rename_peer, renew_peer, reset_peer, set_peer, show,
    show_peer, status, test_peer, top,
};
use crate::cli::{
    AdminCommand, Command, DEFAULT_FOLDER, KillSwitchCommand, PeerCommand, RunOptions, RunningTunnel,
    SERVER_FOLDERS, ServerFolder, SocketFolder, TokenCommand, TunOption, TunnelKind,
};
use crate::config::{AllowedNetwork, ConfigError, KillSwitchMode, NatMode, TunName};
use crate::control::health::{self, Health};
use crate::exit::{self, Failure};
use crate::privileges::{self, setcap};
use crate::run::OnReady;
use crate::server::Folder;
use crate::uapi::UapiFolders;

/// Runs a command. For one that runs a tunnel, returns the tunnel to be run, and the
/// action once it is ready.
///
/// # Errors
/// The error of the command.
pub fn dispatch(command: Command) -> Result<Option<(RunOptions, OnReady)>, Failure> {
    privileges::hide_memory();
    match command {
        Command::Serve { folder, mut server, admin, invitations, mut options, common } => {
            setcap::refuse("wontun serve")?;
            // before a kill switch is engaged: a server must stay reachable for its administrators
            if options.full_tunnel.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off) {
                return Err(ConfigError::NotFullTunnel.into());
            }
            options.nat = options.nat.or(Some(NatMode::Auto));
            server.policy = options.policy;
            options.admin = admin.settings().map_err(ConfigError::from)?;
            options.invitations = invitations;
            let tun = folder.tun.clone();
            let ServerTunnel { config: path, greeting } = prepare(&server_folder(folder), &server)?;
            let run = RunOptions { tunnel: TunnelKind::File { path, tun, options }, common };
            return Ok(Some((run, greeting.map_or(OnReady::Nothing, OnReady::Print))));
        }
        Command::Plain { tun, plain, options, common } => {
            options.require_none()?;
            let tunnel = TunnelKind::Plain { tun: tun.tun, options: plain };
            return Ok(Some((RunOptions { tunnel, common }, OnReady::Nothing)));
        }
        Command::Health { name, tunnel, max_handshake_age } => {
            let age = max_handshake_age.map(|seconds| Duration::from_secs(seconds.into()));
            print_health(&health::ask(&running_tunnel(name, &tunnel)?, age)?);
        }
        Command::Reload { name, tunnel } => print_health(&health::reload(&running_tunnel(name, &tunnel)?)?),
        Command::Down { name, tunnel, folder } => {
            down(tunnel_name(name, &tunnel)?, &socket_folders(&folder, &tunnel))
                .map_err(CommandError::from)?;
        }
        Command::Show { tunnel, folder, name, json } => {
            let folders = socket_folders(&folder, &tunnel);
            show(&ShowOptions { name: name.or(tunnel.tun), folders, json })?;
        }
        Command::Status { tunnel, folder, name } => {
            status(tunnel_name(name, &tunnel)?, &socket_folders(&folder, &tunnel))?;
        }
        Command::Top { tunnel, folder, name, interval } => {
            let folders = socket_folders(&folder, &tunnel);
            top(TopOptions { name: name.or(tunnel.tun), folders, interval })?;
        }
        Command::Check { file, tun: TunOption { tun }, mut options, json } => {
            let file = match file {
                Some(file) => file,
                None => {
                    // as `wontun serve`
                    options.nat = options.nat.or(Some(NatMode::Auto));
                    locate(None, tun.clone())?.file()
                }
            };
            check(CheckOptions { file, tun, options, json })?;
        }
        Command::Doctor { file, tun: TunOption { tun }, mut options, json } => {
            let server = || locate(None, tun.clone()).ok().map(|folder| folder.file());
            let file = file.or_else(|| {
                options.nat = options.nat.or(Some(NatMode::Auto));
                server()
            });
            doctor(DoctorOptions { file, tun, options, json })?;
        }
        Command::Init { folder, server } => init(&server_folder(folder), &server)?,
        Command::Import { file, dry_run, folder } => import(&server_folder(folder), &file, dry_run)?,
        Command::Peer { command: PeerCommand::Test { folder, name, options } } => {
            if !test_peer(&existing_folder(folder)?, &name, options)? {
                return Err(Failure::new(exit::FAILURE, "the connection is denied: see the line above"));
            }
        }
        Command::Admin { command: AdminCommand::Link { owner, folder } } => {
            admin_link(&existing_folder(folder)?, owner.as_ref())?;
        }
        Command::Admin { command: AdminCommand::Remove { owner, folder } } => {
            admin_remove(&existing_folder(folder)?, &owner)?;
        }
        Command::Admin { command: AdminCommand::Token { command } } => match command {
            TokenCommand::Add { name, scope, expires, folder } => {
                add_token(&existing_folder(folder)?, name, scope, expires)?;
            }
            TokenCommand::List { folder } => list_tokens(&existing_folder(folder)?)?,
            TokenCommand::Remove { name, folder } => remove_token(&existing_folder(folder)?, &name)?,
        },
        Command::Enroll { code, name, out, timeout } => enroll(code, &name, out, timeout)?,
        Command::Peer { command } => dispatch_peer(command)?,
        Command::KillSwitch { command: KillSwitchCommand::On { name, allow, kill_switch_allow, config } } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let allowed = allow.iter().chain(&kill_switch_allow);
            let allowed: Vec<_> = allowed.map(|AllowedNetwork(network)| *network).collect();
            kill_switch_on(&name, &UapiFolders::new(config.as_deref().and_then(Path::parent)), &allowed)?;
        }
        Command::KillSwitch { command: KillSwitchCommand::Off { name, tunnel } }
        | Command::Unlock { name, tunnel } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let name = tunnel_name(name, &tunnel)?;
            let folder = tunnel.config.as_deref().and_then(Path::parent);
            kill_switch_off(name.as_ref(), &UapiFolders::new(folder))?;
        }
        Command::Hold { kill_switch_for, kill_switch_allow } => {
            if kill_switch_for.is_none() && !kill_switch_allow.is_empty() {
                return Err(ConfigError::NoKillSwitch.into());
            }
            let allowed: Vec<_> = kill_switch_allow.iter().map(|AllowedNetwork(network)| *network).collect();
            hold(kill_switch_for.as_ref(), &allowed)?;
        }
        Command::Genkey => genkey()?,
        Command::Pubkey => pubkey()?,
        Command::Genpsk => genpsk()?,
        Command::Completions { shell } => completions(shell)?,
    }
    Ok(None)
}

/// Returns the name of a running tunnel, if one is selected: NAME, --tun, or the name of --config.
fn tunnel_name(name: Option<TunName>, tunnel: &RunningTunnel) -> Result<Option<TunName>, Failure> {
    let of_file = || tunnel.config.as_deref().map(TunName::of_file).transpose();
    Ok(name.or_else(|| tunnel.tun.clone()).map_or_else(of_file, |name| Ok(Some(name)))?)
}

/// Returns the name of the running tunnel that a command refers to: the selected one, or the only
/// one.
fn running_tunnel(name: Option<TunName>, tunnel: &RunningTunnel) -> Result<TunName, Failure> {
    Ok(tunnel_name(name, tunnel)?.map_or_else(health::select_tunnel, Ok)?)
}

fn print_health(Health { line, warnings }: &Health) {
    // a reader that has closed the pipe still has the exit code
    let _ = writeln!(io::stdout(), "{line}");
    for warning in warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// Returns the folders in which the sockets of tunnels may be.
fn socket_folders(folder: &SocketFolder, tunnel: &RunningTunnel) -> UapiFolders {
    match (&tunnel.config, &folder.dir) {
        (Some(file), _) => UapiFolders::new(file.parent()),
        (None, Some(dir)) => UapiFolders::new([dir.as_path()]),
        (None, None) => UapiFolders::new(SERVER_FOLDERS.map(Path::new)),
    }
}

/// Returns the folder of a server that may be new.
fn server_folder(ServerFolder { dir, tun }: ServerFolder) -> Folder {
    Folder::new(dir.unwrap_or_else(|| DEFAULT_FOLDER.into()), tun.unwrap_or_default())
}

/// Returns the folder of a server that exists.
fn existing_folder(ServerFolder { dir, tun }: ServerFolder) -> Result<Folder, CommandError> {
    locate(dir, tun)
}

fn dispatch_peer(command: PeerCommand) -> Result<(), CommandError> {
    match command {
        PeerCommand::Add { folder, options } => add_peers(&existing_folder(folder)?, *options),
        PeerCommand::Invite { folder, options } => invite_peer(&existing_folder(folder)?, *options),
        PeerCommand::List { folder, json } => list_peers(&existing_folder(folder)?, json),
        PeerCommand::Show { folder, name, file: true, delivery, .. } => {
            deliver_file(&existing_folder(folder)?, &name, &delivery)
        }
        PeerCommand::Show { folder, name, json, .. } => show_peer(&existing_folder(folder)?, &name, json),
        PeerCommand::Renew { folder, name, options } => renew_peer(&existing_folder(folder)?, &name, options),
        PeerCommand::Test { folder, name, options } => {
            test_peer(&existing_folder(folder)?, &name, options).map(drop)
        }
        PeerCommand::Reset { folder, name } => reset_peer(&existing_folder(folder)?, &name),
        PeerCommand::Remove { folder, names } => remove_peers(&existing_folder(folder)?, &names),
        PeerCommand::Disable { folder, names } => disable_peers(&existing_folder(folder)?, &names, true),
        PeerCommand::Enable { folder, names } => disable_peers(&existing_folder(folder)?, &names, false),
        PeerCommand::Set { folder, name, options } => set_peer(&existing_folder(folder)?, &name, *options),
        PeerCommand::Rename { folder, name, new_name } => {
            rename_peer(&existing_folder(folder)?, &name, &new_name)
        }
    }
}
