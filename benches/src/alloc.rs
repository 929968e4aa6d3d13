//! An allocator that counts the allocations of the calling thread.
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNTER: Cell<Allocations> = const { Cell::new(Allocations { times: 0, bytes: 0 }) };
}

/// Number of allocations, and their total size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    pub times: u64,
    pub bytes: u64,
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed to the sidecar's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        record(layout.size());
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        record(size.saturating_sub(layout.size()));
        unsafe { MiMalloc.realloc(place, layout, size) }
    }
}

fn record(bytes: usize) {
    // A thread that is ending no longer has a counter.
    let _ = COUNTER.try_with(|counter| {
        let before = counter.get();
        counter.set(Allocations { times: before.times + 1, bytes: before.bytes + bytes as u64 });
    });
}

/// The allocations of one call, after a warm-up call.
pub fn allocations(mut call: impl FnMut()) -> Allocations {
    call();
    let before = COUNTER.get();
    call();
    let after = COUNTER.get();
    Allocations { times: after.times - before.times, bytes: after.bytes - before.bytes }
}
