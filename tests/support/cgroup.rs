// SPDX-License-Identifier: Apache-2.0
//! A cgroup of its own for one test, which single threads enter.
//!
//! A socket belongs to the cgroup of the thread that opens it. A threaded cgroup takes threads one
//! by one, so a test opens "a pod's" and "a bystander's" sockets in one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use culvert::datapath::host;

#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    parent: PathBuf,
}

impl Cgroup {
    /// A threaded child of the cgroup this process is in.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mounted = host::cgroup2().unwrap().expect("a cgroup2 mount");
        let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();

        let parent = mounted.join(own);
        let path = parent.join(format!("culvert-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a cgroup; are you root?");
        fs::write(path.join("cgroup.type"), "threaded").unwrap();
        Self { path, parent }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` on a thread inside the cgroup. Sockets it opens stay there.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // "0" is the writer itself.
                fs::write(self.path.join("cgroup.threads"), "0").unwrap();
                let result = f();
                // A cgroup is removed empty, and a joined thread may still be on its way out.
                fs::write(self.parent.join("cgroup.threads"), "0").unwrap();
                result
            });
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // After a panic inside, the thread leaves within moments.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
