//! Who owns what: the label on everything that a plugin makes on the node.

use std::fmt;

use podwire_spec::hash;

/// `podwire:NETWORK:CONTAINERID:IFNAME`, as it stands in a link's alias and in the comment of an nftables element.
/// None of the parts can hold a colon. A thing that belongs to the network as a whole has the last two empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    network: String,
    container_id: String,
    ifname: String,
}

/// The longest that the parts may be, so that the whole fits an alias (`IFALIASZ`, 256 with its NUL) and an nftables
/// comment (254): 10 for the rest, 15 for the interface's name.
const MAX_NETWORK: usize = 96;
const MAX_CONTAINER_ID: usize = 128;

impl Label {
    /// The label of an attachment.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        // Both names can be long; what does not fit is told apart by its hash.
        Self {
            network: shortened(network, MAX_NETWORK),
            container_id: shortened(container_id, MAX_CONTAINER_ID),
            ifname: ifname.to_owned(),
        }
    }

    /// The label in the form that fits an altname (127 bytes): by it a shared link knows its users.
    pub fn user(&self) -> String {
        const MAX_NETWORK: usize = 38;
        const MAX_CONTAINER_ID: usize = 64;
        format!("podwire:{}", self.fitted(MAX_NETWORK, MAX_CONTAINER_ID))
    }

    /// The label without its prefix, in the form that fits an altname behind the name of a link that was lent.
    pub fn borrower(&self) -> String {
        const MAX_NETWORK: usize = 20;
        const MAX_CONTAINER_ID: usize = 54;
        self.fitted(MAX_NETWORK, MAX_CONTAINER_ID)
    }

    fn fitted(&self, max_network: usize, max_container_id: usize) -> String {
        let (network, id) = (shortened(&self.network, max_network), shortened(&self.container_id, max_container_id));
        format!("{network}:{id}:{}", self.ifname)
    }

    /// The label of what belongs to the network as a whole.
    pub fn of_network(network: &str) -> Self {
        Self::new(network, "", "")
    }

    /// Reads a label; `None` for text that is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("podwire:")?.split(':');
        let (network, container_id, ifname) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && !network.is_empty();
        whole.then(|| Self { network: network.into(), container_id: container_id.into(), ifname: ifname.into() })
    }

    /// Whether both are of one network.
    pub fn is_of_network_of(&self, other: &Self) -> bool {
        self.network == other.network
    }

    /// Whether this is an attachment's, and not the network's as a whole.
    pub fn is_of_an_attachment(&self) -> bool {
        !self.container_id.is_empty()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "podwire:{}:{}:{}", self.network, self.container_id, self.ifname)
    }
}

fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    // What is read from a link can be anything.
    let end = text.floor_char_boundary(max.saturating_sub(17));
    format!("{}.{:016x}", &text[..end], hash(text.as_bytes()))
}

/// The name of the node's end of an attachment's veth pair: `veth` and 11 letters or digits, always the same, so that it can be
/// found without having been remembered.
pub fn host_veth_name(container_id: &str, ifname: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let hash = hash(format!("{container_id}/{ifname}").as_bytes());
    let digits = (0..11).map(|place| char::from(DIGITS[(hash >> (place * 5) & 31) as usize]));
    "veth".chars().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_anybody_wrote_is_shortened_between_characters() {
        let label = Label::parse(&format!("podwire:n:{}:eth0", "é".repeat(60))).unwrap();
        assert!(label.user().len() <= 127 && label.borrower().len() <= 100, "{} {}", label.user(), label.borrower());
    }

    #[test]
    fn a_label_is_read_back_and_fits_an_alias() {
        let label = Label::new("net", "0a1b", "eth0");
        assert_eq!(label.to_string(), "podwire:net:0a1b:eth0");
        assert_eq!(Label::parse(&label.to_string()), Some(label));
        let long = Label::new(&"n".repeat(255), &"c".repeat(300), "123456789012345");
        assert!(long.to_string().len() <= 250, "{}", long.to_string().len());
        assert_eq!(Label::parse(&long.to_string()), Some(long.clone()));
        assert!(long.is_of_network_of(&Label::of_network(&"n".repeat(255))));
        assert_eq!(long.user().len(), 127);
        assert_eq!(Label::parse(&long.user()).map(|user| user.user()), Some(long.user()));
        assert!(!long.is_of_network_of(&Label::of_network(&"n".repeat(254))));
    }

    #[test]
    fn foreign_aliases_are_no_labels() {
        for text in ["", "podwire", "podwire:net", "podwire:net:id", "podwire:net:id:eth0:x", "podwire:::", "uplink"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }

    #[test]
    fn veth_names_fit_and_differ() {
        let names: std::collections::HashSet<_> =
            (0..1000).flat_map(|id| ["eth0", "net1"].map(|ifname| host_veth_name(&format!("c{id}"), ifname))).collect();
        assert_eq!(names.len(), 2000);
        assert!(names.iter().all(|name| name.len() == 15 && podwire_spec::interface_name(name)));
        assert_eq!(host_veth_name("c1", "eth0"), host_veth_name("c1", "eth0"));
    }
}
