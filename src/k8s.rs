// SPDX-License-Identifier: Apache-2.0
//! Sources: Kubernetes objects from an API server or from a directory, as model values.
