//! The resources that are compared, and the outcome of a comparison.

/// A piece of state that wontun sets up on the host, in the order in which resources are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostResource {
    /// The table of the kill switch. Reported by `NFNLGRP_NFTABLES`.
    KillSwitch,
    /// The TUN device: up, with the configured MTU; its owner and queues can only be compared.
    /// Reported by `RTNLGRP_LINK`.
    Device,
    /// The device's addresses. Reported by `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR`.
    Addresses,
    /// Routes and policy rules. Reported by `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV4_RULE` and IPv6's.
    Routing,
    /// The tables of the guard, of NAT and of policy routing's marks. Reported by
    /// `NFNLGRP_NFTABLES`.
    Tables,
    /// Settings that were turned on: forwarding, reported by `RTNLGRP_IPV4_NETCONF` and IPv6's, and
    /// `src_valid_mark`, whose changes the kernel does not report.
    Settings,
}

/// A condition that the tunnel relies on and that wontun does not manage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// This host forwards, and no other program's chain drops packets from the tunnel.
    Forwarding,
    /// No other program's chain drops packets to the UDP port.
    Port,
    /// The tunnel's networks do not overlap those of other devices.
    Networks,
    /// The name servers of the file are those of this host.
    NameServers,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReconcileOutcome {
    /// Description of the resources that were missing and are restored.
    pub repaired: Option<String>,
    /// Error of restoring something that is missing.
    pub error: Option<String>,
    /// True if something is missing that was not to be restored yet.
    pub is_missing: bool,
}

impl HostResource {
    pub(super) const ALL: [Self; 6] =
        [Self::KillSwitch, Self::Device, Self::Addresses, Self::Routing, Self::Tables, Self::Settings];

    /// Returns true if it is restored at once, regardless of the rate limit. For routing, that
    /// applies to policy rules and the routes of their table.
    pub(super) const fn is_urgent(self) -> bool {
        matches!(self, Self::KillSwitch)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::KillSwitch => "the kill switch",
            Self::Device => "the device",
            Self::Addresses => "addresses",
            Self::Routing => "routes or policy rules",
            Self::Tables => "nf_tables tables",
            Self::Settings => "settings",
        }
    }

    /// Returns a sentence about a repair, to be followed by the resources that were restored.
    pub(super) const fn repaired(self) -> &'static str {
        match self {
            Self::KillSwitch => "the kill switch was deleted or changed by another program, and was restored",
            Self::Device => "the device was set down or changed by another program, and was restored",
            Self::Addresses => "addresses were deleted by another program, and were restored",
            Self::Routing => "routes or policy rules were deleted by another program, and were restored",
            Self::Tables => "nf_tables tables were deleted or changed by another program, and were restored",
            Self::Settings => "settings were turned off by another program, and were restored",
        }
    }

    /// Returns advice on how to make other programs leave it alone.
    pub(super) fn advice(self, tun: &str) -> String {
        match self {
            Self::KillSwitch | Self::Tables => {
                "have the other program replace its own tables only (nft delete table instead of nft flush ruleset)"
                    .to_owned()
            }
            Self::Device | Self::Addresses => format!(
                "if it is a network manager, have it leave {tun} alone (NetworkManager: \
                 unmanaged-devices=interface-name:{tun}; systemd-networkd: [Link] Unmanaged=yes)"
            ),
            Self::Routing => "if it is systemd-networkd, set ManageForeignRoutingPolicyRules=no and \
                              ManageForeignRoutes=no in networkd.conf"
                .to_owned(),
            Self::Settings => "look for a file in /etc/sysctl.d, or a firewall, that turns them off".to_owned(),
        }
    }
}

impl Requirement {
    pub(super) const ALL: [Self; 4] = [Self::Forwarding, Self::Port, Self::Networks, Self::NameServers];
}
