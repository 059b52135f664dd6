//! The mark by which the binaries of one build know each other, so that a delegate of the same build need not be
//! started: its library is already here.

use std::{fs::File, io::Read, os::unix::fs::PermissionsExt, path::Path};

/// An ELF note (`man 5 elf`): sizes of name and description, type, then both.
#[repr(C, align(4))]
struct Note {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; 8],
    description: [u8; 16],
}

const BUILD: [u8; 16] = match env!("PODWIRE_BUILD").as_bytes().as_array() {
    Some(build) => *build,
    None => panic!("the build's id has 16 digits"),
};

// SAFETY: the section holds nothing but this constant, in the form that its name promises; nothing reads it as code.
#[expect(unsafe_code, reason = "a section can be named only so, and a note is what linkers place on the first page")]
#[unsafe(link_section = ".note.podwire")]
#[used]
static NOTE: Note = Note { name_size: 8, description_size: 16, kind: 1, name: *b"podwire\0", description: BUILD };

/// Whether the program at `path` is executable and of the same build as this one.
pub fn is_of_this_build(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let executable = file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let mut page = [0; 4096];
    let Ok(len) = file.read(&mut page) else { return false };
    // A note stands at a multiple of four bytes.
    let is_mark = |at: &[u8]| at.starts_with(&NOTE.name) && at[NOTE.name.len()..].starts_with(&NOTE.description);
    executable && (0..len).step_by(4).any(|place| page[place] == NOTE.name[0] && is_mark(&page[place..len]))
}
