//! What a server's packets meet, for programs that try much input in little time, such as fuzzers. Nothing is sent.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use podwire_spec::Mac;

use crate::{
    Lease4, Lease6, Moment, Options4, Options6, Router,
    exchange::{Machine, Step},
    machine4::{self, Machine4},
    machine6::{self, Machine6},
    message4::Identity,
    retry::Dice,
    udp,
};

const SERVER: u16 = 68;
const IDENTIFIER: &[u8] = b"\0pod/eth0";

/// The client of these rehearsals has this MAC address.
pub const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

/// Takes in what a packet socket gives: an IPv4 packet, and the message in it.
pub fn packet4(bytes: &[u8]) -> Option<Lease4> {
    udp::unwrap(bytes, SERVER).ok().and_then(|(_, message)| messages4(&[message]))
}

/// Takes in messages of DHCPv4 servers, the client's transaction number put in where theirs stands; the lease that
/// comes of it.
pub fn messages4(messages: &[&[u8]]) -> Option<Lease4> {
    let identity = Identity { mac: MAC, broadcast: false, options: Options4::new(IDENTIFIER) };
    let (now, until) = spans();
    let goal = machine4::Goal::Acquire(Some(Ipv4Addr::new(10, 0, 0, 50)));
    let mut machine = Machine4::new(identity, goal, now, until, Dice::new());
    for message in messages {
        drop(machine.poll(now));
        let mut message = message.to_vec();
        if let Some(number) = message.get_mut(4..8) {
            number.copy_from_slice(&machine.xid().to_be_bytes());
        }
        machine.receive(&message, now);
    }
    match machine.poll(until) {
        Step::Done(machine4::Outcome::Bound(lease)) => Some(*lease),
        _ => None,
    }
}

/// The same for DHCPv6.
pub fn messages6(messages: &[&[u8]]) -> Option<Lease6> {
    let (now, until) = spans();
    let goal = machine6::Goal::Acquire(Vec::new());
    let mut machine = Machine6::new(Options6::new(IDENTIFIER, "eth0"), goal, now, until, Dice::new());
    for message in messages {
        drop(machine.poll(now));
        let mut message = message.to_vec();
        if let Some(number) = message.get_mut(1..4) {
            number.copy_from_slice(&machine.xid());
        }
        machine.receive(&message, now);
    }
    match machine.poll(until) {
        Step::Done(machine6::Outcome::Bound(lease)) => Some(*lease),
        _ => None,
    }
}

/// Reads a router's advertisement.
pub fn advertisement(bytes: &[u8]) -> Option<Router> {
    Router::read(bytes, IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))).ok()
}

fn spans() -> (Moment, Moment) {
    let now = Moment::after_boot(Duration::from_hours(1));
    (now, now + Duration::from_mins(1))
}
