//! The table of `wontun peer list`, at most 80 columns wide.

use std::fmt::Write as _;

use wontun_proto::allowed_ips::Prefix;

/// Width of a terminal that is not configured.
const WIDTH: usize = 80;
/// Number of spaces between columns.
const GAP: usize = 2;
const TITLES: [&str; 3] = ["NAME", "ADDRESSES", "LATEST HANDSHAKE"];
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
}

/// Returns the table. Addresses that do not fit beside each other are below each other, and a name
/// that still does not fit is shortened.
pub(super) fn format(rows: &[Row]) -> String {
    let networks = |row: &Row| row.networks.iter().map(short).collect::<Vec<_>>();
    let side_by_side: Vec<_> = rows.iter().map(|row| vec![networks(row).join(", ")]).collect();
    let below: Vec<_> = rows.iter().map(networks).collect();
    let widest = |title: &str, cells: &mut dyn Iterator<Item = usize>| cells.fold(title.len(), usize::max);
    let [name_title, address_title, handshake_title] = TITLES;
    let name = widest(name_title, &mut rows.iter().map(|row| row.name.chars().count()));
    let handshake = widest(handshake_title, &mut rows.iter().map(|row| row.handshake.chars().count()));
    let lengths = |cells: &[Vec<String>]| {
        widest(address_title, &mut cells.iter().flatten().map(|cell| cell.chars().count()))
    };
    let fits = |addresses: usize| name + addresses + handshake + 2 * GAP <= WIDTH;
    let cells = if fits(lengths(&side_by_side)) { side_by_side } else { below };
    let addresses = lengths(&cells);
    let name = name.min(WIDTH.saturating_sub(addresses + handshake + 2 * GAP).max(MIN_NAME));

    let mut text = String::new();
    let mut line = |first: &str, second: &str, third: &str| {
        let row = format!(
            "{:<w1$}{second:<w2$}{third}",
            shorten(first, name),
            w1 = name + GAP,
            w2 = addresses + GAP
        );
        // writing to memory does not fail
        let _ = writeln!(text, "{}", row.trim_end());
    };
    line(name_title, address_title, handshake_title);
    for (row, cells) in rows.iter().zip(&cells) {
        let mut cells = cells.iter();
        line(&row.name, cells.next().map_or("", String::as_str), &row.handshake);
        cells.for_each(|cell| line("", cell, ""));
    }
    text
}

/// Returns a network as text, a single address without its length.
fn short(network: &Prefix) -> String {
    let full = if network.network().is_ipv4() { 32 } else { 128 };
    if network.length() == full { network.network().to_string() } else { network.to_string() }
}

/// Returns the text with at most `width` characters.
fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
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
        }
    }

    #[test]
    fn addresses_are_side_by_side_where_they_fit() {
        let text = format(&[row("phone", &[("10.8.0.2", 32), ("fd00::2", 128)], "12 seconds ago")]);
        assert_eq!(
            text,
            "NAME   ADDRESSES          LATEST HANDSHAKE\nphone  10.8.0.2, fd00::2  12 seconds ago\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let rows = [
            row(
                &"n".repeat(64),
                &[("10.8.0.2", 32), ("fdaa:af7b:2c90:1234:5678:9abc:def0:1234", 128)],
                "never",
            ),
            row("laptop", &[("10.8.0.3", 32), ("192.168.100.0", 24)], "2 hours ago"),
        ];
        let text = format(&rows);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("n…") && text.contains("192.168.100.0/24"), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
