//! Interface plugins: the trait, and everything around the device that is the same for all of them.

use std::collections::HashSet;

use podwire_net::{Link, Net};
use podwire_spec::{AddResult, Command, Env, Error, Interface, Ip, Mac, NetConf};
use serde::de::DeserializeOwned;

use crate::{Context, Label, Plugin, Result, addresses::is_pods, lend, output::join};

/// A plugin that puts an interface named `CNI_IFNAME` into a pod. Only the device is its business.
#[expect(async_fn_in_trait, reason = "called only by the runner, on one thread")]
pub trait Attach: Sized {
    /// The `type`.
    const NAME: &'static str;
    /// The plugin's own options.
    type Config: DeserializeOwned;

    /// Refuses what contradicts itself, before anything is looked at or changed.
    ///
    /// # Errors
    /// Code 7.
    fn validate(_env: &Env, _conf: &NetConf<Self::Config>) -> Result<()> {
        Ok(())
    }

    /// The name of the pod's link: `CNI_IFNAME`, unless the configuration has a word in it.
    fn ifname<'a>(env: &'a Env, _conf: &'a Self::Config) -> &'a str {
        &env.ifname
    }

    /// Whether the pod's link keeps the MAC address that it had after ADD.
    fn keeps_mac(_conf: &Self::Config) -> bool {
        true
    }

    /// Whether something was made that fits no other MAC address than the one that the pod's link was made with.
    fn is_bound_to_mac(_conf: &Self::Config) -> bool {
        false
    }

    /// Makes the device, with [`Self::ifname`] in the pod, still down.
    async fn attach(cx: &mut Context<Self::Config>) -> Result<Attached>;

    /// Completes the result once the addresses are known.
    ///
    /// # Errors
    /// Where the addresses do not fit the configuration.
    fn complete(_conf: &NetConf<Self::Config>, _result: &mut AddResult) -> Result<()> {
        Ok(())
    }

    /// Configures the node's side for the addresses, once the pod's has them: nothing runs in the pod before ADD is
    /// done, and meanwhile the kernel gets the device ready.
    async fn addressed(_cx: &mut Context<Self::Config>, _attached: &Attached, _result: &AddResult) -> Result<()> {
        Ok(())
    }

    /// Whether the pod's link is to be set up and addressed, and whether IPv6 addresses are to wait for
    /// duplicate-address detection.
    fn pod_side(_conf: &Self::Config) -> PodSide {
        PodSide::default()
    }

    /// Waits until the device passes packets. Returns those of the node's links that it has read on the way.
    async fn settle(_cx: &Context<Self::Config>, _attached: &Attached) -> Result<Vec<Link>> {
        Ok(Vec::new())
    }

    /// CHECK: is the device as configured? The runner has compared name, MAC, MTU, addresses and routes.
    ///
    /// # Errors
    /// Code 102, naming the first difference.
    fn verify(cx: &Context<Self::Config>, link: &Link, made: &AddResult) -> Result<()>;

    /// DEL: by default deletes `CNI_IFNAME` in the pod.
    async fn detach(cx: &Context<Self::Config>) -> Result<()> {
        delete_pod_link(cx).await
    }

    /// GC: removes what the runner does not know of and does not belong to `valid`.
    async fn collect(_cx: &Context<Self::Config>, _valid: &HashSet<Label>) -> Result<()> {
        Ok(())
    }

    /// STATUS: could an ADD be served?
    ///
    /// # Errors
    /// What is missing; the runner gives it code 50.
    fn ready(cx: &Context<Self::Config>) -> Result<()>;
}

/// The links of an attachment.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Those of the node that were made or are used.
    pub node: Vec<Link>,
    /// The pod's; of it only index, name and MAC address must be known.
    pub pod: Link,
}

/// What happens to the pod's link.
#[derive(Clone, Copy, Debug)]
pub struct PodSide {
    /// Set it up.
    pub up: bool,
    /// Give it its addresses only when its network passes frames, and wait for duplicate-address detection of IPv6 ones.
    pub dad: bool,
    /// To set it up announces its addresses: it passes frames at once, and cannot be given a MAC address, by which
    /// others announce theirs once they do.
    pub announced_by_up: bool,
}

impl Default for PodSide {
    fn default() -> Self {
        Self { up: true, dad: false, announced_by_up: false }
    }
}

/// Deletes `CNI_IFNAME` in the pod, if either still is there.
///
/// # Errors
/// Of the kernel.
pub async fn delete_pod_link<C>(cx: &Context<C>) -> Result<()> {
    if let Some(pod) = cx.pod_if_any()? {
        pod.release_link(&cx.env.ifname).await?;
    }
    Ok(())
}

impl<T: Attach> Plugin for T {
    const NAME: &'static str = T::NAME;
    type Config = T::Config;

    fn validate(env: &Env, conf: &NetConf<T::Config>) -> Result<()> {
        T::validate(env, conf)
    }

    async fn add(cx: &mut Context<T::Config>) -> Result<AddResult> {
        let attached = T::attach(cx).await?;
        cx.turn().await;
        let mut result = match cx.delegate_add().await? {
            Some(result) => result,
            None => previous_addresses(cx),
        };
        cx.turn().await;
        result.interfaces = interfaces(cx, &attached);
        result.ips.iter_mut().for_each(|ip| ip.interface = Some(attached.node.len()));
        if !cx.conf.dns.is_empty() {
            result.dns = cx.conf.dns.clone();
        }
        T::complete(&cx.conf, &mut result)?;
        let side = T::pod_side(&cx.conf.plugin);
        if side.up {
            cx.configure(&attached.pod, &result, side)?;
        }
        cx.turn().await;
        T::addressed(cx, &attached, &result).await?;
        cx.turn().await;
        let mut fresh = Vec::new();
        if side.up {
            fresh = T::settle(cx, &attached).await?;
            if side.dad {
                cx.claim(&attached.pod, &result).await?;
            }
        }
        let announced = side.up && !side.announced_by_up && !result.ips.is_empty();
        let made_with = attached.pod.mac;
        let attached = finish(cx, &attached, &fresh, announced)?;
        if T::is_bound_to_mac(&cx.conf.plugin) && attached.pod.mac != made_with {
            let object = format!("pod's link {:?}: MAC address", attached.pod.name);
            let [expected, found] = [made_with, attached.pod.mac].map(|mac| mac.unwrap_or(Mac([0; 6])));
            return Err(Error::differs(object, expected, found).into());
        }
        result.interfaces = interfaces(cx, &attached);
        cx.ensure_pod_stays()?;
        Ok(match cx.conf.prev_result.clone() {
            Some(previous) => chained(previous, result, cx.delegate.is_some()),
            None => result,
        })
    }

    async fn del(cx: &mut Context<T::Config>) -> Result<()> {
        let mut errors = Vec::new();
        // A delegate that is a program may need the link to release what it gave, as DHCP does. One of ours does not,
        // and then an address is free only when nobody answers for it any more.
        let foreign = cx.delegate.as_ref().is_some_and(crate::delegate::Delegate::is_foreign);
        if foreign {
            errors.extend(cx.delegate_del().await.err());
        }
        errors.extend(T::detach(cx).await.err());
        if !foreign {
            errors.extend(cx.delegate_del().await.err());
        }
        join(errors)
    }

    async fn check(cx: &mut Context<T::Config>) -> Result<()> {
        let made = cx.conf.prev_result.clone().ok_or_else(|| {
            Error::invalid("prevResult", "missing").with_details("CHECK compares the pod with the result of its ADD")
        })?;
        let name = T::ifname(&cx.env, &cx.conf.plugin);
        let link = pod_link(cx, name)?;
        let listed = made.interfaces.iter().find(|interface| is_pods(interface, &cx.env.netns, name));
        // A chain whose last word was an old version has no list to compare with.
        if let Some(interface) = listed {
            compare(&link, interface, T::keeps_mac(&cx.conf.plugin))?;
        } else if !made.interfaces.is_empty() {
            let object = format!("prevResult: interface {name:?} in {:?}", cx.env.netns);
            return Err(Error::differs(object, "to be listed", "no such interface").into());
        }
        cx.verify_addresses(&link, &made)?;
        if T::pod_side(&cx.conf.plugin).up && !link.up {
            return Err(Error::differs(format!("pod's link {:?}", link.name), "up", "down").into());
        }
        T::verify(cx, &link, &made)?;
        cx.delegate_to(Command::Check).await
    }

    async fn gc(cx: &mut Context<T::Config>) -> Result<()> {
        let valid = cx.valid_attachments()?;
        let mut errors = Vec::new();
        match cx.host.links() {
            Ok(links) => {
                // What is lent was in a pod, which may have written on it whatever it liked.
                let is_dead = |link: &&Link| cx.is_dead_link(link, &valid) && !lend::is_lent(link, &links);
                let dead: Vec<_> = links.iter().filter(is_dead).collect();
                errors.extend(cx.host.delete_links(&dead).await.into_iter().map(Into::into));
            }
            Err(error) => errors.push(error.into()),
        }
        cx.turn().await;
        errors.extend(T::collect(cx, &valid).await.err());
        cx.turn().await;
        errors.extend(cx.delegate_gc().await.err());
        join(errors)
    }

    async fn status(cx: &mut Context<T::Config>) -> Result<()> {
        T::ready(cx)?;
        cx.delegate_to(Command::Status).await
    }
}

/// Without a delegate, the addresses of a chain's earlier plugin that no interface of a pod has yet.
fn previous_addresses<C>(cx: &Context<C>) -> AddResult {
    let Some(previous) = &cx.conf.prev_result else { return AddResult::default() };
    let mut result = previous.clone();
    result.ips.retain(|ip| is_to_be_given(ip, &previous.interfaces));
    if result.ips.is_empty() {
        result.routes.clear();
    }
    result
}

fn is_to_be_given(ip: &Ip, interfaces: &[Interface]) -> bool {
    ip.interface.is_none_or(|index| interfaces.get(index).is_some_and(|interface| interface.sandbox.is_empty()))
}

/// The result of a chain so far, with what this plugin has added.
fn chained(mut previous: AddResult, own: AddResult, has_delegate: bool) -> AddResult {
    let offset = previous.interfaces.len();
    if !has_delegate {
        let interfaces = std::mem::take(&mut previous.interfaces);
        previous.ips.retain(|ip| !is_to_be_given(ip, &interfaces));
        previous.interfaces = interfaces;
    }
    previous.interfaces.extend(own.interfaces);
    previous.ips.extend(own.ips.into_iter().map(|ip| Ip { interface: ip.interface.map(|index| index + offset), ..ip }));
    let routes: Vec<_> = own.routes.into_iter().filter(|route| !previous.routes.contains(route)).collect();
    previous.routes.extend(routes);
    if !own.dns.is_empty() {
        previous.dns = own.dns;
    }
    previous
}

/// The pod's link of that name.
fn pod_link<C>(cx: &Context<C>, name: &str) -> Result<Link> {
    let link = cx.pod()?.link(name)?;
    link.ok_or_else(|| Error::differs(format!("pod's link {name:?}"), "to be there", "none").into())
}

fn compare(link: &Link, made: &Interface, keeps_mac: bool) -> Result<()> {
    let object = format!("pod's link {:?}", link.name);
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if keeps_mac && !made.mac.is_empty() && !made.mac.eq_ignore_ascii_case(&mac) {
        return Err(Error::differs(format!("{object}: MAC address"), &made.mac, mac).into());
    }
    match made.mtu {
        Some(mtu) if mtu != 0 && mtu != link.mtu => Err(Error::differs(format!("{object}: MTU"), mtu, link.mtu).into()),
        _ => Ok(()),
    }
}

/// The links as the result lists them, the node's side first.
fn interfaces<C>(cx: &Context<C>, attached: &Attached) -> Vec<Interface> {
    let interface = |link: &Link, sandbox: &str| Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    };
    let node = attached.node.iter().map(|link| interface(link, ""));
    node.chain([interface(&attached.pod, &cx.env.netns)]).collect()
}

/// Tells the pod's neighbours of it where asked, and reads the links as they are after this last change: another
/// program may have rewritten a MAC address meanwhile, as udev does, and a bridge's MTU follows its ports. What was
/// read since already is not read again.
fn finish<C>(cx: &Context<C>, attached: &Attached, fresh: &[Link], announce: bool) -> Result<Attached> {
    let again = |net: &Net, link: &Link| {
        if let Some(fresh) = fresh.iter().find(|fresh| (fresh.index, &fresh.name) == (link.index, &link.name)) {
            return Ok(fresh.clone());
        }
        let now = net.link_at(link.index)?;
        let gone = || Error::differs(format!("link {:?}", link.name), "to be there", "none");
        Ok::<_, anyhow::Error>(now.ok_or_else(gone)?)
    };
    if announce {
        cx.announce(&attached.pod)?;
    }
    let pod = again(cx.pod()?, &attached.pod)?;
    let node = attached.node.iter().map(|link| again(&cx.host, link)).collect::<Result<_>>()?;
    Ok(Attached { node, pod })
}
