//! The lab: nodes, pods and switches made of network namespaces, cables made of veths, all over netlink in this process.
//!
//! A [`Space`] is one namespace and what a test may do in it. Nothing is written to the machine: when the last value
//! that holds a namespace is dropped, the kernel takes down all that is in it.

mod daemon;
mod lan;
mod netns;
mod see;
mod servers;
mod service;
mod snapshot;
mod user;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkBridge, LinkDummy, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

pub use daemon::Daemon;
pub use lan::Lan;
pub use netns::{Mounted, Netns};
pub use see::{Address, Link, Route, Vlan, mac_bytes, mac_text};
pub use servers::{Offer, Server, Software};
pub use service::{Service, last_words};
pub use snapshot::Snapshot;
pub use user::{become_root, is_real_root};

/// One namespace: a node, a pod or a switch.
#[derive(Clone, Debug)]
pub struct Space {
    /// For messages.
    pub name: String,
    /// The namespace itself.
    pub ns: Netns,
}

impl Space {
    /// A new namespace with its loopback up, as a machine has it after boot.
    pub fn node(name: &str) -> Result<Self> {
        let node = Self::pod(name)?;
        node.up("lo")?;
        Ok(node)
    }

    /// A new namespace as a container runtime makes it: nothing in it but a loopback that is down.
    pub fn pod(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned(), ns: Netns::create()? })
    }

    /// A node with one bridge, `sw0`, for [`cable`]s to be plugged into with [`Space::plug`].
    pub fn switch(name: &str) -> Result<Self> {
        let switch = Self::node(name)?;
        switch.add_bridge("sw0")?;
        switch.up("sw0")?;
        Ok(switch)
    }

    /// Talks netlink inside: opens a connection there, runs `work` with it and waits.
    pub fn netlink<T: Send>(&self, work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
        self.ns
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let (connection, handle, _) = rtnetlink::new_connection()?;
                    tokio::spawn(connection);
                    work(handle).await
                })
            })?
            .with_context(|| format!("in {:?}", self.name))
    }

    /// Every link.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.netlink(async |handle| see::links(&handle).await)
    }

    /// The link of that name or alternative name, if there is one.
    pub fn find(&self, name: &str) -> Result<Option<Link>> {
        let links = self.links()?;
        Ok(links.into_iter().find(|link| link.name == name || link.altnames.iter().any(|alt| alt == name)))
    }

    /// The link of that name; an error if there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        self.find(name)?.ok_or_else(|| anyhow!("link {name:?}: not found in {:?}", self.name))
    }

    /// Every link that is a port of `bridge`.
    pub fn ports(&self, bridge: &str) -> Result<Vec<Link>> {
        let index = self.link(bridge)?.index;
        let mut links = self.links()?;
        links.retain(|link| link.master == Some(index));
        Ok(links)
    }

    /// Addresses of a link.
    pub fn addresses(&self, name: &str) -> Result<Vec<Address>> {
        let index = self.link(name)?.index;
        let mut all = self.netlink(async |handle| see::addresses(&handle).await)?;
        all.retain(|address| address.index == index);
        Ok(all)
    }

    /// Addresses of a link as `ip/prefix`, without the link-local ones of IPv6, sorted.
    pub fn ips(&self, name: &str) -> Result<Vec<String>> {
        let mut ips: Vec<String> = self
            .addresses(name)?
            .iter()
            .filter(|a| !matches!(a.ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .map(|a| format!("{}/{}", a.ip, a.prefix))
            .collect();
        ips.sort();
        Ok(ips)
    }

    /// Waits until there is an address that `wanted` accepts; false if none comes within `limit`.
    pub fn await_address(&self, limit: Duration, wanted: impl Fn(&Address) -> bool + Send) -> Result<bool> {
        self.netlink(async |_| see::await_address(wanted, limit).await)
    }

    /// Waits until there is no address that `unwanted` accepts; false if there still is one after `limit`.
    pub fn await_no_address(&self, limit: Duration, unwanted: impl Fn(&Address) -> bool + Send) -> Result<bool> {
        self.netlink(async |_| see::await_no_address(unwanted, limit).await)
    }

    /// Waits until there is a route of IPv4 that `wanted` accepts; false if none comes within `limit`.
    pub fn await_route(&self, limit: Duration, wanted: impl Fn(&Route) -> bool + Send) -> Result<bool> {
        self.netlink(async |_| see::await_route(wanted, limit).await)
    }

    /// Waits until there is a link that `wanted` accepts; false if there is none within `limit`.
    pub fn await_link(&self, limit: Duration, wanted: impl Fn(&Link) -> bool + Send) -> Result<bool> {
        self.netlink(async |_| see::await_link(wanted, limit).await)
    }

    /// Every unicast route but those of table `local`.
    pub fn routes(&self) -> Result<Vec<Route>> {
        self.netlink(async |handle| see::routes(&handle).await)
    }

    /// The VLANs of a bridge port, or of the bridge itself, sorted.
    pub fn vlans(&self, name: &str) -> Result<Vec<Vlan>> {
        let index = self.link(name)?.index;
        let all = self.netlink(async |handle| see::vlans(&handle).await)?;
        Ok(all.into_iter().filter(|(of, _)| *of == index).flat_map(|(_, vlans)| vlans).collect())
    }

    /// Makes a bridge, down.
    pub fn add_bridge(&self, name: &str) -> Result<()> {
        // rtnetlink would set it up at once.
        self.add(name, LinkBridge::new(name).down().build())
    }

    /// Makes a dummy link, down.
    pub fn add_dummy(&self, name: &str) -> Result<()> {
        self.add(name, LinkDummy::new(name).build())
    }

    /// Makes any link.
    pub fn add(&self, name: &str, message: netlink_packet_route::link::LinkMessage) -> Result<()> {
        self.netlink(async |handle| {
            let request = handle.link().add(message).execute();
            request.await.with_context(|| format!("link {name:?}: add"))
        })
    }

    /// Changes a link.
    pub fn change(
        &self,
        name: &str,
        how: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let index = self.link(name)?.index;
        let message = how(LinkUnspec::new_with_index(index)).build();
        self.netlink(async |handle| {
            let request = handle.link().set(message).execute();
            request.await.with_context(|| format!("link {name:?}: set"))
        })
    }

    /// Changes a port of a bridge.
    pub fn set_port(&self, name: &str, message: netlink_packet_route::link::LinkMessage) -> Result<()> {
        self.netlink(async |handle| {
            let request = handle.link().set_port(message).execute();
            request.await.with_context(|| format!("port {name:?}: set"))
        })
    }

    /// Sets a link up.
    pub fn up(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::up)
    }

    /// Sets a link down; for a cable's end this is cutting the cable.
    pub fn down(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::down)
    }

    /// Removes a link.
    pub fn delete(&self, name: &str) -> Result<()> {
        let index = self.link(name)?.index;
        self.netlink(async |handle| {
            let request = handle.link().del(index).execute();
            request.await.with_context(|| format!("link {name:?}: delete"))
        })
    }

    /// Makes `name` a port of `bridge` and sets it up.
    pub fn plug(&self, bridge: &str, name: &str) -> Result<()> {
        let bridge = self.link(bridge)?.index;
        self.change(name, |link| link.controller(bridge).up())
    }

    /// Adds `ip/prefix` to a link, without duplicate-address detection, which would only be waited for.
    pub fn address(&self, name: &str, cidr: &str) -> Result<()> {
        use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
        let (ip, prefix) = split(cidr)?;
        let index = self.link(name)?.index;
        self.netlink(async |handle| {
            let mut request = handle.address().add(index, ip, prefix);
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let request = request.execute();
            request.await.with_context(|| format!("address {cidr} on link {name:?}: add"))
        })
    }

    /// Removes `ip` from a link.
    pub fn remove_address(&self, name: &str, ip: IpAddr) -> Result<()> {
        use futures_util::TryStreamExt;
        let index = self.link(name)?.index;
        self.netlink(async |handle| {
            let found: Vec<_> = handle
                .address()
                .get()
                .set_link_index_filter(index)
                .set_address_filter(ip)
                .execute()
                .try_collect()
                .await?;
            if found.is_empty() {
                bail!("address {ip} on link {name:?}: not there to be removed");
            }
            for message in found {
                handle.address().del(message).execute().await?;
            }
            Ok(())
        })
    }

    /// Adds a route to `to` (`ip/prefix`) over `via`.
    pub fn route(&self, to: &str, via: IpAddr) -> Result<()> {
        let message = route_to(to, via)?;
        self.netlink(async |handle| {
            let request = handle.route().add(message).execute();
            request.await.with_context(|| format!("route to {to} via {via}: add"))
        })
    }

    /// Removes the route to `to`, whoever made it.
    pub fn remove_route(&self, to: &str) -> Result<()> {
        self.netlink(async |handle| see::remove_route(&handle, to).await)
    }

    /// Reads a sysctl of the namespace; `key` is a path below `/proc/sys`, so that link names with dots work.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/{key}");
        let text = self.ns.run(|| std::fs::read_to_string(&path))?;
        Ok(text.with_context(|| format!("{path}: read"))?.trim().to_owned())
    }

    /// Writes a sysctl of the namespace.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        let done = self.ns.run(|| std::fs::write(&path, value))?;
        done.with_context(|| format!("{path}: write {value:?}"))
    }

    /// The nftables ruleset as `nft` prints it; empty where the kernel or the machine has no nftables.
    pub fn ruleset(&self) -> Result<String> {
        let output = self.ns.run(|| Command::new("nft").args(["--stateless", "list", "ruleset"]).output())?;
        match output {
            Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(e).context("nft: start"),
        }
    }

    /// Loads a ruleset with `nft`.
    pub fn load_ruleset(&self, rules: &str) -> Result<()> {
        let output = self.ns.run(|| Command::new("nft").arg(rules).output())?.context("nft: start")?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// Joins two namespaces by a veth whose ends are up: a cable. Cut it with [`Space::down`] on either end.
pub fn cable(a: &Space, a_name: &str, b: &Space, b_name: &str) -> Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name(b_name.to_owned()).setns_by_fd(b.ns.fd()).build();
    let message = LinkVeth::new(a_name, b_name).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
    a.add(a_name, message)?;
    a.up(a_name)?;
    b.up(b_name)?;
    // The kernel's link watch may take a second; until then frames vanish.
    for (space, name) in [(a, a_name), (b, b_name)] {
        let running = space.await_link(Duration::from_secs(5), |link| link.name == name && link.running)?;
        if !running {
            bail!("link {name:?} in {:?}: up, and not running after 5 s", space.name);
        }
    }
    Ok(())
}

/// A switch, and nodes that each have an `eth0` plugged into it.
pub fn on_a_switch(names: &[&str]) -> Result<(Space, Vec<Space>)> {
    let switch = Space::switch("switch")?;
    let plugged = |name: &&str| {
        let node = Space::node(name)?;
        let port = format!("to-{name}");
        cable(&node, "eth0", &switch, &port)?;
        switch.plug("sw0", &port)?;
        Ok(node)
    };
    let nodes = names.iter().map(plugged).collect::<Result<_>>()?;
    Ok((switch, nodes))
}

fn split(cidr: &str) -> Result<(IpAddr, u8)> {
    let parts = cidr.split_once('/').and_then(|(ip, prefix)| Some((ip.parse().ok()?, prefix.parse().ok()?)));
    parts.ok_or_else(|| anyhow!("{cidr:?}: not ADDRESS/PREFIX"))
}

fn route_to(to: &str, via: IpAddr) -> Result<netlink_packet_route::route::RouteMessage> {
    let (ip, prefix) = split(to)?;
    let builder = RouteMessageBuilder::<IpAddr>::new();
    Ok(builder.destination_prefix(ip, prefix)?.gateway(via)?.build())
}
