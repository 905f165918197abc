// SPDX-License-Identifier: Apache-2.0
//! Targets of others than services: their flows must end as those of services do.

use super::ServiceSync;
use crate::datapath::map::Error;
use crate::lb::{Target, TargetsFull, Write};

/// Why there is no target.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error(transparent)]
    Full(#[from] TargetsFull),
    #[error(transparent)]
    Write(#[from] Error),
}

impl ServiceSync {
    /// A target for something that is no service; it is active when this returns.
    ///
    /// # Errors
    /// All indices are in use, or the map refuses.
    pub fn reserve_target(&mut self) -> Result<Target, ReserveError> {
        let (target, write) = self.balancer.reserve_target()?;
        self.write_target(write)?;
        Ok(target)
    }

    /// Ends a reserved target: its flows notice.
    ///
    /// # Errors
    /// The map refuses.
    pub fn release_target(&mut self, target: Target) -> Result<(), Error> {
        let write = self.balancer.release_target(target);
        self.write_target(write)
    }

    fn write_target(&self, write: Write) -> Result<(), Error> {
        match write {
            Write::Target { index, state } => self.maps.target_state.set(&index, &state),
            _ => Ok(()),
        }
    }
}
