//! A container image without a registry: one layer with a static busybox, as the archive that `docker save` would write.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Name of the image, for pods and for the runtime's own sandbox container.
pub(crate) const NAME: &str = "podwire.test/busybox:1";

/// Where Debian's and Ubuntu's `busybox-static` puts its program.
const BUSYBOX: &str = "/bin/busybox";

/// Commands that the image offers under their own names.
const APPLETS: [&str; 5] = ["sh", "sleep", "ping", "ip", "cat"];

/// Directories that a container needs to find.
const DIRECTORIES: [&str; 6] = ["bin", "dev", "etc", "proc", "sys", "tmp"];

/// Writes the image's archive to `path`.
///
/// # Errors
/// If there is no static busybox on this machine, or `path` cannot be written.
pub(crate) fn write(path: &Path) -> Result<()> {
    let layer = layer()?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        // It is the sandbox's first process too, and needs to do nothing but stay.
        "config": { "Entrypoint": ["/bin/sleep", "86400"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{:x}", Sha256::digest(&layer))] },
    }))?;
    let config_name = format!("{:x}.json", Sha256::digest(&config));
    let manifest = json!([{ "Config": config_name, "RepoTags": [NAME], "Layers": ["layer/layer.tar"] }]);

    let mut archive = Archive::new();
    archive.file("layer/layer.tar", 0o644, &layer)?;
    archive.file(&config_name, 0o644, &config)?;
    archive.file("manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    std::fs::write(path, archive.finish()?).with_context(|| format!("image \"{}\": not written", path.display()))
}

fn layer() -> Result<Vec<u8>> {
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("\"{BUSYBOX}\": not readable (install the package busybox-static)"))?;
    let mut archive = Archive::new();
    for directory in DIRECTORIES {
        archive.entry(tar::EntryType::Directory, directory, 0o755, None, &[])?;
    }
    archive.file("bin/busybox", 0o755, &busybox)?;
    for applet in APPLETS {
        archive.entry(tar::EntryType::Symlink, &format!("bin/{applet}"), 0o777, Some("busybox"), &[])?;
    }
    archive.finish()
}

/// Name of this machine's processor in image configurations.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A tar in memory, with entries that depend on nothing but their content.
struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entry(tar::EntryType::Regular, path, mode, None, content)
    }

    fn entry(&mut self, kind: tar::EntryType, path: &str, mode: u32, link: Option<&str>, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if let Some(target) = link {
            header.set_link_name(target)?;
        }
        self.0.append_data(&mut header, path, content)?;
        Ok(())
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}
