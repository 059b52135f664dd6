//! `podwire-floor`: the kernel's part of an ADD and a DEL, and nothing else, as a yardstick for the plugins.
//!
//! It is called as a plugin is, but reads no configuration: words on the command line say what is to be done (see
//! [`order::Order`]). It writes a lease, makes the device by as few messages as the kernel allows, and ends. It checks
//! nothing, undoes nothing, labels nothing and looks at nothing: what a plugin takes more than this is what all of that
//! costs.

mod filter;
mod link;
mod message;
mod order;

use std::fs::{self, File};
use std::io::{Result, Write};
use std::process::ExitCode;

use order::Order;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("podwire-floor: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match std::env::var("CNI_COMMAND").as_deref() {
        Ok("ADD") => {
            let order = Order::read(std::env::args().skip(1))?;
            lease(&order)?;
            // Before the link: whoever has made that is in the pod.
            filter::add(&order.elements)?;
            link::add(&order)?;
        }
        Ok("DEL") => {
            let order = Order::read(std::env::args().skip(1))?;
            let filter = filter::del(&order.elements)?;
            link::del(&order)?;
            // Whoever closes this socket waits for what was removed by it; the link has made it wait long enough.
            drop(filter);
            let lock = lock(&order)?;
            for (ip, _) in &order.addresses {
                fs::remove_file(order.leases.join(ip.to_string()))?;
            }
            drop(lock);
            return Ok(());
        }
        // VERSION: to be started, to print a line, to end.
        _ => {}
    }
    std::io::stdout().write_all(b"{\"cniVersion\":\"1.0.0\"}\n")
}

/// One file an address, as host-local has it, made under its lock.
fn lease(order: &Order) -> Result<()> {
    let _lock = lock(order)?;
    for (ip, _) in &order.addresses {
        let mut file = File::create_new(order.leases.join(ip.to_string()))?;
        write!(file, "{}\r\n{}", order.container, order.ifname)?;
    }
    Ok(())
}

/// The lock of the leases, until the file is closed.
fn lock(order: &Order) -> Result<File> {
    let file = File::options().create(true).append(true).open(order.leases.join("lock"))?;
    file.lock()?;
    Ok(file)
}
