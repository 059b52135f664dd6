use std::{cell::RefCell, collections::HashMap, fs, os::fd::BorrowedFd};

use podwire_spec::{AddResult, Env};

use super::*;
use crate::{
    HostLocal, Ipam, Runner,
    testing::{Alone, Call, ips},
    testing_node::{DUAL, Node, V4},
};

/// A network on which others have addresses.
struct Network {
    others: HashMap<IpAddr, Mac>,
    asked: RefCell<Vec<Vec<IpAddr>>>,
    /// What every question ends with, if not with an answer.
    fails: Option<Error>,
    node: Node,
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

impl Network {
    fn with(others: &[&str]) -> Self {
        let others = others.iter().map(|ip| (ip.parse().unwrap(), MAC)).collect();
        Self { others, asked: RefCell::default(), fails: None, node: Node::new() }
    }

    fn add(&self, id: &str, ipam: &str) -> Result<AddResult> {
        self.run(&self.node.call(id, &format!(r#"{ipam}, "probe": true"#)))
    }

    fn run(&self, call: &Call) -> Result<AddResult> {
        call.run_in::<HostLocal, _>(self, HostLocal::add)
    }

    fn content(&self, ip: &str) -> String {
        fs::read_to_string(self.node.leases().join(ip)).unwrap_or_default()
    }
}

impl Runner for Network {
    fn wait_for_lock(&self, file: BorrowedFd<'_>) -> Result<()> {
        Alone.wait_for_lock(file)
    }

    fn probe(&self, _: &Env, ips: &[IpAddr], wait: Duration) -> Result<Vec<Option<Mac>>> {
        assert_eq!(wait, Duration::from_millis(WAIT));
        for ip in ips {
            let content = self.content(&ip.to_string());
            assert!(content.ends_with("eth0"), "{ip} is leased while the network is asked: {content:?}");
        }
        let lock = fs::File::open(self.node.leases().join("lock")).unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("others need not wait");
        self.asked.borrow_mut().push(ips.to_vec());
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => Ok(ips.iter().map(|ip| self.others.get(ip).copied()).collect()),
        }
    }

    fn is_being_added(&self, _: &str, _: &str, _: &str) -> bool {
        false
    }
}

#[test]
fn an_address_that_others_have_is_kept_back_and_the_next_one_given() {
    let network = Network::with(&["10.1.0.2", "10.1.0.3"]);
    assert_eq!(ips(&network.add("a", DUAL).unwrap()), ["10.1.0.4/24", "fd00::2/64"]);
    assert_eq!(network.content("10.1.0.2"), "quarantined by podwire: in use by 02:00:00:00:00:07");
    assert_eq!(network.content("10.1.0.4"), "a\r\neth0");
    assert_eq!(network.asked.borrow().len(), 3, "only what is new is asked for again");
    assert_eq!(network.asked.borrow()[2].len(), 1);
    assert_eq!(network.node.hint(), [("a:eth0".to_owned(), "10.1.0.4,fd00::2".to_owned())]);
    assert!(network.node.is_in_step());
    network.node.del("a").unwrap();
    assert_eq!(network.node.addresses(), ["10.1.0.2", "10.1.0.3"], "DEL leaves the quarantine");
}

#[test]
fn a_quarantine_outlasts_gc_for_an_hour() {
    let network = Network::with(&["10.1.0.2"]);
    network.add("a", V4).unwrap();
    let gc = || {
        let conf = network.node.conf(V4, r#", "cni.dev/valid-attachments": []"#);
        Call::new("x", conf).run::<HostLocal, _>(HostLocal::gc).unwrap();
        network.node.addresses()
    };
    assert_eq!(gc(), ["10.1.0.2"]);
    network.node.age("10.1.0.2", 3590);
    assert_eq!(gc(), ["10.1.0.2"]);
    network.node.age("10.1.0.2", 3610);
    assert!(gc().is_empty());
}

#[test]
fn a_quarantine_ends_when_no_other_address_is_left() {
    let mut network = Network::with(&["10.1.0.2"]);
    let one = r#", "subnet": "10.1.0.0/30""#;
    assert_eq!(network.add("a", one).unwrap_err().code, code::NO_ADDRESS, "there is no other");
    let status = || network.node.call("x", one).run::<HostLocal, _>(HostLocal::status);
    assert_eq!(status().unwrap_err().code, code::NOT_AVAILABLE);
    network.node.age("10.1.0.2", 3610);
    status().unwrap();
    network.others.clear();
    assert_eq!(ips(&network.add("a", one).unwrap()), ["10.1.0.2/30"]);
}

#[test]
fn an_address_that_was_asked_for_is_refused_if_others_have_it() {
    let network = Network::with(&["10.1.0.9"]);
    let call = network.node.call("a", &format!(r#"{DUAL}, "probe": true"#)).args("IP=10.1.0.9");
    let error = network.run(&call).unwrap_err();
    assert!(error.code == code::EXISTS && error.msg == "address 10.1.0.9: in use by 02:00:00:00:00:07", "{error}");
    assert!(network.node.addresses().is_empty() && network.node.is_in_step());
}

#[test]
fn p20_a_probe_that_fails_costs_no_lease() {
    let mut network = Network::with(&[]);
    network.node.add("a", r#", "subnet": "10.5.0.0/24""#).unwrap();
    network.fails = Some(Error::new(code::SIGNAL, "ended by SIGTERM"));
    assert_eq!(network.add("a", DUAL).unwrap_err().code, code::SIGNAL);
    assert_eq!(network.node.addresses(), ["10.5.0.2"], "what it had before, of another range, stays");
    assert!(network.node.is_in_step());
}

#[test]
fn a_range_of_which_others_have_all_is_given_up() {
    let all: Vec<_> = (2..30).map(|n| format!("10.1.0.{n}")).collect();
    let network = Network::with(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let error = network.add("a", V4).unwrap_err();
    assert!(error.code == code::TRY_AGAIN && error.details.contains("DHCP"), "{error}");
    assert_eq!(network.asked.borrow().len(), ATTEMPTS);
    assert_eq!(network.node.addresses().len(), ATTEMPTS, "in quarantine, and no lease is left");
}

#[test]
fn p05_a_wait_that_cannot_be_is_code_7() {
    for wait in ["0", "10001"] {
        let node = Node::new();
        let error = node.add("a", &format!(r#"{V4}, "probe": true, "probeWait": {wait}"#)).unwrap_err();
        assert!(error.code == code::INVALID_CONFIG && error.msg.contains("ipam.probeWait"), "{error}");
    }
}
