//! What the tests of this crate share: calls made from text.

use std::{ffi::OsString, fs, net::IpAddr, os::fd::BorrowedFd, path::Path, time::Duration};

use podwire_spec::{AddResult, Env, Error, Mac, NetConf};

use crate::{Ipam, Request, Runner};

/// A program without a network, that nobody ends.
pub(crate) struct Alone;

impl Runner for Alone {
    fn wait_for_lock(&self, file: BorrowedFd<'_>) -> Result<(), Error> {
        rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        Ok(())
    }

    fn probe(&self, _: &Env, ips: &[IpAddr], _: Duration) -> Result<Vec<Option<Mac>>, Error> {
        panic!("probe of {ips:?} although it was not asked for")
    }

    fn is_being_added(&self, _: &str, container_id: &str, _: &str) -> bool {
        container_id == "in-flight"
    }
}

/// A call of one command for one attachment.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    /// The configuration's text.
    pub(crate) conf: String,
}

impl Call {
    pub(crate) fn new(id: &str, conf: impl Into<String>) -> Self {
        Self { id: id.into(), ifname: "eth0".into(), args: String::new(), conf: conf.into() }
    }

    pub(crate) fn ifname(mut self, ifname: &str) -> Self {
        ifname.clone_into(&mut self.ifname);
        self
    }

    pub(crate) fn args(mut self, args: &str) -> Self {
        args.clone_into(&mut self.args);
        self
    }

    /// Runs one of the trait's functions; what went wrong comes back as the error object that the runner would print.
    pub(crate) fn run<P: Ipam, T>(
        &self,
        function: fn(&Request<'_, P::Config>) -> anyhow::Result<T>,
    ) -> Result<T, Error> {
        self.run_in::<P, T>(&Alone, function)
    }

    /// The same in another program.
    pub(crate) fn run_in<P: Ipam, T>(
        &self,
        runner: &dyn Runner,
        function: fn(&Request<'_, P::Config>) -> anyhow::Result<T>,
    ) -> Result<T, Error> {
        let env = Env::read(|name| {
            let value = match name {
                "CNI_COMMAND" => "ADD",
                "CNI_CONTAINERID" => &self.id,
                "CNI_NETNS" => "/run/netns/x",
                "CNI_IFNAME" => &self.ifname,
                "CNI_ARGS" => &self.args,
                _ => return None,
            };
            Some(OsString::from(value))
        })?;
        let conf = NetConf::parse_ipam(&self.conf)?;
        function(&Request { env: &env, conf: &conf, runner })
            .map_err(|error| error.downcast::<Error>().expect("every error of this crate has a code"))
    }
}

/// The addresses of a result, with prefix lengths.
pub(crate) fn ips(result: &AddResult) -> Vec<String> {
    result.ips.iter().map(|ip| ip.address.to_string()).collect()
}

/// The names in a folder, sorted.
pub(crate) fn list(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>());
    let mut names = names.unwrap_or_default();
    names.sort();
    names
}
