//! The DHCPv4 client's states (RFC 2131, section 4.4) without I/O or clock: one machine is one question, from the first
//! message to the lease, the refusal or silence.

use std::net::Ipv4Addr;

use dhcproto::v4::MessageType;

use crate::{
    Lease4, Moment,
    exchange::{Heard, Machine, Step},
    message4::{Answer, Identity, Question},
    retry::{Backoff, Dice},
};

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// A lease, of this address where it can be had (INIT, SELECTING, REQUESTING).
    Acquire(Option<Ipv4Addr>),
    /// More time for this address, which the link has: from its server (RENEWING), or from any (REBINDING).
    Prolong(Ipv4Addr),
}

/// How a question ends.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// A server granted it.
    Bound(Box<Lease4>),
    /// A server refused the address, with these words.
    Refused(String),
    /// Nothing usable came in time; what came.
    Silent(Vec<String>),
}

#[derive(Debug)]
enum State {
    /// Servers are asked for offers, or, where the goal is another one, for what is had to be prolonged.
    Asking,
    /// One server is asked for what it offered.
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
        until: Moment,
    },
    Ended(Option<Outcome>),
}

/// One question.
#[derive(Debug)]
pub(crate) struct Machine4 {
    identity: Identity,
    goal: Goal,
    /// One transaction number for all messages: a server's answer to either kind of request is of the same question.
    xid: u32,
    state: State,
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

impl Machine4 {
    /// A question that is given up at `until`.
    pub(crate) fn new(identity: Identity, goal: Goal, now: Moment, until: Moment, mut dice: Dice) -> Self {
        let timeouts = identity.options.timeouts;
        Self {
            identity,
            goal,
            xid: dice.number(),
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

    /// The transaction number: what has another one is no answer.
    pub(crate) fn xid(&self) -> u32 {
        self.xid
    }

    fn question(&self, now: Moment) -> Question {
        let secs = u16::try_from((now - self.started).as_secs()).unwrap_or(u16::MAX);
        let kind = MessageType::Request;
        let question = Question { kind, xid: self.xid, secs, own: None, wanted: None, server: None };
        match (&self.state, self.goal) {
            (State::Requesting { address, server, .. }, _) => {
                Question { wanted: Some(*address), server: Some(*server), ..question }
            }
            (_, Goal::Acquire(wanted)) => Question { kind: MessageType::Discover, wanted, ..question },
            (_, Goal::Prolong(address)) => Question { own: Some(address), ..question },
        }
    }

    /// Asks anew, from the next poll on or after a while.
    fn ask(&mut self, due: Moment) {
        self.state = State::Asking;
        self.asked = None;
        self.due = due;
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Ended(Some(outcome));
    }

    fn take_offer(&mut self, answer: Answer, now: Moment) {
        match Lease4::read(answer, now) {
            Ok(Lease4 { address, server, .. }) => {
                let std::net::IpAddr::V4(address) = address.ip() else { return };
                let timeouts = self.identity.options.timeouts;
                self.state = State::Requesting { address, server, until: now + timeouts.request };
                self.asked = None;
                self.due = now;
                self.backoff = Backoff::new(timeouts.first, timeouts.longest);
            }
            Err(why) => self.heard.note(format!("an offer: {why}")),
        }
    }

    fn take_grant(&mut self, answer: Answer) {
        let offered = match &self.state {
            State::Requesting { address, .. } => Some(*address),
            _ => None,
        };
        // An answer to nothing that was asked.
        let Some(asked) = self.asked else { return };
        match Lease4::read(answer, asked) {
            Ok(lease) if offered.is_none_or(|offered| lease.address.ip() == offered) => {
                self.end(Outcome::Bound(Box::new(lease)));
            }
            Ok(lease) => {
                let server = lease.server;
                self.heard.note(format!("server {server}: it grants {} and had offered another", lease.address));
            }
            Err(why) => self.heard.note(format!("a grant: {why}")),
        }
    }

    fn take_refusal(&mut self, answer: &Answer, now: Moment) {
        let words = answer.words();
        match &self.state {
            State::Requesting { server, .. } if answer.server() == Some(*server) => {
                self.heard.note(format!("server {server}: it refused what it had offered ({words:?})"));
                let pause = self.identity.options.timeouts.pause(self.refused);
                self.refused += 1;
                self.ask(now + pause);
            }
            State::Asking if !matches!(self.goal, Goal::Acquire(_)) && answer.server().is_some() => {
                self.end(Outcome::Refused(words));
            }
            _ => {}
        }
    }
}

impl Machine for Machine4 {
    type Outcome = Outcome;

    fn poll(&mut self, now: Moment) -> Step<Outcome> {
        if let State::Ended(outcome) = &mut self.state {
            return Step::Done(outcome.take().unwrap_or(Outcome::Silent(Vec::new())));
        }
        if now >= self.until {
            return Step::Done(Outcome::Silent(self.heard.take()));
        }
        if let State::Requesting { server, until, .. } = self.state
            && now >= until
        {
            self.heard.note(format!("server {server}: it offered an address and then was silent"));
            self.ask(now);
        }
        if now >= self.due {
            let message = self.question(now).encode(&self.identity);
            self.asked.get_or_insert(now);
            self.due = now + self.backoff.of_dhcpv4(&mut self.dice);
            return Step::Send(message);
        }
        let until = self.until.min(self.due);
        Step::Wait(if let State::Requesting { until: then, .. } = self.state { until.min(then) } else { until })
    }

    fn receive(&mut self, message: &[u8], now: Moment) {
        let Some(answer) = Answer::decode(message, self.xid, &self.identity) else { return };
        match (answer.kind, &self.state) {
            (_, State::Ended(_)) => {}
            (MessageType::Offer, State::Asking) if matches!(self.goal, Goal::Acquire(_)) => {
                self.take_offer(answer, now);
            }
            (MessageType::Ack, State::Requesting { server, .. }) if answer.server() != Some(*server) => {}
            (MessageType::Ack, State::Asking) if matches!(self.goal, Goal::Acquire(_)) => {}
            (MessageType::Ack, _) => self.take_grant(answer),
            (MessageType::Nak, _) => self.take_refusal(&answer, now),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "machine4_tests.rs"]
mod tests;
