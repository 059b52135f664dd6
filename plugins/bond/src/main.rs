//! The program `bond`; all of it is in the library beside this.

fn main() -> std::process::ExitCode {
    podwire_plugin::run::<bond::Bond>()
}
