//! The fuzzers' dictionary has every key that a plugin knows.

use podwire_ipam::{HostLocalConfig, StaticAddress, StaticConfig};
use podwire_plugin::Plugin;
use podwire_spec::{Attachment, Dns, Interface, Ip, IpRange, Route, RuntimeConfig, keys_of};

#[test]
fn the_dictionary_has_every_key() {
    let dictionary = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/json.dict")).unwrap();
    let missing: Vec<_> = [
        keys_of::<<bond::Bond as Plugin>::Config>(),
        keys_of::<<bridge::Bridge as Plugin>::Config>(),
        keys_of::<<ipvlan::Plugin as Plugin>::Config>(),
        keys_of::<<macvlan::Plugin as Plugin>::Config>(),
        keys_of::<<vlan::Vlan as Plugin>::Config>(),
        keys_of::<<vxlan::Vxlan as Plugin>::Config>(),
        keys_of::<dhcp::DhcpConfig>(),
        keys_of::<HostLocalConfig>(),
        keys_of::<StaticConfig>(),
        keys_of::<StaticAddress>(),
        keys_of::<IpRange>(),
        keys_of::<RuntimeConfig>(),
        keys_of::<Attachment>(),
        keys_of::<Interface>(),
        keys_of::<Ip>(),
        keys_of::<Route>(),
        keys_of::<Dns>(),
    ]
    .concat()
    .into_iter()
    .map(|key| format!("\"\\\"{key}\\\"\""))
    .filter(|line| !dictionary.lines().any(|known| known == line))
    .collect();
    assert!(missing.is_empty(), "add to conformance/fuzz/json.dict:\n{}", missing.join("\n"));
}
