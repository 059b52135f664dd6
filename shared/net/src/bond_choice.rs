//! Options of a bond that have one of several values, which the kernel numbers and names.

/// One of several values that the kernel numbers from 0 and names in its
/// [documentation](https://docs.kernel.org/networking/bonding.html).
pub trait Choice: Copy + 'static {
    /// Every value, in the order of its number.
    const ALL: &'static [Self];
    /// Their names, in the same order.
    const NAMES: &'static [&'static str];

    /// The kernel's number for it.
    fn number(self) -> u8;

    /// The kernel's name for it.
    fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.number())]
    }

    /// The value with this number.
    fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The value with this name, or with this number as text.
    fn of_text(text: &str) -> Option<Self> {
        match Self::NAMES.iter().position(|name| *name == text) {
            Some(place) => Self::ALL.get(place).copied(),
            None => text.parse().ok().and_then(Self::of_number),
        }
    }
}

/// An enum whose variants are numbered as they stand, with the kernel's names.
macro_rules! choice {
    ($(#[$doc:meta])* $kind:ident { $($(#[$note:meta])* $value:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[$note])* $value),+ }

        impl Choice for $kind {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            const NAMES: &'static [&'static str] = &[$($name),+];

            fn number(self) -> u8 {
                self as u8
            }
        }
    };
}

choice! {
    /// How a bond uses its links.
    BondMode {
        /// One frame here, the next there.
        BalanceRr = "balance-rr",
        /// One link works, the others wait.
        ActiveBackup = "active-backup",
        /// By a hash of the addresses.
        BalanceXor = "balance-xor",
        /// Every frame on every link.
        Broadcast = "broadcast",
        /// Link aggregation with the switch (LACP).
        Lacp = "802.3ad",
        /// What is sent is spread by load.
        BalanceTlb = "balance-tlb",
        /// As before, and what is received too, by answers to ARP.
        BalanceAlb = "balance-alb",
    }
}

impl BondMode {
    /// Why a bond of this mode is no good port of a bridge; `None` for those that are.
    pub fn harm_to_bridge(self) -> Option<&'static str> {
        match self {
            Self::BalanceRr => Some(
                "frames of one sender leave by every link in turn, and without a link aggregation on the switch it sees \
                 that sender's address move from port to port all the time",
            ),
            Self::Broadcast => Some(
                "every frame leaves by every link, and comes back by one of them to the bridge, which then looks for its \
                 sender outside",
            ),
            Self::BalanceTlb => Some(
                "the mode sends with the addresses of its links in place of the sender's, which behind a bridge is \
                 somebody else, and frames that the bridge floods come back by another link",
            ),
            Self::BalanceAlb => Some(
                "the mode answers ARP with the addresses of its links, which it cannot do for those behind the bridge, \
                 and frames that the bridge floods come back by another link",
            ),
            Self::ActiveBackup | Self::BalanceXor | Self::Lacp => None,
        }
    }
}

choice! {
    /// Which MAC address the active link of [`BondMode::ActiveBackup`] has.
    FailOverMac {
        /// All links have the bond's.
        None = "none",
        /// Each has its own, and the bond has the active one's.
        Active = "active",
        /// Each has its own until it becomes active, when it gets the bond's.
        Follow = "follow",
    }
}

choice! {
    /// What decides by which link a frame leaves.
    XmitHashPolicy {
        /// MAC addresses.
        Layer2 = "layer2",
        /// IP addresses and ports.
        Layer34 = "layer3+4",
        /// MAC and IP addresses.
        Layer23 = "layer2+3",
        /// As `Layer23`, of the packet inside a tunnel.
        Encap23 = "encap2+3",
        /// As `Layer34`, of the packet inside a tunnel.
        Encap34 = "encap3+4",
        /// VLAN and sender's MAC address.
        VlanSourceMac = "vlan+srcmac",
    }
}

choice! {
    /// Which ARP frames count as a sign of life.
    ArpValidate {
        /// Any traffic counts.
        None = "none",
        /// Validated on the active link.
        Active = "active",
        /// Validated on the waiting links.
        Backup = "backup",
        /// Validated on all.
        All = "all",
        /// Only ARP counts.
        Filter = "filter",
        /// Only ARP counts, validated on the active link.
        FilterActive = "filter_active",
        /// Only ARP counts, validated on the waiting links.
        FilterBackup = "filter_backup",
    }
}

choice! {
    /// When the primary link becomes active again.
    PrimaryReselect {
        /// Whenever it is up.
        Always = "always",
        /// When it is faster than the active one.
        Better = "better",
        /// When the active one fails.
        Failure = "failure",
    }
}

choice! {
    /// How often the switch is asked to send LACP frames.
    LacpRate {
        /// Every 30 seconds.
        Slow = "slow",
        /// Every second.
        Fast = "fast",
    }
}

choice! {
    /// Which aggregation becomes active.
    AdSelect {
        /// The one with the greatest bandwidth, when the active one has no link any more.
        Stable = "stable",
        /// The one with the greatest bandwidth, at every change.
        Bandwidth = "bandwidth",
        /// The one with the most links, at every change.
        Count = "count",
    }
}
