// SPDX-License-Identifier: GPL-2.0
/* Which slots of the message window are taken. */

#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/errno.h>
#include <linux/sizes.h>

#include "handover.h"

int handover_window_init(struct handover *handover, u64 base, u64 size)
{
	struct handover_window *window = &handover->window;

	if (!base || !size || !IS_ALIGNED(base, HANDOVER_REGION_MAX) || !IS_ALIGNED(size, HANDOVER_WINDOW_SLOT) ||
	    size / HANDOVER_WINDOW_SLOT > INT_MAX) {
		dev_err(handover->dev, "message window %#llx, %#llx bytes: want 1 GiB alignment and whole 2 MiB slots\n", base,
			size);
		return -EINVAL;
	}
	spin_lock_init(&window->lock);
	window->base = base;
	window->size = size;
	window->slots = size / HANDOVER_WINDOW_SLOT;
	window->used = devm_bitmap_zalloc(handover->dev, window->slots, GFP_KERNEL);
	return window->used ? 0 : -ENOMEM;
}

static unsigned long slots_of(u64 size)
{
	return DIV_ROUND_UP(size, HANDOVER_WINDOW_SLOT);
}

/* The address of free slots for a region of that size (a power of two), aligned to it; 0 when there are none. */
u64 handover_window_take(struct handover_window *window, u64 size)
{
	unsigned long count = slots_of(size), at, flags;

	spin_lock_irqsave(&window->lock, flags);
	at = bitmap_find_next_zero_area(window->used, window->slots, window->hint, count, count - 1);
	if (at >= window->slots)
		at = bitmap_find_next_zero_area(window->used, window->slots, 0, count, count - 1);
	if (at < window->slots) {
		bitmap_set(window->used, at, count);
		window->hint = at + count;
	}
	spin_unlock_irqrestore(&window->lock, flags);
	return at < window->slots ? window->base + at * (u64)HANDOVER_WINDOW_SLOT : 0;
}

void handover_window_give(struct handover_window *window, u64 address, u64 size)
{
	unsigned long at = (address - window->base) / HANDOVER_WINDOW_SLOT, flags;

	spin_lock_irqsave(&window->lock, flags);
	bitmap_clear(window->used, at, slots_of(size));
	if (at < window->hint)
		window->hint = at;
	spin_unlock_irqrestore(&window->lock, flags);
}
