//! Kernel modules, loaded by their first process: a guest's host may have no `modprobe`, and needs none.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// Loads the `wanted` modules of the directory of one kernel, and first those that they stand on. A name that the
/// directory does not have is passed over: it is built in, or some test's feature will be missing.
pub(super) fn load(directory: &Path, wanted: &[&str]) -> Result<()> {
    let path = directory.join("modules.dep");
    let text = fs::read_to_string(&path).with_context(|| format!("{path:?}: read"))?;
    let dependencies = parse(&text);
    for name in wanted {
        for file in dependencies.get(*name).into_iter().flatten() {
            load_file(&directory.join(file))?;
        }
    }
    Ok(())
}

/// By module, the files to load, in order. A line of `modules.dep` is `FILE: DEPENDENCY...`, the deepest last.
fn parse(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut modules = BTreeMap::new();
    for line in text.lines() {
        let Some((file, needs)) = line.split_once(':') else { continue };
        let name = file.rsplit('/').next().and_then(|base| base.split('.').next()).unwrap_or_default();
        let files = needs.split_whitespace().rev().chain([file]).collect();
        modules.insert(name, files);
    }
    modules
}

fn load_file(path: &Path) -> Result<()> {
    let flags = if path.extension().is_some_and(|extension| extension == "ko") {
        ModuleInitFlags::empty()
    } else {
        // MODULE_INIT_COMPRESSED_FILE, which nix does not name yet.
        ModuleInitFlags::from_bits_retain(4)
    };
    let file = File::open(path).with_context(|| format!("module {path:?}: open"))?;
    match finit_module(&file, c"", flags) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("module {path:?}: load")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_is_loaded_first() {
        let text = "net/8021q/8021q.ko: net/802/garp.ko net/802/stp.ko\nnet/802/stp.ko:\n";
        let modules = parse(text);
        assert_eq!(modules["8021q"], ["net/802/stp.ko", "net/802/garp.ko", "net/8021q/8021q.ko"]);
        assert_eq!(modules["stp"], ["net/802/stp.ko"]);
    }
}
