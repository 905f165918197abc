// SPDX-License-Identifier: Apache-2.0
//! Tells the keeper of the `healthCheckNodePort` sockets what to answer, and starts one where none
//! is.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::Problem;
use crate::serve::Health;
use crate::serve::keeper::{Client, Order, State};

/// The keeper is told again, also that nothing is new: that is how it knows that we live.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Before a keeper that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// How the control loop reaches the task that talks to the keeper.
#[derive(Clone, Debug)]
pub struct Checks {
    state: watch::Sender<Option<State>>,
    problems: Arc<Mutex<Vec<Problem>>>,
}

impl Checks {
    /// Starts the task. `socket` is the keeper's; one that we start has `patience` with us.
    pub fn start(socket: PathBuf, patience: Duration, health: Arc<Health>) -> Self {
        let (state, told) = watch::channel(None);
        let problems = Arc::new(Mutex::new(Vec::new()));
        let keeper = Keeper { socket, patience, child: None };
        tokio::spawn(follow(keeper, told, health, Arc::clone(&problems)));
        Self { state, problems }
    }

    /// To be called only when everything is listed and written: what an earlier agent said stands
    /// until then.
    pub fn tell(&self, state: State) {
        self.state.send_if_modified(|told| {
            let changed = told.as_ref() != Some(&state);
            *told = Some(state);
            changed
        });
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Keeper {
    socket: PathBuf,
    patience: Duration,
    /// So that one that ends leaves no zombie.
    child: Option<Child>,
}

async fn follow(
    mut keeper: Keeper,
    mut told: watch::Receiver<Option<State>>,
    health: Arc<Health>,
    problems: Arc<Mutex<Vec<Problem>>>,
) {
    let mut client: Option<Client> = None;
    loop {
        let state = told.borrow_and_update().clone();
        let mut wait = SIGN_OF_LIFE;
        if let Some(mut state) = state {
            state.healthy = health.verdict().healthy;
            let outcome = keeper.tell(&mut client, state).await;
            let failed = outcome.is_err();
            let found = outcome.unwrap_or_else(|error| {
                let message = format!("cannot reach the keeper of health check ports: {error}");
                vec![("healthCheckNodePort".to_owned(), message)]
            });
            if failed || !found.is_empty() {
                wait = PAUSE;
            }
            let found = found.into_iter().map(|(subject, message)| Problem { subject, message });
            *problems.lock().unwrap_or_else(PoisonError::into_inner) = found.collect();
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Keeper {
    /// Returns what the keeper cannot do.
    async fn tell(
        &mut self,
        client: &mut Option<Client>,
        state: State,
    ) -> io::Result<Vec<(String, String)>> {
        let needed = !state.services.is_empty();
        if client.is_none() {
            match Client::connect(&self.socket).await {
                Ok(fresh) => *client = Some(fresh),
                // There may be one of an earlier agent; none is started for nothing.
                Err(_) if !needed => return Ok(Vec::new()),
                Err(_) => {
                    self.start()?;
                    *client = Some(self.connect().await?);
                }
            }
        }
        let Some(connected) = client else { return Ok(Vec::new()) };
        let reply = connected.order(&Order::State(state)).await;
        if reply.is_err() {
            *client = None;
        }
        Ok(reply?.problems)
    }

    /// In a session and process group of its own, so that no signal meant for us reaches it.
    fn start(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child {
            // Still starting, or ended: then it is taken off the kernel's hands here.
            if child.try_wait()?.is_none() {
                return Ok(());
            }
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("culvert")
            .arg("health-keeper")
            .arg("--socket")
            .arg(&self.socket)
            .arg("--patience")
            .arg(format!("{}s", self.patience.as_secs().max(1)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        tracing::info!(socket = %self.socket.display(), "started the keeper of health check ports");
        Ok(())
    }

    async fn connect(&self) -> io::Result<Client> {
        let mut last = Client::connect(&self.socket).await;
        for _ in 0..50 {
            if last.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            last = Client::connect(&self.socket).await;
        }
        last
    }
}
