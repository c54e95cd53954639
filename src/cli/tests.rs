//! Tests of the command line.

use super::*;

/// Parses a command line whose arguments are separated by spaces.
fn parse(line: &str) -> Result<Invocation, Failure> {
    parse_all(line.split(' ').filter(|argument| !argument.is_empty()))
}

fn parse_all<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<Invocation, Failure> {
    let arguments = std::iter::once("wontun").chain(arguments).map(OsString::from).collect();
    Invocation::parse(arguments, false).map(|invocation| invocation.expect("not the help"))
}

fn error(line: &str) -> String {
    let failure = parse(line).unwrap_err();
    assert_eq!((failure.code, failure.message.lines().count()), (exit::USAGE, 1), "{failure}");
    failure.message
}

/// Calls `visit` with the program and each of its commands, and their paths.
fn each_command(visit: &mut impl FnMut(&[String], &clap::Command)) {
    fn walk(command: &clap::Command, path: &[String], visit: &mut impl FnMut(&[String], &clap::Command)) {
        visit(path, command);
        for command in command.get_subcommands() {
            let path: Vec<_> = path.iter().cloned().chain([command.get_name().to_owned()]).collect();
            walk(command, &path, visit);
        }
    }
    walk(&command(), &[], visit);
}

#[test]
fn the_definition_is_consistent() {
    command().debug_assert();
}

#[test]
fn each_option_has_a_valid_example_and_an_error_that_says_what_is_expected() {
    let mut errors = 0;
    each_command(&mut |path, command| {
        for option in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let Some(name) = option.get_long() else { continue };
            let example = match (option.get_possible_values().first(), hints::option_of(path, name)) {
                (Some(value), _) => value.get_name().to_owned(),
                (None, Some((_, example))) => example.to_owned(),
                (None, None) => panic!("--{name} has no example in hints.rs"),
            };
            let base = || path.iter().map(String::as_str);
            let flag = format!("--{name}");
            if let Err(failure) = parse_all(base().chain([flag.as_str(), example.as_str()])) {
                assert!(!failure.message.starts_with(&flag), "{failure}");
            }
            let Err(failure) = parse_all(base().chain([flag.as_str(), "\u{1}/ "])) else { continue };
            let Some(rest) = failure.message.strip_prefix(&format!("{flag} '\\u{{1}}/ ': ")) else {
                // a path, and another error
                assert!(!failure.message.starts_with(&flag), "{failure}");
                continue;
            };
            let wanted = format!(
                "; see {} --help",
                ["wontun"].into_iter().chain(base()).collect::<Vec<_>>().join(" ")
            );
            assert!(rest.contains(", for example --") && rest.ends_with(&wanted), "{failure}");
            assert_eq!(failure.message.lines().count(), 1, "{failure}");
            errors += 1;
        }
    });
    assert!(errors > 50, "{errors}");
}

#[test]
fn an_error_says_what_is_given_and_what_is_expected() {
    for (line, message) in [
        (
            "serve --nat foo",
            "--nat foo: expected auto or off, for example --nat auto; see wontun serve --help",
        ),
        (
            "plain --mtu x",
            "--mtu x: expected a number of bytes, for example --mtu 1400; see wontun plain --help",
        ),
        ("plain --mtu", "--mtu without a value: expected a number of bytes, for example --mtu 1400; see"),
        (
            "peer",
            "a command is missing: expected add, invite, list, show, set, test, disable, enable, renew, remove, reset or rename, for example wontun peer list;",
        ),
        (
            "peer ad x",
            "unknown command 'ad' (did you mean 'add'?): expected add, invite, list, show, set, test, disable, enable, renew, remove, reset or rename",
        ),
        (
            "peer rename a",
            "NEW-NAME is missing: expected 'wontun peer rename [OPTIONS] <NAME> <NEW-NAME>', for example wontun peer \
             rename phone tablet; see wontun peer rename --help",
        ),
        (
            "health a b",
            "unexpected argument 'b': expected 'wontun health [OPTIONS] [NAME]'; see wontun health --help",
        ),
        (
            "plain --mtuu 1",
            "unknown option '--mtuu' (did you mean --mtu?): expected an option of 'wontun plain'",
        ),
        ("serve -q", "unknown option '-q': expected 'wontun serve [OPTIONS]'; see wontun serve --help"),
        ("--config a --mtu 1400", "--config and --mtu exclude each other: give either; see wontun --help"),
        ("--config a --nat auto --nat off", "--nat is given twice: give it once; see wontun --help"),
        (
            "-f",
            "NAME is missing: expected 'wontun interface [OPTIONS] <NAME>', for example wontun interface wg0; see wontun \
             interface --help",
        ),
        (
            "wg0 plain",
            "'wg0' stands before the command 'plain': give the command first, for example wontun show wg0;",
        ),
        (
            "shwo",
            "unknown command 'shwo': did you mean 'show'? a WireGuard interface of that name is created by 'wontun \
             interface shwo'; see wontun --help",
        ),
        ("--log-level debug wg0", "unknown command 'wg0': a WireGuard interface of that name is created by"),
        ("--nonsense wg0", "unknown option '--nonsense'"),
        ("-- wg0", "unknown command 'wg0': a WireGuard interface of that name is created by"),
        ("-f wg0 plain", "unexpected argument 'plain': expected 'wontun interface [OPTIONS] <NAME>'"),
        ("-f --peer 192.0.2.1 wg0", "--peer does not apply to 'wontun interface'"),
        ("completions ksh", "SHELL ksh: expected bash, zsh or fish, for example wontun completions bash;"),
        ("--log-level debug", "these options do not select a tunnel to run"),
    ] {
        let error = error(line);
        assert!(error.starts_with(message), "{line}: {error}");
    }
}

#[test]
fn an_option_of_another_command_is_refused_with_those_that_have_it() {
    for (line, part) in [
        (
            "genkey --kill-switch",
            "--kill-switch does not apply to 'wontun genkey': it is an option of 'wontun check', 'wontun doctor' and 'wontun --config FILE';",
        ),
        (
            "--log-level debug show",
            "--log-level does not apply to 'wontun show': it is an option of 'wontun serve', 'wontun plain',",
        ),
        (
            "genkey --dir /x",
            "'wontun serve', 'wontun peer', 'wontun admin', 'wontun init', 'wontun import', 'wontun status', 'wontun show', 'wontun top' and 'wontun down';",
        ),
        ("--mtu 1400 serve", "it is an option of 'wontun peer', 'wontun plain' and 'wontun --peer HOST';"),
        ("--config /x serve", "--config does not apply to 'wontun serve'"),
        ("--subnet 10.0.0.0/24 --config /x", "--subnet does not apply to 'wontun' without a command"),
    ] {
        let error = error(line);
        assert!(error.contains(part), "{line}: {error}");
    }
    for line in ["plain --nat auto", "interface wg0 --policy isolate", "--peer 192.0.2.1 --dns-bypass"] {
        let result = parse(line).and_then(|invocation| match invocation {
            Invocation::Command(command) => match *command {
                Command::Plain { options, .. } => Ok(options.require_none()?),
                command => panic!("{command:?}"),
            },
            tunnel @ Invocation::Tunnel { .. } => panic!("{tunnel:?}"),
        });
        let failure = result.unwrap_err();
        assert!(failure.code == exit::CONFIG && failure.message.contains("without --config"), "{failure}");
    }
}

#[test]
fn options_may_stand_before_their_command() {
    let debug = |line| format!("{:?}", parse(line).unwrap());
    for (before, behind) in [
        ("--listen-port 1 plain", "plain --listen-port 1"),
        ("--tun vpn peer --dir /x add phone --qr", "peer add --tun vpn --dir /x phone --qr"),
        ("--tun=vpn --no-sandbox serve", "serve --tun=vpn --no-sandbox"),
        ("--tun wg0 kill-switch off", "kill-switch off --tun wg0"),
        ("--kill-switch --metrics 127.0.0.1:1 plain", "plain --metrics 127.0.0.1:1 --kill-switch"),
    ] {
        assert_eq!(debug(before), debug(behind));
    }
    // values that are names of commands
    assert!(debug("show --tun serve").contains("Show"));
    assert!(debug("--tun serve show").contains("Show"));
    let Invocation::Tunnel { options, .. } = parse("--config plain").unwrap() else { panic!("no tunnel") };
    assert!(matches!(options.tunnel, TunnelKind::File { .. }));
}

#[test]
fn a_tunnel_is_selected_by_a_file_a_name_or_a_peer() {
    let tunnel = |line| match parse(line).unwrap() {
        Invocation::Tunnel { options, is_background } => (options.tunnel, is_background),
        Invocation::Command(command) => panic!("{command:?}"),
    };
    for line in ["interface wg0", "interface plain", "--log-level debug interface wg0"] {
        assert!(matches!(tunnel(line), (TunnelKind::Interface(_), true)), "{line}");
    }
    for line in
        ["interface -f wg0", "interface wg0 --foreground", "-f wg0", "wg0 -f", "-f serv", "-f -- plain"]
    {
        assert!(matches!(tunnel(line), (TunnelKind::Interface(_), false)), "{line}");
    }
    assert!(matches!(tunnel("--config wg0.conf --nat auto"), (TunnelKind::File { .. }, false)));
    assert!(matches!(tunnel("--peer 192.0.2.1 --mtu 1400"), (TunnelKind::Plain { .. }, false)));
}

/// wg-quick runs `PROGRAM NAME`, where PROGRAM is named by a variable, or is wireguard-go.
#[test]
fn wg_quick_gives_a_name_alone() {
    let tunnel = |line: &str, is_by_wg_quick| {
        let arguments = line.split(' ').map(OsString::from).collect();
        match Invocation::parse(arguments, is_by_wg_quick) {
            Ok(Some(Invocation::Tunnel { options, is_background })) => match options.tunnel {
                TunnelKind::Interface(name) => Some((name.to_string(), is_background)),
                other => panic!("{other:?}"),
            },
            Ok(_) => None,
            Err(failure) => panic!("{line}: {failure}"),
        }
    };
    let interface = |name: &str, is_background| Some((name.to_owned(), is_background));
    assert_eq!(tunnel("wontun wg0", true), interface("wg0", true));
    assert_eq!(tunnel("/usr/bin/wontun shwo", true), interface("shwo", true));
    assert_eq!(tunnel("wontun show", true), None);
    for by_wg_quick in [true, false] {
        assert_eq!(tunnel("wireguard-go wg0", by_wg_quick), interface("wg0", true));
        assert_eq!(tunnel("/usr/local/bin/wireguard-go -f show", by_wg_quick), interface("show", false));
    }
}

#[test]
fn commands_have_aliases() {
    let debug = |line| format!("{:?}", parse(line).unwrap());
    assert_eq!(debug("peer ls --json"), debug("peer list --json"));
    assert_eq!(debug("peer rm phone"), debug("peer remove phone"));
    assert!(debug("unlock wg0").contains("Unlock"));
}

#[test]
fn a_command_shows_its_own_options() {
    each_command(&mut |path, command| {
        let help = command.clone().render_long_help().to_string();
        let path = path.join(" ");
        for (option, commands) in [
            ("--kill-switch ", &["", "check", "doctor"][..]),
            ("--workers", &["", "interface", "serve", "plain"]),
            ("--log-level", &["", "interface", "serve", "plain"]),
            ("--full-tunnel", &["peer add", "peer invite"]),
            ("--mtu", &["", "plain", "peer add", "peer invite", "peer set"]),
            ("--nat ", &["", "check", "doctor", "serve"]),
        ] {
            assert_eq!(
                help.contains(option),
                commands.contains(&path.as_str()),
                "{option} of {path}: {help}"
            );
        }
        if path == "genkey" {
            assert!(help.lines().count() < 10, "{help}");
        }
    });
}

#[test]
fn the_version_has_features_and_target() {
    assert_eq!(LONG_VERSION.lines().next(), Some(env!("CARGO_PKG_VERSION")));
    assert!(LONG_VERSION.contains("\nfeatures: ") && LONG_VERSION.contains("\ntarget: "), "{LONG_VERSION}");
}
