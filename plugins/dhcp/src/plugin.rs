//! The plugin: hands the call over to the daemon.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use podwire_ipam::{Ipam, Request};
use podwire_spec::{AddResult, Error, code};
use podwire_trace::step;

use crate::{
    config::DhcpConfig,
    messages::{CmdArgs, Method, to_error, to_result},
    rpc::client::{Client, Failure, named},
};

/// For how long an ADD waits for the daemon, which gives up much earlier; longer than the reference's takes.
const PATIENCE_ADD: Duration = Duration::from_mins(5);
/// For how long the others do. GC may have thousands of leases to release.
const PATIENCE: Duration = Duration::from_secs(30);

/// The address plugin `dhcp`.
#[derive(Debug)]
pub struct Dhcp;

type Call<'a> = Request<'a, DhcpConfig>;

impl Ipam for Dhcp {
    const NAME: &'static str = "dhcp";
    type Config = DhcpConfig;

    fn add(rq: &Call<'_>) -> Result<AddResult> {
        check_options(rq)?;
        let answer = ask(rq, Method::Allocate)?;
        let mut result = to_result(&answer).map_err(|error| garbled(&error))?;
        if result.ips.is_empty() {
            return Err(Error::new(code::DELEGATE, "DHCP daemon: answered without an address").into());
        }
        for route in result.routes.iter_mut().filter(|route| route.priority.is_none()) {
            // A daemon of the reference's knows nothing of it.
            route.priority = rq.conf.plugin.priority;
        }
        Ok(result)
    }

    fn del(rq: &Call<'_>) -> Result<()> {
        match connect(rq)? {
            Ok(client) => call(client, rq, Method::Release).map(drop),
            // Nobody can tell whether somebody has the lease.
            Err((path, error)) if error.raw_os_error().is_some() && !is_absence(&error) => {
                Err(unreachable(&path, &error).into())
            }
            // Whoever has the lease is not there, and a pod must be able to end. A daemon that starts again looks through
            // its leases and drops those whose pod is gone.
            Err((path, error)) => {
                tracing::warn!("{}; the lease, if there is one, ends by itself", unreachable(&path, &error));
                Ok(())
            }
        }
    }

    fn check(rq: &Call<'_>) -> Result<()> {
        check_options(rq)?;
        let Some(made) = &rq.conf.prev_result else {
            return Err(Error::invalid("prevResult", "missing; CHECK compares with what ADD returned").into());
        };
        let answer = match ask(rq, Method::Check) {
            // What the reference's plugin does, which asks for a new lease where there is none.
            Err(error) if error.is::<NoMethod>() => ask(rq, Method::Allocate),
            other => other,
        }?;
        let lease = to_result(&answer).map_err(|error| garbled(&error))?;
        for ip in &lease.ips {
            if !made.ips.iter().any(|made| made.address == ip.address) {
                let made: Vec<_> = made.ips.iter().map(|made| made.address.to_string()).collect();
                let object = format!("lease of container {:?}, interface {:?}", rq.env.container_id, rq.env.ifname);
                return Err(Error::differs(object, made.join(", "), ip.address).into());
            }
        }
        Ok(())
    }

    fn gc(rq: &Call<'_>) -> Result<()> {
        if rq.conf.valid.is_none() {
            let why = "missing; GC removes nothing without the list of what to keep";
            return Err(Error::invalid("cni.dev/valid-attachments", why).into());
        }
        match ask(rq, Method::Collect) {
            Err(error) if error.is::<NoMethod>() => {
                tracing::warn!(
                    "this DHCP daemon is the reference's, which cannot be asked to collect; nothing was done"
                );
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn status(rq: &Call<'_>) -> Result<()> {
        let checked = check_options(rq).and_then(|()| match ask(rq, Method::Status) {
            // It answers: that is all that can be known of the reference's.
            Err(error) if error.is::<NoMethod>() => Ok(()),
            other => other.map(drop),
        });
        checked.map_err(|error| {
            let own = error.downcast_ref::<Error>().cloned();
            let own = own.unwrap_or_else(|| Error::new(code::NOT_AVAILABLE, error.to_string()));
            Error { code: code::NOT_AVAILABLE, ..own }.into()
        })
    }
}

/// The daemon is one that knows no such method.
#[derive(Debug)]
struct NoMethod(Method);

impl std::fmt::Display for NoMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the DHCP daemon has no method {}; it is not podwire's", self.0.name())
    }
}

impl std::error::Error for NoMethod {}

/// Refuses options that cannot be, whatever daemon is asked.
fn check_options(rq: &Call<'_>) -> Result<()> {
    rq.conf.plugin.wanted(Vec::new(), &cni_args())?;
    Ok(())
}

/// A connection to the daemon; or where it should be and why it is not.
///
/// # Errors
/// Code 7 for a path that is none.
fn connect(rq: &Call<'_>) -> Result<Result<Client, (PathBuf, io::Error)>> {
    let path = rq.conf.plugin.socket()?;
    Ok(Client::connect(&path).map_err(|error| (path, error)))
}

fn ask(rq: &Call<'_>, method: Method) -> Result<crate::gob::Value> {
    let client = connect(rq)?.map_err(|(path, error)| unreachable(&path, &error))?;
    call(client, rq, method)
}

fn call(client: Client, rq: &Call<'_>, method: Method) -> Result<crate::gob::Value> {
    let patience = if method == Method::Allocate { PATIENCE_ADD } else { PATIENCE };
    let args = args(rq)?;
    let why = |failure: &Failure| match failure {
        Failure::Answer(why) | Failure::Broken(why) => why.clone(),
        Failure::NoMethod => "it has no such method".to_owned(),
    };
    let ask = || client.call(method, &args, patience);
    step(method.name(), || "DHCP daemon".to_owned(), why, ask).map_err(|failure| match failure {
        Failure::Answer(text) => to_error(&text).into(),
        Failure::NoMethod => NoMethod(method).into(),
        Failure::Broken(why) => Error::new(code::TRY_AGAIN, format!("DHCP daemon: {why}")).into(),
    })
}

/// The call, for the daemon.
fn args(rq: &Call<'_>) -> Result<CmdArgs> {
    let netns = match rq.env.netns.as_str() {
        "" => String::new(),
        // The daemon runs in another folder.
        path => match std::path::absolute(path)?.into_os_string().into_string() {
            Ok(path) => path,
            Err(path) => {
                return Err(Error::environment(format!("CNI_NETNS {:?}: not UTF-8", path.to_string_lossy())).into());
            }
        },
    };
    Ok(CmdArgs {
        container_id: rq.env.container_id.clone(),
        netns,
        ifname: rq.env.ifname.clone(),
        args: cni_args(),
        stdin: rq.conf.text.clone().into_bytes(),
    })
}

/// `CNI_ARGS` as it came: `fromArg` may name keys that mean nothing to other plugins.
fn cni_args() -> String {
    std::env::var("CNI_ARGS").unwrap_or_default()
}

fn garbled(error: &crate::gob::Error) -> Error {
    Error::new(code::DELEGATE, format!("DHCP daemon: its answer is no result: {error}"))
}

/// Whether the daemon is not there.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | ConnectionRefused)
}

/// Why nobody can be asked at `path`: code 11, since the call may succeed later.
fn unreachable(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    if !is_absence(error) {
        return Error::new(code::TRY_AGAIN, format!("DHCP daemon at \"{path}\": connect: {}", named(error)));
    }
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket",
        io::ErrorKind::ConnectionRefused => "nobody listens there any more",
        _ => &named(error),
    };
    Error::new(code::TRY_AGAIN, format!("no DHCP daemon at \"{path}\": {why}")).with_details(
        "start it on this node with \"systemctl enable --now cni-dhcp.socket cni-dhcp.service\", or run \"dhcp daemon\" as root; \
         \"ipam.daemonSocketPath\" says where it listens",
    )
}
