//! A lease folder that others have written in: names, contents, links, FIFOs, folders where files should be.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes},
    net::IpAddr,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use podwire_ipam::{HostLocal, Ipam, Request};
use podwire_spec::{AddResult, Command, Error, NetConf, code};
use serde_json::{Value, json};

use crate::{environment, stdin::Nobody};

const NETWORK: &str = "net";
/// The nanoseconds by which the index says that it is in step (`shared/ipam/src/index.rs`).
const MARK: u32 = 102_030_405;
/// How many lines are looked at: the folder need not be large to be strange.
const MOST: usize = 64;

/// Lines that say what is in the folder: `KIND NAME CONTENT`, where KIND is `file`, `link`, `fifo` or `dir`, NAME may
/// begin with `.podwire/`, and CONTENT may have `\r`, `\n` and `\0` in it. `mark` says that the index is in step.
pub(crate) fn lease_folder(data: &[u8]) {
    let data_dir = tempfile::tempdir().expect("a temporary folder");
    build(data_dir.path(), &String::from_utf8_lossy(data));
    let (there, own) = (names(data_dir.path()), files_of("c9", data_dir.path()));
    let ask = |command, container_id| ask(data_dir.path(), command, container_id, None);

    drop(ask(Command::Status, ""));
    if let Ok(result) = ask(Command::Add, "c9") {
        let ips: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
        assert_eq!(ips.len(), 2, "one of each set: {ips:?}");
        for ip in &ips {
            assert!(!there.contains(&ip.to_string()), "{ip}: given though it was taken");
        }
        self::ask(data_dir.path(), Command::Check, "c9", Some(&result)).expect("CHECK passes right after ADD");
        let twice = ask(Command::Add, "c9").expect_err("an attachment is added once");
        assert_eq!(twice.code, code::EXISTS, "{twice}");
        ask(Command::Del, "c9").expect("DEL takes back what ADD gave");
        let left = names(data_dir.path());
        assert!(left.is_subset(&there), "{left:?} of {there:?}: something is left");
        // It may have had another lease before, of an address that is in no range any more.
        let gone: BTreeSet<_> = there.difference(&left).cloned().collect();
        assert!(gone.is_subset(&own), "{gone:?}: not all of it was its own");
    }
    for command in [Command::Del, Command::Gc] {
        if let Err(error) = ask(command, "c1") {
            assert_eq!(error.code, code::IO, "{error}");
        }
    }
    drop(ask(Command::Add, "c9"));
}

fn build(data_dir: &Path, text: &str) {
    let (leases, index) = (data_dir.join(NETWORK), data_dir.join(".podwire").join(NETWORK));
    fs::create_dir_all(&leases).and_then(|()| fs::create_dir_all(&index)).expect("two folders");
    for line in text.split('\n').take(MOST) {
        let mut words = line.splitn(3, ' ');
        let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let content = words.next().unwrap_or_default().replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
        let (folder, name) = name.strip_prefix(".podwire/").map_or((&leases, name), |name| (&index, name));
        // Names that are none are not made; nor are some twice, or a link to nothing.
        if name.contains(['/', '\0']) || matches!(name, "" | "." | "..") {
            continue;
        }
        let path = folder.join(name);
        drop(match kind {
            "file" if path.symlink_metadata().is_err() => fs::write(path, content),
            "link" => symlink(content, path),
            "fifo" => mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Into::into),
            "dir" => fs::create_dir(path),
            _ => Ok(()),
        });
    }
    if text.lines().any(|line| line == "mark") {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, MARK);
        for folder in [leases, index] {
            let folder = File::open(folder).expect("the folder");
            folder.set_times(FileTimes::new().set_modified(time)).expect("its time");
        }
    }
}

/// What lies in the lease folder, but for the plugin's own files.
fn names(data_dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data_dir.join(NETWORK)).expect("the lease folder").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lock" && !name.starts_with("last_reserved_ip.")).collect()
}

/// The files that say to be of an attachment of this container.
fn files_of(container_id: &str, data_dir: &Path) -> BTreeSet<String> {
    let is_its = |name: &String| {
        let path = data_dir.join(NETWORK).join(name);
        // A FIFO would be waited for.
        path.is_file()
            && fs::read(path).is_ok_and(|text| String::from_utf8_lossy(&text).trim_start().starts_with(container_id))
    };
    names(data_dir).into_iter().filter(is_its).collect()
}

fn ask(data_dir: &Path, command: Command, container_id: &str, made: Option<&AddResult>) -> Result<AddResult, Error> {
    let env = environment::of(command, container_id);
    let made = made.map(|made| made.to_json(podwire_spec::Version::LATEST));
    let conf = json!({
        "cniVersion": "1.1.0", "name": NETWORK, "type": "bridge",
        "ipam": {
            "type": "host-local", "dataDir": data_dir,
            "ranges": [[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd00::/124"}]],
        },
        "prevResult": made.map(|made| serde_json::from_str::<Value>(&made).expect("a result is JSON")),
        "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}],
    });
    let conf = NetConf::parse_ipam(&conf.to_string())?;
    let request = Request { env: &env, conf: &conf, runner: &Nobody };
    let done = match command {
        Command::Add => return told(HostLocal::add(&request)),
        Command::Check => HostLocal::check(&request),
        Command::Del => HostLocal::del(&request),
        Command::Gc => HostLocal::gc(&request),
        Command::Status | Command::Version => HostLocal::status(&request),
    };
    told(done).map(|()| AddResult::default())
}

fn told<T>(outcome: Result<T, impl Into<podwire_plugin::anyhow::Error>>) -> Result<T, Error> {
    outcome
        .map_err(|error| error.into().downcast().unwrap_or_else(|error| panic!("no error of the protocol: {error:#}")))
}
