//! An edge that counts what it takes from the heap, for the test that keeps the count from growing. It is `authsome-proxy`
//! but for the allocator; whoever connects to `AUTHSOME_COUNTED_LISTEN` is told the count so far.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of what all threads take.
struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator can be counted in no other way; every call is passed on as it came"
)]
// SAFETY: every call goes to the system's allocator unchanged; counting takes no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn main() -> ExitCode {
    let listener = std::env::var("AUTHSOME_COUNTED_LISTEN").ok().map(TcpListener::bind);
    let Some(Ok(listener)) = listener else {
        return ExitCode::FAILURE;
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever went away is not told.
            let _ = stream.and_then(|mut stream| stream.write_all(&TAKEN.load(Ordering::Relaxed).to_le_bytes()));
        }
    });
    authsome_proxy::process::run()
}
