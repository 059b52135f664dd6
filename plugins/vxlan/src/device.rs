//! The VXLAN device itself: what it is on, its MTU, and whether one that is there is the one that is wanted.

use std::{collections::HashSet, net::IpAddr};

use podwire_plugin::{
    Context, Error, Result, code,
    net::{self, Errno, Link, LinkSpec, Vxlan, set_tx_checksum, tx_checksum},
};

use crate::config::Config;

/// The MTU in bytes that is taken for the underlay's where no link is known to be the underlay: Ethernet's.
const ETHERNET: u32 = 1500;

/// What the device is on.
pub(crate) struct Underlay {
    /// `dev`.
    dev: Option<Link>,
    /// The node's addresses: entries of the configuration that name them are about this node.
    pub(crate) own: HashSet<IpAddr>,
    /// The link that has `local`.
    has_local: Option<u32>,
}

/// A parameter that is not as wanted: its option, what is wanted, what is there.
pub(crate) struct Difference(pub(crate) &'static str, pub(crate) String, pub(crate) String);

impl Underlay {
    /// Looks at what the configuration names.
    ///
    /// # Errors
    /// Code 7 where `dev` or `local` is not there.
    pub(crate) fn find(cx: &Context<Config>) -> Result<Self> {
        let config = &cx.conf.plugin;
        let dev = match &config.dev {
            Some(name) => Some(cx.named_link("dev", name, false)?),
            None => None,
        };
        let addresses = cx.host.all_addresses()?;
        let has_local = match config.local {
            None => None,
            Some(local) => {
                let found = addresses.iter().find(|(_, address)| address.cidr.ip() == local).map(|(index, _)| *index);
                let missing = || Error::invalid("local", format!("\"{local}\": not an address of this node"));
                Some(found.ok_or_else(missing)?)
            }
        };
        Ok(Self { dev, own: addresses.iter().map(|(_, address)| address.cidr.ip()).collect(), has_local })
    }

    /// The parameters of the device.
    pub(crate) fn parameters(&self, config: &Config) -> Vxlan {
        config.parameters(self.dev.as_ref().map(|dev| dev.index))
    }

    /// The MTU in bytes: `mtu`, or what the underlay leaves. The underlay is `dev`, or else the link by which the first
    /// of the other ends is reached, or else that of `local`, or else that of the default route.
    ///
    /// # Errors
    /// Code 7 for an `mtu` above that.
    pub(crate) fn mtu(&self, cx: &Context<Config>) -> Result<u32> {
        let config = &cx.conf.plugin;
        let link = match &self.dev {
            Some(dev) => Some(dev.clone()),
            None => self.link(cx)?,
        };
        let most = link.as_ref().map_or(ETHERNET, |link| link.mtu).saturating_sub(config.overhead());
        match (config.mtu(), link) {
            (Some(wanted), Some(Link { name, mtu, .. })) if wanted > most => {
                let why = format!("{wanted} is above {most}, what the {mtu} bytes of underlay {name:?} leave");
                let how = format!("VXLAN takes {} bytes; raise the underlay's MTU, or ask for less", config.overhead());
                Err(Error::invalid("mtu", why).with_details(how).into())
            }
            (wanted, _) => Ok(wanted.unwrap_or(most)),
        }
    }

    fn link(&self, cx: &Context<Config>) -> Result<Option<Link>> {
        let by_route = match cx.conf.plugin.far_end(&self.own) {
            Some(far) => cx.host.way_to(far)?,
            None => None,
        };
        match by_route.or(self.has_local) {
            Some(index) => Ok(cx.host.link_at(index)?),
            None => cx.default_link(false),
        }
    }

    /// The first parameter by which `device`, on the node or in the pod, is not what is wanted.
    ///
    /// # Errors
    /// Of the kernel.
    pub(crate) fn difference(&self, cx: &Context<Config>, device: &Link) -> Result<Option<Difference>> {
        let config = &cx.conf.plugin;
        let wanted = self.parameters(config);
        let Some(found) = Vxlan::of(device, wanted.ipv6) else {
            let kind = if device.kind.is_empty() { "hardware" } else { &device.kind };
            return Ok(Some(Difference("type", "vxlan".to_owned(), kind.to_owned())));
        };
        if found.dev != wanted.dev {
            let there = match found.dev {
                Some(index) => cx.host.link_at(index)?.map(|link| link.name),
                None => None,
            };
            return Ok(Some(Difference("dev", named(config.dev.as_deref()), named(there.as_deref()))));
        }
        let ip = |ip: Option<IpAddr>| named(ip.map(|ip| ip.to_string()).as_deref());
        let peer = if wanted.peer.or(found.peer).is_some_and(|peer| peer.is_multicast()) { "group" } else { "remote" };
        let all = [
            ("vni", wanted.vni.to_string(), found.vni.to_string()),
            ("dstport", wanted.port.to_string(), found.port.to_string()),
            ("local", ip(wanted.local), ip(found.local)),
            (peer, ip(wanted.peer), ip(found.peer)),
            ("learning", wanted.learning.to_string(), found.learning.to_string()),
            ("ttl", wanted.ttl.to_string(), found.ttl.to_string()),
            ("tos", wanted.tos.to_string(), found.tos.to_string()),
            ("df", wanted.df.to_string(), found.df.to_string()),
            ("udpCsum", wanted.udp_csum.to_string(), found.udp_csum.to_string()),
            ("gbp", wanted.gbp.to_string(), found.gbp.to_string()),
        ];
        let different = all.into_iter().find(|(_, wanted, found)| wanted != found);
        Ok(different.map(|(option, wanted, found)| Difference(option, wanted, found)))
    }
}

/// Whether checksums of the device are left to the hardware as the configuration has it.
///
/// # Errors
/// Of the kernel, only where the configuration says anything of it.
pub(crate) fn checksum_difference(config: &Config, net: &net::Net, device: &str) -> Result<Option<Difference>> {
    let Some(wanted) = config.tx_checksum_offload else { return Ok(None) };
    let found = tx_checksum(net.ns(), device)?;
    let different = || Difference("txChecksumOffload", wanted.to_string(), found.to_string());
    Ok((found != wanted).then(different))
}

/// Leaves checksums to the hardware or not, before the device is up: what a device that is up has sent is wrong already.
///
/// # Errors
/// Of the kernel.
pub(crate) fn set_checksum(config: &Config, net: &net::Net, device: &str) -> Result<()> {
    match config.tx_checksum_offload {
        Some(on) => Ok(set_tx_checksum(net.ns(), device, on)?),
        None => Ok(()),
    }
}

/// `attach` = `direct`: the device in the pod; its UDP socket stays on the node, where it was made from.
///
/// # Errors
/// Code 105 where the node has a device with this VNI and port already.
pub(crate) async fn direct(cx: &mut Context<Config>) -> Result<Link> {
    let underlay = Underlay::find(cx)?;
    let mtu = Some(underlay.mtu(cx)?);
    let (name, mac) = (cx.env.ifname.clone(), cx.requested_mac(None));
    let kind = underlay.parameters(&cx.conf.plugin).kind();
    let spec = LinkSpec { mac, mtu, ..LinkSpec::new(&name, Some(kind)) };
    let link = match cx.create_in_pod(false, &spec) {
        Ok(link) => link,
        Err(error) => match error.downcast::<net::Error>() {
            Ok(error) if error.is(Errno::EEXIST) => return Err(in_use(cx, &error)?.into()),
            Ok(error) => return Err(error.into()),
            Err(error) => return Err(error),
        },
    };
    let pod = cx.pod()?;
    set_checksum(&cx.conf.plugin, pod, &name)?;
    for entry in cx.conf.plugin.entries(&underlay.own) {
        cx.turn().await;
        pod.add_fdb(link.index, entry, false)?;
    }
    Ok(link)
}

/// Who has the VNI on the port, of which a node's sockets can serve only one device.
pub(crate) fn in_use(cx: &Context<Config>, error: &net::Error) -> Result<Error> {
    let wanted = cx.conf.plugin.parameters(None);
    let has_it = |link: &Link| {
        Vxlan::of(link, false).is_some_and(|device| (device.vni, device.port) == (wanted.vni, wanted.port))
    };
    let holder = cx.host.links()?.into_iter().find(has_it);
    let holder = holder.map_or_else(
        || "a device that is not in the node's namespace, as a pod's of attach \"direct\" is".to_owned(),
        |link| format!("link {:?}", link.name),
    );
    let what = format!("VNI {} on UDP port {}: this node has a device for it already", wanted.vni, wanted.port);
    let how = format!("{holder} has it; pods of one node share a VNI by attach \"bridge\"; {error}");
    Ok(Error::new(code::EXISTS, what).with_details(how))
}

fn named(name: Option<&str>) -> String {
    name.map_or_else(|| "none".to_owned(), |name| format!("{name:?}"))
}
