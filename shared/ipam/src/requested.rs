//! The addresses that a caller asks for, by any of three ways.

use std::net::IpAddr;

use podwire_spec::{Env, Error, NetConf, Result};

use crate::range::{RangeSet, Reserved};

/// An address that somebody asks for, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    source: &'static str,
    ip: IpAddr,
}

/// For each of `sets`, the address that is asked for, if any.
///
/// `runtimeConfig.ips` goes before `args.cni.ips`, and that before `IP` in `CNI_ARGS`, set by set: an address that is asked for
/// in a lower place counts where no higher place asks for one of the same set. A prefix length is passed over, as the
/// subnet has one.
///
/// # Errors
/// Code 7 for an address that is in no set or that is never given to a pod, and for two of one place in one set.
pub(crate) fn for_sets<C>(env: &Env, conf: &NetConf<C>, sets: &[RangeSet]) -> Result<Vec<Option<IpAddr>>> {
    let of = |source, ips: &[podwire_spec::RequestedIp]| {
        ips.iter().map(move |asked| Request { source, ip: asked.ip.to_canonical() }).collect::<Vec<_>>()
    };
    let requests = [
        of("runtimeConfig.ips", conf.runtime.ips.as_deref().unwrap_or_default()),
        of("args.cni.ips", conf.args.ips.as_deref().unwrap_or_default()),
        of("CNI_ARGS IP", &env.args.ips),
    ]
    .concat();
    let mut chosen: Vec<Option<Request>> = vec![None; sets.len()];
    for request in requests {
        let ip = request.ip;
        let Some(at) = sets.iter().position(|set| set.range_of(ip).is_some()) else {
            let all: Vec<_> = sets.iter().map(ToString::to_string).collect();
            return Err(Error::invalid(request.source, format!("{ip}: not in any range ({})", all.join("; "))));
        };
        match &chosen[at] {
            Some(other) if other.source == request.source && other.ip != ip => {
                let set = &sets[at];
                return Err(Error::invalid(
                    request.source,
                    format!(
                        "{} and {ip} are both of {} ({set}), and an attachment gets one address of a set",
                        other.ip, set.path
                    ),
                ));
            }
            Some(_) => {}
            None => chosen[at] = Some(request),
        }
    }
    for request in chosen.iter().flatten() {
        if let Some(reserved) = sets.iter().find_map(|set| set.reserved(request.ip)) {
            let what = match reserved {
                Reserved::Network => "the network's own address",
                Reserved::Broadcast => "the network's broadcast address",
                Reserved::Gateway => "the gateway",
            };
            return Err(Error::invalid(request.source, format!("{}: is {what} and not given to pods", request.ip)));
        }
    }
    Ok(chosen.into_iter().map(|request| request.map(|request| request.ip)).collect())
}
