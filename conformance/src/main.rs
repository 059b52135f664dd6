//! `podwire-conformance`: the lab and the suite as one command. See the library for the parts.

fn main() -> std::process::ExitCode {
    conformance::cli::main()
}
