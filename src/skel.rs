// SPDX-License-Identifier: Apache-2.0
//! The generated skeletons, one module an object. Nothing else includes generated code.

#![allow(clippy::all, clippy::undocumented_unsafe_blocks, clippy::unwrap_used)]
#![allow(missing_debug_implementations)]

/// Includes one generated skeleton.
macro_rules! skeleton {
    ($($name:ident),+) => {$(
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".skel.rs"));

            /// The object itself, for loading it without its skeleton.
            pub static OBJECT: &[u8] =
                include_bytes!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".o"));
        }
    )+};
}

skeleton!(bpf_maps, bpf_lxc, bpf_host, bpf_overlay, bpf_xdp, bpf_sock, bpf_iter);
