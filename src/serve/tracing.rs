// SPDX-License-Identifier: Apache-2.0
//! Which hooks trace: the union of what the open monitor streams ask for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::agent::Command;

/// How many streams want each hook.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracing(Arc<Mutex<[usize; 32]>>);

/// One stream's wish; dropping it takes the wish back.
#[derive(Debug)]
pub(super) struct Wish {
    tracing: Tracing,
    hooks: u32,
    commands: mpsc::Sender<Command>,
}

impl Tracing {
    /// Adds `hooks`, a bit mask of `1 << Hook`, and tells the control loop.
    pub(super) fn wish(&self, hooks: u32, commands: mpsc::Sender<Command>) -> Wish {
        self.change(hooks, |count| *count += 1);
        self.tell(commands.clone());
        Wish { tracing: self.clone(), hooks, commands }
    }

    fn change(&self, hooks: u32, change: impl Fn(&mut usize)) {
        let mut counts = self.counts();
        (0..32).filter(|bit| hooks & (1 << bit) != 0).for_each(|bit| change(&mut counts[bit]));
    }

    /// From a task of its own: a busy control loop must not hold up a stream's end.
    fn tell(&self, commands: mpsc::Sender<Command>) {
        let tracing = self.clone();
        tokio::spawn(async move {
            // The loop is gone only when the agent ends.
            let Ok(room) = commands.reserve().await else { return };
            // Under the lock, so that the last mask sent is the one that holds.
            let counts = tracing.counts();
            let asked = (0..32).filter(|bit| counts[*bit] > 0);
            room.send(Command::Trace { hooks: asked.fold(0, |mask, bit| mask | 1 << bit) });
        });
    }

    fn counts(&self) -> MutexGuard<'_, [usize; 32]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.tracing.change(self.hooks, |count| *count -= 1);
        self.tracing.tell(self.commands.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn mask(commands: &mut mpsc::Receiver<Command>) -> u32 {
        match commands.recv().await.unwrap() {
            Command::Trace { hooks } => hooks,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_hook_is_traced_until_its_last_stream_ends() {
        let (send, mut receive) = mpsc::channel(8);
        let tracing = Tracing::default();
        let first = tracing.wish(0b011, send.clone());
        assert_eq!(mask(&mut receive).await, 0b011);
        let second = tracing.wish(0b110, send);
        assert_eq!(mask(&mut receive).await, 0b111);
        drop(first);
        assert_eq!(mask(&mut receive).await, 0b110);
        drop(second);
        assert_eq!(mask(&mut receive).await, 0);
    }
}
