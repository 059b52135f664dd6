//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::lab::become_root;
use crate::runner::{self, Feature, OneArgs, Options};
use crate::topics::TOPICS;
use crate::{bench, demo};

/// Drives CNI plugins through a lab of network namespaces. Needs no root where user namespaces are allowed, and changes
/// nothing on the machine.
#[derive(Debug, Parser)]
#[command(name = "podwire-conformance", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the suite
    Run(Options),
    /// List the tests with what each shows and needs
    List,
    /// Print one summary of several files written by `run --results`
    Summary {
        /// The files
        files: Vec<PathBuf>,
    },
    /// Show a plugin at work, step by step
    Demo(demo::Options),
    /// Measure ADD and DEL beside the reference plugins
    Bench(bench::Options),
    /// Run one test in a sandbox
    #[command(hide = true)]
    One(OneArgs),
    /// Run one test, in the sandbox
    #[command(hide = true)]
    Inner(OneArgs),
    /// Print the features of this machine
    #[command(hide = true)]
    Probe {
        /// In the sandbox already
        #[arg(long)]
        inside: bool,
    },
    /// Be the first process of a guest kernel
    #[command(hide = true)]
    GuestInit {
        /// What to do
        orders: PathBuf,
        /// What a kernel adds to its command line by itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Run tests in a guest kernel
    #[command(hide = true)]
    GuestRun {
        /// What to do
        orders: PathBuf,
    },
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let done = dispatch(Cli::parse().command);
    done.unwrap_or_else(|e| {
        eprintln!("podwire-conformance: {e:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(options) => {
            become_root()?;
            runner::run(&options)
        }
        Command::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Summary { files } => runner::summarise(&files),
        Command::Bench(options) => {
            let mut there = ExitCode::SUCCESS;
            if !options.inside {
                become_root()?;
                // First: once its sandbox has ended, this process can start nothing more.
                there = bench::elsewhere(&options)?;
            }
            let here = runner::in_sandbox(options.inside, || bench::run(&options))?;
            Ok(if here == ExitCode::SUCCESS { there } else { here })
        }
        Command::Demo(options) => {
            if !options.inside {
                become_root()?;
                if let Some(ended) = demo::elsewhere(&options)? {
                    return Ok(ended);
                }
            }
            runner::in_sandbox(options.inside, || demo::run(&options))
        }
        Command::One(args) => runner::run_one(&args),
        Command::Inner(args) => runner::run_inner(&args),
        Command::Probe { inside } => runner::probe(inside),
        Command::GuestInit { orders, rest: _ } => runner::guest_init(&orders),
        Command::GuestRun { orders } => runner::guest_run(&orders),
    }
}

fn list() {
    for topic in TOPICS {
        println!("{}", topic.name);
        for test in topic.tests.iter().copied().flatten() {
            let mut notes: Vec<String> = test.needs.iter().copied().map(Feature::name).collect();
            if test.ours {
                notes.push("ours".to_owned());
            }
            let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join(", ")) };
            println!("  {:<70} {}{notes}", test.name, test.purpose);
        }
    }
}
