//! Runs a tunnel: opens what it needs, drops privileges, confines the process, and supervises the
//! tunnel to its end.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, info, warn};

use crate::background;
use crate::cli::{
    self, FullTunnelOptions, Invocation, RunOptions, TunnelKind, TunnelOptions, WireGuardOptions,
};
use crate::config::{
    ConfigError, KillSwitchMode, KillSwitchOptions, NatMode, PeerAddress, TunName, unknown_variables,
};
use crate::control::fd_store::StoredDescriptors;
use crate::control::notify::Notifier;
use crate::exit::{self, Failure};
use crate::logging::{self, LogTarget, Logging};
use crate::net::descriptor_limit;
use crate::privileges::{self, UserIds, setcap};
use crate::resolver;
use crate::sandbox::{Confinement, FeatureState, Sandbox, SandboxStatus};
use crate::supervisor::{
    ConfigFile, EngagedKillSwitch, Mode, PendingKillSwitch, Plain, Predecessor, StartOptions, Starting,
    Stored, Supervisor, SupervisorError, TakeOverSource, WireGuard,
};

/// Maximum time for writing the line about the stop, before the tunnel process writes its last
/// ones.
const ONE_LINE: Duration = Duration::from_millis(5);
/// Maximum time for writing the last lines: a stopped reader of the log must not delay the exit.
const LAST_LINES: Duration = Duration::from_millis(50);

/// Action once the tunnel is ready.
#[derive(Debug)]
pub enum OnReady {
    /// None.
    Nothing,
    /// Prints the text on standard error.
    Print(String),
    /// Reports to the process that started this one in the background, and detaches from it.
    Detach(OwnedFd),
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
    match Invocation::read() {
        Ok(Some(Invocation::Tunnel { options, .. })) => run(*options, OnReady::Detach(ready)).into(),
        // the foreground process has parsed the same command line
        _ => exit::USAGE.into(),
    }
}

/// Runs a tunnel until its end, and returns the exit code. A failure is printed or logged.
pub fn run(options: RunOptions, on_ready: OnReady) -> u8 {
    // stderr is not available once the process is in the background
    let target = match options.common.log_target {
        LogTarget::Auto if matches!(on_ready, OnReady::Detach(_)) && logging::has_journald() => {
            LogTarget::Journald
        }
        target => target,
    };
    let mut logging = logging::init(target, options.common.log_format, options.common.log_level.into());
    let result = open_and_run(options, on_ready, &mut logging);
    if let Err(failure) = &result
        && logging.takes_errors()
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

fn open_and_run(options: RunOptions, on_ready: OnReady, logging: &mut Logging) -> Result<(), Failure> {
    // before anything is opened, and before anything is forked: a child must not send notifications
    let stored = StoredDescriptors::from_environment();
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        warn!(%error, "the service manager is not notified");
        None
    });
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for unknown in unknown_variables(set, &cli::variables()) {
        warn!("{unknown}");
    }
    privileges::forbid_core_files();
    let RunOptions { tunnel, common } = options;
    let is_in_background = matches!(on_ready, OnReady::Detach(_));
    let start = |common, looks_up_names, logging: &Logging| {
        start_options(common, looks_up_names, is_in_background, logging, notifier)
    };
    match tunnel {
        TunnelKind::File { path, tun, options } => {
            // before anything else that may fail
            let (name, kill_switch) = prepare_kill_switch(&path, tun, &options, &common)?;
            let start = StartOptions {
                name: Some(name.clone()),
                has_admin: options.admin.is_some(),
                ..start(common, true, logging)?
            };
            let context = RunContext { file: Some(path.clone()), confinement: start.confinement, on_ready };
            let supervisor = open_file(name, path, options, kill_switch, start, stored)?;
            supervise(supervisor, context, logging)
        }
        TunnelKind::Interface(name) => {
            let start = start(common, false, logging)?;
            let context = RunContext { file: None, confinement: start.confinement, on_ready };
            setcap::check_device(&name)?;
            privileges::require_net_admin()?;
            let supervisor = Supervisor::<WireGuard>::open(name, None, Starting::new(start)?, None)?;
            supervise(supervisor, context, logging)
        }
        TunnelKind::Plain { tun, options } => {
            let looks_up_names = matches!(options.peer, Some(PeerAddress::Name { .. }));
            let start = start(common, looks_up_names, logging)?;
            let context = RunContext { file: None, confinement: start.confinement, on_ready };
            let config = options.config(tun).checked()?;
            setcap::check_device(&config.tun)?;
            setcap::check_addresses(&config.tun, &config.addresses)?;
            privileges::require_net_admin()?;
            let supervisor = Supervisor::<Plain>::open(config, Starting::new(start)?)?;
            warn!(
                "plain mode is not encrypted: whoever sees the datagrams reads and forges the packets; use it on trusted wires only"
            );
            supervise(supervisor, context, logging)
        }
    }
}

/// Returns the options of the start that all tunnels have.
fn start_options(
    common: TunnelOptions,
    looks_up_names: bool,
    is_in_background: bool,
    logging: &Logging,
    notifier: Option<Notifier>,
) -> Result<StartOptions, Failure> {
    let user = common.user.as_ref().map(UserIds::look_up).transpose()?;
    user.map_or(Ok(()), UserIds::require_permission)?;
    let confinement = Confinement { user, is_sandboxed: !common.no_sandbox };
    let tuning = common.tuning.tuning();
    descriptor_limit::raise(tuning.workers);
    let count = common.resolver.len();
    let resolvers = resolver::NameServers::try_from(common.resolver);
    let resolvers = resolvers.map_err(|_| ConfigError::Resolvers { count, limit: resolver::MAX_SERVERS })?;
    Ok(StartOptions {
        confinement,
        tuning,
        looks_up_names,
        has_admin: false,
        resolvers,
        name: None,
        is_in_background,
        log: logging.settings(),
        metrics: common.metrics.map(|address| (address, common.metrics_host)),
        notifier,
    })
}

/// Opens the WireGuard tunnel that the file at `path` describes.
fn open_file(
    name: TunName,
    path: PathBuf,
    options: WireGuardOptions,
    kill_switch: Option<KillSwitchStart>,
    start: StartOptions,
    stored: StoredDescriptors,
) -> Result<Supervisor<WireGuard>, Failure> {
    setcap::check_device(&name)?;
    // before the file is read: a child has a copy of all that is in memory
    let mut starting = Starting::new(start)?;
    let takes_over = options.take_over;
    let mut file = ConfigFile::load(path, options.file_options()?)?;
    if kill_switch.is_some() {
        KillSwitchOptions::check(&file.configuration, &file.options)?;
    }
    privileges::require_net_admin()?;
    let take_over_from = find_running(&name, stored, takes_over)?;
    file.kill_switch = match kill_switch {
        Some(KillSwitchStart::Engaged(kill_switch)) => Some(kill_switch),
        Some(KillSwitchStart::Pending(kill_switch)) => {
            file.look_up_before_kill_switch(&mut starting)?;
            Some(kill_switch.engage().map_err(SupervisorError::from)?)
        }
        None => None,
    };
    Ok(Supervisor::<WireGuard>::open(name, Some(file), starting, take_over_from)?)
}

/// Returns the tunnel called `name` that a service manager keeps, or, if `takes_over`, that another
/// process runs.
fn find_running(
    name: &TunName,
    stored: StoredDescriptors,
    takes_over: bool,
) -> Result<Option<TakeOverSource>, Failure> {
    if let Some(stored) = Stored::find(stored, name) {
        return Ok(Some(TakeOverSource::Store(stored)));
    }
    if !takes_over {
        return Ok(None);
    }
    let predecessor = Predecessor::connect(name).map_err(SupervisorError::from)?;
    if predecessor.is_none() {
        info!(tun = %name, "no process runs this tunnel that it can be taken over from: starting it");
    }
    Ok(predecessor.map(TakeOverSource::Process))
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
    options: &WireGuardOptions,
    common: &TunnelOptions,
) -> Result<(TunName, Option<KillSwitchStart>), Failure> {
    if options.nat == Some(NatMode::Auto) {
        setcap::refuse("--nat auto")?;
    }
    let FullTunnelOptions { kill_switch: mode, kill_switch_allow: allowed, .. } = &options.full_tunnel;
    if mode.is_some_and(|mode| mode != KillSwitchMode::Off) {
        setcap::refuse("--kill-switch")?;
    }
    let name = tun.map_or_else(|| TunName::of_file(file), Ok)?;
    let Some(wanted) = KillSwitchOptions::new(*mode, allowed)? else { return Ok((name, None)) };
    privileges::require_net_admin()?;
    if resolver::has_only_local_servers(&common.resolver, &name) && !EngagedKillSwitch::is_in_place(&name) {
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
    /// The action once the tunnel is ready.
    on_ready: OnReady,
}

/// Completes the start, with everything open: drops what is no longer needed, has the tunnel
/// process carry packets, and supervises it to the end.
fn supervise<M: Mode>(
    mut supervisor: Supervisor<M>,
    run_context: RunContext,
    logging: &mut Logging,
) -> Result<(), Failure> {
    let RunContext { file, confinement, on_ready } = run_context;
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
    supervisor.take_over()?;
    let greeting = match on_ready {
        OnReady::Nothing => None,
        OnReady::Print(text) => Some(text),
        OnReady::Detach(ready) => {
            // nothing reads stderr afterwards
            logging.flush(LAST_LINES);
            background::detach(ready).map_err(cannot("go to the background"))?;
            None
        }
    };
    confine(sandbox.as_ref())?;
    if let Some(text) = greeting {
        // after the lines of the start
        logging.flush(LAST_LINES);
        let _ = write!(io::stderr(), "{text}");
    }
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
