// SPDX-License-Identifier: Apache-2.0
//! Pure: services and endpoint slices in, map tables and the writes that reach them out.
