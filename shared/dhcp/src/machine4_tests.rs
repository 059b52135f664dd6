use std::{net::Ipv4Addr, time::Duration};

use dhcproto::{
    Decodable,
    v4::{DhcpOption, Message, MessageType, OptionCode},
};

use proptest::prelude::*;

use crate::{
    Lease4, Moment,
    exchange::{Machine, Step},
    machine4::{Goal, Machine4, Outcome},
    message4::Identity,
    retry::Dice,
    testing4::{ADDRESS, MAC, SERVER, answer, identity},
};

const START: Moment = Moment::after_boot_ms(1_000_000);

fn machine_of(identity: Identity, goal: Goal) -> Machine4 {
    let until = START + Duration::from_secs(10);
    Machine4::new(identity, goal, START, until, Dice::seeded(7))
}

fn machine(goal: Goal) -> Machine4 {
    machine_of(identity(), goal)
}

fn sent(machine: &mut Machine4, now: Moment) -> Message {
    match machine.poll(now) {
        Step::Send(bytes) => {
            assert!(bytes.len() >= 300, "relays drop shorter ones");
            Message::from_bytes(&bytes).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn wait(machine: &mut Machine4, now: Moment) -> Moment {
    match machine.poll(now) {
        Step::Wait(until) => until,
        other => panic!("{other:?}"),
    }
}

fn bound(machine: &mut Machine4, now: Moment) -> Lease4 {
    match machine.poll(now) {
        Step::Done(Outcome::Bound(lease)) => *lease,
        other => panic!("{other:?}"),
    }
}

fn wanted(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::RequestedIpAddress) {
        Some(DhcpOption::RequestedIpAddress(ip)) => Some(*ip),
        _ => None,
    }
}

fn server(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(ip)) => Some(*ip),
        _ => None,
    }
}

#[test]
fn discover_offer_request_ack() {
    let mut machine = machine(Goal::Acquire(None));
    let discover = sent(&mut machine, START);
    assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
    assert_eq!((discover.chaddr(), discover.flags().broadcast()), (&MAC.0[..], false));
    let id = DhcpOption::ClientIdentifier(b"\0pod/eth0".to_vec());
    assert_eq!(discover.opts().get(OptionCode::ClientIdentifier), Some(&id));
    assert_eq!((wanted(&discover), server(&discover)), (None, None));
    let xid = discover.xid();
    let later = START + Duration::from_millis(300);
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), later);
    let request = sent(&mut machine, later);
    assert_eq!(request.opts().msg_type(), Some(MessageType::Request));
    assert_eq!((wanted(&request), server(&request), request.xid()), (Some(ADDRESS), Some(SERVER), xid));
    assert_eq!(request.ciaddr(), Ipv4Addr::UNSPECIFIED);
    let much_later = later + Duration::from_secs(1);
    machine.receive(&answer(MessageType::Ack, xid, ADDRESS, &[]), much_later);
    let lease = bound(&mut machine, much_later);
    assert_eq!((lease.address.to_string(), lease.server), ("10.0.0.50/24".to_owned(), SERVER));
    // The time counts from the request, not from the answer (RFC 2131, section 4.4.5).
    assert_eq!((lease.obtained, lease.expires - later), (later, Duration::from_hours(1)));
}

#[test]
fn what_was_said_to_be_sent_is_sent_except_what_is_the_protocols_own() {
    let mut identity = identity();
    identity.broadcast = true;
    let long = vec![b'x'; 300];
    let send: [(u8, &[u8]); 4] = [(12, b"pod-1"), (60, b"podwire"), (54, &[6, 6, 6, 6]), (43, &long)];
    identity.options.send = send.map(|(code, bytes)| (code, bytes.to_vec())).to_vec();
    identity.options.request = vec![1, 3, 42];
    let mut machine = machine_of(identity, Goal::Acquire(None));
    let discover = sent(&mut machine, START);
    assert!(discover.flags().broadcast());
    assert_eq!(discover.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("pod-1".to_owned())));
    let class = DhcpOption::ClassIdentifier(b"podwire".to_vec());
    assert_eq!(discover.opts().get(OptionCode::ClassIdentifier), Some(&class));
    let codes = [1, 3, 42].map(OptionCode::from).to_vec();
    let list = DhcpOption::ParameterRequestList(codes);
    assert_eq!(discover.opts().get(OptionCode::ParameterRequestList), Some(&list));
    assert_eq!(server(&discover), None);
    // In two parts (RFC 3396), which the library puts together again.
    assert_eq!(discover.opts().get(OptionCode::VendorExtensions), Some(&DhcpOption::VendorExtensions(long)));
}

#[test]
fn a_silent_network_is_asked_ever_less_often_until_the_time_is_over() {
    let mut machine = machine(Goal::Acquire(None));
    let (mut now, mut asked) = (START, Vec::new());
    let heard = loop {
        match machine.poll(now) {
            Step::Send(_) => asked.push((now - START).as_secs_f64()),
            Step::Wait(until) => now = until,
            Step::Done(Outcome::Silent(heard)) => break heard,
            other @ Step::Done(_) => panic!("{other:?}"),
        }
    };
    assert_eq!((now - START, heard.len()), (Duration::from_secs(10), 0));
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!((1.0..=3.0).contains(&asked[1]) && (3.0..=5.0).contains(&(asked[2] - asked[1])), "{asked:?}");
}

#[test]
fn the_seconds_field_says_for_how_long_it_was_asked() {
    let mut machine = machine(Goal::Acquire(None));
    sent(&mut machine, START);
    assert_eq!(sent(&mut machine, START + Duration::from_millis(4200)).secs(), 4);
}

#[test]
fn an_ack_from_another_server_or_of_another_address_is_passed_over() {
    let mut machine = machine(Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    // Before anything was requested.
    machine.receive(&answer(MessageType::Ack, xid, ADDRESS, &[]), START);
    wait(&mut machine, START);
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), START);
    sent(&mut machine, START);
    machine.receive(&answer(MessageType::Ack, xid, ADDRESS, &[(54, &[10, 0, 0, 2])]), START);
    machine.receive(&answer(MessageType::Nak, xid, Ipv4Addr::UNSPECIFIED, &[(54, &[10, 0, 0, 2])]), START);
    machine.receive(&answer(MessageType::Ack, xid, Ipv4Addr::new(10, 0, 0, 51), &[]), START);
    wait(&mut machine, START);
    machine.receive(&answer(MessageType::Ack, xid, ADDRESS, &[]), START);
    assert_eq!(bound(&mut machine, START).server, SERVER);
}

#[test]
fn what_is_not_ours_is_not_heard() {
    let mut machine = machine(Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    let offer = answer(MessageType::Offer, xid, ADDRESS, &[]);
    let changed = |at: usize, byte: u8| {
        let mut bytes = offer.clone();
        bytes[at] = byte;
        bytes
    };
    let others = [
        ("another transaction", changed(7, offer[7] ^ 1)),
        ("another MAC address", changed(33, offer[33] ^ 1)),
        ("a request", changed(0, 1)),
        ("another hardware", changed(1, 6)),
        ("a long hardware address", changed(2, 255)),
        ("another client id", answer(MessageType::Offer, xid, ADDRESS, &[(61, b"\0pod/eth1")])),
        ("bad magic", changed(236, 0)),
        ("cut off", offer[..239].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in others {
        machine.receive(&bytes, START);
        assert!(matches!(machine.poll(START), Step::Wait(_)), "{what}");
    }
    // A server that sends the identifier back, as it should (RFC 6842).
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[(61, b"\0pod/eth0")]), START);
    assert_eq!(wanted(&sent(&mut machine, START)), Some(ADDRESS));
}

#[test]
fn ten_thousand_bad_offers_leave_a_short_account_and_the_good_one_counts() {
    let mut machine = machine(Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    // An interpreter takes minutes for as many.
    let many = if cfg!(miri) { 6 } else { 10_000 };
    for number in 0_u32..many {
        let [_, b, c, d] = number.to_be_bytes();
        machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[(54, &[10, b, c, d]), (51, &[0; 4])]), START);
    }
    let Step::Done(Outcome::Silent(heard)) = machine.poll(START + Duration::from_secs(10)) else {
        panic!("it found a lease")
    };
    assert_eq!(heard.len(), 4);
    assert!(heard[0].contains("a lease of 0 s"), "{heard:?}");
    let mut machine = machine_of(identity(), Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[(51, &[0; 4])]), START);
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), START);
    assert_eq!(wanted(&sent(&mut machine, START)), Some(ADDRESS));
}

#[test]
fn a_server_that_refuses_its_own_offer_is_asked_again_at_once_and_then_in_less_hurry() {
    let mut machine = machine(Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    let refusal = answer(MessageType::Nak, xid, Ipv4Addr::UNSPECIFIED, &[(56, b"too\nlate")]);
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), START);
    sent(&mut machine, START);
    machine.receive(&refusal, START);
    assert_eq!(sent(&mut machine, START).opts().msg_type(), Some(MessageType::Discover));
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), START);
    sent(&mut machine, START);
    machine.receive(&refusal, START);
    assert_eq!(wait(&mut machine, START), START + Duration::from_secs(2));
    let Step::Done(Outcome::Silent(heard)) = machine.poll(START + Duration::from_secs(10)) else { panic!() };
    assert!(heard[0].contains("toolate"), "no line of a log can be forged: {heard:?}");
}

#[test]
fn a_server_that_offers_and_then_is_silent_is_given_up() {
    let mut identity = identity();
    identity.options.timeouts.request = Duration::from_secs(3);
    let mut machine = machine_of(identity, Goal::Acquire(None));
    let xid = sent(&mut machine, START).xid();
    machine.receive(&answer(MessageType::Offer, xid, ADDRESS, &[]), START);
    sent(&mut machine, START);
    let later = START + Duration::from_secs(3);
    assert!(wait(&mut machine, START) <= later);
    assert_eq!(sent(&mut machine, later).opts().msg_type(), Some(MessageType::Discover));
}

#[test]
fn a_lease_is_prolonged_from_its_address_and_may_come_back_as_another() {
    let mut machine = machine(Goal::Prolong(ADDRESS));
    let request = sent(&mut machine, START);
    assert_eq!(request.opts().msg_type(), Some(MessageType::Request));
    assert_eq!((request.ciaddr(), wanted(&request), server(&request)), (ADDRESS, None, None));
    let other = Ipv4Addr::new(10, 0, 0, 60);
    machine.receive(&answer(MessageType::Ack, request.xid(), other, &[]), START);
    assert_eq!(bound(&mut machine, START).address.ip(), other);
}

#[test]
fn a_refusal_ends_a_lease_only_if_it_says_whose_it_is() {
    let mut machine = machine(Goal::Prolong(ADDRESS));
    let xid = sent(&mut machine, START).xid();
    machine.receive(&answer(MessageType::Nak, xid, Ipv4Addr::UNSPECIFIED, &[(54, &[])]), START);
    wait(&mut machine, START);
    machine.receive(&answer(MessageType::Nak, xid, Ipv4Addr::UNSPECIFIED, &[(56, b"wrong network")]), START);
    assert_eq!(machine.poll(START), Step::Done(Outcome::Refused("wrong network".to_owned())));
}

#[test]
fn the_address_of_before_is_wished_for() {
    let mut machine = machine(Goal::Acquire(Some(ADDRESS)));
    assert_eq!(wanted(&sent(&mut machine, START)), Some(ADDRESS));
}

proptest! {
    #[test]
    fn whatever_comes_it_ends_in_time(
        goal in 0..2,
        answers in prop::collection::vec((1_u8..9, any::<u8>(), any::<u8>(), 0_u64..3000), 0..30),
    ) {
        let goal = if goal == 0 { Goal::Acquire(None) } else { Goal::Prolong(ADDRESS) };
        let (mut machine, mut now, mut sent) = (machine(goal), START, 0);
        let mut answers = answers.into_iter();
        loop {
            match machine.poll(now) {
                Step::Done(outcome) => {
                    prop_assert!(!matches!(outcome, Outcome::Silent(_)) || now >= START + Duration::from_secs(10));
                    break;
                }
                Step::Send(_) => sent += 1,
                Step::Wait(until) => {
                    prop_assert!(until > now, "it would turn in circles");
                    now = match answers.next() {
                        Some((kind, address, server, pause)) => {
                            let options: [(u8, &[u8]); 1] = [(54, &[10, 0, 0, server % 3])];
                            let address = Ipv4Addr::new(10, 0, 0, address % 4);
                            machine.receive(&answer(MessageType::from(kind), machine.xid(), address, &options), now);
                            until.min(now + Duration::from_millis(pause))
                        }
                        None => until,
                    };
                }
            }
            prop_assert!(sent < 100, "it floods the network");
        }
    }
}
