//! Making a link ready to be spoken on.

use podwire_net::{Errno, IpVlan, IpVlanMode, Link, LinkChange, Net, write_sysctl};

use crate::{Error, Place, Result};

impl Place {
    /// The link, up and passing frames. One that is down is set up, after what routers could make of that was switched
    /// off: addresses come from leases alone. It needs no duplicate-address detection of its link-local address, which
    /// is made of its MAC address and would take a second or two.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Unsuitable`] for a link that knows no broadcast, or has no carrier.
    pub(crate) async fn ready(&self) -> Result<(Net, Link)> {
        let (net, link) = self.link()?;
        let layer3 = IpVlan::of(&link).is_some_and(|ipvlan| ipvlan.mode != IpVlanMode::L2);
        if link.mac.is_none() || layer3 {
            return Err(Error::Unsuitable(format!(
                "link {:?}: DHCP needs Ethernet with broadcast; an ipvlan has it in mode \"l2\" only",
                self.ifname()
            )));
        }
        if link.up && link.operational {
            return Ok((net, link));
        }
        if !link.up {
            net.ns().run(|| self.quieten())??;
            net.change_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        }
        match net.wait_for_port(link.index).await {
            Ok(link) => Ok((net, link)),
            Err(error) if error.is(Errno::ETIMEDOUT) => Err(Error::Unsuitable(format!(
                "link {:?}: it is up but has no carrier; is its other end, or the link below it, up?",
                self.ifname()
            ))),
            Err(error) if error.is_absent() => Err(Error::Gone(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    fn quieten(&self) -> Result<()> {
        for key in ["accept_ra", "accept_dad"] {
            match write_sysctl(&format!("ipv6/conf/{}/{key}", self.ifname()), "0") {
                // A kernel without IPv6, or one where it is switched off.
                Err(error) if error.is(Errno::ENOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }
}
