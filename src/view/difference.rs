// SPDX-License-Identifier: Apache-2.0
//! Something that is not as it should be.

use serde::{Deserialize, Serialize};

/// One difference that `culvert check` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceRow {
    /// The map and entry, or the object.
    pub subject: String,
    pub difference: String,
}
