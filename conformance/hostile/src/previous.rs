//! Results, of ADD and of other plugins: in every version, and from one to the other.

use podwire_spec::{AddResult, Interface, Route, Version};

/// A result is read as of each version, written as of each, and read again: what comes out is what that version can
/// say, no less.
pub(crate) fn previous_result(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    for from in Version::ALL {
        let Ok(result) = AddResult::from_json(&value, from) else { continue };
        for to in Version::ALL {
            let written: serde_json::Value = serde_json::from_str(&result.to_json(to)).expect("a result is JSON");
            assert_eq!(written["cniVersion"], to.as_str());
            let again = AddResult::from_json(&written, Version::LATEST).expect("what was written can be read");
            assert_eq!(again, said_by(&result, to), "read as {from}, written as {to}");
        }
    }
}

/// What of a result `version` has words for.
fn said_by(result: &AddResult, version: Version) -> AddResult {
    let mut said = result.clone();
    if version < Version::V1_1_0 {
        let known = |Interface { name, mac, sandbox, .. }| Interface { name, mac, sandbox, ..Interface::default() };
        said.interfaces = said.interfaces.into_iter().map(known).collect();
        said.routes = said.routes.into_iter().map(|Route { dst, gw, .. }| Route::new(dst, gw)).collect();
    }
    if version < Version::V0_3_0 {
        said.interfaces.clear();
        said.ips.iter_mut().for_each(|ip| ip.interface = None);
        // The first address of each family, and its routes with it.
        let first = |is_v4: bool| result.ips.iter().find(|ip| ip.address.ip().is_ipv4() == is_v4);
        let firsts = [(true, first(true)), (false, first(false))];
        said.ips = firsts.iter().filter_map(|(_, ip)| *ip).cloned().collect();
        said.ips.iter_mut().for_each(|ip| ip.interface = None);
        let routes = firsts
            .iter()
            .filter(|(_, ip)| ip.is_some())
            .flat_map(|(is_v4, _)| said.routes.iter().filter(move |route| route.dst.ip().is_ipv4() == *is_v4).cloned());
        said.routes = routes.collect();
    }
    said
}
