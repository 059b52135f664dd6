//! Opening the file of a log, so that nothing else is ever written to.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::geteuid,
};

use super::context::KEY;

/// How often to look whether the file ends by a whole line. Somebody may be writing, which is over in no time; or have
/// been stopped by a full disk.
const LOOKS: usize = 5;

/// Opens the file `name` in `folder` to add lines to it; it is made where it is not there, for root only. No symbolic
/// link is followed, no FIFO waited for, and a file that is not a log of ours is left alone.
///
/// # Errors
/// What speaks against it.
pub(super) fn open(folder: &Path, name: &OsStr) -> Result<File, String> {
    // The folder is the admin's, and may be reached over links.
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| format!("open its folder: {errno}"))?;
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let never = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        openat(&folder, name, flags | never, Mode::RUSR | Mode::WUSR).map_err(|errno| format!("open: {errno}"))?;
    let mut file = File::from(file);
    if !is_ours(&file).map_err(|error| format!("look at it: {error}"))? {
        return Err("it is there and not a log of podwire's own".to_owned());
    }
    if !ends_by_a_line(&file) {
        // What a full disk has cut off spoils one line and not two.
        io::Write::write_all(&mut file, b"\n").map_err(|error| format!("write: {error}"))?;
    }
    Ok(file)
}

/// Whether it is a regular file of this user's, with no other name elsewhere, and empty or begun by us.
fn is_ours(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    if !about.is_file() || about.uid() != geteuid().as_raw() || about.nlink() > 1 {
        return Ok(false);
    }
    let sign = format!("{{\"{KEY}\":\"");
    let mut start = vec![0; sign.len()];
    let read = file.read_at(&mut start, 0)?;
    // Less than that is what a full disk has left of a first line.
    Ok(sign.as_bytes().starts_with(&start[..read]))
}

fn ends_by_a_line(file: &File) -> bool {
    (0..LOOKS).any(|_| {
        let mut last = [0];
        let read = file.metadata().and_then(|about| match about.len() {
            0 => Ok(0),
            length => file.read_at(&mut last, length - 1),
        });
        let is_whole = read.is_ok_and(|read| read == 0 || last == *b"\n");
        if !is_whole {
            std::thread::yield_now();
        }
        is_whole
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_added_to() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut file = open(folder.path(), "a.log".as_ref()).unwrap();
            file.write_all(b"{\"podwire\":\"x\"}\n").unwrap();
        }
        let path = folder.path().join("a.log");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn what_is_no_log_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        fs::write(path("audit.log"), "{\"kind\":\"Event\"}\n").unwrap();
        fs::write(path("wtmp"), [0; 384]).unwrap();
        symlink("new", path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("one"), "").unwrap();
        fs::hard_link(path("one"), path("two")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(fifo.success());
        for name in ["audit.log", "wtmp", "link", "folder", "two", "fifo"] {
            assert!(open(folder.path(), name.as_ref()).is_err(), "{name}");
        }
        assert!(open(&path("nowhere"), "a.log".as_ref()).is_err());
        assert!(!path("new").exists() && !path("nowhere").exists());
        assert_eq!(fs::read(path("wtmp")).unwrap(), [0; 384]);
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        for rest in ["{\"pod", "{\"podwire\":\"bridge\",\"ti"] {
            fs::write(folder.path().join("a.log"), rest).unwrap();
            open(folder.path(), "a.log".as_ref()).unwrap().write_all(b"whole\n").unwrap();
            let text = fs::read_to_string(folder.path().join("a.log")).unwrap();
            assert_eq!(text, format!("{rest}\nwhole\n"));
        }
    }
}
