//! Looks at every socket, by iterator: they write to the ring buffer, in order with the hooks. The census alone writes to whoever reads it.

mod census;
mod holders;
mod pass;
mod quiet;
mod requests;
mod rest;
mod sockets;
mod survivals;

use core::ffi::c_void;

use aya_ebpf::EbpfContext;

/// The context of an iterator's program.
struct Row<T>(*const T);

impl<T> EbpfContext for Row<T> {
    fn as_ptr(&self) -> *mut c_void {
        self.0.cast_mut().cast()
    }
}
