//! What nftables answers: as much of it as somebody here uses.
//!
//! `netlink-packet-netfilter`, which writes the requests, would read all of it; its version 0.4.0 makes a text of the
//! whole list for each element, for an error that does not come, and so takes three seconds for those of 1,000 pods.

use netlink_packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NlaBuffer};
use netlink_packet_netfilter::NetfilterHeader;

use super::transaction::Element;
use crate::socket::attributes;

/// `NFNL_SUBSYS_NFTABLES` in `linux/netfilter/nfnetlink.h`, where types of messages have it.
const NFTABLES: u16 = 10 << 8;
/// Types of messages and of attributes in `linux/netfilter/nf_tables.h`.
const NEW_SET_ELEMENT: u16 = NFTABLES + 12;
const NEW_GENERATION: u16 = NFTABLES + 15;
const GENERATION_ID: u16 = 1;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_USER_DATA: u16 = 6;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;

/// A message.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The lower half of the number of the ruleset that it is of.
    pub(super) generation: u16,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Elements(Vec<Element>),
    Generation(Option<u32>),
    /// That there is something.
    Other,
}

impl NetlinkDeserializable for Answer {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let generation = NetfilterHeader::parse(payload)?.res_id;
        let list = payload.get(4..).unwrap_or_default();
        let content = match header.message_type {
            NEW_SET_ELEMENT => Content::Elements(
                attributes(list)
                    .filter(|part| part.kind() == LIST_ELEMENTS)
                    .flat_map(|elements| attributes(value(elements)))
                    .filter(|part| part.kind() == LIST_ELEMENT)
                    .map(|element| read(value(element)))
                    .collect(),
            ),
            NEW_GENERATION => Content::Generation(find(list, GENERATION_ID).and_then(number)),
            _ => Content::Other,
        };
        Ok(Self { generation, content })
    }
}

fn read(element: &[u8]) -> Element {
    let part = |kind| find(element, kind);
    let chain = part(ELEMENT_DATA).and_then(|data| find(find(data, DATA_VERDICT)?, VERDICT_CHAIN));
    Element {
        key: part(ELEMENT_KEY).and_then(|key| find(key, DATA_VALUE)).unwrap_or_default().to_vec(),
        goto: chain.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()),
        comment: Element::comment_of(part(ELEMENT_USER_DATA).unwrap_or_default()),
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn find(list: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(list).find(|part| part.kind() == kind).map(value)
}

/// The value of an attribute that has been checked, for as long as its list lives.
fn value(attribute: NlaBuffer<&[u8]>) -> &[u8] {
    let length = usize::from(attribute.length());
    attribute.into_inner().get(4..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
    use netlink_packet_netfilter::{
        NetfilterMessage, NetfilterProtoFamily,
        nftables::{NfTablesMessage, SetElementList, SetElementMessage},
    };

    use super::*;
    use crate::{nft::build::Op, socket::messages};

    fn datagram(elements: &[Element]) -> Vec<u8> {
        let all = elements.iter().flat_map(|element| match Op::add_element("pods4", element).message {
            NfTablesMessage::NewSetElement(message) => message.attributes,
            other => panic!("{other:?}"),
        });
        let lists = all.filter_map(|attribute| match attribute {
            SetElementList::Elements(list) => Some(list),
            _ => None,
        });
        let attributes =
            vec![SetElementList::Table("podwire".into()), SetElementList::Elements(lists.flatten().collect())];
        let header = NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 7);
        let message = NfTablesMessage::NewSetElement(SetElementMessage { attributes });
        let mut message = NetlinkMessage::from(NetfilterMessage::new(header, message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn elements() -> [Element; 2] {
        let element = |last, goto: Option<&str>| Element {
            key: vec![10, 7, 0, last],
            goto: goto.map(str::to_owned),
            comment: format!("podwire:net:id{last}:eth0"),
        };
        [element(2, Some("leaving_10.7.0.0/24")), element(3, None)]
    }

    #[test]
    fn elements_are_read_as_they_are_written() {
        let bytes = datagram(&elements());
        let mut answers: Vec<_> = messages::<Answer>(&bytes).map(Result::unwrap).collect();
        assert_eq!(answers.len(), 1);
        let NetlinkPayload::InnerMessage(answer) = answers.remove(0).payload else { panic!() };
        let Content::Elements(found) = answer.content else { panic!("{answer:?}") };
        assert_eq!((answer.generation, found), (7, elements().to_vec()));
    }

    #[test]
    fn a_message_that_is_cut_off_or_lies_about_lengths_is_no_panic() {
        let bytes = datagram(&elements());
        for place in 0..bytes.len() {
            messages::<Answer>(&bytes[..place]).for_each(drop);
            for byte in [0, 1, 3, 255] {
                let mut bytes = bytes.clone();
                bytes[place] = byte;
                messages::<Answer>(&bytes).for_each(drop);
            }
        }
    }
}
