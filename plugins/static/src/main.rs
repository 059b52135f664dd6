//! `static`: the addresses that the configuration or the caller names.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "pods", "type": "bridge",
//!  "ipam": {"type": "static", "addresses": [{"address": "10.88.0.5/16", "gateway": "10.88.0.1"}]}}
//! ```
//!
//! Every option is explained in the README beside this crate. The work is done by the library, so that an interface
//! plugin of this suite can do it without starting this program.

fn main() -> std::process::ExitCode {
    podwire_plugin::run_ipam::<podwire_ipam::Static>()
}
