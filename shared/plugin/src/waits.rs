//! What an address plugin asks of this program: to wait so that SIGTERM is heard, to speak with the pod's network, and to
//! know what GC is to spare.

use std::{cell::OnceCell, net::IpAddr, os::fd::BorrowedFd, path::Path, rc::Rc, time::Duration};

use podwire_ipam::Runner;
use podwire_net::{Errno, LinkChange, Net, Netns, Prober, Termination, Woken};
use podwire_spec::{Env, Error, Mac, code};

use crate::{Label, addresses::set_up_sysctls, flight::InFlight, output::to_wire};

/// Waits that SIGTERM ends; and for GC, who is in flight.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    termination: OnceCell<Rc<Termination>>,
    in_flight: InFlight,
}

impl Waits {
    /// In a call that hears of SIGTERM already.
    pub(crate) fn with(termination: Rc<Termination>) -> Self {
        Self { termination: OnceCell::from(termination), ..Self::default() }
    }

    /// GC: says that it works on the network, and takes down who is in flight.
    pub(crate) fn halt(&mut self, ns: &Netns, network: &str) -> anyhow::Result<()> {
        self.in_flight = InFlight::halt(ns, network)?;
        Ok(())
    }

    /// Whom GC is to spare.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Without that, the signal is caught once there is something to wait for: most calls end before.
    fn termination(&self) -> podwire_net::Result<&Termination> {
        if let Some(termination) = self.termination.get() {
            return Ok(termination);
        }
        let termination = Rc::new(Termination::catch()?);
        Ok(self.termination.get_or_init(|| termination))
    }

    fn ask(&self, env: &Env, ips: &[IpAddr], wait: Duration) -> anyhow::Result<Vec<Option<Mac>>> {
        let net = Net::open(Netns::open(Path::new(&env.netns))?)?;
        let link = net
            .link(&env.ifname)?
            .ok_or_else(|| Error::invalid("ipam.probe", format!("the pod has no link {:?} to ask from", env.ifname)))?;
        if link.kind == "ipvlan" && ips.iter().any(IpAddr::is_ipv4) {
            return Err(Error::invalid("ipam.probe", format!("pod's link {:?} is an ipvlan, which hears no answers", link.name))
                .with_details("the kernel hands a frame to the pod that has the address in it, and an answer to a probe has none; leave \"probe\" out")
                .into());
        }
        if !link.up {
            let ipv6 = ips.iter().any(IpAddr::is_ipv6);
            // Duplicate-address detection is left on, as it may be wanted: there is no address yet that it could delay.
            net.ns().run(|| set_up_sysctls(&link.name, ipv6, true))??;
            net.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        }
        let answers = net.ns().run(|| Prober::open(&link))?.and_then(|prober| {
            let termination = self.termination()?;
            prober.who_has(ips, wait, termination)
        });
        if !link.up && link.kind == "bond" {
            // To some bonds it is left to announce the pod's addresses when they are set up.
            net.change_link(link.index, &LinkChange { up: Some(false), ..LinkChange::default() })?;
        }
        Ok(answers?)
    }
}

impl Runner for Waits {
    fn wait_for_lock(&self, file: BorrowedFd<'_>) -> Result<(), Error> {
        match self.termination().and_then(|termination| termination.lock(file)) {
            Ok(Woken::Terminated) => Err(ended()),
            Ok(_) => Ok(()),
            Err(error) => Err(to_wire(&error.into())),
        }
    }

    fn probe(&self, env: &Env, ips: &[IpAddr], wait: Duration) -> Result<Vec<Option<Mac>>, Error> {
        self.ask(env, ips, wait).map_err(|error| match error.downcast_ref::<podwire_net::Error>() {
            Some(error) if error.is(Errno::EINTR) => ended(),
            _ => to_wire(&error),
        })
    }

    fn is_being_added(&self, network: &str, container_id: &str, ifname: &str) -> bool {
        self.in_flight.has(network, &Label::new(network, container_id, ifname).user())
    }
}

/// SIGTERM came.
pub(crate) fn ended() -> Error {
    Error::new(
        code::SIGNAL,
        "ended by SIGTERM; what an ADD had done was undone, what is left of DEL or GC is for the next call",
    )
}
