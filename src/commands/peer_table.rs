//! The table of `wontun peer list`, at most 80 columns wide.

use super::top::text::{fit, width};
use wontun_proto::allowed_ips::Prefix;

/// Width of a terminal that is not configured.
const WIDTH: usize = 80;
/// Number of spaces between columns.
const GAP: usize = 2;
const TITLES: [&str; 5] = ["NAME", "ADDRESS", "LATEST HANDSHAKE", "THIS MONTH", "STATE"];
/// Minimum width of the column of names.
const MIN_NAME: usize = 12;

/// A peer in the table.
#[derive(Debug)]
pub(super) struct Row {
    /// Name, or public key of a peer without one.
    pub(super) name: String,
    /// Addresses and networks.
    pub(super) networks: Vec<Prefix>,
    /// Age of the latest handshake, in words.
    pub(super) handshake: String,
    /// Traffic of the present month in both directions.
    pub(super) month: String,
    /// State of the peer.
    pub(super) state: String,
}

/// Returns the table. Addresses that do not fit beside each other are below each other, and a name
/// that still does not fit is shortened. An address that is too wide for its column is on a line
/// without the columns after it.
pub(super) fn format(rows: &[Row]) -> String {
    let [name_title, address_title, handshake_title, month_title, state_title] = TITLES;
    let widest = |title: &str, of: fn(&Row) -> &str| {
        rows.iter().map(|row| width(of(row))).fold(title.len(), usize::max)
    };
    let name = widest(name_title, |row| &row.name);
    let handshake = widest(handshake_title, |row| &row.handshake);
    let month = widest(month_title, |row| &row.month);
    let state = widest(state_title, |row| &row.state);
    // for the name and the addresses
    let room = WIDTH.saturating_sub(handshake + month + state + 4 * GAP);

    let below: Vec<_> = rows.iter().map(|row| row.networks.iter().map(short).collect::<Vec<_>>()).collect();
    let side_by_side: Vec<_> = below.iter().map(|cells| vec![cells.join(", ")]).collect();
    let lengths =
        |cells: &[Vec<String>]| cells.iter().flatten().map(String::len).fold(address_title.len(), usize::max);
    let cells = if name + lengths(&side_by_side) <= room { side_by_side } else { below };
    let narrow = room.saturating_sub(name.min(MIN_NAME));
    let fitting = cells.iter().flatten().map(String::len).filter(|length| *length <= narrow);
    let address = fitting.fold(address_title.len(), usize::max);
    let name = name.min(room.saturating_sub(address));

    let mut text = String::new();
    let mut line = |[first, second, third, fourth, fifth]: [&str; 5]| {
        let first = padded(first, name + GAP);
        let second = format!("{second:<address$}");
        let third = padded(third, handshake + GAP);
        let row = format!("{first}{second}  {third}{fourth:>month$}  {fifth}");
        text.push_str(row.trim_end());
        text.push('\n');
    };
    line(TITLES);
    for (row, cells) in rows.iter().zip(&cells) {
        let mut cells = cells.iter().map(String::as_str).peekable();
        let first = cells.next_if(|cell| cell.len() <= address).unwrap_or_default();
        line([&fit(&row.name, name), first, &row.handshake, &row.month, &row.state]);
        cells.for_each(|cell| line(["", cell, "", "", ""]));
    }
    text
}

/// Returns a network as text, a single address without its length.
fn short(network: &Prefix) -> String {
    let full = if network.network().is_ipv4() { 32 } else { 128 };
    if network.length() == full { network.network().to_string() } else { network.to_string() }
}

/// Returns the text with spaces up to `columns`, which not every character takes one of.
fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, networks: &[(&str, u8)], handshake: &str) -> Row {
        let network =
            |(address, length): &(&str, u8)| Prefix::new(address.parse().unwrap(), *length).unwrap();
        Row {
            name: name.to_owned(),
            networks: networks.iter().map(network).collect(),
            handshake: handshake.to_owned(),
            month: "12.3 GiB".to_owned(),
            state: "over quota".to_owned(),
        }
    }

    #[test]
    fn addresses_are_side_by_side_where_they_fit() {
        let text = format(&[row("phone", &[("10.8.0.2", 32), ("fd00::2", 128)], "12 seconds ago")]);
        let expected = "\
NAME   ADDRESS            LATEST HANDSHAKE  THIS MONTH  STATE
phone  10.8.0.2, fd00::2  12 seconds ago      12.3 GiB  over quota
";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let long = "n".repeat(64);
        let wide = "電話".repeat(20);
        let rows = [
            row(&long, &[("10.8.0.2", 32), ("fdaa:af7b:2c90:1234:5678:9abc:def0:1234", 128)], "never"),
            row("laptop", &[("10.8.0.3", 32), ("192.168.100.0", 24)], "59 minutes ago"),
            row(&wide, &[("fdaa:af7b:2c90:1234:5678:9abc:def0:1230", 126)], "2 hours ago"),
            row("none", &[], "-"),
        ];
        let text = format(&rows);
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        let expected = "\
NAME                  ADDRESS           LATEST HANDSHAKE  THIS MONTH  STATE
nnnnnnnnnnnnnnnnnnn…  10.8.0.2          never               12.3 GiB  over quota
                      fdaa:af7b:2c90:1234:5678:9abc:def0:1234
laptop                10.8.0.3          59 minutes ago      12.3 GiB  over quota
                      192.168.100.0/24
電話電話電話電話電…                     2 hours ago         12.3 GiB  over quota
                      fdaa:af7b:2c90:1234:5678:9abc:def0:1230/126
none                                    -                   12.3 GiB  over quota
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_name_may_have_any_width() {
        for width in 1..80 {
            let rows = [row(&"n".repeat(width), &[("10.8.0.2", 32)], "never")];
            assert!(format(&rows).lines().all(|line| super::width(line) <= 80));
        }
    }
}
