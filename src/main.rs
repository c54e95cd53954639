//! The entry point: parses the command line, opens what the tunnel needs, drops capabilities, and
//! runs it.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tracing::{error, info, warn};

use wontun::background;
use wontun::cli::{Cli, Command, Dir, KillSwitchCommand, Missing, PeerCommand, Run, Server};
use wontun::commands::{self, AddOptions, CommandError, ShowOptions, TopOptions};
use wontun::config::wg_quick::{Hooks, LoadError};
use wontun::config::{
    AllowedNetwork, Config, ConfigError, FileNameError, KillSwitchMode, KillSwitchOptions, NatMode,
    PeerAddress, TunName, link_local, unknown_variables,
};
use wontun::control::health::{self, Health};
use wontun::control::notify::Notifier;
use wontun::logging::{self, Logging, Target};
use wontun::metrics::MetricsError;
use wontun::net::descriptor_limit;
use wontun::net::tun::TunError;
use wontun::netlink::LinkError;
use wontun::privileges::{self, Identity, PrivilegeError, setcap};
use wontun::sandbox::{Confinement, Report, Sandbox, State};
use wontun::server::import::{Import, ImportError};
use wontun::server::{Folder, Initial, SetupError};
use wontun::supervisor::{
    ConfigFile, EngagedKillSwitch, Mode, PendingKillSwitch, Plain, SocketsError, StartOptions, Starting,
    Supervisor, SupervisorError, WireGuard,
};
use wontun::uapi::UapiFolders;
use wontun::{daemon, process, resolver};

/// Exit codes, as in sysexits.h.
mod exit {
    pub(super) const OTHER: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const NO_PERMISSION: u8 = 77;
    pub(super) const CONFIG: u8 = 78;
}

/// Maximum time for writing the line about the stop, before the tunnel process writes its last
/// ones.
const ONE_LINE: Duration = Duration::from_millis(5);
/// Maximum time for writing the last lines: a stopped reader of the log must not delay the exit.
const LAST_LINES: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    if let Some((role, channel)) = process::helper_role() {
        return ExitCode::from(match role.as_str() {
            "tunnel" => daemon::main(channel),
            "resolver" => resolver::main(channel),
            _ => exit::USAGE,
        });
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    if let Some(message) = cli.refusal() {
        return fail(exit::USAGE, message);
    }
    match cli.command {
        Some(Command::Plain { plain }) => {
            let options = Run { plain, ..cli.run };
            ExitCode::from(run(Cli { command: None, tun: cli.tun, run: options }, None))
        }
        Some(command) => match answer(command, cli.tun.clone(), &cli.run) {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some(config)) => serve(config, cli.tun, cli.run),
            Err(error) => {
                let code = match error.downcast_ref() {
                    Some(error) => command_code(error),
                    None if error.is::<PrivilegeError>() => exit::NO_PERMISSION,
                    None => exit::OTHER,
                };
                fail(code, one_line(&error))
            }
        },
        None if cli.run.interface.is_some() && !cli.run.foreground => into_background(&cli),
        None => ExitCode::from(run(cli, None)),
    }
}

/// Runs a command that does not run a tunnel; for one that does, returns the configuration of the
/// tunnel to be run. `config` determines the folder of a tunnel's socket, and its name.
fn answer(command: Command, tun: Option<TunName>, options: &Run) -> anyhow::Result<Option<PathBuf>> {
    privileges::hide_memory();
    let config = options.config.as_deref();
    match command {
        Command::Health { name, max_handshake_age } => {
            let age = max_handshake_age.map(|seconds| Duration::from_secs(seconds.into()));
            print_health(&health::ask(&running_tunnel(name.or(tun), config)?, age)?);
        }
        Command::Reload { name } => print_health(&health::reload(&running_tunnel(name.or(tun), config)?)?),
        Command::Show { dir, name, json } => {
            commands::show(&ShowOptions { name: name.or(tun), folders: folders(&dir, config), json })?;
        }
        Command::Top { dir, name, interval } => {
            let folders = folders(&dir, config);
            commands::top(TopOptions { name: name.or(tun), folders, interval })?;
        }
        Command::Init { dir, server } => commands::init(&folder(dir, tun), &initial(server))?,
        Command::Import { file, dry_run, dir, missing } => {
            let Missing { endpoint, listen_port, dns } = missing;
            let listen_port = listen_port.and_then(NonZeroU16::new);
            let import = Import { source: file, endpoint, listen_port, dns };
            commands::import(&folder(dir, tun), &import, dry_run)?;
        }
        Command::Peer { dir, command } => peer(&folder(dir, tun), command)?,
        Command::Serve { dir, server } => {
            setcap::refuse("wontun serve")?;
            return Ok(Some(commands::prepare(&folder(dir, tun), &initial(server))?));
        }
        Command::KillSwitch { command: KillSwitchCommand::On { name, allow } } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let allowed: Vec<_> = allow
                .iter()
                .chain(&options.kill_switch_allow)
                .map(|AllowedNetwork(network)| *network)
                .collect();
            commands::lock(&name, &UapiFolders::new(config.and_then(Path::parent)), &allowed)?;
        }
        Command::KillSwitch { command: KillSwitchCommand::Off { name } } | Command::Unlock { name } => {
            setcap::refuse("wontun kill-switch")?;
            privileges::require_net_admin()?;
            let of_file = || config.map(TunName::of_file).transpose();
            let name = name.or(tun).map_or_else(of_file, |name| Ok(Some(name)))?;
            commands::unlock(name.as_ref(), &UapiFolders::new(config.and_then(Path::parent)))?;
        }
        // the caller runs it
        Command::Plain { .. } => {}
        Command::Genkey => commands::genkey()?,
        Command::Pubkey => commands::pubkey()?,
        Command::Genpsk => commands::genpsk()?,
    }
    Ok(None)
}

/// Runs the server that `config` describes: as with --config, with NAT for clients unless an option
/// says otherwise.
fn serve(config: PathBuf, tun: Option<TunName>, options: Run) -> ExitCode {
    // before a kill switch is engaged: a server must stay reachable for its administrators
    if options.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off) {
        return fail(exit::CONFIG, ConfigError::NotFullTunnel.to_string());
    }
    let options = Run { config: Some(config), nat: options.nat.or(Some(NatMode::Auto)), ..options };
    ExitCode::from(run(Cli { command: None, tun, run: options }, None))
}

/// Returns the name of the running tunnel that a command refers to.
fn running_tunnel(tun: Option<TunName>, config: Option<&Path>) -> anyhow::Result<TunName> {
    let of_file = || config.map(TunName::of_file).transpose();
    let tun = tun.map_or_else(of_file, |tun| Ok(Some(tun)))?;
    Ok(tun.map_or_else(health::choose, Ok)?)
}

fn print_health(Health { line, warnings }: &Health) {
    // a reader that has closed the pipe still has the exit code
    let _ = writeln!(io::stdout(), "{line}");
    for warning in warnings {
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
}

/// Returns the folders in which the sockets of tunnels may be.
fn folders(dir: &Dir, config: Option<&Path>) -> UapiFolders {
    UapiFolders::new(config.map_or(Some(dir.dir.as_path()), Path::parent))
}

fn folder(dir: Dir, tun: Option<TunName>) -> Folder {
    Folder::new(dir.dir, tun.unwrap_or_default())
}

fn initial(server: Server) -> Initial {
    let Server { endpoint, subnet, listen_port, dns, private_key_file } = server;
    Initial { endpoint, subnets: subnet, listen_port, dns, private_key_file }
}

fn peer(folder: &Folder, command: PeerCommand) -> Result<(), CommandError> {
    match command {
        PeerCommand::Add { name, full_tunnel, public_key, dns, qr, qr_file } => {
            commands::add_peer(folder, AddOptions { name, full_tunnel, public_key, dns, qr, qr_file })
        }
        PeerCommand::List { json } => commands::list_peers(folder, json),
        PeerCommand::Show { name, json } => commands::show_peer(folder, &name, json),
        PeerCommand::Remove { name } => commands::remove_peer(folder, &name),
        PeerCommand::Rename { name, new_name } => commands::rename_peer(folder, &name, &new_name),
    }
}

/// Returns the exit code of a command that failed.
const fn command_code(error: &CommandError) -> u8 {
    match error {
        CommandError::Import(ImportError::Exists(_)) => exit::OTHER,
        CommandError::Setup(error) | CommandError::Import(ImportError::Setup(error)) => match error {
            SetupError::PublicKey(_) | SetupError::Subnets(..) => exit::USAGE,
            SetupError::NotPermitted { .. } | SetupError::Owner { .. } => exit::NO_PERMISSION,
            SetupError::Load(_)
            | SetupError::NoFile(_)
            | SetupError::Different { .. }
            | SetupError::Note { .. }
            | SetupError::NoEndpoint(_)
            | SetupError::NoSubnet(_)
            | SetupError::Overlap { .. } => exit::CONFIG,
            _ => exit::OTHER,
        },
        CommandError::NotPermitted(_)
        | CommandError::Stranger { .. }
        | CommandError::Link(LinkError::Privilege { .. }) => exit::NO_PERMISSION,
        CommandError::Import(_) => exit::CONFIG,
        _ => exit::OTHER,
    }
}

/// Starts the tunnel in a new process, and returns the command's exit code once the tunnel is
/// ready.
fn into_background(cli: &Cli) -> ExitCode {
    // wg-quick, which sets this variable, passes the name of a file, and never -f
    let by_wg_quick = std::env::var_os("WG_QUICK_USERSPACE_IMPLEMENTATION").is_some();
    if let Some((name, command)) = cli.misspelled().filter(|_| !by_wg_quick) {
        let message = format!(
            "unknown command '{name}', did you mean '{command}'? to create an interface of that name, add -f"
        );
        return fail(exit::USAGE, message);
    }
    match background::start(in_background) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(exit::OTHER)),
        Err(error) => fail(exit::OTHER, format!("cannot go to the background: {error}")),
    }
}

/// Runs in the background process; `ready` reports that the tunnel is ready.
fn in_background(ready: OwnedFd) -> i32 {
    match Cli::read() {
        Ok(cli) => run(cli, Some(ready)).into(),
        // the foreground process has parsed the same command line
        Err(_) => exit::USAGE.into(),
    }
}

/// Runs a tunnel until its end, and returns the exit code.
fn run(cli: Cli, ready: Option<OwnedFd>) -> u8 {
    // stderr is not available once the process is in the background
    let target = match cli.run.log_target {
        Target::Auto if ready.is_some() && logging::has_journald() => Target::Journald,
        target => target,
    };
    let mut logging = logging::init(target, cli.run.log_level);
    let result = open_and_run(cli, ready, &mut logging);
    if let Err(error) = &result
        && logging.is_journald()
    {
        error!("{}", one_line(error));
    }
    logging.flush(LAST_LINES);
    match result {
        Ok(()) => 0,
        Err(error) if logging.covers_stderr() || is_told(&error) => exit_code(&error),
        Err(error) => {
            fail(exit_code(&error), one_line(&error));
            exit_code(&error)
        }
    }
}

fn open_and_run(cli: Cli, ready: Option<OwnedFd>, logging: &mut Logging) -> anyhow::Result<()> {
    // before anything is forked: a child must not send notifications
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        warn!(%error, "the service manager hears nothing of this tunnel");
        None
    });
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for unknown in unknown_variables(set, &Cli::variables()) {
        warn!("{unknown}");
    }
    let options = cli.run;
    if options.nat == Some(NatMode::Auto) {
        setcap::refuse("--nat auto")?;
    }
    if options.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off) {
        setcap::refuse("--kill-switch")?;
    }
    privileges::forbid_core_files();
    let named =
        options.config.as_deref().map(|file| name_and_lock(file, cli.tun.clone(), &options)).transpose()?;
    let confinement = Confinement {
        user: options.user.as_ref().map(Identity::look_up).transpose()?,
        is_sandboxed: !options.no_sandbox,
    };
    let tuning = options.tuning.tuning();
    descriptor_limit::raise(tuning.workers);
    let looks_up_names = match &options.plain.peer {
        _ if options.config.is_some() => true,
        Some(PeerAddress::Name { .. }) => options.interface.is_none(),
        Some(PeerAddress::Socket(_)) | None => false,
    };
    let count = options.resolver.len();
    let resolvers = resolver::Servers::try_from(options.resolver);
    let resolvers = resolvers.map_err(|_| ConfigError::Resolvers { count, limit: resolver::MAX_SERVERS })?;
    let start = StartOptions {
        confinement,
        tuning,
        looks_up_names,
        resolvers,
        is_in_background: ready.is_some(),
        log: logging.settings(),
        metrics: options.metrics.map(|address| (address, options.metrics_host)),
        notifier,
    };
    let run_context = RunContext { file: options.config.clone(), confinement, ready };
    if let (Some(path), Some((name, kill_switch))) = (options.config, named) {
        let hooks = if options.ignore_hooks { Hooks::Ignore } else { Hooks::Refuse };
        setcap::check_device(&name)?;
        // before the file is read: a child has a copy of all that is in memory
        let mut starting = Starting::new(start)?;
        let mut file = ConfigFile::load(path, hooks)?;
        (file.nat_allow, file.policy) = (link_local(&options.nat_allow)?, options.policy.unwrap_or_default());
        file.nat = options.nat.unwrap_or_default();
        if kill_switch.is_some() && !file.configuration.is_full_tunnel() {
            return Err(ConfigError::NotFullTunnel.into());
        }
        if kill_switch.is_some() && options.dns_bypass {
            return Err(ConfigError::BypassedKillSwitch.into());
        }
        file.dns_bypass = options.dns_bypass;
        privileges::require_net_admin()?;
        file.kill_switch = match kill_switch {
            Some(KillSwitchStart::Engaged(kill_switch)) => Some(kill_switch),
            Some(KillSwitchStart::Pending(kill_switch)) => {
                file.look_up_before_kill_switch(&mut starting)?;
                Some(kill_switch.engage().map_err(SupervisorError::from)?)
            }
            None => None,
        };
        return carry(Supervisor::<WireGuard>::open(name, Some(file), starting)?, run_context, logging);
    }
    let of_a_file = [
        ("--ignore-hooks", options.ignore_hooks),
        ("--kill-switch", options.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off)),
        ("--kill-switch-allow", !options.kill_switch_allow.is_empty()),
        ("--nat auto", options.nat == Some(NatMode::Auto)),
        ("--nat-allow", !options.nat_allow.is_empty()),
        ("--policy", options.policy.is_some()),
        ("--dns-bypass", options.dns_bypass),
    ];
    if let Some((option, _)) = of_a_file.into_iter().find(|(_, given)| *given) {
        return Err(ConfigError::NoFile(option).into());
    }
    if let Some(name) = options.interface {
        setcap::check_device(&name)?;
        privileges::require_net_admin()?;
        let supervisor = Supervisor::<WireGuard>::open(name, None, Starting::new(start)?)?;
        return carry(supervisor, run_context, logging);
    }
    let plain = options.plain;
    let config = Config {
        peer: plain.peer,
        tun: cli.tun.unwrap_or_default(),
        addresses: plain.address,
        mtu: plain.mtu,
        configure: !plain.no_configure,
        listen: plain.listen,
        listen_port: plain.listen_port,
        keepalive: Duration::from_secs(plain.keepalive.into()),
    }
    .checked()?;
    setcap::check_device(&config.tun)?;
    setcap::check_addresses(&config.tun, &config.addresses)?;
    privileges::require_net_admin()?;
    let supervisor = Supervisor::<Plain>::open(config, Starting::new(start)?)?;
    warn!(
        "plain mode is not encrypted: whoever sees the datagrams reads and forges the packets; use it on trusted wires only"
    );
    carry(supervisor, run_context, logging)
}

/// Returns the name of the tunnel of `file`, which is not read, and its kill switch, if one is
/// requested. The kill switch is engaged first, so that nothing leaves the host even if a later
/// step fails. The exception: if it is not in place already, and the names of endpoints cannot be
/// resolved while it is engaged, it is engaged after they are resolved, or when the start fails.
fn name_and_lock(
    file: &Path,
    tun: Option<TunName>,
    options: &Run,
) -> anyhow::Result<(TunName, Option<KillSwitchStart>)> {
    let name = tun.map_or_else(|| TunName::of_file(file), Ok)?;
    let Some(wanted) = KillSwitchOptions::new(options.kill_switch, &options.kill_switch_allow) else {
        if options.kill_switch_allow.is_empty() {
            return Ok((name, None));
        }
        return Err(ConfigError::NoKillSwitch.into());
    };
    privileges::require_net_admin()?;
    if resolver::asks_this_host_only(&options.resolver) && !EngagedKillSwitch::is_in_place(&name) {
        let pending = PendingKillSwitch::new(name.clone(), wanted);
        return Ok((name, Some(KillSwitchStart::Pending(pending))));
    }
    let engaged = EngagedKillSwitch::engage(&name, &wanted).map_err(SupervisorError::from)?;
    Ok((name, Some(KillSwitchStart::Engaged(engaged))))
}

/// The kill switch of a tunnel that starts.
enum KillSwitchStart {
    /// Engaged.
    Engaged(EngagedKillSwitch),
    /// To be engaged once the names of endpoints are resolved.
    Pending(PendingKillSwitch),
}

/// The parameters for running a tunnel.
struct RunContext {
    /// The configuration file.
    file: Option<PathBuf>,
    /// The privileges that the process drops.
    confinement: Confinement,
    /// The channel on which a background process reports that the tunnel is ready.
    ready: Option<OwnedFd>,
}

/// Completes the start, with everything open: drops what is no longer needed, has the tunnel
/// process carry packets, and supervises it to the end.
fn carry<M: Mode>(
    mut supervisor: Supervisor<M>,
    run_context: RunContext,
    logging: &mut Logging,
) -> anyhow::Result<()> {
    let RunContext { file, confinement, ready } = run_context;
    let sandbox = if confinement.is_sandboxed { Some(supervisor.sandbox()?) } else { None };
    privileges::drop_all_but_net_admin(confinement.user)?;
    if let (Some(_), Some(file)) = (confinement.user, file)
        && let Err(error) = File::open(&file)
    {
        let file = file.display();
        warn!("--user: {file} cannot be read by that user ({error}): SIGHUP will not work until it can");
    }
    let of_log = sandbox.as_ref().map(|sandbox| sandbox.of_log(logging.is_journald())).transpose()?;
    logging.start_writer(of_log).context("cannot start the thread that writes the log")?;
    supervisor.start()?;
    if let Some(ready) = ready {
        // nothing reads stderr afterwards
        logging.flush(LAST_LINES);
        background::detach(ready).context("cannot go to the background")?;
    }
    confine(sandbox.as_ref())?;
    Ok(supervisor.run(|| logging.flush(ONE_LINE))?)
}

/// Engages the sandbox for this thread and all that it starts from now on, and logs the result.
fn confine(sandbox: Option<&Sandbox>) -> anyhow::Result<()> {
    let Some(sandbox) = sandbox else {
        warn!("the sandbox is off (--no-sandbox): for debugging only");
        return Ok(());
    };
    let Report { seccomp, landlock } = sandbox.engage()?;
    if let State::Forbidden(_) = seccomp {
        warn!(%seccomp, %landlock, "the sandbox is not whole: let the one around it allow seccomp(2)");
    } else {
        info!(%seccomp, %landlock, "sandbox");
    }
    Ok(())
}

/// Returns true if the tunnel process has reported the error itself, on the same standard error.
fn is_told(error: &anyhow::Error) -> bool {
    let told = [exit::OTHER, exit::UNAVAILABLE].map(i32::from);
    matches!(error.downcast_ref(), Some(SupervisorError::TunnelExited(code)) if told.contains(code))
}

/// Returns the exit code of the first cause that has one of its own.
fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<SupervisorError>() {
        return match error {
            SupervisorError::Tun(TunError::Mode { .. } | TunError::Cgroup | TunError::NotPermitted(_))
            | SupervisorError::Sockets(SocketsError::PortPrivileged(_))
            | SupervisorError::Metrics(MetricsError::Privileged(_))
            | SupervisorError::Link(LinkError::Privilege { .. }) => exit::NO_PERMISSION,
            SupervisorError::PeerInTunnel { .. }
            | SupervisorError::PeerIsSelf(_)
            | SupervisorError::Link(LinkError::Unusable { .. }) => exit::CONFIG,
            SupervisorError::Tun(_)
            | SupervisorError::Sockets(_)
            | SupervisorError::Uapi(_)
            | SupervisorError::Metrics(MetricsError::InUse(_) | MetricsError::NotLocal(_))
            | SupervisorError::Link(
                LinkError::NoDevice { .. } | LinkError::Owned { .. } | LinkError::Refused { .. },
            ) => exit::UNAVAILABLE,
            SupervisorError::TunnelExited(code) => u8::try_from(*code).unwrap_or(exit::OTHER),
            SupervisorError::Link(LinkError::Socket { .. } | LinkError::NoReply { .. })
            | SupervisorError::Metrics(MetricsError::Other { .. })
            | SupervisorError::Nursery(_)
            | SupervisorError::Resolver(_)
            | SupervisorError::System { .. }
            | SupervisorError::NotReady
            | SupervisorError::TunnelKilled(_)
            | SupervisorError::Channel(_) => exit::OTHER,
        };
    }
    if let Some(LoadError::Untrusted(_)) = error.downcast_ref::<LoadError>() {
        exit::NO_PERMISSION
    } else if error.is::<ConfigError>() || error.is::<LoadError>() || error.is::<FileNameError>() {
        exit::CONFIG
    } else if let Some(error) = error.downcast_ref::<PrivilegeError>() {
        if matches!(error, PrivilegeError::NoUser { .. }) { exit::CONFIG } else { exit::NO_PERMISSION }
    } else {
        exit::OTHER
    }
}

/// Formats the error and those causes that it does not include itself.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |told, cause| {
        let cause = cause.to_string();
        if told.contains(&cause) { told } else { format!("{told}: {cause}") }
    })
}

/// Prints the error message of a failure in one line. It uses a thread that is abandoned if stderr
/// blocks: a stopped reader must not keep the process from ending.
fn fail(code: u8, message: String) -> ExitCode {
    let (done, written) = mpsc::channel();
    let writer = thread::Builder::new().spawn(move || {
        let _ = writeln!(io::stderr(), "wontun: {message}");
        let _ = done.send(());
    });
    if writer.is_ok() {
        let _ = written.recv_timeout(LAST_LINES);
    }
    ExitCode::from(code)
}

/// Prints help and version unchanged; shortens an error to one line.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return error.print().map_or(ExitCode::from(exit::OTHER), |()| ExitCode::SUCCESS);
    }
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .collect();
    let what = what.join(" ");
    fail(exit::USAGE, format!("{}; see wontun --help", what.strip_prefix("error: ").unwrap_or(&what)))
}
