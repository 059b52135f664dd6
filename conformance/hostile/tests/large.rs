//! Long lists of whatever may stand there many times: what is four times as long takes about four times as long to read or
//! to refuse, so that nothing is done for each pair of entries, and as much as stdin can hold is done with in seconds.

use std::{cell::Cell, fmt::Write, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// How long the longer text is; the other one is a quarter of it.
const LENGTH: usize = 1 << 19;
/// What takes less is no worry, and too short to be measured.
const LITTLE: Duration = Duration::from_millis(200);
/// For a machine whose memory is shared with others. With each pair it would be 16.
const MOST_TIMES: u32 = 9;

thread_local! {
    static ROOM: Cell<usize> = const { Cell::new(LENGTH) };
}

/// A list or an object's inside of `item(n)`, as long as there is room for it.
fn many(item: impl Fn(usize) -> String) -> String {
    let mut all = String::new();
    let mut n = 0;
    while all.len() < ROOM.get() {
        let separator = if n == 0 { "" } else { "," };
        write!(all, "{separator}{}", item(n)).unwrap();
        n += 1;
    }
    all
}

/// The time that this thread has worked, which does not depend on what else the machine does.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn measure(target: &str, room: usize, inside: &impl Fn() -> String) -> Duration {
    ROOM.set(room);
    let text = format!("{{\"cniVersion\": \"1.1.0\", \"name\": \"n\", \"type\": \"bridge\", {}}}", inside());
    let start = worked();
    hostile::run(target, text.as_bytes());
    worked().saturating_sub(start)
}

fn is_in_proportion(target: &str, inside: impl Fn() -> String) {
    let mut found = Vec::new();
    // What others do to the memory's caches shows in one of them, and work for each pair in all.
    for _ in 0..3 {
        let long = measure(target, LENGTH, &inside);
        let short = measure(target, LENGTH / 4, &inside);
        if long < LITTLE || long < short * MOST_TIMES {
            return;
        }
        found.push((short, long));
    }
    panic!("{target}: for a text, and for one four times as long: {found:?}");
}

/// The n-th IPv4 address of a network of 8 bits.
fn address(first: u8, n: usize) -> String {
    format!("{first}.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255)
}

#[test]
fn p06_unknown_keys() {
    is_in_proportion("bridge", || many(|n| format!("\"isGatewy{n}\": {n}")));
    is_in_proportion("bridge", || format!("\"{}\": 1", many(|_| "isGateway".to_owned())));
}

#[test]
fn p05_keys_that_stand_there_again_and_again() {
    is_in_proportion("bridge", || many(|n| format!("\"mtu{}\": {n}", n % 1000)));
}

#[test]
fn p05_vlans_that_are_named_again_and_again() {
    let trunk = |_| "{\"minID\": 1, \"maxID\": 4094}".to_owned();
    is_in_proportion("bridge", || format!("\"vlanTrunk\": [{}]", many(trunk)));
}

#[test]
fn p05_ranges_in_one_set_and_in_a_set_each() {
    let range = |n: usize| format!("{{\"subnet\": \"{}/30\"}}", address(10, n << 2));
    let ipam = |ranges: String| format!("\"ipam\": {{\"type\": \"host-local\", \"ranges\": [{ranges}]}}");
    is_in_proportion("host-local", || ipam(format!("[{}]", many(range))));
    is_in_proportion("host-local", || ipam(many(|n| format!("[{}]", range(n)))));
}

#[test]
fn p09_addresses_that_somebody_asks_for() {
    let conf = |ipam: &str| {
        let ips = many(|n| format!("\"{}/8\"", address(10, n)));
        format!("\"runtimeConfig\": {{\"ips\": [{ips}]}}, \"ipam\": {ipam}")
    };
    is_in_proportion("static", || conf("{\"type\": \"static\"}"));
    is_in_proportion("host-local", || conf("{\"type\": \"host-local\", \"subnet\": \"10.0.0.0/8\"}"));
}

#[test]
fn p05_addresses_and_routes_of_static() {
    let own = |n| format!("{{\"address\": \"{}/8\", \"onlink\": true}}", address(10, n));
    let route = |n| format!("{{\"dst\": \"{}/32\"}}", address(10, n));
    is_in_proportion("static", || format!("\"ipam\": {{\"type\": \"static\", \"addresses\": [{}]}}", many(own)));
    is_in_proportion("static", || {
        let (addresses, routes) = (many(own), many(route));
        format!("\"ipam\": {{\"type\": \"static\", \"addresses\": [{addresses}], \"routes\": [{routes}]}}")
    });
}

#[test]
fn p05_links_remotes_and_the_like() {
    let mac = |n: usize| format!("02:00:00:{:02x}:{:02x}:{:02x}", n >> 16 & 255, n >> 8 & 255, n & 255);
    is_in_proportion("bond", || format!("\"links\": [{}]", many(|n| format!("{{\"name\": \"e{n}\"}}"))));
    is_in_proportion("bond", || {
        let targets = many(|n| format!("\"{}\"", address(10, n)));
        format!("\"links\": [{{\"name\": \"e0\"}}], \"arpInterval\": 100, \"arpIpTargets\": [{targets}]")
    });
    is_in_proportion("macvlan", || {
        format!("\"mode\": \"source\", \"sourceMacs\": [{}]", many(|n| format!("\"{}\"", mac(n))))
    });
    is_in_proportion("vxlan", || {
        format!("\"vni\": 7, \"remotes\": [{}]", many(|n| format!("\"{}\"", address(192, n))))
    });
    is_in_proportion("vxlan", || {
        let entry = |n| format!("{{\"mac\": \"{}\", \"remote\": \"{}\"}}", mac(n), address(192, n));
        format!("\"vni\": 7, \"fdb\": [{}]", many(entry))
    });
}

#[test]
fn p11_addresses_routes_and_interfaces_of_a_previous_result() {
    let after = |result: String| {
        format!("\"isDefaultGateway\": true, \"ipam\": {{\"type\": \"host-local\"}}, \"prevResult\": {{{result}}}")
    };
    let ip = |n| format!("{{\"address\": \"{}/8\"}}", address(10, n));
    let route = |n| format!("{{\"dst\": \"{}/32\"}}", address(10, n));
    is_in_proportion("bridge", || after(format!("\"ips\": [{}], \"routes\": [{}]", many(ip), many(route))));
    is_in_proportion("bridge", || after(format!("\"interfaces\": [{}]", many(|n| format!("{{\"name\": \"e{n}\"}}")))));
}

#[test]
fn options_of_dhcp() {
    let ipam = |key: &str, items: String| format!("\"ipam\": {{\"type\": \"dhcp\", \"{key}\": [{items}]}}");
    is_in_proportion("dhcp", || ipam("request", many(|n| format!("{{\"option\": \"{}\"}}", n % 254 + 1))));
    let provide = |n| format!("{{\"option\": \"{}\", \"value\": \"x\"}}", n % 40 + 60);
    is_in_proportion("dhcp", || ipam("provide", many(provide)));
}
