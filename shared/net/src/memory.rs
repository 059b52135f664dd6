//! Memory for a process that lives a millisecond.
#![expect(unsafe_code, reason = "each block says why it has to be and why it is sound")]

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::UnsafeCell,
    ptr,
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
};

use dlmalloc::GlobalDlmalloc;

/// More than a call asks for in all; pages that nobody writes to are never there.
const SIZE: usize = 128 * 1024;

/// What is larger would use it up, and is worth the other allocator's trouble.
const LARGEST: usize = 16 * 1024;

/// malloc's, on the processors that there are: what more is asked for is dlmalloc's.
const ALIGN: usize = 16;

/// Hands out a stretch of memory from its beginning to its end, and takes back only what lies last. When it is used up,
/// dlmalloc is there.
///
/// A call makes some 650 allocations and ends. Each costs dlmalloc, which has to find room and to put together what becomes
/// free, and takes a lock for it, some 120 instructions at its beginning and 100 at its end: together more than a quarter
/// of an ADD's. musl's own allocator costs more still, for it maps and unmaps pages for many of them.
///
/// Every place is aligned as malloc's are, whatever was asked for: the unwinder, which runs where a plugin panics, clears its
/// `_Unwind_Exception` by instructions that trap elsewhere, and std asks for eight bytes there. A constant costs least, too.
#[derive(Debug)]
pub struct Memory {
    room: Room,
    /// Where the rest begins.
    next: AtomicUsize,
}

#[repr(align(4096))]
struct Room(UnsafeCell<[u8; SIZE]>);

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

// SAFETY: nobody looks into it but those to whom a part of it was given, and no part is given to two at a time.
unsafe impl Sync for Room {}

impl Memory {
    /// All of it free.
    #[expect(
        clippy::new_without_default,
        clippy::large_stack_arrays,
        reason = "it is const, and to be a static's value"
    )]
    pub const fn new() -> Self {
        Self { room: Room(UnsafeCell::new([0; SIZE])), next: AtomicUsize::new(0) }
    }

    /// Where in the room `place` is; `None` where it is dlmalloc's.
    fn offset(&self, place: *mut u8) -> Option<usize> {
        let offset = place.addr().wrapping_sub(self.room.0.get().addr());
        (offset < SIZE).then_some(offset)
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > LARGEST || layout.align() > ALIGN {
            return None;
        }
        let mut next = self.next.load(Relaxed);
        loop {
            let start = next.next_multiple_of(ALIGN);
            let end = start + layout.size();
            if end > SIZE {
                return None;
            }
            // Acquired, so that what another thread did there, who gave it back, was before.
            match self.next.compare_exchange_weak(next, end, Acquire, Relaxed) {
                // SAFETY: `start` is in the room, whose beginning is aligned for it.
                Ok(_) => return Some(unsafe { self.room.0.get().cast::<u8>().add(start) }),
                Err(other) => next = other,
            }
        }
    }

    /// Moves the end of what lies last; `false` where something lies behind it, or it does not fit.
    fn shift(&self, from: usize, to: usize) -> bool {
        // Released for whoever gets it next, and acquired where it grows, as in `take`.
        to <= SIZE && self.next.compare_exchange(from, to, AcqRel, Relaxed).is_ok()
    }
}

// SAFETY: what `take` gives is aligned, as large as asked for, and nobody else's until it is given back: the end of what is
// given only ever moves over what is free, or, in `shift`, over what the caller owns and nothing lies behind. Everything
// else is dlmalloc's, which is an allocator, and gets back what it gave, since it never gives a place in the room.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is the caller's promise.
        self.take(layout).unwrap_or_else(|| unsafe { GlobalDlmalloc.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            // SAFETY: the place is as large. It may have been given to somebody before.
            Some(place) => unsafe {
                place.write_bytes(0, layout.size());
                place
            },
            // SAFETY: the layout is the caller's promise. What is fresh from the kernel is not written to.
            None => unsafe { GlobalDlmalloc.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        match self.offset(place) {
            Some(start) => {
                self.shift(start + layout.size(), start);
            }
            // SAFETY: it is not from the room, so that dlmalloc gave it; the rest is the caller's promise.
            None => unsafe { GlobalDlmalloc.dealloc(place, layout) },
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(place) else {
            // SAFETY: as in `dealloc`.
            return unsafe { GlobalDlmalloc.realloc(place, layout, size) };
        };
        if size <= LARGEST && self.shift(start + layout.size(), start + size) || size <= layout.size() {
            return place;
        }
        // SAFETY: the size is the caller's promise, the alignment is that of a layout; the new place is another one, and
        // as large as what is copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(place, new, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn what_lies_last_is_used_again() {
        let memory = Memory::new();
        // SAFETY: each place is used with its own layout, and not after it was given back.
        unsafe {
            let first = memory.alloc(layout(10, 1));
            let second = memory.alloc(layout(8, 8));
            assert_eq!((memory.offset(first), memory.offset(second)), (Some(0), Some(16)));
            let grown = memory.realloc(second, layout(8, 8), 100);
            assert_eq!(grown, second);
            memory.dealloc(grown, layout(100, 8));
            assert_eq!(memory.alloc(layout(8, 8)), second);
            first.write_bytes(7, 10);
            let moved = memory.realloc(first, layout(10, 1), 11);
            assert_eq!((memory.offset(moved), moved.read(), moved.add(9).read()), (Some(32), 7, 7));
            let shrunk = memory.realloc(moved, layout(11, 1), 1);
            let zeroed = memory.alloc_zeroed(layout(10, 1));
            assert_eq!((shrunk, memory.offset(zeroed)), (moved, Some(48)));
            assert!((0..10).all(|byte| zeroed.add(byte).read() == 0));
        }
    }

    #[test]
    fn places_are_aligned_as_mallocs_are() {
        let memory = Memory::new();
        for size in 1..100 {
            // SAFETY: nobody uses it.
            let place = unsafe { memory.alloc(layout(size, 1)) };
            assert!(place.addr().is_multiple_of(16), "{size} bytes at {place:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_from_elsewhere() {
        let memory = Memory::new();
        // SAFETY: as above.
        unsafe {
            let large = memory.alloc(layout(LARGEST + 1, 1));
            assert_eq!(memory.offset(large), None);
            let larger = memory.realloc(large, layout(LARGEST + 1, 1), 4 * LARGEST);
            memory.dealloc(larger, layout(4 * LARGEST, 1));
            let mut places = Vec::new();
            for _ in 0..=SIZE / LARGEST {
                places.push(memory.alloc(layout(LARGEST, 1)));
            }
            let (last, others) = places.split_last().unwrap();
            assert!(others.iter().all(|place| memory.offset(*place).is_some()));
            assert_eq!(memory.offset(*last), None);
            let back = memory.realloc(*last, layout(LARGEST, 1), 1);
            memory.dealloc(back, layout(1, 1));
        }
    }

    #[test]
    fn no_place_is_given_to_two_threads() {
        let memory = Memory::new();
        let fill = |mark: u8| {
            for _ in 0..200 {
                // SAFETY: as above.
                unsafe {
                    let place = memory.alloc(layout(64, 16));
                    place.write_bytes(mark, 64);
                    thread::yield_now();
                    assert!((0..64).all(|byte| place.add(byte).read() == mark));
                    memory.dealloc(place, layout(64, 16));
                }
            }
        };
        thread::scope(|scope| [1, 2].map(|mark| scope.spawn(move || fill(mark))).map(|thread| thread.join().unwrap()));
    }
}
