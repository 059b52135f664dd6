//! What both clients do with a lease over time: prolong it while it lasts, and get another one however long it takes.

use std::{fmt::Display, time::Duration};

use crate::{
    Error, Event, Loss, Moment, Result, Timeouts,
    retry::{Backoff, Dice},
};

/// The least time between two tries to renew, and to rebind, whose messages are repeated in themselves (RFC 2131, section
/// 4.4.5).
const BETWEEN_TRIES: Duration = Duration::from_mins(1);

/// When something is to be done about a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) renew: Moment,
    pub(crate) rebind: Moment,
    pub(crate) expires: Moment,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The server that granted the lease.
    ItsServer,
    /// Every server.
    Everybody,
}

/// How a try to prolong a lease ends.
#[derive(Debug)]
pub(crate) enum Prolonged<L> {
    /// It is this one now.
    Bound(L),
    /// A server refused, with these words.
    Refused(String),
    /// Nobody gave a usable answer; what was heard.
    Silent(Vec<String>),
}

/// Sleeps until something happens to the lease `what`. `prolong` asks once, until the moment given at the latest.
///
/// # Errors
/// [`Error::Gone`]; all others are logged.
pub(crate) async fn keep<L>(
    what: impl Display,
    times: Times,
    prolong: impl AsyncFn(Whom, Moment) -> Result<Prolonged<L>>,
) -> Result<Event<L>> {
    times.renew.reached().await;
    loop {
        let now = Moment::now();
        let (whom, end) = match now {
            _ if now >= times.expires => return Ok(Event::Lost(Loss::Expired)),
            _ if now < times.rebind => (Whom::ItsServer, times.rebind),
            _ => (Whom::Everybody, times.expires),
        };
        // In a box, which is gone when it is done: a lease that only sleeps is to be small.
        match Box::pin(prolong(whom, end)).await {
            Ok(Prolonged::Bound(lease)) => return Ok(Event::Renewed(lease)),
            Ok(Prolonged::Refused(words)) => return Ok(Event::Lost(Loss::Refused(words))),
            Ok(Prolonged::Silent(heard)) => {
                tracing::warn!("lease of {what}: no server prolonged it, it is tried again; heard: {heard:?}");
            }
            Err(error @ Error::Gone(_)) => return Err(error),
            Err(error) => tracing::warn!("lease of {what}: {error}; it is tried again"),
        }
        let now = Moment::now();
        let pause = ((end - now) / 2).max(BETWEEN_TRIES);
        end.min(now + pause).reached().await;
    }
}

/// Tries until it succeeds, ever less often.
///
/// # Errors
/// [`Error::Gone`]; all others are logged.
pub(crate) async fn persist<L>(timeouts: Timeouts, attempt: impl AsyncFn() -> Result<L>) -> Result<L> {
    let (mut dice, mut backoff) = (Dice::new(), Backoff::new(timeouts.first, timeouts.longest));
    loop {
        match attempt().await {
            Err(error @ Error::Gone(_)) => return Err(error),
            Err(error) => tracing::warn!("{error}; it is tried again"),
            lease => return lease,
        }
        tokio::time::sleep(backoff.of_dhcpv4(&mut dice)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn times() -> Times {
        let at = |ms| Moment::now() + Duration::from_millis(ms);
        Times { renew: at(30), rebind: at(90), expires: at(150) }
    }

    #[tokio::test]
    #[cfg_attr(miri, ignore = "the interpreter has no CLOCK_BOOTTIME")]
    async fn its_server_is_asked_then_everybody_and_then_it_is_lost() {
        let (times, asked) = (times(), RefCell::new(Vec::new()));
        let prolong = async |whom, end| {
            asked.borrow_mut().push((whom, end, Moment::now()));
            Ok(Prolonged::<()>::Silent(Vec::new()))
        };
        assert_eq!(keep("it", times, prolong).await.unwrap(), Event::Lost(Loss::Expired));
        assert!(Moment::now() >= times.expires);
        let asked = asked.into_inner();
        let whom: Vec<_> = asked.iter().map(|(whom, end, _)| (*whom, *end)).collect();
        assert_eq!(whom, [(Whom::ItsServer, times.rebind), (Whom::Everybody, times.expires)]);
        assert!(asked[0].2 >= times.renew && asked[1].2 >= times.rebind);
    }

    #[tokio::test]
    #[cfg_attr(miri, ignore = "the interpreter has no CLOCK_BOOTTIME")]
    async fn an_error_that_can_pass_is_no_end_but_a_place_that_is_gone_is() {
        let tries = Cell::new(0);
        let prolong = async |_, _| {
            tries.set(tries.get() + 1);
            match tries.get() {
                1 => Err(Error::Unsuitable("down".to_owned())),
                _ => Ok(Prolonged::Bound(7)),
            }
        };
        assert_eq!(keep("it", times(), prolong).await.unwrap(), Event::Renewed(7));
        let gone = async |_, _| Result::<Prolonged<()>>::Err(Error::Gone("link".to_owned()));
        assert!(matches!(keep("it", times(), gone).await, Err(Error::Gone(_))));
    }

    #[tokio::test]
    #[cfg_attr(miri, ignore = "the interpreter has no CLOCK_BOOTTIME")]
    async fn a_refusal_is_told_at_once() {
        let times = times();
        let prolong = async |_, _| Ok(Prolonged::<()>::Refused("no".to_owned()));
        assert_eq!(keep("it", times, prolong).await.unwrap(), Event::Lost(Loss::Refused("no".to_owned())));
        assert!(Moment::now() < times.expires);
    }

    #[tokio::test]
    #[cfg_attr(miri, ignore = "the interpreter has no CLOCK_BOOTTIME")]
    async fn a_lease_that_ran_out_while_nobody_looked_is_lost_without_a_question() {
        let over = Moment::default();
        let prolong = async |_, _| -> Result<Prolonged<()>> { panic!("it asked") };
        let times = Times { renew: over, rebind: over, expires: over };
        assert_eq!(keep("it", times, prolong).await.unwrap(), Event::Lost(Loss::Expired));
    }

    #[tokio::test]
    async fn whoever_persists_succeeds_unless_the_place_is_gone() {
        let timeouts = Timeouts { first: Duration::ZERO, ..Timeouts::default() };
        let tries = Cell::new(0);
        let attempt = async || {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(Error::Unsuitable("down".to_owned())) } else { Ok(tries.get()) }
        };
        assert_eq!(persist(timeouts, attempt).await.unwrap(), 3);
        let gone = async || Result::<()>::Err(Error::Gone("link".to_owned()));
        assert!(matches!(persist(timeouts, gone).await, Err(Error::Gone(_))));
    }
}
