//! An allocator that counts what the calling thread asks for.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

/// Requests to the allocator, and the bytes of them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub times: u64,
    pub bytes: u64,
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.saturating_sub(layout.size()));
        unsafe { System.realloc(place, layout, size) }
    }
}

fn note(bytes: usize) {
    // A thread that ends has no counter any more.
    let _ = ASKED.try_with(|asked| {
        let before = asked.get();
        asked.set(Asked { times: before.times + 1, bytes: before.bytes + bytes as u64 });
    });
}

/// What one call asks for, after one to warm up.
pub fn asked(mut call: impl FnMut()) -> Asked {
    call();
    let before = ASKED.get();
    call();
    let after = ASKED.get();
    Asked { times: after.times - before.times, bytes: after.bytes - before.bytes }
}
