//! Tests of the screens, drawn to a buffer in memory.

use std::time::Instant;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::target::StatusAnswer;
use super::*;
use crate::uapi::ClientError;
use crate::uapi::{TunnelPeer, TunnelStatus};
use wontun_proto::wireguard::PublicKey;

const NOW: Duration = Duration::from_secs(1_600_000_063);

fn tun(name: &str) -> TunName {
    name.parse().unwrap()
}

fn peer(number: u8, name: Option<&str>, received: u64, sent: u64) -> TunnelPeer {
    TunnelPeer {
        name: name.map(|name| name.parse().unwrap()),
        has_session: received > 0,
        endpoint: Some(format!("192.0.2.{number}:51820").parse().unwrap()),
        last_handshake: if received > 0 { Duration::from_secs(1_600_000_000) } else { Duration::ZERO },
        received,
        sent,
        ..TunnelPeer::new(PublicKey::from_bytes([number; 32]))
    }
}

fn status(peers: Vec<TunnelPeer>, replays: u64) -> TunnelStatus {
    let mut status = TunnelStatus {
        listen_port: 51820,
        mtu: Some(1420),
        is_up: Some(true),
        ..TunnelStatus::new(&tun("wt0"))
    };
    if replays > 0 {
        status.dropped.insert("replay".to_owned(), replays);
    }
    status.peers = peers;
    status
}

fn three(received: u64) -> Vec<TunnelPeer> {
    vec![
        peer(1, Some("phone"), received, 4096),
        peer(2, None, 5 << 20, 7 << 30),
        peer(3, Some("laptop with a name that is far too long"), 0, 0),
    ]
}

fn answer(target: &Target, seconds: u64, result: Result<Vec<TunnelStatus>, CommandError>) -> StatusAnswer {
    let start = *START.get_or_init(Instant::now);
    StatusAnswer { target: target.clone(), at: start + Duration::from_secs(seconds), result }
}

static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// Returns a state that has handled `statuses`, one second apart.
fn state(statuses: Vec<TunnelStatus>) -> State {
    let target = Target::One(tun("wt0"));
    let mut state = State::new(target.clone(), Duration::from_secs(1), false);
    for (seconds, status) in statuses.into_iter().enumerate() {
        assert_eq!(state.handle_status(answer(&target, seconds as u64, Ok(vec![status]))), None);
    }
    state
}

/// Returns the lines of a terminal of this size.
fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, state, NOW)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width.max(1)));
    rows.map(|row| row.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

fn press(state: &mut State, code: KeyCode) -> Option<Target> {
    state.handle_command(keys::command(KeyEvent::new(code, KeyModifiers::NONE)).unwrap())
}

#[test]
fn a_screen_of_80_by_24() {
    let statuses = vec![status(three(1 << 20), 1), status(three(3 << 20), 1), status(three(4 << 20), 4)];
    let lines = screen(&mut state(statuses), 80, 24);
    let expected = [
        " wt0 · up · mtu 1420 · port 51820 · 3 peers, 2 with a session         every 1 s",
        " received 1.00 MiB/s  9.00 MiB in all",
        " sent          0 B/s  7.00 GiB in all",
        " dropped  replay 4 (+3/s)",
        "",
        "PEER            ENDPOINT                RECEIVED       SENT STATE      HANDSHAKE",
        "phone           192.0.2.1:51820       1.00 MiB/s      0 B/s active        1m 03s",
        "laptop with a … 192.0.2.3:51820            0 B/s      0 B/s never          never",
        "AgICAgICAg…     192.0.2.2:51820            0 B/s      0 B/s active        1m 03s",
    ];
    for (place, (line, expected)) in lines.iter().zip(expected).enumerate() {
        // the sparkline of all peers follows the text
        let line = if place == 1 { line.trim_end_matches(['█', '▄']) } else { line };
        assert_eq!(line.trim_end(), expected.trim_end(), "{lines:#?}");
    }
    assert!(lines[1].ends_with("█▄") && lines[1].chars().count() == 80, "{lines:#?}");
    assert_eq!(lines[23], " q quit  s order: rate  r reverse  ↑↓ scroll  l list of tunnels");
    assert!(lines[9..23].iter().all(String::is_empty), "{lines:#?}");
}

#[test]
fn a_wide_screen_has_the_totals_of_each_peer() {
    let lines = screen(&mut state(vec![status(three(1 << 20), 0)]), 120, 40);
    assert!(lines[3].contains("dropped  nothing"), "{lines:#?}");
    assert!(lines[5].ends_with("HANDSHAKE RECV ALL SENT ALL"), "{lines:#?}");
    let line = lines.iter().find(|line| line.starts_with("AgICAgICAg…")).unwrap();
    assert!(line.ends_with(" active        1m 03s 5.00 MiB 7.00 GiB"), "{line}");
    let lines = screen(&mut state(vec![status(three(1), 0), status(three(1 << 20), 0)]), 90, 24);
    assert!(lines[5].ends_with("SENT BOTH WAYS  STATE      HANDSHAKE"), "{lines:#?}");
}

/// On small terminals the peers are shown, nothing overlaps, and nothing panics.
#[test]
fn every_size_can_be_drawn() {
    let statuses = || vec![status(three(1 << 20), 1), status(three(3 << 20), 1)];
    let lines = screen(&mut state(statuses()), 20, 5);
    assert_eq!(
        lines,
        [
            " wt0 · up · mtu 142…",
            "PEER        RECEIVED",
            "phone     2.00 MiB/s",
            "laptop w…      0 B/s",
            "AgICAgIC…      0 B/s"
        ]
    );
    let list = || {
        let mut state = State::new(Target::Any, Duration::from_secs(1), true);
        let result = vec![status(three(1), 0), TunnelStatus::new(&tun("other"))];
        assert_eq!(state.handle_status(answer(&Target::Any, 0, Ok(result))), None);
        state
    };
    for (width, height) in (0..60).flat_map(|width| (0..16).map(move |height| (width, height))) {
        for mut state in [state(statuses()), list(), State::new(Target::Any, Duration::from_secs(1), true)] {
            let lines = screen(&mut state, width, height);
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)));
        }
    }
}

#[test]
fn many_peers_scroll_and_the_end_holds() {
    let peers = (0..200).map(|number| peer(number, Some(&format!("peer {number:03}")), 1, 1)).collect();
    let mut state = state(vec![status(peers, 0)]);
    state.order = state::Order::Name;
    let first = |state: &mut State| screen(state, 80, 24)[6].split("  ").next().unwrap().to_owned();
    assert_eq!(first(&mut state), "peer 000");
    assert!(screen(&mut state, 80, 24)[23].ends_with("1–17 of 200"));
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Char('j'));
    assert_eq!(first(&mut state), "peer 002");
    press(&mut state, KeyCode::PageDown);
    assert_eq!(first(&mut state), "peer 019");
    press(&mut state, KeyCode::Up);
    assert_eq!(first(&mut state), "peer 018");
    press(&mut state, KeyCode::End);
    assert_eq!(first(&mut state), "peer 183");
    assert!(screen(&mut state, 80, 24)[23].ends_with("184–200 of 200"));
    press(&mut state, KeyCode::PageUp);
    assert_eq!(first(&mut state), "peer 166");
    press(&mut state, KeyCode::Char('r'));
    press(&mut state, KeyCode::Home);
    assert_eq!(first(&mut state), "peer 199");
}

#[test]
fn the_order_is_what_the_keys_say() {
    let peers = || {
        let mut peers = vec![peer(1, Some("c"), 10, 0), peer(2, Some("a"), 30, 0), peer(3, Some("b"), 20, 0)];
        peers[2].last_handshake += Duration::from_secs(9);
        peers
    };
    let mut busier = peers();
    busier[0].received += 100;
    let mut state = state(vec![status(peers(), 0), status(busier, 0)]);
    let mut order = |codes: &[KeyCode]| {
        codes.iter().for_each(|&code| assert_eq!(press(&mut state, code), None));
        let lines = screen(&mut state, 80, 24);
        let names: String = lines[6..9].iter().map(|line| &line[..1]).collect();
        (names, lines[23].split("  ").nth(1).unwrap().to_owned())
    };
    let told = |names: &str, order: &str| (names.to_owned(), format!("s order: {order}"));
    assert_eq!(order(&[]), told("cab", "rate"));
    assert_eq!(order(&[KeyCode::Char('s')]), told("bac", "handshake"));
    assert_eq!(order(&[KeyCode::Char('s')]), told("cab", "transfer"));
    assert_eq!(order(&[KeyCode::Char('s')]), told("abc", "name"));
    assert_eq!(order(&[KeyCode::Char('r')]), told("cba", "name, reversed"));
    assert_eq!(order(&[KeyCode::Char('s')]), told("bac", "rate, reversed"));
    assert_eq!(order(&[KeyCode::Char('S'), KeyCode::Char('r')]), told("abc", "name"));
}

#[test]
fn a_tunnel_that_goes_is_waited_for_and_begins_anew() {
    let target = Target::One(tun("wt0"));
    let mut state = state(vec![status(three(1 << 20), 0), status(three(3 << 20), 0)]);
    let gone = answer(&target, 2, Err(ClientError::NotRunning(tun("wt0")).into()));
    assert_eq!(state.handle_status(gone), None);
    let lines = screen(&mut state, 80, 24);
    assert!(lines[0].contains("waiting") && lines[1].contains("tunnel wt0 is not running"), "{lines:#?}");
    // the tunnel's counters started again, which is no rate
    assert_eq!(state.handle_status(answer(&target, 3, Ok(vec![status(three(100), 0)]))), None);
    assert!(!screen(&mut state, 80, 24).iter().any(|line| line.contains("MiB/s")));
    assert_eq!(state.handle_status(answer(&target, 4, Ok(vec![status(three(100 + (1 << 20)), 0)]))), None);
    assert!(screen(&mut state, 80, 24)[6].contains("1.00 MiB/s"));
    // the same if it was restarted between two refreshes
    assert_eq!(state.handle_status(answer(&target, 5, Ok(vec![status(three(7), 0)]))), None);
    assert!(screen(&mut state, 80, 24)[6].contains(" 0 B/s"));
}

#[test]
fn the_only_tunnel_is_taken_and_of_several_one_is_chosen() {
    let two = || vec![TunnelStatus::new(&tun("wt1")), status(three(1), 0)];
    let mut state = State::new(Target::Any, Duration::from_secs(1), false);
    let one = Target::One(tun("wt0"));
    assert_eq!(
        state.handle_status(answer(&Target::Any, 0, Ok(vec![status(three(1), 0)]))),
        Some(one.clone())
    );
    assert!(screen(&mut state, 80, 24)[0].starts_with(" wt0 · up"));
    // answers to earlier requests are ignored
    assert_eq!(state.handle_status(answer(&Target::Any, 1, Ok(two()))), None);
    assert!(screen(&mut state, 80, 24)[0].starts_with(" wt0 · up"));

    assert_eq!(press(&mut state, KeyCode::Char('l')), Some(Target::Any));
    assert_eq!(state.handle_status(answer(&Target::Any, 2, Ok(two()))), None);
    let lines = screen(&mut state, 80, 24);
    assert_eq!(lines[0], " select a tunnel");
    assert!(lines[1].starts_with(" wt0 ") && lines[2].starts_with(" wt1 "), "{lines:#?}");
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Down);
    assert_eq!(press(&mut state, KeyCode::Enter), Some(Target::One(tun("wt1"))));

    // a requested list stays a list, even with one tunnel
    assert_eq!(press(&mut state, KeyCode::Char('l')), Some(Target::Any));
    assert_eq!(state.handle_status(answer(&Target::Any, 3, Ok(vec![status(three(1), 0)]))), None);
    assert_eq!(screen(&mut state, 80, 24)[0], " select a tunnel");
    assert_eq!(press(&mut state, KeyCode::Enter), Some(one));
}

#[test]
fn keys_that_end_it() {
    let control = |letter| keys::command(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
    let plain = |code| keys::command(KeyEvent::new(code, KeyModifiers::NONE));
    assert_eq!(
        (control('c'), control('l'), control('z')),
        (Some(KeyCommand::Quit), Some(KeyCommand::Redraw), None)
    );
    assert_eq!(plain(KeyCode::Char('q')), Some(KeyCommand::Quit));
    assert_eq!(plain(KeyCode::Esc), Some(KeyCommand::Quit));
    assert_eq!(plain(KeyCode::Char('c')), None);
}

/// Runs in the child process of the test below, on a terminal of its own.
#[test]
#[ignore = "panics"]
fn child_that_panics_while_it_draws() {
    let mut terminal = ratatui::try_init().unwrap();
    terminal.draw(|_| panic!("so it is")).unwrap();
}

/// A panic restores the terminal, and its message can be read.
#[test]
fn a_panic_gives_the_terminal_back() {
    use rustix::{pty, termios};
    use std::io::Read;

    let controller = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&controller).unwrap();
    pty::unlockpt(&controller).unwrap();
    let name = pty::ptsname(&controller, Vec::new()).unwrap();
    let terminal = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let before = termios::tcgetattr(&terminal).unwrap();
    let end = || terminal.try_clone().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--nocapture",
            "--exact",
            "commands::top::tests::child_that_panics_while_it_draws",
        ])
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .status()
        .unwrap();
    assert!(!status.success());
    let after = termios::tcgetattr(&terminal).unwrap();
    assert_eq!(
        (after.input_modes, after.output_modes, after.local_modes),
        (before.input_modes, before.output_modes, before.local_modes)
    );
    drop(terminal);
    let mut written = Vec::new();
    // reading a terminal that no process has open fails after the last byte
    let _ = std::fs::File::from(controller).read_to_end(&mut written);
    let written = String::from_utf8_lossy(&written);
    let place = |text: &str| written.find(text).unwrap_or_else(|| panic!("no {text:?} in {written:?}"));
    assert!(place("\u{1b}[?1049h") < place("\u{1b}[?1049l"), "{written:?}");
    assert!(place("\u{1b}[?1049l") < place("so it is"), "{written:?}");
}
