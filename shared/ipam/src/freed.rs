//! Addresses that were given back lately: where a long run is taken, one of them is found without listing the folder.
//!
//! A file beside the links of the [`Index`], a line an address. It is a hint as they are: each address is looked up
//! before it is given, one that is missing here is found by listing the folder, and who removes the file loses nothing.

use std::{net::IpAddr, os::fd::AsFd};

use rustix::{fs::OFlags, io::Errno};

use crate::{
    folder::{self, CONTENT_MAX, Folder},
    index::Index,
};

/// No key of the index starts with a plus sign.
pub(crate) const FILE: &str = "+freed";
/// As many addresses as are noted at once; the longest need not fill the file.
pub(crate) const ENOUGH: usize = 64;

impl Index {
    /// The addresses that were given back, the earliest first.
    pub(crate) fn freed(&self) -> Vec<IpAddr> {
        let text = self.folder().read(FILE).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes that `ips` were given back. Where that cannot be done, the next search takes longer.
    pub(crate) fn note_freed(&self, ips: &[IpAddr]) {
        let folder = self.folder();
        if let Err(errno) = append(folder, &lines(ips)) {
            tracing::debug!("{}", folder.failed("note what was given back in", FILE, errno));
        }
    }
}

fn lines(ips: &[IpAddr]) -> String {
    ips.iter().flat_map(|ip| [ip.to_string(), "\n".to_owned()]).collect()
}

/// Adds `text` to the file. Once it is full its earlier half goes: those addresses have been given again since, or there
/// are so many free ones that the next is found without this.
fn append(folder: &Folder, text: &str) -> Result<(), Errno> {
    let file = folder.open_file(FILE, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE, 0o644)?;
    let size = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(usize::MAX);
    if size.saturating_add(text.len()) <= CONTENT_MAX {
        return folder::write_all(file.as_fd(), text.as_bytes());
    }
    let old = folder::read_all(file.as_fd())?;
    let half = &old[old.len() / 2..];
    let kept = half.iter().position(|&byte| byte == b'\n').map_or(&[][..], |end| &half[end + 1..]);
    rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&file, 0))?;
    folder::write_all(file.as_fd(), &[kept, text.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> (tempfile::TempDir, Index) {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::make(&Folder::make(dir.path()).unwrap(), "n").unwrap();
        (dir, index)
    }

    fn ips(numbers: std::ops::Range<u32>) -> Vec<IpAddr> {
        numbers.map(|n| IpAddr::V4((0x0a00_0000 + n).into())).collect()
    }

    #[test]
    fn what_was_given_back_last_is_kept() {
        let (_dir, index) = index();
        assert!(index.freed().is_empty());
        for n in 0..1000 {
            index.note_freed(&ips(n..n + 1));
        }
        let freed = index.freed();
        assert!(freed.len() >= ENOUGH, "{}", freed.len());
        assert_eq!(freed, ips(1000 - u32::try_from(freed.len()).unwrap()..1000), "none missing between");
        assert!(index.folder().read(FILE).unwrap().len() <= CONTENT_MAX);
    }

    #[test]
    fn nonsense_in_the_file_is_passed_over() {
        let (dir, index) = index();
        std::fs::write(dir.path().join(".podwire/n/+freed"), b"\xff\n10.0.0.1\n../x\n\n10.0.0.2").unwrap();
        assert_eq!(index.freed(), ips(1..3));
        std::fs::write(dir.path().join(".podwire/n/+freed"), vec![b'x'; 100_000]).unwrap();
        index.note_freed(&ips(1..2));
        assert_eq!(index.freed(), ips(1..2));
    }
}
