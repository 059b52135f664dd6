//! ADDs in flight, and GC beside them.
//!
//! A runtime makes GC's list of valid attachments from the results of ADD, so one that is still being added is not in it.
//! The specification has the runtime keep both apart; where one does not, GC must not take a link or a lease away under an
//! ADD that then reports success. So each tells the other by a mark (`Netns::mark`), put there before it looks for
//! the other's: GC spares what is in flight, and an ADD that comes while GC works waits until that is done.

use std::{collections::HashSet, ops::Range, time::Duration};

use podwire_net::{Netns, runtime};
use podwire_spec::{code, hash};
use tokio::time::{Instant, sleep};

use crate::{Context, Error, Label, Result};

/// How long an ADD waits for GC.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks again: the kernel wakes nobody when a mark goes.
const PAUSE: Duration = Duration::from_millis(5);

/// The attachments of a network that were being added when GC began.
#[derive(Debug, Default)]
pub(crate) struct InFlight(HashSet<u64>);

impl InFlight {
    /// Says that GC of the network works, and looks who is in flight: from now on nobody joins them.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn halt(ns: &Netns, network: &str) -> Result<Self> {
        ns.mark(place_of_gc(network))?;
        Ok(Self(ns.marks(places(network))?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them goes by this name, in the form in which it was announced.
    pub(crate) fn has(&self, network: &str, name: &str) -> bool {
        self.0.contains(&place(network, name))
    }
}

impl<C> Context<C> {
    /// ADD: announces this attachment, and waits while GC of its network works.
    ///
    /// # Errors
    /// Code 11 after ten seconds.
    pub(crate) async fn take_off(&self) -> Result<()> {
        self.announce_flight(&self.label.user()).await
    }

    /// Lets GC know this attachment by a name, one more or the first, until the call ends; and waits while GC works, which
    /// has looked for names before.
    ///
    /// # Errors
    /// As [`Self::take_off`].
    pub(crate) async fn announce_flight(&self, name: &str) -> Result<()> {
        let network = &self.conf.name;
        self.host.ns().mark(place(network, name))?;
        let (gc, end) = (place_of_gc(network), Instant::now() + PATIENCE);
        while !self.host.ns().marks(gc..gc + 1)?.is_empty() {
            if Instant::now() > end {
                return Err(Error::new(code::TRY_AGAIN, format!("network {network:?}: GC is at work on it"))
                    .with_details("the runtime has to keep GC apart from ADD; repeat the call")
                    .into());
            }
            runtime::started().await;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// GC: whether an attachment of this network is being added.
    pub(crate) fn is_in_flight(&self, label: &Label) -> bool {
        self.waits.in_flight().has(&self.conf.name, &label.user())
    }
}

/// Where the ADDs of a network put their marks, as far as 30 bits tell networks apart. Where they do not, somebody waits
/// or is spared without need.
fn places(network: &str) -> Range<u64> {
    let first = (folded(network) & 0x3fff_ffff) << 32;
    first..first + (1 << 32)
}

fn place(network: &str, name: &str) -> u64 {
    places(network).start + folded(name)
}

fn place_of_gc(network: &str) -> u64 {
    (1 << 62) + places(network).start
}

/// A hash of 32 bits.
fn folded(text: &str) -> u64 {
    let hash = hash(text.as_bytes());
    (hash ^ hash >> 32) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gc_sees_who_is_in_flight_and_is_seen() {
        let [add, gc] = [(); 2].map(|()| Netns::current().unwrap());
        let label = |id: &str| Label::new("flight-test", id, "eth0").user();
        add.mark(place("flight-test", &label("a"))).unwrap();
        let in_flight = InFlight::halt(&gc, "flight-test").unwrap();
        assert!(in_flight.has("flight-test", &label("a")) && !in_flight.has("flight-test", &label("b")));
        assert!(InFlight::halt(&gc, "flight-test-2").unwrap().is_empty(), "that is another network's");
        let work = place_of_gc("flight-test");
        assert_eq!(add.marks(work..work + 1).unwrap(), HashSet::from([work]));
    }

    #[test]
    fn places_are_the_kernels_to_number() {
        for network in ["a", "net", &"n".repeat(255)] {
            let range = places(network);
            assert!(range.contains(&place(network, "podwire:net:id:eth0")) && range.end < 1 << 62);
            assert!(i64::try_from(place_of_gc(network) + 1).is_ok());
        }
    }
}
