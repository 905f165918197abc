/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Storing into a map, for whoever can make nothing of a refusal that is over at once. */
#pragma once

#include "common.h"

/* -EBUSY is a bucket lock held elsewhere for an instant, not a full map (kernels before 6.15). */
static __always_inline long map_update(void *map, const void *key, const void *value, __u64 how)
{
	long err = bpf_map_update_elem(map, key, value, how);

	if (err == -EBUSY)
		err = bpf_map_update_elem(map, key, value, how);
	return err;
}
