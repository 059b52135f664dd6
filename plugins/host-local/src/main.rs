//! `host-local`: addresses from ranges, each leased in a file on the node.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "pods", "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.88.0.0/16"}}
//! ```
//!
//! Every option is explained in the README beside this crate. The work is done by the library, so that an interface
//! plugin of this suite can do it without starting this program.

fn main() -> std::process::ExitCode {
    podwire_plugin::run_ipam::<podwire_ipam::HostLocal>()
}
