//! The keys of a configuration.

use std::fmt;

/// Minimum Jaro-Winkler similarity of a suggested name, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.7;

/// A section of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// The local side of the tunnel.
    Interface,
    /// A peer.
    Peer,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "[Interface]",
            Self::Peer => "[Peer]",
        })
    }
}

macro_rules! fields {
    ($($section:ident { $($name:ident = $text:literal, $about:literal;)* })*) => {
        /// A key of the configuration. Displayed as spelled in the file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "named as in the file, and explained in wg(8) and wg-quick(8)")]
        pub enum Field {
            $($($name,)*)*
        }

        impl Field {
            /// All keys.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// Returns the name of the key in the file.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$name => $text,)*)*
                }
            }

            /// Returns the section of the key.
            pub const fn section(self) -> Section {
                match self {
                    $($(Self::$name => Section::$section,)*)*
                }
            }

            /// Returns the description of a valid value.
            pub const fn expected(self) -> &'static str {
                match self {
                    $($(Self::$name => $about,)*)*
                }
            }
        }
    };
}

fields! {
    Interface {
    PrivateKey = "PrivateKey", "a key in base64: 44 characters as 'wg genkey' prints them";
    PrivateKeyFile = "PrivateKeyFile", "the path of a file that holds the key";
    ListenPort = "ListenPort", "a UDP port from 0 to 65535";
    FwMark = "FwMark", "'off' or a number from 0 to 4294967295, hexadecimal after 0x";
    Address = "Address", "addresses with their prefix lengths, such as 10.8.0.1/24";
    Mtu = "MTU", "a number of bytes from 68 to 65475";
    Table = "Table", "'auto', 'off', 'main' or the number of a routing table from 1 to 4294967295";
    Dns = "DNS", "addresses or search domains";
    PreUp = "PreUp", "nothing: no command of a file is ever run";
    PostUp = "PostUp", "nothing: no command of a file is ever run";
    PreDown = "PreDown", "nothing: no command of a file is ever run";
    PostDown = "PostDown", "nothing: no command of a file is ever run";
    SaveConfig = "SaveConfig", "'true' or 'false'";
    }
    Peer {
    PublicKey = "PublicKey", "a key in base64: 44 characters as 'wg pubkey' prints them";
    PresharedKey = "PresharedKey", "a key in base64: 44 characters as 'wg genpsk' prints them";
    PresharedKeyFile = "PresharedKeyFile", "the path of a file that holds the key";
    AllowedIps = "AllowedIPs", "networks separated by commas, such as 10.8.0.2/32, fd00::/64";
    Endpoint = "Endpoint", "HOST:PORT, where HOST is a name, an IPv4 address or an IPv6 address in brackets";
    PersistentKeepalive = "PersistentKeepalive", "'off' or a number of seconds from 0 to 65535";
    }
}

impl Field {
    /// Returns the key with this name. The case does not matter.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name().eq_ignore_ascii_case(name))
    }

    /// Returns the key of `section` whose name is most similar to `name`, or `None` if none is
    /// similar.
    pub fn nearest(name: &str, section: Section) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let similarity = |field: Self| strsim::jaro_winkler(&field.name().to_ascii_lowercase(), &name);
        let candidates = Self::ALL.iter().copied().filter(|field| field.section() == section);
        let nearest = candidates.max_by(|a, b| similarity(*a).total_cmp(&similarity(*b)));
        nearest.filter(|field| similarity(*field) >= MIN_SIMILARITY)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        for field in Field::ALL {
            assert_eq!(Field::named(&field.name().to_uppercase()), Some(*field));
        }
        assert_eq!(Field::named("Listen Port"), None);
    }

    #[test]
    fn misspelled_names_find_the_right_one() {
        for (name, section, nearest) in [
            ("Adress", Section::Interface, Some(Field::Address)),
            ("private_key", Section::Interface, Some(Field::PrivateKey)),
            ("AllowedIP", Section::Peer, Some(Field::AllowedIps)),
            ("keepalive", Section::Peer, None),
            ("PersistentKeepAlives", Section::Peer, Some(Field::PersistentKeepalive)),
            ("PreSharedKeys", Section::Peer, Some(Field::PresharedKey)),
            ("xyzzy", Section::Peer, None),
        ] {
            assert_eq!(Field::nearest(name, section), nearest, "{name}");
        }
    }
}
