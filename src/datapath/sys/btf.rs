// SPDX-License-Identifier: Apache-2.0
//! Type information, of objects that are not loaded yet and of what is in the kernel.

use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::slice;

use libbpf_rs::libbpf_sys as raw;
use libbpf_rs::{AsRawLibbpf as _, OpenMap, OpenObject};

use super::{check, check_fd};

/// Raw BTF of an object; None: it has none.
pub(in crate::datapath) fn object_btf(object: &OpenObject) -> Option<Vec<u8>> {
    let mut size = 0;
    // SAFETY: the object lives as long as the borrow, and libbpf answers null or its own data.
    let data = unsafe {
        let btf = raw::bpf_object__btf(object.as_libbpf_object().as_ptr());
        if btf.is_null() {
            return None;
        }
        raw::btf__raw_data(btf, &mut size)
    };
    if data.is_null() {
        return None;
    }
    // SAFETY: libbpf's data is `size` bytes long and nobody changes it during the borrow.
    Some(unsafe { slice::from_raw_parts(data.cast::<u8>(), size as usize) }.to_vec())
}

/// Type ids of a map's key and value in its object's BTF, 0 for none.
pub(in crate::datapath) fn object_types(map: &OpenMap<'_>) -> (u32, u32) {
    let map = map.as_libbpf_object().as_ptr();
    // SAFETY: the map lives as long as the borrow.
    unsafe { (raw::bpf_map__btf_key_type_id(map), raw::bpf_map__btf_value_type_id(map)) }
}

/// Raw BTF that the kernel keeps under this id.
pub(in crate::datapath) fn kernel_btf(id: u32) -> io::Result<Vec<u8>> {
    // SAFETY: takes no pointer.
    let fd = check_fd(unsafe { raw::bpf_btf_get_fd_by_id(id) })?;
    let mut data = Vec::new();
    // The first call tells the size.
    for _ in 0..2 {
        let mut info = raw::bpf_btf_info {
            btf: data.as_mut_ptr() as u64,
            btf_size: data.len() as u32,
            ..Default::default()
        };
        let mut size = size_of_val(&info) as u32;
        // SAFETY: `info` is valid for `size` bytes, and `btf` for `btf_size`.
        check(unsafe {
            raw::bpf_btf_get_info_by_fd(fd.as_raw_fd(), ptr::from_mut(&mut info), &mut size)
        })?;
        data.resize(info.btf_size as usize, 0_u8);
    }
    Ok(data)
}
