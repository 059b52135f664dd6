//! What the tests of host-local share: a node, and configurations.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use podwire_spec::Error;
use tempfile::TempDir;

use crate::{
    HostLocal, Ipam,
    testing::{Call, ips, list},
};

type Result<T, E = Error> = std::result::Result<T, E>;

/// A node of its own: a data folder, and calls on it.
pub(crate) struct Node(pub(crate) TempDir);

impl Node {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn conf(&self, ipam: &str, rest: &str) -> String {
        let dir = self.0.path().join("data");
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "n1", "ipam": {{"type": "host-local", "dataDir": {dir:?}{ipam}}}{rest}}}"#
        )
    }

    pub(crate) fn call(&self, id: &str, ipam: &str) -> Call {
        Call::new(id, self.conf(ipam, ""))
    }

    pub(crate) fn add(&self, id: &str, ipam: &str) -> Result<Vec<String>> {
        add(&self.call(id, ipam))
    }

    pub(crate) fn del(&self, id: &str) -> Result<()> {
        self.call(id, "").run::<HostLocal, _>(HostLocal::del)
    }

    pub(crate) fn leases(&self) -> std::path::PathBuf {
        self.0.path().join("data/n1")
    }

    pub(crate) fn index(&self) -> std::path::PathBuf {
        self.0.path().join("data/.podwire/n1")
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        list(&self.leases()).into_iter().filter(|name| name != "lock" && !name.starts_with("last_")).collect()
    }

    /// What a foreign hand does: no lock, no index.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.leases()).unwrap();
        fs::write(self.leases().join(name), content).unwrap();
    }

    /// The hint, read as data; and whether a call would trust it.
    pub(crate) fn hint(&self) -> Vec<(String, String)> {
        let text = |name: &String| fs::read_link(self.index().join(name)).unwrap().to_str().unwrap().to_owned();
        let of_attachments = list(&self.index()).into_iter().filter(|name| !name.starts_with('+'));
        // Which boot it is, is not for the test to know.
        of_attachments.map(|name| (name.clone(), text(&name).split('@').next().unwrap().to_owned())).collect()
    }

    /// Does something to the hint that a call does not notice.
    pub(crate) fn in_step(&self, work: impl FnOnce()) {
        let folder = fs::File::open(self.index()).unwrap();
        let before = folder.metadata().unwrap().modified().unwrap();
        work();
        folder.set_modified(before).unwrap();
    }

    /// Makes a lease file as old as that.
    pub(crate) fn age(&self, name: &str, seconds: u64) {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(self.leases().join(name)).unwrap().set_modified(then).unwrap();
    }

    pub(crate) fn is_in_step(&self) -> bool {
        let changed = |path: &Path| path.metadata().map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap();
        changed(&self.leases()) == changed(&self.index())
    }
}

pub(crate) fn add(call: &Call) -> Result<Vec<String>> {
    call.run::<HostLocal, _>(HostLocal::add).map(|result| ips(&result))
}

pub(crate) const V4: &str = r#", "subnet": "10.1.0.0/24""#;
/// Room for five.
pub(crate) const SMALL: &str = r#", "subnet": "10.1.0.0/29""#;
pub(crate) const DUAL: &str = r#", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]"#;
