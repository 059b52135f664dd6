//! The DHCPv6 client's states (RFC 8415, section 18.2) without I/O or clock: one machine is one question, from the first
//! message to the lease, the refusal or silence.
//!
//! Of several servers the first one that offers an address is taken. The standard would have a client wait for the rest of
//! a second, in case a better one follows; a pod's start is worth more than that.

use std::net::Ipv6Addr;

use dhcproto::v6::MessageType;

use crate::{
    Lease6, Moment, Options6,
    exchange::{Heard, Machine, Step},
    lease6::Flaw,
    message6::{Answer, Question},
    retry::{Backoff, Dice},
};

/// What a question is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A lease, of these addresses where they can be had.
    Acquire(Vec<Ipv6Addr>),
    /// More time for these addresses: from the server with this DUID (Renew), or from any (Rebind).
    Prolong(Vec<Ipv6Addr>, Option<Vec<u8>>),
    /// That the server takes these addresses back.
    Release(Vec<Ipv6Addr>, Vec<u8>),
}

/// How a question ends.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A server granted it.
    Bound(Box<Lease6>),
    /// The server knows that the addresses are given back.
    Released,
    /// A server refused the addresses, with these words.
    Refused(String),
    /// Nothing usable came in time; what came.
    Silent(Vec<String>),
}

#[derive(Debug)]
enum State {
    /// Servers are asked for offers, or, where the goal is another one, for just that.
    Asking,
    /// One server is asked for what it offered.
    Requesting {
        addresses: Vec<Ipv6Addr>,
        server: Vec<u8>,
        until: Moment,
    },
    Ended(Option<Outcome>),
}

/// One question.
#[derive(Debug)]
pub(crate) struct Machine6 {
    said: Options6,
    goal: Goal,
    xid: [u8; 3],
    state: State,
    /// When this exchange of messages began: servers are told for how long it goes on.
    started: Moment,
    /// When to give up.
    until: Moment,
    /// When to send next.
    due: Moment,
    /// When the first message of this state was sent: the lease counts from there.
    asked: Option<Moment>,
    backoff: Backoff,
    /// How often a request was refused that an offer had led to.
    refused: u32,
    dice: Dice,
    heard: Heard,
}

impl Machine6 {
    /// A question that is given up at `until`.
    pub(crate) fn new(said: Options6, goal: Goal, now: Moment, until: Moment, mut dice: Dice) -> Self {
        let timeouts = said.timeouts;
        Self {
            said,
            goal,
            xid: transaction(&mut dice),
            state: State::Asking,
            started: now,
            until,
            due: now,
            asked: None,
            backoff: Backoff::new(timeouts.first, timeouts.longest),
            refused: 0,
            dice,
            heard: Heard::default(),
        }
    }

    /// The transaction number of this state: what has another one is no answer.
    pub(crate) fn xid(&self) -> [u8; 3] {
        self.xid
    }

    fn question(&self, now: Moment) -> Question {
        let elapsed = u16::try_from((now - self.started).as_millis() / 10).unwrap_or(u16::MAX);
        let question = |kind, addresses: &[Ipv6Addr], server: Option<&Vec<u8>>| Question {
            kind,
            xid: self.xid,
            elapsed,
            server: server.cloned(),
            addresses: addresses.to_vec(),
        };
        match (&self.state, &self.goal) {
            (State::Requesting { addresses, server, .. }, _) => question(MessageType::Request, addresses, Some(server)),
            (_, Goal::Acquire(wish)) => question(MessageType::Solicit, wish, None),
            (_, Goal::Prolong(addresses, Some(server))) => question(MessageType::Renew, addresses, Some(server)),
            (_, Goal::Prolong(addresses, None)) => question(MessageType::Rebind, addresses, None),
            (_, Goal::Release(addresses, server)) => question(MessageType::Release, addresses, Some(server)),
        }
    }

    /// Goes over to another state, whose messages are a transaction of their own.
    fn go(&mut self, state: State, now: Moment, due: Moment) {
        let timeouts = self.said.timeouts;
        self.state = state;
        self.xid = transaction(&mut self.dice);
        self.asked = None;
        (self.started, self.due) = (now, due);
        self.backoff = Backoff::new(timeouts.first, timeouts.longest);
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended(Some(outcome));
    }

    fn take_offer(&mut self, answer: &Answer, now: Moment) {
        match Lease6::read(answer, &self.said, now) {
            Ok(lease) => {
                let until = now + self.said.timeouts.request;
                let addresses = addresses(&lease);
                self.go(State::Requesting { addresses, server: lease.server, until }, now, now);
            }
            Err(Flaw::Refused(why) | Flaw::Unusable(why)) => self.heard.note(format!("an offer: {why}")),
        }
    }

    fn take_reply(&mut self, answer: &Answer, now: Moment) {
        let Some(asked) = self.asked else { return };
        // Whatever it says: the server knows.
        if let Goal::Release(..) = self.goal {
            return self.end(Outcome::Released);
        }
        match (Lease6::read(answer, &self.said, asked), &self.state) {
            (Ok(lease), _) => self.end(Outcome::Bound(Box::new(lease))),
            (Err(Flaw::Refused(why) | Flaw::Unusable(why)), State::Requesting { .. }) => {
                self.heard.note(format!("a server refused what it had offered: {why}"));
                let pause = self.said.timeouts.pause(self.refused);
                self.refused += 1;
                self.go(State::Asking, now, now + pause);
            }
            (Err(Flaw::Refused(why)), _) if matches!(self.goal, Goal::Prolong(..)) => {
                self.end(Outcome::Refused(why));
            }
            (Err(Flaw::Refused(why) | Flaw::Unusable(why)), _) => self.heard.note(format!("a reply: {why}")),
        }
    }
}

impl Machine for Machine6 {
    type Outcome = Outcome;

    fn poll(&mut self, now: Moment) -> Step<Outcome> {
        if let State::Ended(outcome) = &mut self.state {
            return Step::Done(outcome.take().unwrap_or(Outcome::Silent(Vec::new())));
        }
        if now >= self.until {
            return Step::Done(Outcome::Silent(self.heard.take()));
        }
        if let State::Requesting { until, .. } = self.state
            && now >= until
        {
            self.heard.note("a server offered an address and then was silent".to_owned());
            self.go(State::Asking, now, now);
        }
        if now >= self.due {
            let message = self.question(now).encode(&self.said);
            self.asked.get_or_insert(now);
            self.due = now + self.backoff.of_dhcpv6(&mut self.dice);
            return Step::Send(message);
        }
        let until = self.until.min(self.due);
        Step::Wait(if let State::Requesting { until: then, .. } = self.state { until.min(then) } else { until })
    }

    fn receive(&mut self, message: &[u8], now: Moment) {
        let Some(answer) = Answer::decode(message, self.xid, &self.said) else { return };
        let is_from_another = match (&self.state, &self.goal) {
            (State::Requesting { server, .. }, _) | (_, Goal::Prolong(_, Some(server)) | Goal::Release(_, server)) => {
                answer.server != *server
            }
            _ => false,
        };
        match (answer.kind, &self.state, &self.goal) {
            _ if is_from_another => {}
            (MessageType::Advertise, State::Asking, Goal::Acquire(_)) => self.take_offer(&answer, now),
            // A solicitation is answered by the lease itself only if both sides want that.
            (MessageType::Reply, State::Asking, Goal::Acquire(_)) if !(answer.rapid && self.said.rapid_commit) => {}
            (MessageType::Reply, State::Asking | State::Requesting { .. }, _) => self.take_reply(&answer, now),
            _ => {}
        }
    }
}

/// The lease's addresses.
pub(crate) fn addresses(lease: &Lease6) -> Vec<Ipv6Addr> {
    let addresses = lease.addresses.iter();
    addresses
        .filter_map(|address| if let std::net::IpAddr::V6(ip) = address.cidr.ip() { Some(ip) } else { None })
        .collect()
}

fn transaction(dice: &mut Dice) -> [u8; 3] {
    let [a, b, c, _] = dice.number().to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
#[path = "machine6_tests.rs"]
mod tests;
