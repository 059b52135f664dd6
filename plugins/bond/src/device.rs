//! The bond and its links.

use podwire_plugin::{
    Attached, Context, Error, Mac, Result, code, join,
    net::{self, Bond, Errno, Link, LinkChange, LinkSpec},
    random_mac,
    spec::did_you_mean,
};

use crate::{config::Config, verify};

/// Makes the bond in the pod and puts the links into it.
pub(crate) async fn attach(cx: &mut Context<Config>) -> Result<Attached> {
    let in_pod = cx.conf.plugin.links_in_container;
    let links = find_links(cx)?;
    let mtu = mtu(&cx.conf.plugin, &links)?;
    let (options, ifname) = (cx.conf.plugin.bond(), cx.conf.plugin.ifname(&cx.env).to_owned());
    // Without a MAC address asked for, the bond takes that of its first link.
    let mac = cx.requested_mac(None);
    let spec = LinkSpec { mtu: Some(mtu), mac, ..LinkSpec::new(&ifname, Some(options.kind())) };
    // The bond comes first: if its name is taken in the pod, no link of the node has been touched.
    let bond = cx.create_in_pod(true, &spec)?;
    let mut macs = Vec::new();
    let names: Vec<_> = cx.conf.plugin.links.iter().map(|link| link.name.clone()).collect();
    for (name, link) in names.iter().zip(&links) {
        cx.turn().await;
        let moved = cx.lend(link, in_pod).await?;
        let told = || format!("link {name:?}: put into bond {ifname:?}");
        add_port(cx, &bond, &moved, &mut macs).map_err(|error| error.context(told()))?;
        if cx.conf.plugin.primary.as_ref() == Some(name) {
            cx.pod()?.set_primary(&bond, moved.index)?;
        }
    }
    let gone = || net::Error::new(format!("bond {ifname:?}"), "read", Errno::ENODEV);
    let pod = cx.pod()?.link_at(bond.index)?.ok_or_else(gone)?;
    Ok(Attached { node: vec![], pod })
}

/// Waits until the bond passes frames. Where it does not, it is as good as it can be: what it is for is that links fail
/// and return. One that has been unplugged meanwhile does not return.
pub(crate) async fn settle(cx: &Context<Config>, bond: &Link) -> Result<()> {
    match cx.pod()?.wait_for_port(bond.index).await {
        Err(error) if error.is(Errno::ETIMEDOUT) => {
            let why = "none of its links has a carrier, answers, or is in an aggregation with the switch";
            tracing::warn!("bond {:?}: passes no frames yet: {why}", bond.name);
        }
        other => drop(other?),
    }
    verify::links_are_in(cx, bond, &cx.pod()?.ports(bond.index)?)
}

/// Takes the bond away and gives its links back.
pub(crate) async fn detach(cx: &Context<Config>) -> Result<()> {
    let mut errors = Vec::new();
    let strays = match delete_bond(cx) {
        Ok(ports) => ports,
        Err(error) => {
            errors.push(error);
            vec![]
        }
    };
    // With the bond still there its links are in use.
    if errors.is_empty() {
        errors.extend(cx.give_back().await.err());
        for name in strays {
            errors.extend(return_stray(cx, &name).err());
        }
    }
    join(errors)
}

/// STATUS: are the links there, or lent to a pod?
pub(crate) fn are_links_there(cx: &Context<Config>) -> Result<()> {
    if cx.conf.plugin.links_in_container {
        return Ok(());
    }
    for wanted in &cx.conf.plugin.links {
        let name = &wanted.name;
        if cx.host.link(name)?.is_none() && cx.borrower_of(name)?.is_none() {
            return Err(missing(cx, name)?.into());
        }
    }
    Ok(())
}

/// The links, which must be there and free.
fn find_links(cx: &Context<Config>) -> Result<Vec<Link>> {
    let net = cx.net(cx.conf.plugin.links_in_container)?;
    let mut links: Vec<Link> = Vec::new();
    for wanted in &cx.conf.plugin.links {
        let name = &wanted.name;
        let Some(link) = net.link(name)? else { return Err(missing(cx, name)?.into()) };
        // It may have been found by an altname; two of its names are one link.
        if let Some(other) = links.iter().find(|other| other.index == link.index) {
            let why = format!("{name:?} and {:?} are one link", other.name);
            return Err(Error::invalid("links", why).into());
        }
        if let Some(master) = link.master {
            let master = net.link_at(master)?.map_or_else(|| format!("number {master}"), |link| link.name);
            return Err(Error::new(code::DIFFERENT, format!("link {name:?}: is a port of {master:?} already"))
                .with_details("a link can be in one bond or bridge only; take it out of that first")
                .into());
        }
        links.push(link);
    }
    Ok(links)
}

/// What to say of a link that is not there.
fn missing(cx: &Context<Config>, name: &str) -> Result<Error> {
    let in_pod = cx.conf.plugin.links_in_container;
    if !in_pod && let Some(borrower) = cx.borrower_of(name)? {
        if borrower == cx.label.borrower() {
            return Ok(Error::new(code::EXISTS, format!("link {name:?}: this attachment has it already"))
                .with_details("it was added before, and not deleted: call DEL first"));
        }
        return Ok(Error::new(code::DIFFERENT, format!("link {name:?}: lent to attachment {borrower:?}"))
            .with_details("a link of the node is in one pod only; it comes back when that pod is deleted"));
    }
    let place = if in_pod { "the pod" } else { "the node's namespace" };
    let links = cx.net(in_pod)?.links()?;
    let near = did_you_mean(name, links.iter().map(|link| link.name.as_str()));
    Ok(Error::invalid("links", format!("link {name:?}: not found in {place}{near}")))
}

/// The bond's MTU in bytes, which the kernel gives to its links: none of them may have less.
fn mtu(config: &Config, links: &[Link]) -> Result<u32> {
    let Some(smallest) = links.iter().min_by_key(|link| link.mtu) else { return Ok(0) };
    match config.mtu() {
        Some(wanted) if wanted > smallest.mtu => {
            let why = format!("{wanted} is above the {} bytes of link {:?}", smallest.mtu, smallest.name);
            Err(Error::invalid("mtu", why)
                .with_details("larger frames would be lost there; raise the link's MTU first, or ask for less")
                .into())
        }
        wanted => Ok(wanted.unwrap_or(smallest.mtu)),
    }
}

/// Puts a link into the bond, which sets it up. `macs` are the addresses of those that are in it already.
fn add_port(cx: &Context<Config>, bond: &Link, link: &Link, macs: &mut Vec<Mac>) -> Result<()> {
    let pod = cx.pod()?;
    let mut own = link.mac;
    if cx.conf.plugin.needs_distinct_macs() && own.is_some_and(|mac| macs.contains(&mac)) {
        own = Some(random_mac());
        pod.change_link(link.index, &LinkChange { mac: own, ..LinkChange::default() })?;
    }
    macs.extend(own);
    Ok(pod.change_link(link.index, &LinkChange { master: Some(bond.index), ..LinkChange::default() })?)
}

/// Deletes the bond, and returns the names of its ports that nothing is noted of, as the plugin leaves them that others
/// use. A link of another kind under its name is not ours.
fn delete_bond(cx: &Context<Config>) -> Result<Vec<String>> {
    let Some(pod) = cx.pod_if_any()? else { return Ok(vec![]) };
    let Some(bond) = pod.link(cx.conf.plugin.ifname(&cx.env))? else { return Ok(vec![]) };
    if Bond::of(&bond).is_none() {
        return Ok(vec![]);
    }
    let ports = pod.ports(bond.index)?;
    pod.delete_link_at(bond.index)?;
    let is_configured = |port: &Link| cx.conf.plugin.links.iter().any(|link| link.name == port.name);
    Ok(ports.into_iter().filter(is_configured).map(|port| port.name).collect())
}

/// Returns a link of the node that nothing is noted of and that is still in the pod.
fn return_stray(cx: &Context<Config>, name: &str) -> Result<()> {
    if let (false, Some(pod)) = (cx.conf.plugin.links_in_container, cx.pod_if_any()?)
        && let Some(link) = pod.link(name)?
        && cx.host.link(name)?.is_none()
    {
        pod.move_link(&link, cx.host.ns(), name)?;
    }
    Ok(())
}
