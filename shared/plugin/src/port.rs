//! A veth pair: one end in the pod, the other a port of a bridge on the node. And the bridge, where it is missing.

use std::hash::{BuildHasher, RandomState};

use podwire_net::{self as net, Errno, Kind, Link, LinkChange, LinkSpec, write_sysctl};
use podwire_spec::{Mac, code};

use crate::{Context, Error, Label, Result, delete_pod_link, host_veth_name};

/// A bridge to be made if it is not there.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MTU in bytes; the kernel's default otherwise.
    pub mtu: Option<u32>,
    /// Whether it filters VLANs.
    pub vlan_filtering: bool,
}

impl<C> Context<C> {
    /// The bridge of that name as it is, or `None`.
    ///
    /// # Errors
    /// Code 101 where the name is another device's.
    pub fn bridge(&self, name: &str) -> Result<Option<Link>> {
        match self.host.link(name)? {
            Some(link) if link.kind != "bridge" => {
                let kind = if link.kind.is_empty() { "hardware" } else { &link.kind };
                Err(Error::new(
                    code::DIFFERENT,
                    format!("bridge: link {name:?} exists and is not a bridge but {kind:?}"),
                )
                .with_details("choose another name for \"bridge\", or remove the link")
                .into())
            }
            other => Ok(other),
        }
    }

    /// The bridge, found or made. One that this call made is undone last, unless others have ports on it by then.
    ///
    /// # Errors
    /// As [`Self::bridge`], and of the kernel.
    pub fn ensure_bridge(&mut self, wanted: BridgeSpec<'_>) -> Result<Link> {
        loop {
            if let Some(mut bridge) = self.bridge(wanted.name)? {
                self.relabel(&mut bridge)?;
                // Whoever made it may have been killed before it was whole.
                if !bridge.up && Label::parse(&bridge.alias).is_some() {
                    self.set_up_bridge(&mut bridge)?;
                }
                return Ok(bridge);
            }
            match self.create_bridge(wanted) {
                Ok(mut bridge) => {
                    self.set_up_bridge(&mut bridge)?;
                    return Ok(bridge);
                }
                // Another call was first: look again.
                Err(error) if error.is(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn create_bridge(&mut self, wanted: BridgeSpec<'_>) -> net::Result<Link> {
        let label = self.network_label().to_string();
        let spec = LinkSpec {
            mtu: wanted.mtu,
            // Given, and not invented by the kernel, it stays the same whatever ports come and go.
            mac: Some(random_mac()),
            alias: Some(&label),
            ..LinkSpec::new(wanted.name, Some(Kind::Bridge { vlan_filtering: wanted.vlan_filtering }))
        };
        let mut bridge = self.host.create_link(&spec)?;
        let index = bridge.index;
        self.undo_at_last_by(format!("delete bridge {index} unless others use it"), async move |cx| {
            if cx.is_idle(index)? {
                cx.host.delete_link_at(index)?;
            }
            Ok(())
        });
        bridge.vlan_filtering = wanted.vlan_filtering;
        Ok(bridge)
    }

    /// Sets a bridge of podwire's up, when it listens to no router: the node's routes are not for a pod to decide
    /// (CVE-2020-10749).
    fn set_up_bridge(&self, bridge: &mut Link) -> net::Result<()> {
        match write_sysctl(&format!("ipv6/conf/{}/accept_ra", bridge.name), "0") {
            Err(error) if !error.is(Errno::ENOENT) => return Err(error),
            _ => {}
        }
        self.host.change_link(bridge.index, &net::LinkChange { up: Some(true), ..net::LinkChange::default() })?;
        bridge.up = true;
        Ok(())
    }

    /// Both ends in one message: named, with their MAC addresses and MTU, one a port of the bridge, the other in the
    /// pod. Returns the node's end and the pod's; a failure of the call deletes them again.
    ///
    /// # Errors
    /// EEXIST where either name is taken, which [`Self::taken`] explains; EINVAL where the bridge is gone.
    pub fn create_port(&mut self, bridge: &Link, mac: Mac, mtu: u32) -> net::Result<(Link, Link)> {
        let (name, label) = (host_veth_name(&self.env.container_id, &self.env.ifname), self.label.to_string());
        let pod = self.pod_ns().map_err(|error| net::Error::other("pod", "enter", error))?;
        let peer = LinkSpec { mac: Some(mac), mtu: Some(mtu), ns: Some(pod), ..LinkSpec::new(&self.env.ifname, None) };
        let spec = LinkSpec {
            mac: Some(random_mac()),
            mtu: Some(mtu),
            master: Some(bridge.index),
            alias: Some(&label),
            ..LinkSpec::new(&name, Some(Kind::Veth(Box::new(peer))))
        };
        let port = self.host.create_link(&spec)?;
        self.undo_host_link(port.index);
        let index = port.peer.ok_or_else(|| net::Error::new("veth", "find the other end of", Errno::ENODEV))?;
        let pod = Link::known(index, &self.env.ifname, Some(mac));
        Ok((port, pod))
    }

    /// Records a port that this call made for the whole network: if the call fails, it goes unless others have ports
    /// beside it by then.
    pub fn undo_shared_port(&mut self, index: u32) {
        self.undo_at_last_by(format!("delete port {index} unless others use its bridge"), async move |cx| {
            let bridge = cx.host.link_at(index)?.and_then(|port| port.master);
            let idle = match bridge {
                Some(bridge) => cx.is_idle(bridge)?,
                None => true,
            };
            if idle {
                cx.host.delete_link_at(index)?;
            }
            Ok(())
        });
    }

    /// Gives a port the name that people know the pod by, where Kubernetes told it, and sets it up. Whoever else changes
    /// it does so before: at each change of a link that is up, the kernel walks the routes of all.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn raise_port(&self, port: &Link) -> Result<()> {
        // A second attachment of the pod has the same name but for its interface; one that does not fit has none.
        let altname =
            self.env.args.pod.as_ref().map(|pod| format!("{}_{}_{}", pod.namespace, pod.name, self.env.ifname));
        if let Some(altname) = altname.filter(|altname| altname.len() <= 127) {
            self.host.add_altname(port.index, &altname).or_else(|error| {
                tracing::warn!("{error}");
                if error.is(Errno::EEXIST) || error.is(Errno::EINVAL) { Ok(()) } else { Err(error) }
            })?;
        }
        Ok(self.host.change_link(port.index, &LinkChange { up: Some(true), ..LinkChange::default() })?)
    }

    /// Which name was taken when a pair could not be made: the pod's, or the node's.
    ///
    /// # Errors
    /// If the pod cannot be asked.
    pub fn taken(&self, error: &net::Error) -> Result<Error> {
        let name = &self.env.ifname;
        if self.pod()?.link(name)?.is_some() {
            return Ok(Error::new(code::EXISTS, format!("CNI_IFNAME {name:?}: exists already in the pod"))
                .with_details(error.to_string()));
        }
        let veth = host_veth_name(&self.env.container_id, name);
        Ok(Error::new(code::EXISTS, format!("link {veth:?}: exists already on the node"))
            .with_details("this attachment was added before, into another namespace, and not deleted: call DEL first"))
    }

    /// CHECK: the node's end of the pod's `link`, which has to be a veth with a port of the bridge at its other end.
    ///
    /// # Errors
    /// Code 102, naming the first difference.
    pub fn verify_port(&self, link: &Link, bridge: &Link) -> Result<Link> {
        let differs =
            |object: String, expected: &str, found: String| Err(Error::differs(object, expected, found).into());
        if link.kind != "veth" {
            return differs(format!("pod's link {:?}", link.name), "a veth", format!("type {:?}", link.kind));
        }
        let port = match link.peer {
            Some(index) => self.host.link_at(index)?,
            None => None,
        };
        let Some(port) = port.filter(|port| port.kind == "veth") else {
            return differs(format!("node's end of {:?}", link.name), "to be there", "none".to_owned());
        };
        if port.master != Some(bridge.index) {
            let found =
                format!("master {}", port.master.map_or_else(|| "none".to_owned(), |index| format!("number {index}")));
            return differs(format!("port {:?}", port.name), &format!("a port of {:?}", bridge.name), found);
        }
        Ok(port)
    }

    /// Deletes the pair: by the node's end, whose name is known even if the pod is gone, else by the pod's.
    ///
    /// # Errors
    /// Of the kernel.
    pub async fn delete_port(&self) -> Result<()> {
        let name = host_veth_name(&self.env.container_id, &self.env.ifname);
        if !self.host.release_link(&name).await? {
            // The attachment may have been made by the reference plugin, which invents names.
            delete_pod_link(self).await?;
        }
        Ok(())
    }

    /// Whether nobody uses the bridge with this index: what a network as a whole has there, as a VXLAN device, counts for
    /// nobody. Whoever comes later makes anew what is removed then: an ADD that shares it looks at it again after its
    /// own port is there, or holds the lock of the node's namespace until then.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn is_idle(&self, bridge: u32) -> Result<bool> {
        let is_of_a_network = |port: &Link| Label::parse(&port.alias).is_some_and(|label| !label.is_of_an_attachment());
        Ok(self.host.ports(bridge)?.iter().all(is_of_a_network))
    }

    /// The label of what belongs to this network as a whole.
    pub fn network_label(&self) -> Label {
        Label::of_network(&self.conf.name)
    }

    /// Labels a link of this network whose maker was killed before it could.
    ///
    /// # Errors
    /// Of the kernel.
    pub fn relabel(&self, link: &mut Link) -> Result<()> {
        if link.alias.is_empty() && self.is_of_network(link) {
            let label = self.network_label().to_string();
            self.host.label(link, &label)?;
            link.alias = label;
        }
        Ok(())
    }

    /// Whether podwire made the link for this network as a whole.
    pub fn is_of_network(&self, link: &Link) -> bool {
        link.is_labelled(&self.network_label().to_string())
    }
}

/// A random, locally administered, unicast address.
pub fn random_mac() -> Mac {
    // The keys of std's hash maps come from the kernel's random numbers.
    let [first, rest @ .., _, _] = RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    let mut mac = [first & 0xfc | 2; 6];
    mac[1..].copy_from_slice(&rest);
    Mac(mac)
}
