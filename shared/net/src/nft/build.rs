//! Operations of a transaction and the expressions of rules, as data.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, Immediate,
    InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage,
    TableAttribute, TableMessage, Verdict, VerdictAttribute,
};

use super::{TABLE, transaction::Element, value};

/// One operation, in the table of ours of the transaction's family.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) message: NfTablesMessage,
    /// Whether it makes something, which then must not exist.
    pub(super) creates: bool,
    /// Whether the kernel is to append, as rules want.
    pub(super) appends: bool,
}

/// An expression of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// Where in a packet, as `nft_payload_bases` in `linux/netfilter/nf_tables.h` numbers it.
#[derive(Clone, Copy)]
pub(super) enum Base {
    Link = 0,
    Network = 1,
}

/// The `nft` tool's number of the type "interface name".
pub(super) const TYPE_IFNAME: u32 = 41;
/// `NFT_DATA_VERDICT`: the type of a verdict map's data.
const DATA_VERDICT: u32 = 0xffff_ff00;

impl Op {
    fn new(message: NfTablesMessage, creates: bool) -> Self {
        Self { message, creates, appends: false }
    }

    /// Whether it makes a table.
    pub(super) fn is_table(&self) -> bool {
        self.creates && matches!(self.message, NfTablesMessage::NewTable(_))
    }

    /// Makes the table.
    pub(super) fn add_table() -> Self {
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        Self::new(NfTablesMessage::NewTable(TableMessage { attributes }), true)
    }

    /// Deletes the table with all that is in it.
    pub(super) fn delete_table() -> Self {
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        Self::new(NfTablesMessage::DeleteTable(TableMessage { attributes }), false)
    }

    /// Makes a base chain.
    pub(super) fn add_base_chain(name: &str, kind: &str, hook: InetHookNumber, priority: i32) -> Self {
        let attributes = vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(vec![Hook::Number(hook.into()), Hook::Priority(priority.cast_unsigned())]),
            ChainAttribute::Type(kind.to_owned()),
        ];
        Self::new(NfTablesMessage::NewChain(ChainMessage { attributes }), true)
    }

    /// Makes a chain to jump to.
    pub(super) fn add_chain(name: &str) -> Self {
        Self::new(NfTablesMessage::NewChain(chain(name)), true)
    }

    /// Deletes a chain and its rules.
    pub(super) fn delete_chain(name: &str) -> Self {
        Self::new(NfTablesMessage::DeleteChain(chain(name)), false)
    }

    /// Makes a set. `key_type` is what the `nft` tool shows its keys as; the kernel only wants `key_len`, in bytes.
    pub(super) fn add_set(name: &str, key_type: u32, key_len: u32, is_verdict_map: bool) -> Self {
        /// For the `nft` tool (`NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl): the key is in host byte order, as names
        /// are, or else it would print them reversed.
        const HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
            SetAttribute::Id(1),
        ];
        if key_type == TYPE_IFNAME {
            attributes.push(SetAttribute::UserData(HOST_ORDER.to_vec()));
        }
        if is_verdict_map {
            attributes.extend([SetAttribute::Flags(SetFlags::Map), SetAttribute::DataType(DATA_VERDICT)]);
        }
        Self::new(NfTablesMessage::NewSet(SetMessage { attributes }), true)
    }

    /// Adds an element.
    pub(super) fn add_element(set: &str, element: &Element) -> Self {
        let mut attributes =
            vec![SetElementAttribute::Key(value(&element.key)), SetElementAttribute::UserData(element.user_data())];
        if let Some(chain) = &element.goto {
            attributes.push(SetElementAttribute::Data(goto(chain)));
        }
        Self::new(NfTablesMessage::NewSetElement(in_set(set, attributes)), true)
    }

    /// Deletes an element.
    pub(super) fn delete_element(set: &str, element: &Element) -> Self {
        let attributes = vec![SetElementAttribute::Key(value(&element.key))];
        Self::new(NfTablesMessage::DeleteSetElement(in_set(set, attributes)), false)
    }

    /// Appends a rule.
    pub(super) fn add_rule(chain: &str, expressions: Vec<Expression>) -> Self {
        let attributes = vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        Self { appends: true, ..Self::new(NfTablesMessage::NewRule(RuleMessage { attributes }), false) }
    }
}

/// The message that names a chain of ours.
pub(super) fn chain(name: &str) -> ChainMessage {
    ChainMessage { attributes: vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())] }
}

fn in_set(set: &str, element: Vec<SetElementAttribute>) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(TABLE.to_owned()),
            SetElementList::Set(set.to_owned()),
            SetElementList::Elements(vec![ListAttribute::Element(element)]),
        ],
    }
}

fn goto(chain: &str) -> DataAttribute {
    DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.to_owned())])
}

/// Puts a fact about the packet into a register.
pub(super) fn meta(key: MetaKey, register: Register) -> Expression {
    Expressions::Meta(vec![Meta::DestinationRegister(register), Meta::Key(key)]).into()
}

/// Puts `len` bytes of the packet into a register.
pub(super) fn payload(base: Base, offset: u32, len: u32, register: Register) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(register),
        Payload::Base(base as u32),
        Payload::Offset(offset),
        Payload::Len(len),
    ])
    .into()
}

/// Goes on only if register 1 holds `bytes`.
pub(super) fn equals(bytes: &[u8]) -> Expression {
    Expressions::Cmp(vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(Operator::Equal), Cmp::Data(value(bytes))])
        .into()
}

/// Clears the bits of register 1 that are not in `mask`.
pub(super) fn mask(mask: &[u8]) -> Expression {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(u32::try_from(mask.len()).unwrap_or(0)),
        Bitwise::Mask(value(mask)),
        Bitwise::Xor(value(&vec![0; mask.len()])),
    ])
    .into()
}

/// Goes on only if the set has what stands in the registers from `register` on; a verdict map decides.
pub(super) fn lookup(set: &str, register: Register, is_verdict_map: bool) -> Expression {
    let mut attributes = vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(register)];
    if is_verdict_map {
        attributes.push(Lookup::DestinationRegister(Register::Verdict));
    }
    Expressions::Lookup(attributes).into()
}

/// Ends the rule with a verdict.
pub(super) fn verdict(verdict: Verdict) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(verdict)])),
    ])
    .into()
}

/// Gives the packet the source address of the interface that it leaves by, with a random port.
pub(super) fn masquerade() -> Expression {
    /// `NFTA_MASQ_FLAGS` in `linux/netfilter/nf_tables.h`.
    const FLAGS: u16 = 1;
    /// `NF_NAT_RANGE_PROTO_RANDOM_FULLY` in `linux/netfilter/nf_nat.h`: two pods that connect to the same server at
    /// the same time do not race for a port.
    const RANDOM_FULLY: u32 = 1 << 4;
    let flags = DefaultNla::new(FLAGS, RANDOM_FULLY.to_be_bytes().to_vec());
    Expressions::Other { expression_type: "masq".to_owned(), attributes: vec![flags] }.into()
}
