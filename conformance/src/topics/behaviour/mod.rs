//! P20 to P27: what a call does to the node, whatever happens to it.

mod check;
mod collect;
mod delegate;
mod every;
pub(super) mod faults;
mod release;
mod remove;
mod rollback;
mod status;

use crate::runner::Test;

pub(super) const TESTS: &[&[Test]] = &[
    rollback::TESTS,
    faults::TESTS,
    delegate::TESTS,
    every::TESTS,
    remove::TESTS,
    release::TESTS,
    check::TESTS,
    collect::TESTS,
    status::TESTS,
];

/// A shell script that acts as an address plugin: it notes each call in files of `dir` and answers as told.
///
/// A call leaves `COMMAND.env` and `COMMAND.stdin`; `answer` is run for the rest.
fn recording(dir: &std::path::Path, answer: &str) -> String {
    let dir = dir.display();
    format!("env | grep ^CNI_ | sort >{dir}/$CNI_COMMAND.env\ncat >{dir}/$CNI_COMMAND.stdin\n{answer}\n")
}

/// The answer of an address plugin that gives `10.7.0.77` on ADD.
const GIVES_77: &str = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.77/24","gateway":"10.7.0.1"}]}'"#;
