//! The commands.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::admin_page::AdminPageOptions;
use super::enroll::CodeArgument;
use super::options::{
    PlainOptions, RunningTunnel, ServerFolder, SocketFolder, TunOption, TunnelOptions, WireGuardOptions,
    interval,
};
use super::peer::{PeerCommand, expiry};
use crate::config::peer_settings::Expiry;
use crate::config::{AllowedNetwork, ApiScope, OwnerName, TokenName, TunName};
use crate::server::InitOptions;
use crate::server::import::Import;

/// Commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the WireGuard server described by DIR/tun0.conf; create the file first if there is none
    Serve {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
        /// Options of the server.
        #[command(flatten)]
        server: InitOptions,
        /// Options of the admin page.
        #[command(flatten)]
        admin: Box<AdminPageOptions>,
        /// Enrol devices that were invited by 'wontun peer invite'
        ///
        /// A process answers at UDP port 41820 of the tunnel's own addresses, inside the tunnel
        /// only, and nothing else can be reached with an invitation.
        #[arg(long, env = "WONTUN_INVITATIONS", value_parser = clap::builder::FalseyValueParser::new())]
        invitations: bool,
        /// Options of the tunnel.
        #[command(flatten)]
        options: WireGuardOptions,
        /// Options that all tunnels have.
        #[command(flatten)]
        common: TunnelOptions,
    },
    /// Add, list, show, change, remove, reset or rename clients of the server
    ///
    /// Changes DIR/tun0.conf and the running tunnel.
    Peer {
        /// Subcommand.
        #[command(subcommand)]
        command: PeerCommand,
    },
    /// Enrol this device with the code of an invitation, and write its configuration
    ///
    /// Makes the device's own keys here, connects to the server with the one-time key in the code,
    /// has its own public key put in the place of that one, and writes a file for wg-quick and
    /// wontun. Needs no privilege and no TUN device. A code can be used once.
    Enroll {
        /// Code, as 'wontun peer invite' prints it, or '-' to read it from standard input, which
        /// keeps it out of the list of processes and the shell's history
        #[arg(value_name = "CODE")]
        code: CodeArgument,

        /// Name of the tunnel, for the default of --out
        #[arg(value_name = "NAME", default_value = "wg0")]
        name: TunName,

        /// Write the configuration to this new file, with mode 0600 [default: NAME.conf in the
        /// present folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,

        /// Time to wait for each address of the server, 0.1 to 3600
        #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = interval)]
        timeout: Duration,
    },
    /// Sign in to the admin page of the running server ('serve --admin'), and tokens of its API
    Admin {
        /// Subcommand.
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Create the key and configuration file of a WireGuard server, DIR/tun0.conf
    ///
    /// Runs nothing. An existing file keeps its key; --endpoint and --dns are updated in it.
    Init {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
        /// Options of the server.
        #[command(flatten)]
        server: InitOptions,
    },
    /// Create DIR/tun0.conf from a file of wg-quick or wg-easy
    ///
    /// Keys and addresses are kept, so that existing clients continue to work. Commands in the file
    /// are never run. Differences in behaviour are reported.
    Import {
        /// The file, and settings that it may lack.
        #[command(flatten)]
        file: Import,

        /// Write nothing, and print the resulting file without its secrets
        #[arg(long)]
        dry_run: bool,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Check a configuration file, and show what its tunnel would set up on this host
    ///
    /// Lists all errors of the file at once. Changes nothing, looks up no names and needs no
    /// privilege. Give the options that the tunnel is started with. The exit code is 78 if there is
    /// an error.
    Check {
        /// The file [default: that of the server, /etc/wontun/tun0.conf]
        #[arg(value_name = "FILE", env = "WONTUN_CONFIG")]
        file: Option<PathBuf>,

        /// Name of the TUN device.
        #[command(flatten)]
        tun: TunOption,

        /// Options of the tunnel.
        #[command(flatten)]
        options: WireGuardOptions,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for what keeps a tunnel on this host from working, and say what to do
    ///
    /// Looks at /dev/net/tun, the capability, the kernel's features, the UDP port, forwarding,
    /// firewalls, the clock, DNS and the paths to the endpoints. Changes nothing. What this user
    /// cannot look at is said. Give the options that the tunnel is started with. The exit code is 1
    /// if there is a problem.
    Doctor {
        /// The configuration file [default: that of the server, /etc/wontun/tun0.conf, if there is
        /// one]
        #[arg(value_name = "FILE", env = "WONTUN_CONFIG")]
        file: Option<PathBuf>,

        /// Name of the TUN device.
        #[command(flatten)]
        tun: TunOption,

        /// Options of the tunnel.
        #[command(flatten)]
        options: WireGuardOptions,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one screen about the running tunnels: what is up, and what to do where it is not
    ///
    /// Peers with their latest handshakes, transfer, kill switch, DNS, problems. For people:
    /// scripts use 'show --json' and 'health'. The exit code is 1 if no tunnel runs.
    Status {
        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,

        /// Additional folder of control sockets.
        #[command(flatten)]
        folder: SocketFolder,

        /// Name of the tunnel [default: that of --tun or --config, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,
    },
    /// Show running WireGuard tunnels: peers, endpoints, handshakes, transfer, drops by reason
    ///
    /// Never shows a secret.
    Show {
        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,

        /// Additional folder of control sockets.
        #[command(flatten)]
        folder: SocketFolder,

        /// Name of the tunnel [default: that of --tun, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Display a running WireGuard tunnel on this terminal: peers, rates, handshakes, drops
    Top {
        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,

        /// Additional folder of control sockets.
        #[command(flatten)]
        folder: SocketFolder,

        /// Name of the tunnel [default: that of --tun, or the only one, or a list to choose from]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// Refresh interval, 0.1 to 3600
        #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
        interval: Duration,
    },
    /// Check the health of a running tunnel: exit code 0 if healthy, else 1
    Health {
        /// Name of the tunnel [default: that of --tun or --config, tun0, or the only one that runs]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,

        /// Fail also if no peer has completed a handshake within this time, in seconds
        #[arg(long, env = "WONTUN_MAX_HANDSHAKE_AGE", value_name = "SECONDS")]
        max_handshake_age: Option<u32>,
    },
    /// Reload the configuration of a running tunnel
    ///
    /// The tunnel reads its file again, applies the differences, and restores its addresses,
    /// routes, rules and tables on the host, as on SIGHUP. The exit code is 0 if the file was read
    /// and the tunnel is healthy afterwards, else 1.
    Reload {
        /// Name of the tunnel [default: that of --tun or --config, tun0, or the only one that runs]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,
    },
    /// End a running tunnel, and wait until it has ended
    ///
    /// As SIGTERM: what the tunnel has set on the host is undone. A tunnel that systemd, wg-quick
    /// or a container engine runs is left alone, and the command that ends it is printed.
    Down {
        /// Name of the tunnel [default: that of --tun or --config, or the only one that runs]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,

        /// Additional folder of control sockets.
        #[command(flatten)]
        folder: SocketFolder,
    },
    /// Engage the kill switch of a tunnel before the tunnel runs, or remove it
    KillSwitch {
        /// Subcommand.
        #[command(subcommand)]
        command: KillSwitchCommand,
    },
    /// Own a network namespace for containers that share it, without any right
    ///
    /// The tunnel's container and others share the network of the container that runs this, and
    /// keep it while the tunnel's container is restarted or replaced. Drops all privileges, and
    /// waits for SIGTERM.
    Hold {
        /// Engage the kill switch of the tunnel NAME first: no container sends anything past it,
        /// even before the tunnel runs for the first time. Needs CAP_NET_ADMIN, which is dropped
        /// then
        #[arg(long, value_name = "NAME")]
        kill_switch_for: Option<TunName>,

        /// Network that the kill switch does not block; repeatable. Give the tunnel the same
        /// networks
        #[arg(long, env = "WONTUN_KILL_SWITCH_ALLOW", value_name = "CIDR", value_delimiter = ',')]
        kill_switch_allow: Vec<AllowedNetwork>,
    },
    /// Same as 'kill-switch off'
    #[command(hide = true)]
    Unlock {
        /// Name of the tunnel [default: that of --tun or --config, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,
    },
    /// Run a tunnel that does not encrypt or authenticate anything
    ///
    /// For labs and trusted networks: the server, or with --peer its client.
    Plain {
        /// Name of the TUN device.
        #[command(flatten)]
        tun: TunOption,
        /// Options of the tunnel.
        #[command(flatten)]
        plain: PlainOptions,
        /// Options of other tunnels: an error if set.
        #[command(flatten)]
        options: WireGuardOptions,
        /// Options that all tunnels have.
        #[command(flatten)]
        common: TunnelOptions,
    },
    /// Print a new private key
    Genkey,
    /// Read a private key from standard input and print its public key
    Pubkey,
    /// Print a new preshared key
    Genpsk,
    /// Print a completion script for a shell
    ///
    /// For bash: wontun completions bash > /etc/bash_completion.d/wontun
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: Shell,
    },
}

/// Subcommands of `wontun admin`.
#[derive(Clone, Debug, Subcommand)]
pub enum AdminCommand {
    /// Print a link that signs in once, within 15 minutes
    ///
    /// For the first visit, which sets the password, and when the password is lost. An earlier link
    /// that was not used is void.
    Link {
        /// Make the link of this owner of clients, who sees and renews these alone
        #[arg(long, value_name = "OWNER")]
        owner: Option<OwnerName>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Remove the account of an owner of clients; sessions end at once
    ///
    /// The clients stay as they are: 'wontun peer disable' ends their access.
    Remove {
        /// Name of the owner
        #[arg(value_name = "OWNER")]
        owner: OwnerName,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Make, list and remove tokens of the admin page's API
    Token {
        /// Subcommand.
        #[command(subcommand)]
        command: TokenCommand,
    },
}

/// Subcommands of `wontun admin token`.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print its secret, which is shown only now
    ///
    /// Give it as 'Authorization: Bearer SECRET' with requests to the admin page, below /api/v1/.
    /// Its hash is kept in DIR/tun0.admin-tokens.
    Add {
        /// Name, by which the log and the list of changes tell who has made one
        #[arg(value_name = "NAME")]
        name: TokenName,

        /// Rights: read (peers, their state, settings; never a key), peers (add, change and remove
        /// them, too), settings (change those of the server, too); repeatable
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "read")]
        scope: Vec<ApiScope>,

        /// End: a date such as 2026-12-31, its last day in UTC, a time, or a duration such as 90d
        #[arg(long, value_name = "WHEN", value_parser = expiry)]
        expires: Option<Expiry>,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// List the tokens with their rights, creation and end
    List {
        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
    /// Remove a token, which ends at once
    Remove {
        /// Name
        #[arg(value_name = "NAME")]
        name: TokenName,

        /// Folder of the server.
        #[command(flatten)]
        folder: ServerFolder,
    },
}

/// Subcommands of `wontun kill-switch`.
#[derive(Clone, Debug, Subcommand)]
pub enum KillSwitchCommand {
    /// Block all traffic of this host except through the tunnel, which need not run yet
    ///
    /// Meant for the boot, before any network is up.
    On {
        /// Name of the tunnel
        #[arg(value_name = "NAME")]
        name: TunName,

        /// Network that is not blocked; repeatable. Give the tunnel the same networks by
        /// --kill-switch-allow
        #[arg(long, value_name = "CIDR", value_delimiter = ',')]
        allow: Vec<AllowedNetwork>,

        /// As --allow
        #[arg(
            long,
            env = "WONTUN_KILL_SWITCH_ALLOW",
            value_name = "CIDR",
            value_delimiter = ',',
            hide = true
        )]
        kill_switch_allow: Vec<AllowedNetwork>,

        /// Configuration file of the tunnel; its folder may hold the control socket
        #[arg(long, env = "WONTUN_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Remove the kill switch
    ///
    /// A running tunnel continues without a kill switch until its next start.
    Off {
        /// Name of the tunnel [default: that of --tun or --config, or all]
        #[arg(value_name = "NAME")]
        name: Option<TunName>,

        /// The running tunnel.
        #[command(flatten)]
        tunnel: RunningTunnel,
    },
}

/// A shell with completion scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// The GNU Bourne-Again Shell.
    Bash,
    /// The Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}
