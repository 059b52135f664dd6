use std::{net::Ipv6Addr, time::Duration};

use dhcproto::{
    Decodable,
    v6::{DhcpOption, Message, MessageType, OptionCode},
};

use crate::{
    Lease6, Moment, Options6,
    exchange::{Machine, Step},
    machine6::{Goal, Machine6, Outcome},
    retry::Dice,
    testing6::{ADDRESS, SERVER, address, answer, answer_from, association, hour, said, status},
};

const START: Moment = Moment::after_boot_ms(1_000_000);

fn machine_of(said: Options6, goal: Goal) -> Machine6 {
    Machine6::new(said, goal, START, START + Duration::from_secs(10), Dice::seeded(7))
}

fn machine(goal: Goal) -> Machine6 {
    machine_of(said(), goal)
}

fn sent(machine: &mut Machine6, now: Moment) -> Message {
    match machine.poll(now) {
        Step::Send(bytes) => Message::from_bytes(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn waits(machine: &mut Machine6, now: Moment) -> bool {
    matches!(machine.poll(now), Step::Wait(_))
}

fn bound(machine: &mut Machine6, now: Moment) -> Lease6 {
    match machine.poll(now) {
        Step::Done(Outcome::Bound(lease)) => *lease,
        other => panic!("{other:?}"),
    }
}

fn has(message: &Message, code: OptionCode) -> bool {
    message.opts().get(code).is_some()
}

fn addresses(message: &Message) -> Vec<Ipv6Addr> {
    let Some(DhcpOption::IANA(association)) = message.opts().get(OptionCode::IANA) else { panic!("{message:?}") };
    assert_eq!(association.id, said().iaid);
    let all = association.opts.iter();
    all.filter_map(|option| if let DhcpOption::IAAddr(address) = option { Some(address.addr) } else { None }).collect()
}

fn server(message: &Message) -> Option<Vec<u8>> {
    match message.opts().get(OptionCode::ServerId) {
        Some(DhcpOption::ServerId(id)) => Some(id.clone()),
        _ => None,
    }
}

#[test]
fn solicit_advertise_request_reply() {
    let mut machine = machine(Goal::Acquire(vec![]));
    let solicit = sent(&mut machine, START);
    assert_eq!((solicit.msg_type(), addresses(&solicit), server(&solicit)), (MessageType::Solicit, vec![], None));
    assert_eq!(solicit.opts().get(OptionCode::ClientId), Some(&DhcpOption::ClientId(said().duid)));
    assert!(has(&solicit, OptionCode::RapidCommit) && has(&solicit, OptionCode::ORO));
    let later = START + Duration::from_millis(300);
    machine.receive(&answer(MessageType::Advertise, solicit.xid(), vec![hour()]), later);
    let request = sent(&mut machine, later);
    assert_eq!((request.msg_type(), addresses(&request)), (MessageType::Request, vec![ADDRESS]));
    assert_eq!(server(&request).as_deref(), Some(SERVER));
    assert_ne!(request.xid(), solicit.xid(), "each exchange is a transaction of its own (RFC 8415, section 16.1)");
    assert!(!has(&request, OptionCode::RapidCommit));
    let much_later = later + Duration::from_secs(1);
    machine.receive(&answer(MessageType::Reply, request.xid(), vec![hour()]), much_later);
    let lease = bound(&mut machine, much_later);
    assert_eq!((lease.addresses[0].cidr.ip(), lease.obtained), (ADDRESS.into(), later));
    assert_eq!(lease.server, SERVER);
}

#[test]
fn a_rapid_reply_counts_only_where_both_sides_want_it() {
    let rapid = || vec![hour(), DhcpOption::RapidCommit];
    let mut eager = machine(Goal::Acquire(vec![]));
    let xid = sent(&mut eager, START).xid();
    eager.receive(&answer(MessageType::Reply, xid, vec![hour()]), START);
    assert!(waits(&mut eager, START), "no rapid commit in it");
    eager.receive(&answer(MessageType::Reply, xid, rapid()), START);
    bound(&mut eager, START);
    let mut patient = machine_of(Options6 { rapid_commit: false, ..said() }, Goal::Acquire(vec![]));
    let solicit = sent(&mut patient, START);
    assert!(!has(&solicit, OptionCode::RapidCommit));
    patient.receive(&answer(MessageType::Reply, solicit.xid(), rapid()), START);
    assert!(waits(&mut patient, START));
}

#[test]
fn what_is_not_ours_is_not_heard() {
    let mut machine = machine(Goal::Acquire(vec![]));
    let xid = sent(&mut machine, START).xid();
    let mut client = Message::new_with_id(MessageType::Advertise, xid);
    client.opts_mut().insert(DhcpOption::ServerId(SERVER.to_vec()));
    client.opts_mut().insert(hour());
    let anonymous = dhcproto::Encodable::to_vec(&client).unwrap();
    client.opts_mut().insert(DhcpOption::ClientId(vec![0, 4, 1, 2, 3]));
    let others = [
        ("another transaction", answer(MessageType::Advertise, [xid[0], xid[1], xid[2] ^ 1], vec![hour()])),
        ("no client", anonymous),
        ("another client", dhcproto::Encodable::to_vec(&client).unwrap()),
        ("no server", answer_from(&[], MessageType::Advertise, xid, vec![hour()])),
        ("a solicitation", answer(MessageType::Solicit, xid, vec![hour()])),
        ("nothing", vec![]),
    ];
    for (what, bytes) in others {
        machine.receive(&bytes, START);
        assert!(waits(&mut machine, START), "{what}");
    }
    machine.receive(&answer(MessageType::Advertise, xid, vec![hour()]), START);
    let request = sent(&mut machine, START);
    let another = answer_from(&[0, 2, 6, 6, 6], MessageType::Reply, request.xid(), vec![hour()]);
    machine.receive(&another, START);
    assert!(waits(&mut machine, START), "another server");
}

#[test]
fn a_network_without_addresses_is_named_in_the_end() {
    let mut machine = machine(Goal::Acquire(vec![]));
    let xid = sent(&mut machine, START).xid();
    let none = association(0, 0, vec![status(2, "pool is empty")]);
    // An interpreter takes minutes for as many.
    let many = if cfg!(miri) { 6 } else { 10_000 };
    for _ in 0..many {
        machine.receive(&answer(MessageType::Advertise, xid, vec![none.clone()]), START);
    }
    assert!(waits(&mut machine, START));
    let Step::Done(Outcome::Silent(heard)) = machine.poll(START + Duration::from_secs(10)) else { panic!() };
    assert_eq!(heard, ["an offer: NoAddrsAvail (\"pool is empty\")"]);
}

#[test]
fn a_server_that_refuses_its_own_offer_is_asked_again_at_once_and_then_in_less_hurry() {
    let mut machine = machine(Goal::Acquire(vec![]));
    let refusal = || vec![association(0, 0, vec![status(2, "")])];
    let mut now = START;
    for pause in [0, 2, 4] {
        let solicit = sent(&mut machine, now);
        assert_eq!(solicit.msg_type(), MessageType::Solicit);
        machine.receive(&answer(MessageType::Advertise, solicit.xid(), vec![hour()]), now);
        let request = sent(&mut machine, now);
        machine.receive(&answer(MessageType::Reply, request.xid(), refusal()), now);
        let then = now + Duration::from_secs(pause);
        if pause > 0 {
            assert_eq!(machine.poll(now), Step::Wait(then));
        }
        now = then;
    }
}

#[test]
fn a_lease_is_renewed_by_its_server_and_rebound_by_any() {
    let mut renewing = machine(Goal::Prolong(vec![ADDRESS], Some(SERVER.to_vec())));
    let renew = sent(&mut renewing, START);
    assert_eq!((renew.msg_type(), addresses(&renew)), (MessageType::Renew, vec![ADDRESS]));
    assert_eq!(server(&renew).as_deref(), Some(SERVER));
    renewing.receive(&answer_from(&[0, 2, 6, 6, 6], MessageType::Reply, renew.xid(), vec![hour()]), START);
    assert!(waits(&mut renewing, START));
    // It cannot help right now; then it can.
    renewing.receive(&answer(MessageType::Reply, renew.xid(), vec![status(1, "busy")]), START);
    assert!(waits(&mut renewing, START));
    renewing.receive(&answer(MessageType::Reply, renew.xid(), vec![hour()]), START);
    bound(&mut renewing, START);

    let mut rebinding = machine(Goal::Prolong(vec![ADDRESS], None));
    let rebind = sent(&mut rebinding, START);
    assert_eq!((rebind.msg_type(), server(&rebind)), (MessageType::Rebind, None));
    rebinding.receive(&answer_from(&[0, 2, 7, 7, 7], MessageType::Reply, rebind.xid(), vec![hour()]), START);
    assert_eq!(bound(&mut rebinding, START).server, [0, 2, 7, 7, 7]);
}

#[test]
fn a_server_that_knows_of_no_lease_or_withdraws_it_ends_it() {
    let gone = [vec![status(3, "")], vec![address(ADDRESS, 0, 0)]];
    for (options, words) in gone.into_iter().zip(["NoBinding", "every address is withdrawn"]) {
        let mut machine = machine(Goal::Prolong(vec![ADDRESS], None));
        let xid = sent(&mut machine, START).xid();
        machine.receive(&answer(MessageType::Reply, xid, vec![association(0, 0, options)]), START);
        assert_eq!(machine.poll(START), Step::Done(Outcome::Refused(words.to_owned())));
    }
}

#[test]
fn addresses_are_given_back_to_their_server_whatever_it_says() {
    let mut machine = machine(Goal::Release(vec![ADDRESS], SERVER.to_vec()));
    let release = sent(&mut machine, START);
    assert_eq!((release.msg_type(), addresses(&release)), (MessageType::Release, vec![ADDRESS]));
    assert_eq!(server(&release).as_deref(), Some(SERVER));
    machine.receive(&answer(MessageType::Reply, release.xid(), vec![status(3, "")]), START);
    assert_eq!(machine.poll(START), Step::Done(Outcome::Released));
}

#[test]
fn what_was_said_to_be_sent_is_sent_except_what_is_the_protocols_own() {
    let send = vec![(15, b"\0\x03abc".to_vec()), (2, b"evil".to_vec())];
    let mut machine = machine_of(Options6 { send, ..said() }, Goal::Acquire(vec![ADDRESS]));
    let solicit = sent(&mut machine, START);
    let Some(DhcpOption::UserClass(class)) = solicit.opts().get(OptionCode::UserClass) else { panic!("{solicit:?}") };
    assert_eq!(class.data, [b"abc".to_vec()]);
    assert_eq!((server(&solicit), addresses(&solicit)), (None, vec![ADDRESS]));
}

#[test]
fn the_time_for_which_it_was_asked_is_told_in_hundredths() {
    let mut machine = machine(Goal::Acquire(vec![]));
    sent(&mut machine, START);
    let again = sent(&mut machine, START + Duration::from_millis(2500));
    assert_eq!(again.opts().get(OptionCode::ElapsedTime), Some(&DhcpOption::ElapsedTime(250)));
}
