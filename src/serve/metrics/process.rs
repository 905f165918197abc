// SPDX-License-Identifier: Apache-2.0
//! What every process exports about itself, from `/proc` (proc_pid_stat(5), proc_pid_status(5)).

use std::{fs, io};

/// `USER_HZ`, the unit of times in `/proc`, is this on every architecture that we are built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// This process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    pub(super) max_fds: u64,
    /// Since the epoch.
    pub(super) start_seconds: f64,
}

impl Process {
    /// # Errors
    /// There is no `/proc`, or it is unlike any known.
    pub(super) fn read() -> io::Result<Self> {
        let text = |file: &str| fs::read_to_string(format!("/proc/{file}"));
        let files = [text("self/stat")?, text("self/status")?, text("self/limits")?, text("stat")?];
        let read = Self::parse(files.each_ref().map(String::as_str));
        let read = read.ok_or_else(|| io::Error::other("`/proc/self` is unlike any known"))?;
        // One is the directory that is being read.
        let fds = fs::read_dir("/proc/self/fd")?.count().saturating_sub(1);
        Ok(Self { open_fds: fds as u64, ..read })
    }

    /// From `/proc/self/stat`, `status` and `limits`, and `/proc/stat`.
    fn parse([stat, status, limits, system]: [&str; 4]) -> Option<Self> {
        // The name may hold blanks and brackets; what follows the last bracket is field 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let files = files.split_whitespace().next()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        let boot: f64 = boot.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            resident_bytes: kilobytes("VmRSS:")? * 1024,
            virtual_bytes: kilobytes("VmSize:")? * 1024,
            open_fds: 0,
            max_fds: if files == "unlimited" { u64::MAX } else { files.parse().ok()? },
            start_seconds: boot + ticks(22)? / TICKS_PER_SECOND,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_proc() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 900 0 0 0 150 75 0 0 20 0 5 0 12345 1 2 3";
        let status = "Name:\ta\nVmSize:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        let system = "cpu 1 2 3\nbtime 1700000000\n";
        let expected = Process {
            cpu_seconds: 2.25,
            resident_bytes: 1024 * 1024,
            virtual_bytes: 2048 * 1024,
            open_fds: 0,
            max_fds: 1024,
            start_seconds: 1_700_000_123.45,
        };
        assert_eq!(Process::parse([stat, status, limits, system]), Some(expected));
        assert_eq!(Process::parse(["42 (a", status, limits, system]), None);
    }

    #[test]
    fn this_process_is_read() {
        let before = Process::read().unwrap();
        let held: Vec<fs::File> =
            (0..8).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let process = Process::read().unwrap();
        assert!(process.open_fds >= 8 && process.open_fds <= process.max_fds, "{process:?}");
        assert!(process.resident_bytes > 0 && process.resident_bytes < process.virtual_bytes);
        assert!(process.cpu_seconds >= before.cpu_seconds);
        // The two clocks are the kernel's and not in step to the second.
        let now = super::super::now();
        assert!(process.start_seconds <= now + 2.0 && process.start_seconds > now - 86_400.0);
        drop(held);
    }
}
