//! Masquerade: what a pod sends out of its own network leaves with the node's address.
//!
//! ```text
//! table inet podwire {
//!   map pods4 { type ipv4_addr : verdict; elements = { 10.1.0.5 comment "podwire:net:id:eth0" : goto leaving_10.1.0.0/16 } }
//!   map pods6 { ... }
//!   chain postrouting { type nat hook postrouting priority srcnat; ip saddr vmap @pods4; ip6 saddr vmap @pods6; }
//!   chain leaving_10.1.0.0/16 { ip daddr 10.1.0.0/16 return; ip daddr 224.0.0.0/4 return; masquerade fully-random; }
//! }
//! ```

use std::net::IpAddr;

use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{InetHookNumber, MetaKey, Register, Verdict},
};
use podwire_spec::Cidr;

use super::{
    add_elements,
    build::{Base, Expression, Op, equals, lookup, mask, masquerade, meta, payload, verdict},
    remove_elements,
    transaction::{Element, Nft},
};
use crate::Result;

const FAMILY: NetfilterProtoFamily = NetfilterProtoFamily::Inet;
const BASE_CHAIN: &str = "postrouting";
/// `NF_IP_PRI_NAT_SRC` in `linux/netfilter_ipv4.h`.
const PRIORITY: i32 = 100;
pub(super) const SETS: [&str; 2] = [V4.set, V6.set];

/// What differs between the families: numbers from RFC 791, RFC 8200 and `linux/netfilter.h`.
struct Layout {
    set: &'static str,
    /// `TYPE_IPADDR` and `TYPE_IP6ADDR` of the nft tool.
    key_type: u32,
    len: u32,
    nfproto: u8,
    source: u32,
    destination: u32,
    multicast: (&'static [u8], &'static [u8]),
}

const V4: Layout = Layout {
    set: "pods4",
    key_type: 7,
    len: 4,
    nfproto: 2,
    source: 12,
    destination: 16,
    multicast: (&[224, 0, 0, 0], &[240, 0, 0, 0]),
};

const V6: Layout = Layout {
    set: "pods6",
    key_type: 8,
    len: 16,
    nfproto: 10,
    source: 8,
    destination: 24,
    multicast: (
        &[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
};

fn layout(ip: IpAddr) -> &'static Layout {
    if ip.is_ipv4() { &V4 } else { &V6 }
}

/// Masquerades each of a pod's addresses, except towards its own network and multicast. `label` is whose they are. Returns whether the table is new.
///
/// # Errors
/// Of the transaction, which is done whole or not at all.
pub async fn add(nft: &Nft, addresses: &[Cidr], label: &str) -> Result<bool> {
    let elements: Vec<_> = addresses
        .iter()
        .map(|address| {
            let element = Element {
                key: octets(address.ip()),
                goto: Some(chain_of(address.network())),
                comment: label.to_owned(),
            };
            (layout(address.ip()).set.to_owned(), element)
        })
        .collect();
    add_elements(nft, || missing(nft, addresses), FAMILY, &elements).await
}

/// Stops masquerading what belongs to a label that `is_doomed`, and removes chains that nobody needs any more. Returns
/// how many addresses there were.
///
/// # Errors
/// Of the transaction.
pub async fn remove(nft: &Nft, is_doomed: impl Fn(&str) -> bool) -> Result<usize> {
    remove_elements(nft, FAMILY, &SETS, is_doomed, |doomed, rest| {
        let mut chains: Vec<_> = doomed.iter().filter_map(|element| element.goto.as_deref()).collect();
        chains.sort_unstable();
        chains.dedup();
        chains.retain(|chain| !rest.iter().any(|element| element.goto.as_deref() == Some(chain)));
        chains.into_iter().map(Op::delete_chain).collect()
    })
    .await
}

/// The addresses that are masqueraded, with the label of each.
///
/// # Errors
/// Of the request.
pub fn list(nft: &Nft) -> Result<Vec<(IpAddr, String)>> {
    let mut all = Vec::new();
    for set in SETS {
        for element in nft.elements(FAMILY, set)? {
            let ip = <[u8; 4]>::try_from(element.key.as_slice())
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(element.key.as_slice()).map(IpAddr::from));
            all.extend(ip.ok().map(|ip| (ip, element.comment)));
        }
    }
    Ok(all)
}

/// What is missing of the skeleton for these addresses.
fn missing(nft: &Nft, addresses: &[Cidr]) -> Result<Vec<Op>> {
    let mut networks: Vec<_> = addresses.iter().map(|address| address.network()).collect();
    networks.sort_unstable();
    networks.dedup();
    let mut ops = Vec::new();
    for network in networks {
        if !nft.has_chain(FAMILY, &chain_of(network))? {
            ops.extend(network_chain(network));
        }
    }
    // Where one of the chains is there the base is too.
    if !ops.is_empty() && !nft.has_chain(FAMILY, BASE_CHAIN)? {
        ops.splice(0..0, skeleton());
    }
    Ok(ops)
}

fn skeleton() -> Vec<Op> {
    let mut ops = vec![Op::add_table(), Op::add_base_chain(BASE_CHAIN, "nat", InetHookNumber::PostRouting, PRIORITY)];
    for layout in [V4, V6] {
        ops.push(Op::add_set(layout.set, layout.key_type, layout.len, true));
        ops.push(Op::add_rule(
            BASE_CHAIN,
            vec![
                meta(MetaKey::Nfproto, Register::Reg1),
                equals(&[layout.nfproto]),
                payload(Base::Network, layout.source, layout.len, Register::Reg1),
                lookup(layout.set, Register::Reg1, true),
            ],
        ));
    }
    ops
}

fn network_chain(network: Cidr) -> Vec<Op> {
    let chain = chain_of(network);
    let layout = layout(network.ip());
    let stays = |bytes: &[u8], bits: &[u8]| -> Vec<Expression> {
        vec![
            meta(MetaKey::Nfproto, Register::Reg1),
            equals(&[layout.nfproto]),
            payload(Base::Network, layout.destination, layout.len, Register::Reg1),
            mask(bits),
            equals(bytes),
            verdict(Verdict::Return),
        ]
    };
    vec![
        Op::add_chain(&chain),
        Op::add_rule(&chain, stays(&octets(network.ip()), &octets(network.0.mask()))),
        Op::add_rule(&chain, stays(layout.multicast.0, layout.multicast.1)),
        Op::add_rule(&chain, vec![masquerade()]),
    ]
}

/// The chain for what leaves a network. The nft tool takes no colon in a name.
fn chain_of(network: Cidr) -> String {
    format!("leaving_{network}").replace(':', "-")
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
