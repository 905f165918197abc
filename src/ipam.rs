// SPDX-License-Identifier: Apache-2.0
//! Pure: which pod address is free, which is taken by whom.
