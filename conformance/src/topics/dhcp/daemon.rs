//! The daemon: killed, started again, left alone by its pods, talked to by others than root, fed with rubbish.

use std::fs;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Pod, SERVERS, Site, with_router};
use crate::cni::Call;
use crate::lab::{Daemon, Offer, Software};
use crate::packets::{Ping, reaches};
use crate::runner::{Attachment, Case, Feature, Test};
use crate::test;

pub(super) const TESTS: &[Test] = &[
    test!(dhcp_daemon_killed_goes_on_renewing, "kill -9, and the next one keeps every lease, without a lost ping")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp_daemon_told_to_end_keeps_leases, "SIGTERM, exit status 0, and the next one goes on")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp_daemon_passes_over_corrupt_leases, "empty, cut short, another's, a symlink: said, and the rest goes on")
        .needs(SERVERS)
        .ours()
        .limit(60),
    test!(dhcp_daemon_notices_that_a_pod_is_gone, "at once, gives its lease back, and holds nothing of it")
        .needs(SERVERS)
        .ours(),
    test!(
        dhcp_daemon_notices_that_a_link_is_gone,
        "within 30 seconds, though no renewal is due, and forgets its lease"
    )
    .needs(SERVERS)
    .ours()
    .limit(60),
    test!(dhcp_daemon_forgets_pods_that_went_without_it, "while it was not running").needs(SERVERS).ours(),
    test!(
        dhcp_socket_answers_only_root,
        "mode 0600, and another user is turned away although the mode would let it in"
    )
    .needs(&[Feature::Root])
    .ours(),
    test!(dhcp_daemon_serves_after_hostile_bytes, "rubbish, huge lengths, a megabyte, a hundred silent callers")
        .needs(SERVERS)
        .limit(60),
];

/// Longer than whatever is waited for takes on a busy machine.
const LONG: Duration = Duration::from_secs(25);

fn lasting(seconds: u32) -> Offer {
    Offer { seconds, ..with_router() }
}

fn dhcp_daemon_killed_goes_on_renewing(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(8), &[])?;
    let pods = ["a", "b", "c"].map(|name| site.pod(name, json!({})));
    let pods = pods.into_iter().collect::<Result<Vec<Pod>>>()?;
    let Site { lan, daemon, server, .. } = site;
    let ip = pods[0].ip()?;
    reaches(&lan.other, ip)?;
    let other = lan.other.clone();
    // Through two terms, during which the daemon is killed.
    let pings = std::thread::spawn(move || {
        let ping = Ping { count: 80, timeout: Duration::from_secs(2), ..Ping::default() };
        ping.lost(&other, ip, Duration::from_millis(200))
    });
    let daemon = daemon.restart(Signal::SIGKILL)?;
    for _ in 0..2 {
        let seen = server.log().lines();
        for pod in &pods {
            server.await_confirmation_after(seen, pod.ip()?, LONG)?;
        }
    }
    let lost = pings.join().expect("pings do not panic")?;
    ensure!(lost == 0, "{lost} pings are lost");
    for pod in &pods {
        ensure!(pod.space().ips("eth0")? == pod.cidrs(), "the pod has {:?}", pod.space().ips("eth0")?);
        pod.attachment.check(&pod.result)?;
        pod.attachment.del()?;
        server.await_release(pod.ip()?)?;
    }
    leases(&daemon, 0)
}

fn dhcp_daemon_told_to_end_keeps_leases(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(8), &[])?;
    let pod = site.pod("a", json!({}))?;
    let Site { daemon, server, .. } = site;
    let leases_there = daemon.leases();
    let daemon = daemon.absent(Signal::SIGTERM, |status| {
        ensure!(status.success(), "the daemon: {status}");
        ensure!(fs::read_dir(&leases_there)?.count() > 0, "no lease is kept in {leases_there:?}");
        Ok(())
    })?;
    server.await_confirmation(pod.ip()?, LONG)?;
    leases(&daemon, 1)
}

fn dhcp_daemon_passes_over_corrupt_leases(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(8), &[])?;
    let pods = ["a", "b", "c", "d"].map(|name| site.pod(name, json!({})));
    let pods = pods.into_iter().collect::<Result<Vec<Pod>>>()?;
    let Site { daemon, server, .. } = site;
    let directory = daemon.leases();
    let daemon = daemon.absent(Signal::SIGKILL, |_| {
        let of = |name: &str| -> Result<std::path::PathBuf> {
            let mut all = fs::read_dir(&directory)?.filter_map(|entry| Some(entry.ok()?.path()));
            let word = format!("container-{name}");
            all.find(|path| path.to_string_lossy().contains(&word)).with_context(|| format!("a lease of {word}"))
        };
        let (a, b, c) = (of("a")?, of("b")?, of("c")?);
        fs::write(&a, "")?;
        let text = fs::read(&b)?;
        fs::write(&b, &text[..text.len() / 2])?;
        fs::rename(&c, directory.join("elsewhere"))?;
        std::os::unix::fs::symlink(directory.join("elsewhere"), &c)?;
        fs::write(directory.join("rubbish"), "{}")?;
        Ok(())
    })?;
    server.await_confirmation(pods[3].ip()?, LONG)?;
    let said = daemon.log().all().join("\n");
    for name in ["container-a", "container-b", "container-c"] {
        ensure!(
            said.lines().any(|line| line.contains(name) && line.contains("passed over")),
            "{name}: nothing is said"
        );
    }
    Ok(())
}

/// The daemon keeps that many leases: it forgets one before it says so, or answers.
fn leases(daemon: &Daemon, wanted: usize) -> Result<()> {
    let is_lease = |name: &str| name.contains("container-");
    let all = fs::read_dir(daemon.leases())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = all.filter(|name| is_lease(name)).collect();
    ensure!(left.len() == wanted, "leases {left:?}, expected {wanted}");
    Ok(())
}

/// A pod whose namespace has a name, as a runtime gives it, so that it can go.
struct Named {
    attachment: Attachment,
    mounted: crate::lab::Mounted,
    ip: IpAddr,
}

impl Named {
    fn add(site: &Site, name: &str) -> Result<Self> {
        let attachment = site.attachment(name, json!({}))?;
        let directory = site.case.dir.join("netns");
        fs::create_dir_all(&directory)?;
        let mounted = attachment.pod.ns.mount(&directory.join(name))?;
        let result = attachment.call("ADD").env("CNI_NETNS", mounted.path()).succeed()?;
        let ip = Pod { attachment: attachment.clone(), result }.ip()?;
        Ok(Self { attachment, mounted, ip })
    }

    fn call(&self, command: &str) -> Call {
        self.attachment.call(command).env("CNI_NETNS", self.mounted.path())
    }
}

fn forgotten(daemon: &Daemon) -> Result<()> {
    forgotten_within(daemon, LONG)
}

fn forgotten_within(daemon: &Daemon, limit: Duration) -> Result<()> {
    let said = |line: &str| line.contains("container-a") && (line.contains("gone") || line.contains("given up"));
    daemon.log().await_line(limit, "that the pod is gone", said).map(drop)
}

fn dhcp_daemon_notices_that_a_pod_is_gone(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let (gone, stays) = (Named::add(&site, "a")?, Named::add(&site, "b")?);
    leases(&site.daemon, 2)?;
    let (call, ip) = (gone.call("DEL"), gone.ip);
    let number = fs::metadata(gone.mounted.path())?.ino();
    drop(gone);
    forgotten(&site.daemon)?;
    site.server.await_release(ip)?;
    // Its DEL comes all the same, is content, and is answered after the file is gone.
    call.succeed()?;
    leases(&site.daemon, 1)?;
    // Whoever holds a namespace keeps it alive.
    let held = fs::read_dir(format!("/proc/{}/fd", site.daemon.log().pid()))?;
    let mut held = held.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    ensure!(held.all(|file| file != Path::new(&format!("net:[{number}]"))), "the namespace is held still");
    stays.call("DEL").succeed()?;
    leases(&site.daemon, 0)
}

fn dhcp_daemon_notices_that_a_link_is_gone(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Kea4, &lasting(3600), &[])?;
    let pod = site.pod("a", json!({}))?;
    pod.space().delete("eth0")?;
    forgotten_within(&site.daemon, Duration::from_secs(40))?;
    pod.attachment.del()?;
    leases(&site.daemon, 0)
}

fn dhcp_daemon_forgets_pods_that_went_without_it(case: &Case) -> Result<()> {
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let pod = Named::add(&site, "a")?;
    let call = pod.call("DEL");
    let Site { daemon, .. } = site;
    let daemon = daemon.absent(Signal::SIGKILL, |_| {
        drop(pod);
        Ok(())
    })?;
    forgotten(&daemon)?;
    call.succeed()?;
    leases(&daemon, 0)
}

fn dhcp_socket_answers_only_root(case: &Case) -> Result<()> {
    // Where another user may look: the test's own directory is only root's.
    let there = Path::new("/run/podwire-test");
    fs::create_dir_all(there)?;
    let node = case.node("n1")?;
    let daemon = Daemon::start_alone(&case.cni_path, &node, &there.join("made"), &there.join("notify"))?;
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    let (socket, directory) = (daemon.socket(), there.join("made"));
    ensure!(mode(&socket)? == 0o600, "the socket has mode {:o}", mode(&socket)?);
    ensure!(mode(&directory)? == 0o700, "its directory has mode {:o}", mode(&directory)?);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let program = there.join("dhcp");
    fs::copy(case.cni_path.join("dhcp"), &program)?;
    let conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge",
        "ipam": { "type": "dhcp", "daemonSocketPath": socket },
    });
    let status = Call::new(&node, &program, there.as_os_str(), "STATUS").conf(&conf);
    status.succeed().context("as root")?;
    let wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"].map(std::ffi::OsStr::new);
    status.clone().under(&wrapper).fail(50).context("as another user")?;
    let refused = |line: &str| line.contains("65534") && line.contains("refused");
    daemon.log().await_line(LONG, "that user 65534 was refused", refused)?;
    status.succeed().context("as root, after that").map(drop)
}

/// What is sent, and the whole of what comes back; an error if the daemon neither answers nor hangs up.
fn throw(socket: &Path, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("{socket:?}: connect"))?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    // It may hang up before it has read all.
    stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write)).ok();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Err(e).context("neither answered nor hung up"),
        _ => Ok(answer),
    }
}

fn dhcp_daemon_serves_after_hostile_bytes(case: &Case) -> Result<()> {
    const CONNECT: &[u8] = b"CONNECT /_goRPC_ HTTP/1.0\n\n";
    let site = Site::new(case, Software::Dnsmasq, &with_router(), &[])?;
    let pod = site.pod("a", json!({}))?;
    let megabyte = super::noise(1 << 20);
    // Counts of gob are a negative number of bytes, and then these: 2^64 - 1, 2^31, 2^20.
    let huge: [&[u8]; 3] = [&[0xf8; 9], &[0xfc, 0x80, 0, 0, 0], &[0xfd, 0x10, 0, 0]];
    let mut attempts: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"CONNECT ".to_vec(),
        vec![b'A'; 1 << 20],
        megabyte.clone(),
        CONNECT.to_vec(),
        [CONNECT, &megabyte].concat(),
        [CONNECT, &[0; 1 << 16]].concat(),
    ];
    attempts.extend(huge.iter().map(|count| [CONNECT, count, &megabyte[..4096]].concat()));
    // A message that says how long it is, and defines a type within a type within a type.
    attempts.extend((0..64).map(|n| [CONNECT, &[64], &megabyte[n * 64..(n + 1) * 64]].concat()));
    for (number, bytes) in attempts.iter().enumerate() {
        throw(&site.daemon.socket(), bytes).with_context(|| format!("attempt {number}"))?;
    }
    let silent = (0..100).map(|_| UnixStream::connect(site.daemon.socket())).collect::<Result<Vec<_>, _>>()?;
    let another = site.pod("b", json!({})).context("after all that")?;
    reaches(pod.space(), another.ip()?)?;
    drop(silent);
    pod.attachment.del()?;
    another.attachment.del()
}
