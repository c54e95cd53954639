//! Runs a tunnel: opens what it needs, drops privileges, confines the process, and supervises the
//! tunnel to its end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::background;
use crate::cli::{Cli, Run};
use crate::config::wg_quick::Hooks;
use crate::config::{
    ConfigError, KillSwitchMode, KillSwitchOptions, NatMode, PeerAddress, PlainConfig, TunName, link_local,
    unknown_variables,
};
use crate::control::notify::Notifier;
use crate::exit::{self, Failure};
use crate::logging::{self, LogTarget, Logging};
use crate::net::descriptor_limit;
use crate::privileges::{self, UserIds, setcap};
use crate::resolver;
use crate::sandbox::{Confinement, FeatureState, Sandbox, SandboxStatus};
use crate::supervisor::{
    ConfigFile, EngagedKillSwitch, Mode, PendingKillSwitch, Plain, StartOptions, Starting, Supervisor,
    SupervisorError, WireGuard,
};

/// Maximum time for writing the line about the stop, before the tunnel process writes its last
/// ones.
const ONE_LINE: Duration = Duration::from_millis(5);
/// Maximum time for writing the last lines: a stopped reader of the log must not delay the exit.
const LAST_LINES: Duration = Duration::from_millis(50);

/// Runs the server that `config` describes: as with --config, with NAT for clients unless an option
/// says otherwise.
///
/// # Errors
/// [`ConfigError::NotFullTunnel`] if a kill switch is requested.
pub fn serve(config: PathBuf, tun: Option<TunName>, options: Run) -> Result<u8, Failure> {
    // before a kill switch is engaged: a server must stay reachable for its administrators
    if options.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off) {
        return Err(ConfigError::NotFullTunnel.into());
    }
    let options = Run { config: Some(config), nat: options.nat.or(Some(NatMode::Auto)), ..options };
    Ok(run(tun, options, None))
}

/// Starts the tunnel of the command line in a new process, and returns its exit code, or 0 once the
/// tunnel is ready.
///
/// # Errors
/// The process cannot be started.
pub fn start_in_background() -> Result<u8, Failure> {
    let code = background::start(in_background).map_err(cannot("go to the background"))?;
    Ok(u8::try_from(code).unwrap_or(exit::FAILURE))
}

/// Runs in the background process; `ready` reports that the tunnel is ready.
fn in_background(ready: OwnedFd) -> i32 {
    match Cli::read() {
        Ok(Some(cli)) => run(cli.tun, cli.run, Some(ready)).into(),
        // the foreground process has parsed the same command line
        _ => exit::USAGE.into(),
    }
}

/// Runs a tunnel until its end, and returns the exit code.
/// `ready` reports that the tunnel is ready, to the process that started this one in the background.
pub fn run(tun: Option<TunName>, options: Run, ready: Option<OwnedFd>) -> u8 {
    // stderr is not available once the process is in the background
    let target = match options.log_target {
        LogTarget::Auto if ready.is_some() && logging::has_journald() => LogTarget::Journald,
        target => target,
    };
    let mut logging = logging::init(target, options.log_level);
    let result = open_and_run(tun, options, ready, &mut logging);
    if let Err(failure) = &result
        && logging.is_journald()
    {
        error!("{failure}");
    }
    logging.flush(LAST_LINES);
    let Err(failure) = result else { return 0 };
    if !logging.covers_stderr() {
        failure.print();
    }
    failure.code
}

fn open_and_run(
    tun: Option<TunName>,
    options: Run,
    ready: Option<OwnedFd>,
    logging: &mut Logging,
) -> Result<(), Failure> {
    // before anything is forked: a child must not send notifications
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        warn!(%error, "the service manager is not notified");
        None
    });
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for unknown in unknown_variables(set, &Cli::variables()) {
        warn!("{unknown}");
    }
    if options.nat == Some(NatMode::Auto) {
        setcap::refuse("--nat auto")?;
    }
    if options.kill_switch.is_some_and(|mode| mode != KillSwitchMode::Off) {
        setcap::refuse("--kill-switch")?;
    }
    privileges::forbid_core_files();
    let named =
        options.config.as_deref().map(|file| prepare_kill_switch(file, tun.clone(), &options)).transpose()?;
    let confinement = Confinement {
        user: options.user.as_ref().map(UserIds::look_up).transpose()?,
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
    let resolvers = resolver::NameServers::try_from(options.resolver);
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
        return supervise(Supervisor::<WireGuard>::open(name, Some(file), starting)?, run_context, logging);
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
        return supervise(supervisor, run_context, logging);
    }
    let plain = options.plain;
    let config = PlainConfig {
        peer: plain.peer,
        tun: tun.unwrap_or_default(),
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
    supervise(supervisor, run_context, logging)
}

/// Returns a function that makes a failure of an error of the system.
fn cannot(action: &'static str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(exit::FAILURE, format!("cannot {action}: {error}"))
}

/// Returns the name of the tunnel of `file`, which is not read, and its kill switch, if one is
/// requested. The kill switch is engaged first, so that nothing leaves the host even if a later
/// step fails. The exception: if it is not in place already, and the names of endpoints cannot be
/// resolved while it is engaged, it is engaged after they are resolved, or when the start fails.
fn prepare_kill_switch(
    file: &Path,
    tun: Option<TunName>,
    options: &Run,
) -> Result<(TunName, Option<KillSwitchStart>), Failure> {
    let name = tun.map_or_else(|| TunName::of_file(file), Ok)?;
    let Some(wanted) = KillSwitchOptions::new(options.kill_switch, &options.kill_switch_allow) else {
        if options.kill_switch_allow.is_empty() {
            return Ok((name, None));
        }
        return Err(ConfigError::NoKillSwitch.into());
    };
    privileges::require_net_admin()?;
    if resolver::has_only_local_servers(&options.resolver) && !EngagedKillSwitch::is_in_place(&name) {
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
fn supervise<M: Mode>(
    mut supervisor: Supervisor<M>,
    run_context: RunContext,
    logging: &mut Logging,
) -> Result<(), Failure> {
    let RunContext { file, confinement, ready } = run_context;
    let sandbox = if confinement.is_sandboxed { Some(supervisor.sandbox()?) } else { None };
    privileges::drop_all_but_net_admin(confinement.user)?;
    if let (Some(_), Some(file)) = (confinement.user, file)
        && let Err(error) = File::open(&file)
    {
        let file = file.display();
        warn!("--user: {file} cannot be read by that user ({error}): SIGHUP will not work until it can");
    }
    let of_log = sandbox.as_ref().map(|sandbox| sandbox.for_log(logging.is_journald())).transpose()?;
    logging.start_writer(of_log).map_err(cannot("start the thread that writes the log"))?;
    supervisor.start()?;
    if let Some(ready) = ready {
        // nothing reads stderr afterwards
        logging.flush(LAST_LINES);
        background::detach(ready).map_err(cannot("go to the background"))?;
    }
    confine(sandbox.as_ref())?;
    Ok(supervisor.run(|| logging.flush(ONE_LINE))?)
}

/// Engages the sandbox for this thread and all that it starts from now on, and logs the result.
fn confine(sandbox: Option<&Sandbox>) -> Result<(), Failure> {
    let Some(sandbox) = sandbox else {
        warn!("the sandbox is off (--no-sandbox): for debugging only");
        return Ok(());
    };
    let SandboxStatus { seccomp, landlock } = sandbox.engage()?;
    if let FeatureState::Forbidden(_) = seccomp {
        warn!(%seccomp, %landlock, "the sandbox is not whole: let the one around it allow seccomp(2)");
    } else {
        info!(%seccomp, %landlock, "sandbox");
    }
    Ok(())
}
