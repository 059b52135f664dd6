//! `dhcp`: addresses from the DHCP servers of the pod's network; and `dhcp daemon`, which keeps the leases.
//!
//! ```json
//! {"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "master": "eth0", "ipam": {"type": "dhcp"}}
//! ```
//!
//! Every option is explained in the README beside this crate.

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "daemon") {
        return dhcp::daemon::main(arguments);
    }
    podwire_plugin::run_ipam::<dhcp::Dhcp>()
}
