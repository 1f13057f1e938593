//! The allocator: jemalloc, chosen by measurement (`docs/performance.md`), and told to give memory back soon.
//!
//! Objects are trees of many small texts that live for one request, which is what costs a server like this most. `_RJEM_MALLOC_CONF`
//! in the environment says more than what is said here.

use std::ffi::{CStr, c_char};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Few arenas, because each keeps free memory of its own; free memory goes back to the system at once, nearly.
const SETTINGS: &CStr = c"narenas:2,dirty_decay_ms:100,muzzy_decay_ms:0,background_thread:true";

/// The symbol that jemalloc reads its settings from.
// SAFETY: the name is jemalloc's own and nobody else's; it reads a pointer to a text that ends in NUL, which this is.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: Option<&'static c_char> = {
    // SAFETY: the pointer is to the first byte of a text that lives as long as the program.
    Some(unsafe { &*SETTINGS.as_ptr() })
};
