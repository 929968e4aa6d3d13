//! An allocator that counts the allocations of each thread.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<Allocations> = const { Cell::new(Allocations { times: 0, bytes: 0 }) };
}

/// The number of allocations and their total bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocations {
    pub times: u64,
    pub bytes: u64,
}

#[expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]
// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.saturating_sub(layout.size()));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn note(bytes: usize) {
    // A thread that is exiting no longer has a counter.
    let _ = ALLOCATIONS.try_with(|allocations| {
        let before = allocations.get();
        allocations.set(Allocations { times: before.times + 1, bytes: before.bytes + bytes as u64 });
    });
}

/// The allocations of one call, after one warm-up call.
pub fn allocations(mut call: impl FnMut()) -> Allocations {
    call();
    let before = ALLOCATIONS.get();
    call();
    let after = ALLOCATIONS.get();
    Allocations { times: after.times - before.times, bytes: after.bytes - before.bytes }
}
