//! What Go writes is read, what is written here Go reads (the bytes are the same but for names of types, which Go does
//! not need), and nothing that anybody sends does any harm.
//!
//! The bytes were made with Go 1.26: each constant is what one `gob.NewEncoder(&buffer)` wrote for
//!
//! ```go
//! encoder.Encode(&rpc.Request{ServiceMethod: "DHCP.Allocate", Seq: 300})
//! encoder.Encode(&skel.CmdArgs{ContainerID: "c1", Netns: "/run/netns/c1", IfName: "eth0", Args: "K8S_POD_NAME=p",
//!     Path: "/opt/cni/bin", StdinData: []byte("{}")})
//! // RESPONSE
//! encoder.Encode(&rpc.Response{ServiceMethod: "DHCP.Allocate", Seq: 300})
//! encoder.Encode(&types100.Result{CNIVersion: "1.0.0", IPs: []*types100.IPConfig{{
//!     Address: net.IPNet{IP: net.ParseIP("10.1.0.5"), Mask: net.CIDRMask(16, 32)}, Gateway: net.IP{10, 1, 0, 1}}},
//!     Routes: []*types.Route{{Dst: /* 0.0.0.0/0 */, GW: net.IP{10, 1, 0, 1}}},
//!     DNS: types.DNS{Nameservers: []string{"10.1.0.53"}, Domain: "lab"}})
//! // FAILURE
//! encoder.Encode(&rpc.Response{ServiceMethod: "DHCP.Release", Error: "no more tries"})
//! encoder.Encode(struct{}{})
//! // ODD
//! encoder.Encode(struct { A [2]bool; M map[string]int; F float64; C complex128; I interface{}; N int }{
//!     [2]bool{true, false}, map[string]int{"x": -129}, 2.5, 1 + 2i, net.IP{1, 2, 3, 4}, -70000})
//! ```

use proptest::prelude::*;

use super::*;
use crate::messages::{CMD_ARGS, CmdArgs, REQUEST, RESPONSE, RESULT, from_result, schema, to_result};

const GO_REQUEST: &str = "2e7f030101075265717565737401ff80000102010d536572766963654d6574686f64010c000103536571010600000016ff80010d444843502e416c6c6f6361746501fe012c005aff8103010107436d644172677301ff82000106010b436f6e7461696e65724944010c0001054e65746e73010c00010649664e616d65010c00010441726773010c00010450617468010c000109537464696e44617461010a0000003eff8201026331010d2f72756e2f6e65746e732f6331010465746830010e4b38535f504f445f4e414d453d70010c2f6f70742f636e692f62696e01027b7d00";
const GO_RESPONSE: &str = "3aff8303010108526573706f6e736501ff84000103010d536572766963654d6574686f64010c00010353657101060001054572726f72010c00000016ff84010d444843502e416c6c6f6361746501fe012c0051ff8503010106526573756c7401ff86000105010a434e4956657273696f6e010c00010a496e746572666163657301ff8a00010349507301ff90000106526f7574657301ff94000103444e5301ff9600000020ff89020101115b5d2a6d61696e2e496e7465726661636501ff8a0001ff88000029ff87030102ff8800010301044e616d65010c0001034d6163010c00010753616e64626f78010c0000001fff8f020101105b5d2a6d61696e2e4950436f6e66696701ff900001ff8c000033ff8b030102ff8c0001030109496e7465726661636501040001074164647265737301ff8e00010747617465776179010a00000023ff8d0301010549504e657401ff8e00010201024950010a0001044d61736b010a0000001cff930201010d5b5d2a6d61696e2e526f75746501ff940001ff9200001cff91030102ff92000102010344737401ff8e0001024757010a00000046ff9503010103444e5301ff96000104010b4e616d657365727665727301ff98000106446f6d61696e010c00010653656172636801ff980001074f7074696f6e7301ff9800000016ff97020101085b5d737472696e6701ff9800010c000057ff860105312e302e30020102011000000000000000000000ffff0a0100050104ffff00000001040a010001000101010104000000000104000000000001040a010001000101010931302e312e302e353301036c61620000";
const GO_FAILURE: &str = "3aff8303010108526573706f6e736501ff84000103010d536572766963654d6574686f64010c00010353657101060001054572726f72010c00000020ff84010c444843502e52656c65617365020d6e6f206d6f7265207472696573000aff99030102ff9a00000003ff9a00";
const GO_ODD: &str = "37ff9b030101034f646401ff9c00010601014101ff9e0001014d01ffa000010146010800010143010e0001014901100001014e010400000017ff9d010101075b325d626f6f6c01ff9e000102010400001eff9f0401010e6d61705b737472696e675d696e7401ffa000010c010400002cff9c0102010001010178fe010101fe044001fef03f4001066e65742e49500a0600040102030401fd0222df00";

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Every value of a stream that comes in pieces of this size.
fn read(stream: &[u8], piece: usize) -> Result<Vec<Value>> {
    let (mut incoming, mut values) = (Incoming::new(), Vec::new());
    for piece in stream.chunks(piece) {
        incoming.push(piece);
        while let Some(value) = incoming.next()? {
            values.push(value);
        }
    }
    assert_eq!(incoming.waiting(), 0, "bytes are left over");
    Ok(values)
}

fn args() -> CmdArgs {
    CmdArgs {
        container_id: "c1".to_owned(),
        netns: "/run/netns/c1".to_owned(),
        ifname: "eth0".to_owned(),
        args: "K8S_POD_NAME=p".to_owned(),
        stdin: b"{}".to_vec(),
    }
}

#[test]
fn requests_of_go_are_read_in_pieces_of_any_size() {
    for piece in [1, 2, 7, 4096] {
        let values = read(&bytes(GO_REQUEST), piece).unwrap();
        assert_eq!(values.len(), 2);
        assert_eq!(
            (values[0].text("ServiceMethod").unwrap().as_str(), values[0].uint("Seq").unwrap()),
            ("DHCP.Allocate", 300)
        );
        assert_eq!(CmdArgs::from_value(&values[1]).unwrap(), args());
    }
}

#[test]
fn results_of_go_are_read() {
    let values = read(&bytes(GO_RESPONSE), 4096).unwrap();
    let result = to_result(&values[1]).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
    assert_eq!(result.ips[0].gateway, Some([10, 1, 0, 1].into()));
    assert_eq!(result.routes[0].dst.to_string(), "0.0.0.0/0");
    assert_eq!(result.routes[0].gw, Some([10, 1, 0, 1].into()));
    assert_eq!((result.dns.nameservers.as_slice(), result.dns.domain.as_str()), (&["10.1.0.53".to_owned()][..], "lab"));
    let failure = read(&bytes(GO_FAILURE), 4096).unwrap();
    assert_eq!((failure[0].text("Error").unwrap().as_str(), &failure[1]), ("no more tries", &Value::of([])));
}

#[test]
fn types_that_this_protocol_does_not_use_are_read_or_passed_over() {
    let values = read(&bytes(GO_ODD), 4096).unwrap();
    let expected = Value::of([
        ("A", Value::List(vec![Value::Bool(true), Value::Bool(false)])),
        ("M", Value::Map(vec![(Value::String("x".to_owned()), Value::Int(-129))])),
        ("F", Value::Float(2.5)),
        ("C", Value::Opaque),
        ("I", Value::Opaque),
        ("N", Value::Int(-70000)),
    ]);
    assert_eq!(values, [expected]);
}

#[test]
fn what_is_written_is_what_go_writes_but_for_the_names_and_numbers_of_types() {
    let mut outgoing = Outgoing::new(schema());
    let request = Value::of([("ServiceMethod", Value::String("DHCP.Allocate".to_owned())), ("Seq", Value::Uint(300))]);
    let ours = outgoing.encode(REQUEST, &request).unwrap();
    let go = bytes(GO_REQUEST);
    // Go's first definition is 47 bytes long, the value 23; its length and type stand in the first 3.
    assert_eq!(ours[ours.len() - 20..], go[50..70]);
    // A second value needs no second definition.
    assert_eq!(outgoing.encode(REQUEST, &request).unwrap(), ours[ours.len() - 23..]);
}

#[test]
fn every_type_of_the_protocol_comes_back_as_it_went() {
    let mut outgoing = Outgoing::new(schema());
    let result = to_result(&read(&bytes(GO_RESPONSE), 64).unwrap()[1]).unwrap();
    let values = [
        (CMD_ARGS, args().to_value()),
        (RESULT, from_result(&result)),
        (RESPONSE, Value::of([("Seq", Value::Uint(u64::MAX))])),
        (CMD_ARGS, CmdArgs::default().to_value()),
    ];
    let stream: Vec<u8> = values.iter().flat_map(|(kind, value)| outgoing.encode(*kind, value).unwrap()).collect();
    let back = read(&stream, 100).unwrap();
    assert_eq!(CmdArgs::from_value(&back[0]).unwrap(), args());
    assert_eq!(to_result(&back[1]).unwrap(), result);
    assert_eq!(back[2].uint("Seq").unwrap(), u64::MAX);
    assert_eq!(CmdArgs::from_value(&back[3]).unwrap(), CmdArgs::default());
}

#[test]
#[cfg_attr(miri, ignore = "it is about size, for which an interpreter takes minutes")]
fn what_is_beyond_bounds_is_refused() {
    let refused = |stream: &[u8], why: &str| {
        let mut incoming = Incoming::new();
        incoming.push(stream);
        let error = loop {
            match incoming.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{why}: waits for more"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains(why), "{why}: {error}");
    };
    refused(&[0], "a message of 0 bytes");
    refused(&[0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "a message of 18446744073709551615 bytes");
    refused(&[0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9], "a number of 128 bytes");
    refused(&[2, 0x54, 0], "type 42: not defined");
    refused(&[3, 12, 0, 5], "longer than its message");
    refused(&[4, 12, 0, 1, 0xff], "not UTF-8");
    refused(&[4, 4, 0, 1, 9], "bytes after the end");
    refused(&[3, 4, 1, 9], "leading zero");

    // Types that hold themselves, and one too many of them.
    let mut schema = Schema::new();
    let slice = Def::Slice { element: 64 }.to_value(64);
    schema.define(64, &slice).unwrap();
    assert!(schema.define(64, &slice).unwrap_err().to_string().contains("twice"));
    assert!(schema.define(63, &slice).is_err());
    for number in 65..64 + 128 {
        schema.define(number, &slice).unwrap();
    }
    assert!(schema.define(300, &slice).unwrap_err().to_string().contains("at most 128 types"));
    let wordy = Def::Struct(vec![("x".repeat(129).into(), builtin::INT)]).to_value(64);
    assert!(Schema::new().define(64, &wordy).unwrap_err().to_string().contains("129 bytes"));
    let mut deep = definition(&slice, 64);
    deep.extend([24, 0xff, 0x80, 0].into_iter().chain([1; 21]));
    refused(&deep, "more than 16 deep");

    // A million values of no length at all, in a dozen bytes each.
    let mut many = definition(&Def::Slice { element: 65 }.to_value(64), 64);
    many.extend(definition(&Def::of([]).to_value(65), 65));
    let count = 100_000_u32;
    let mut message = vec![0xff, 0x80, 0, 0xfd];
    message.extend(&count.to_be_bytes()[1..]);
    message.extend(vec![0; count as usize]);
    many.push(0xfd);
    many.extend(&u32::try_from(message.len()).unwrap().to_be_bytes()[1..]);
    many.extend(message);
    refused(&many, "more than 65536");
}

/// The message that defines a type.
fn definition(value: &Value, number: i64) -> Vec<u8> {
    let mut outgoing = Outgoing::new(Schema::new());
    let mut message = outgoing.encode(builtin::WIRE_TYPE, value).unwrap();
    // Its number is that of the type, negated, and not that of the value's own type, which is one byte.
    let inverted = u8::try_from((number << 1) - 1).unwrap();
    message.splice(..2, [message[0] + 1, 0xff, inverted]);
    message
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(stream in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
        let mut incoming = Incoming::new();
        for piece in stream.chunks(piece) {
            incoming.push(piece);
            while let Ok(Some(_)) = incoming.next() {}
        }
    }

    #[test]
    fn no_damage_to_a_message_of_go_makes_it_panic(
        which in 0..3_usize,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut stream = bytes([GO_REQUEST, GO_RESPONSE, GO_ODD][which]);
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let mut incoming = Incoming::new();
        incoming.push(&stream);
        while let Ok(Some(value)) = incoming.next() {
            let _ = (CmdArgs::from_value(&value), to_result(&value));
        }
    }

    #[test]
    fn any_text_and_number_comes_back(id in ".*", stdin in proptest::collection::vec(any::<u8>(), 0..3000), seq in any::<u64>()) {
        let mut outgoing = Outgoing::new(schema());
        let sent = CmdArgs { container_id: id, stdin, ..CmdArgs::default() };
        let mut stream = outgoing.encode(REQUEST, &Value::of([("Seq", Value::Uint(seq))])).unwrap();
        stream.extend(outgoing.encode(CMD_ARGS, &sent.to_value()).unwrap());
        let back = read(&stream, 1000).unwrap();
        prop_assert_eq!(back[0].uint("Seq").unwrap(), seq);
        prop_assert_eq!(CmdArgs::from_value(&back[1]).unwrap(), sent);
    }

    #[test]
    fn every_signed_number_comes_back(number in any::<i64>()) {
        let mut outgoing = Outgoing::new(schema());
        let stream = outgoing.encode(builtin::INT, &Value::Int(number)).unwrap();
        prop_assert_eq!(read(&stream, 3).unwrap(), [Value::Int(number)]);
    }
}
