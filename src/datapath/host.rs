// SPDX-License-Identifier: Apache-2.0
//! What the datapath must know of the machine: its clock, its CPUs, its namespace's cookie.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sys::statfs::{FsType, statfs};
use nix::time::{ClockId, clock_gettime};

use crate::abi::TICK_NANOS;

/// Now, in the datapath's ticks (`CLOCK_MONOTONIC`, `bpf/lib/clock.h`).
pub fn ticks_now() -> u32 {
    (nanos_now() / TICK_NANOS) as u32
}

/// Now, in nanoseconds of `CLOCK_MONOTONIC`, as [`crate::abi::Event::time`] has it.
pub fn nanos_now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// CPUs that may ever come online; per-CPU maps have a value for each.
pub fn possible_cpus() -> io::Result<usize> {
    libbpf_rs::num_possible_cpus().map_err(io::Error::other)
}

/// `SO_NETNS_COOKIE` of the calling thread's network namespace (Linux 5.14).
pub fn netns_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // Any socket has its namespace's cookie; this one needs no address.
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0_u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the option is an u64, and `cookie` is one of `size` bytes.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Mounts a bpffs at `path` unless one is there. True when it was mounted now.
pub fn mount_bpffs(path: &Path) -> io::Result<bool> {
    if is_mounted(path, nix::sys::statfs::BPF_FS_MAGIC)? {
        return Ok(false);
    }
    nix::mount::mount(Some("bpffs"), path, Some("bpf"), MsFlags::empty(), None::<&str>)?;
    Ok(true)
}

/// Whether the file system at `path` is of this kind. A missing directory is none.
pub(super) fn is_mounted(path: &Path, magic: FsType) -> io::Result<bool> {
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == magic),
        Err(nix::Error::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The mounted cgroup2 hierarchy, if there is one. On a machine that still has version 1 it is
/// not at `/sys/fs/cgroup` but below it.
pub fn cgroup2() -> io::Result<Option<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    }))
}

/// Keeps the heap in few pieces. glibc gives every thread its own, up to eight a CPU, and what one
/// of them has freed the others cannot use: an agent on a large node would grow with its CPUs.
pub fn limit_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer; a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Packets that a device of the calling thread's network namespace has received so far.
pub fn received(device: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let counters = text.lines().find_map(|line| {
        line.trim_start().strip_prefix(device)?.strip_prefix(':')?.split_whitespace().nth(1)
    });
    counters
        .and_then(|packets| packets.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Whether a device of the calling thread's network namespace takes 802.1Q tags off frames before
/// its driver hook sees them (`rxvlan` of `ethtool -k`).
pub fn strips_vlan_tags(device: &str) -> io::Result<bool> {
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETH_FLAG_RXVLAN: u32 = 1 << 8;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    // `struct ethtool_value`.
    let mut value = [ETHTOOL_GFLAGS, 0];
    // SAFETY: all zeros is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = UnixDatagram::unbound()?;
    // SAFETY: the request points to a value of the size that this command reads and writes.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(value[1] & ETH_FLAG_RXVLAN != 0) }
}

/// Bytes that the program has from its heap; what it has given back may still be resident. 0 where
/// the C library is not glibc (2.33).
pub fn heap_in_use() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes no pointer, and glibc locks its own heap.
        let info = unsafe { libc::mallinfo2() };
        (info.uordblks + info.hblkhd) as u64
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

/// Gives memory that a burst of work has freed back to the kernel; glibc keeps it otherwise.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and glibc locks its own heap.
    unsafe {
        libc::malloc_trim(0);
    }
}
