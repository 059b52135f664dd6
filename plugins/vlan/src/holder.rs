//! Who has a VLAN already: the kernel allows one device for each parent, protocol and id, in whatever namespace it is.

use podwire_plugin::{
    Context, Error, Label, Parent, Sibling, anyhow, code,
    net::{self, Errno, VlanDevice, VlanProtocol},
};

use crate::config::Config;

/// Whether the kernel has refused because something is there already.
pub(crate) fn is_taken(error: &anyhow::Error) -> bool {
    error.downcast_ref::<net::Error>().is_some_and(|error| error.is(Errno::EEXIST))
}

/// The kernel's refusal of a second device, with whoever has the first; any other error as it is.
pub(crate) fn explain(
    cx: &Context<Config>,
    parent: &Parent,
    wanted: &VlanDevice,
    error: anyhow::Error,
) -> anyhow::Error {
    if !is_taken(&error) {
        return error;
    }
    let siblings = match cx.siblings(parent, "vlan") {
        Ok(siblings) => siblings,
        Err(look) => return error.context(look.to_string()),
    };
    let is_it = |sibling: &&Sibling| VlanDevice::of(&sibling.link).is_some_and(|device| device.is_same_vlan(wanted));
    let (who, what_to_do) = siblings.iter().find(is_it).map_or_else(unseen, |sibling| seen(sibling, &cx.conf.plugin));
    Error::new(code::EXISTS, format!("{} of {:?}: {who}", title(wanted), parent.link.name))
        .with_details(format!("{what_to_do}; {error}"))
        .into()
}

/// The VLAN as a person calls it.
pub(crate) fn title(device: &VlanDevice) -> String {
    match device.protocol {
        VlanProtocol::Q => format!("VLAN {}", device.id),
        VlanProtocol::Ad => format!("802.1ad VLAN {}", device.id),
    }
}

/// The device that has it, and what can be done about that. What a pod says of itself, its link's name and alias, is
/// quoted and of a length that the kernel limits, and nothing depends on it.
fn seen(sibling: &Sibling, config: &Config) -> (String, String) {
    let users: Vec<_> = sibling.link.altnames.iter().filter(|name| Label::parse(name).is_some()).collect();
    match sibling.ns {
        Some(_) => (
            format!("taken by {sibling}"),
            "the text in brackets is the alias, podwire:NETWORK:CONTAINERID:IFNAME, and lsns -t net knows the \
             namespace's number; for several pods to share it, each is to be added with \"shared\": true, this one too"
                .to_owned(),
        ),
        None if config.link_in_container => {
            (format!("taken by {sibling}"), "the pod has it already; choose another vlanId".to_owned())
        }
        None if users.is_empty() => {
            (format!("taken by {sibling} on the node"), "with \"shared\": true pods use that device".to_owned())
        }
        None => (
            format!("shared by {} of {users:?}", users.len()),
            format!("with \"shared\": true this pod joins them on link {:?}", sibling.link.name),
        ),
    }
}

fn unseen() -> (String, String) {
    (
        "taken by a device that cannot be seen from here".to_owned(),
        "it is in a namespace that the node has no number for (ip netns list-id); for several pods to share a VLAN, each \
         is to be added with \"shared\": true"
            .to_owned(),
    )
}
