//! A plugin at work, step by step, for a person: what is asked, what comes back, what is on the node then, what reaches
//! what, and that nothing is left in the end. Everything happens in namespaces that end with the program.

mod bond;
mod bridge;
mod drawing;
mod ipvlan;
mod macvlan;
mod parent;
mod screen;
mod vlan;
mod vxlan;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use screen::Screen;
use serde_json::Value;

use crate::runner::{self, Feature};

/// What `demo` was asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The plugin to show
    #[arg(default_value = "bridge")]
    plugin: String,
    /// Directory of the plugins
    #[arg(long, value_name = "DIR")]
    cni_path: PathBuf,
    /// Do not start a guest kernel for what this one lacks
    #[arg(long)]
    no_guest: bool,
    /// In the sandbox already
    #[arg(long, hide = true)]
    pub inside: bool,
}

/// A demonstration of one plugin. A new one is a file beside this and a line in [`DEMOS`].
struct Demo {
    plugin: &'static str,
    title: &'static str,
    /// What the kernel must have.
    needs: &'static [Feature],
    run: fn(&Stage<'_>) -> Result<()>,
}

const DEMOS: &[Demo] = &[
    Demo { plugin: "bridge", title: "two pods on a bridge", needs: &[], run: bridge::run },
    Demo { plugin: "bond", title: "a pod with two links as one", needs: &[Feature::Bond], run: bond::run },
    Demo {
        plugin: "macvlan",
        title: "two pods with MAC addresses of their own on a link of the node",
        needs: &[Feature::Macvlan],
        run: |stage| parent::run(stage, &macvlan::SHOW),
    },
    Demo {
        plugin: "ipvlan",
        title: "two pods under the MAC address of a link of the node",
        needs: &[Feature::IpvlanL3s],
        run: |stage| parent::run(stage, &ipvlan::SHOW),
    },
    Demo {
        plugin: "vlan",
        title: "pods of two nodes in two VLANs",
        needs: &[Feature::Vlan, Feature::Macvlan],
        run: vlan::run,
    },
    Demo { plugin: "vxlan", title: "pods of three nodes on one Ethernet", needs: &[Feature::Vxlan], run: vxlan::run },
];

/// What a demonstration works with.
struct Stage<'a> {
    screen: Screen,
    cni_path: &'a Path,
    /// A directory of its own, emptied afterwards.
    directory: &'a Path,
}

/// The demonstration of a plugin.
fn of(plugin: &str) -> Result<&'static Demo> {
    let known = || DEMOS.iter().map(|demo| demo.plugin).collect::<Vec<_>>().join(", ");
    let demo = DEMOS.iter().find(|demo| demo.plugin == plugin);
    demo.with_context(|| format!("demo {plugin:?}: there is none; there is {}", known()))
}

/// Shows the plugin in a guest kernel, where this one lacks what it needs; `None` where it does not.
pub fn elsewhere(options: &Options) -> Result<Option<ExitCode>> {
    let lacking = runner::lacking_here(of(&options.plugin)?.needs)?;
    if lacking.is_empty() {
        return Ok(None);
    }
    let lacking: Vec<_> = lacking.into_iter().map(Feature::name).collect();
    let lacking = lacking.join(" and ");
    ensure!(!options.no_guest, "this kernel lacks {lacking}, so there is nothing to show");
    println!("This kernel lacks {lacking}; a guest kernel (User-mode Linux) is started for it.");
    runner::in_guest_to_see(&["demo", "--no-guest", &options.plugin], &options.cni_path).map(Some)
}

/// Shows one plugin.
pub fn run(options: &Options) -> Result<ExitCode> {
    let demo = of(&options.plugin)?;
    let directory = tempfile::Builder::new().prefix("podwire-demo-").tempdir()?;
    let stage = Stage { screen: Screen::new(), cni_path: &options.cni_path, directory: directory.path() };

    let start = Instant::now();
    stage.screen.title(&format!("podwire {}: {}", env!("CARGO_PKG_VERSION"), demo.title));
    stage.screen.say("In network namespaces of its own: nothing on this machine is changed.");
    (demo.run)(&stage)?;
    stage.screen.title(&format!("done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

/// The addresses of a result, with their prefix lengths.
fn ips(result: &Value) -> Result<Vec<String>> {
    let ips = result["ips"].as_array().context("a result with addresses")?;
    Ok(ips.iter().filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect())
}

/// The first address of a result, without its prefix length.
fn address(result: &Value) -> Result<IpAddr> {
    let ips = ips(result)?;
    let first = ips.first().context("a result with an address")?;
    Ok(first.split('/').next().unwrap_or_default().parse()?)
}
