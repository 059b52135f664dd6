//! Features of a device, over the generic netlink family `ethtool`
//! ([documentation](https://docs.kernel.org/networking/ethtool-netlink.html)).

use netlink_packet_core::{
    DefaultNla, Emitable, ErrorMessage, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlaBuffer, NlasIterator,
};
use netlink_sys::{Socket, protocols::NETLINK_GENERIC};
use nix::errno::Errno;
use podwire_trace::step;

use crate::{
    Error, Netns, Result,
    socket::{self, attributes},
};

/// The feature by which a device without hardware of its own takes packets whose checksum is still to be computed, and
/// leaves that to the hardware below.
const TX_CHECKSUM: &str = "tx-checksum-ip-generic";

// The number of the family that says what number the other families have, its request, and its attributes.
const CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

// From `linux/ethtool_netlink.h`.
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEV_NAME: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// A message of a generic netlink family: command and attributes.
#[derive(Debug)]
struct Message {
    family: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        4 + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        // Command, version, two bytes that are reserved.
        buffer[..4].copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes.as_slice().emit(&mut buffer[4..]);
    }
}

impl NetlinkDeserializable for Message {
    type Error = netlink_packet_core::DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> std::result::Result<Self, Self::Error> {
        use netlink_packet_core::Parseable;
        let attributes = NlasIterator::new(payload.get(4..).unwrap_or_default())
            .map(|attribute| DefaultNla::parse(&attribute?))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { family: header.message_type, command: payload.first().copied().unwrap_or_default(), attributes })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        NetlinkPayload::InnerMessage(message)
    }
}

/// Switches the computing of checksums of outgoing packets by the device on or off.
///
/// # Errors
/// EOPNOTSUPP where the kernel was built without ethtool's netlink, or the device refuses.
pub fn set_tx_checksum(ns: &Netns, link: &str, on: bool) -> Result<()> {
    let object = || format!("link {link:?}: feature \"{TX_CHECKSUM}\"");
    let mut bit = vec![text(BIT_NAME, TX_CHECKSUM)];
    if on {
        bit.push(DefaultNla::new(BIT_VALUE, Vec::new()));
    }
    let wanted = nest(FEATURES_WANTED, &[nest(BITSET_BITS, &[nest(BITS_BIT, &bit)])]);
    ask(ns, &object, "change", FEATURES_SET, vec![header(link), wanted])?;
    // The kernel acknowledges what a device then does not do.
    if tx_checksum(ns, link)? == on { Ok(()) } else { Err(Error::new(object(), "change", Errno::EOPNOTSUPP)) }
}

/// Whether the device takes packets whose checksum is still to be computed.
///
/// # Errors
/// EOPNOTSUPP where the kernel was built without ethtool's netlink.
pub fn tx_checksum(ns: &Netns, link: &str) -> Result<bool> {
    let object = || format!("link {link:?}: features");
    let answers = ask(ns, &object, "read", FEATURES_GET, vec![header(link)])?;
    let active = answers.iter().flat_map(|answer| &answer.attributes).find(|one| kind(one) == FEATURES_ACTIVE);
    let bits = active.map(value).unwrap_or_default();
    // A list of those that are on: bits, in them one entry a feature, in that its name.
    let is_named = |bit: &NlaBuffer<&[u8]>| {
        let mut parts = attributes(bit.value());
        parts.any(|part| part.kind() == BIT_NAME && part.value() == [TX_CHECKSUM.as_bytes(), b"\0"].concat())
    };
    Ok(attributes(&bits)
        .filter(|part| part.kind() == BITSET_BITS)
        .any(|list| attributes(list.value()).any(|bit| is_named(&bit) && has_value(&bit, &bits))))
}

/// A bit of a list is on by being there if the list has no mask, and otherwise by its flag.
fn has_value(bit: &NlaBuffer<&[u8]>, set: &[u8]) -> bool {
    const BITSET_NO_MASK: u16 = 1;
    attributes(set).any(|part| part.kind() == BITSET_NO_MASK)
        || attributes(bit.value()).any(|part| part.kind() == BIT_VALUE)
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), b"\0"].concat())
}

fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

fn header(link: &str) -> DefaultNla {
    nest(FEATURES_HEADER, &[text(HEADER_DEV_NAME, link)])
}

fn kind(attribute: &DefaultNla) -> u16 {
    use netlink_packet_core::Nla;
    attribute.kind() & !NLA_F_NESTED
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    use netlink_packet_core::Nla;
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

/// Opens a connection in the namespace, asks for the family's number, and then what is asked.
fn ask(
    ns: &Netns,
    object: &impl Fn() -> String,
    operation: &'static str,
    command: u8,
    attributes: Vec<DefaultNla>,
) -> Result<Vec<Message>> {
    step(operation, object, Error::why, || connect_and_ask(ns, object, operation, command, attributes))
}

fn connect_and_ask(
    ns: &Netns,
    object: &impl Fn() -> String,
    operation: &'static str,
    command: u8,
    attributes: Vec<DefaultNla>,
) -> Result<Vec<Message>> {
    let failed = |error: std::io::Error| Error::io(object(), operation, &error);
    let mut socket = ns.run(|| Socket::new(NETLINK_GENERIC))?.map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    let name = vec![text(CONTROL_FAMILY_NAME, "ethtool")];
    let which = Message { family: CONTROL, command: CONTROL_GET_FAMILY, attributes: name };
    let known = exchange(&socket, which).map_err(|errno| match errno {
        // No such family.
        Errno::ENOENT => Error::new(object(), operation, Errno::EOPNOTSUPP),
        errno => Error::new("generic netlink family \"ethtool\"", "find", errno),
    })?;
    let ids = known.iter().flat_map(|answer| &answer.attributes).filter(|one| kind(one) == CONTROL_FAMILY_ID);
    let number = ids.map(value).find_map(|bytes| bytes.try_into().ok().map(u16::from_ne_bytes));
    let family = number.ok_or_else(|| Error::new(object(), operation, Errno::EOPNOTSUPP))?;
    exchange(&socket, Message { family, command, attributes }).map_err(|errno| Error::new(object(), operation, errno))
}

/// Sends a request and gathers the answers up to the acknowledgement.
fn exchange(socket: &Socket, message: Message) -> std::result::Result<Vec<Message>, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket::send(socket, &bytes).map_err(errno)?;
    let mut answers = Vec::new();
    socket::with_buffer(|buffer| {
        loop {
            let datagram = socket::receive(socket, buffer).map_err(errno)?;
            let answer = NetlinkMessage::<Message>::deserialize(datagram).map_err(|_| Errno::EBADMSG)?;
            match answer.payload {
                NetlinkPayload::Error(ErrorMessage { code: Some(code), .. }) => {
                    return Err(Errno::from_raw(-code.get()));
                }
                NetlinkPayload::Error(_) => return Ok(answers),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
    })
}
