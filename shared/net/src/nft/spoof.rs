//! Source checks: a port of a bridge lets in only frames with its pod's own MAC address.
//!
//! ```text
//! table bridge podwire {
//!   set allowed { type ifname . ether_addr; elements = { "veth1" . 02:00:00:00:00:01 comment "podwire:net:id:eth0" } }
//!   set guarded { type ifname; elements = { "veth1" comment "podwire:net:id:eth0" } }
//!   chain prerouting { type filter hook prerouting priority dstnat;
//!     iifname . ether saddr @allowed accept; iifname @guarded drop; }
//! }
//! ```

use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{InetHookNumber, MetaKey, Register, Verdict},
};
use podwire_spec::Mac;

use super::{
    add_elements,
    build::{Base, Op, TYPE_IFNAME, lookup, meta, payload, verdict},
    remove_elements,
    transaction::{Element, Nft},
};
use crate::Result;

const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Bridge;
const BASE_CHAIN: &str = "prerouting";
/// Before everything else on a bridge: `NF_BR_PRI_NAT_DST_BRIDGED` in `linux/netfilter_bridge.h`.
const PRIORITY: i32 = -300;
const ALLOWED: &str = "allowed";
const GUARDED: &str = "guarded";
pub(super) const SETS: [&str; 2] = [ALLOWED, GUARDED];
/// `IFNAMSIZ`.
const NAME_LEN: usize = 16;
/// The `nft` tool's number of the type "Ethernet address".
const TYPE_ETHER: u32 = 9;
/// `NF_ACCEPT` and `NF_DROP` in `linux/netfilter.h`.
const ACCEPT: Verdict = Verdict::Other(1);
const DROP: Verdict = Verdict::Other(0);

/// Lets only frames from `mac` in by the port named `port`. `label` is whose it is. Returns whether the table is new.
///
/// # Errors
/// Of the transaction, which is done whole or not at all.
pub async fn add(nft: &Nft, port: &str, mac: Mac, label: &str) -> Result<bool> {
    let element = |key| Element { key, goto: None, comment: label.to_owned() };
    let elements = [(ALLOWED.to_owned(), element(pair(port, mac))), (GUARDED.to_owned(), element(padded(port)))];
    add_elements(nft, || missing(nft), FAMILY, &elements).await
}

/// Ends the checks of what belongs to a label that `is_doomed`. Returns how many elements there were.
///
/// # Errors
/// Of the transaction.
pub async fn remove(nft: &Nft, is_doomed: impl Fn(&str) -> bool) -> Result<usize> {
    remove_elements(nft, FAMILY, &SETS, is_doomed, |_, _| Vec::new()).await
}

/// Whether the port is checked against this MAC address.
///
/// # Errors
/// Of the request.
pub fn is_checked(nft: &Nft, port: &str, mac: Mac) -> Result<bool> {
    let has = |set, key: Vec<u8>| -> Result<bool> {
        Ok(nft.elements(FAMILY, set)?.iter().any(|element| element.key.starts_with(&key)))
    };
    Ok(has(ALLOWED, pair(port, mac))? && has(GUARDED, padded(port))?)
}

fn missing(nft: &Nft) -> Result<Vec<Op>> {
    if nft.has_chain(FAMILY, BASE_CHAIN)? {
        return Ok(Vec::new());
    }
    Ok(vec![
        Op::add_table(),
        Op::add_base_chain(BASE_CHAIN, "filter", InetHookNumber::PreRouting, PRIORITY),
        // A concatenation has six bits for each type.
        Op::add_set(ALLOWED, TYPE_IFNAME << 6 | TYPE_ETHER, 24, false),
        Op::add_set(GUARDED, TYPE_IFNAME, 16, false),
        // Registers of four bytes: the name takes 00 to 03, the address of six bytes 04 and 05.
        Op::add_rule(
            BASE_CHAIN,
            vec![
                meta(MetaKey::Iifname, Register::Reg32_00),
                payload(Base::Link, 6, 6, Register::Reg32_04),
                lookup(ALLOWED, Register::Reg32_00, false),
                verdict(ACCEPT),
            ],
        ),
        Op::add_rule(
            BASE_CHAIN,
            vec![meta(MetaKey::Iifname, Register::Reg1), lookup(GUARDED, Register::Reg1, false), verdict(DROP)],
        ),
    ])
}

fn padded(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(NAME_LEN, 0);
    key
}

fn pair(port: &str, mac: Mac) -> Vec<u8> {
    let mut key = padded(port);
    key.extend(mac.0);
    key.extend([0; 2]);
    key
}
