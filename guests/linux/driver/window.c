// SPDX-License-Identifier: GPL-2.0
/*
 * Which parts of the message window are taken.
 *
 * A region of up to 2 MiB takes 2 MiB, a larger one a whole GiB, in which there never was a smaller one. So the
 * lower quarter of the window serves the small ones, and the rest the large ones. The first 2 MiB of each GiB stay
 * empty: a large region that meets a place for a small one is then always refused as too large, even where its GiB
 * was never used.
 */

#include <linux/bitmap.h>
#include <linux/device.h>
#include <linux/errno.h>
#include <linux/sizes.h>

#include "handover.h"

static int init_slots(struct handover *handover, struct handover_slots *slots, u64 base, u64 size, u64 slot)
{
	slots->base = base;
	slots->slot = slot;
	slots->count = size / slot;
	slots->used = devm_bitmap_zalloc(handover->dev, slots->count, GFP_KERNEL);
	return slots->used ? 0 : -ENOMEM;
}

int handover_window_init(struct handover *handover, u64 base, u64 size)
{
	struct handover_window *window = &handover->window;
	u64 small = max_t(u64, round_down(size / 4, HANDOVER_REGION_MAX), HANDOVER_REGION_MAX);
	unsigned long first;
	int error;

	if (!base || !size || !IS_ALIGNED(base | size, HANDOVER_REGION_MAX) || size > BIT_ULL(52)) {
		dev_err(handover->dev, "message window %#llx, %#llx bytes: want whole GiBs\n", base, size);
		return -EINVAL;
	}
	spin_lock_init(&window->lock);
	error = init_slots(handover, &window->small, base, small, HANDOVER_WINDOW_SLOT);
	if (!error)
		error = init_slots(handover, &window->large, base + small, size - small, HANDOVER_REGION_MAX);
	if (error)
		return error;
	for (first = 0; first < window->small.count; first += HANDOVER_REGION_MAX / HANDOVER_WINDOW_SLOT)
		__set_bit(first, window->small.used);
	return 0;
}

static struct handover_slots *slots_for(struct handover_window *window, u64 size)
{
	return size <= HANDOVER_WINDOW_SLOT ? &window->small : &window->large;
}

/* A place for a region of that size, and in *slot the largest that fits there; 0 when there is none. */
u64 handover_window_take(struct handover_window *window, u64 size, u64 *slot)
{
	struct handover_slots *slots = slots_for(window, size);
	unsigned long at, flags;

	spin_lock_irqsave(&window->lock, flags);
	at = find_next_zero_bit(slots->used, slots->count, slots->hint);
	if (at < slots->count) {
		__set_bit(at, slots->used);
		slots->hint = at + 1;
	}
	spin_unlock_irqrestore(&window->lock, flags);
	*slot = slots->slot;
	return at < slots->count ? slots->base + at * slots->slot : 0;
}

void handover_window_give(struct handover_window *window, u64 address, u64 slot)
{
	struct handover_slots *slots = slots_for(window, slot);
	unsigned long at = (address - slots->base) / slots->slot, flags;

	spin_lock_irqsave(&window->lock, flags);
	__clear_bit(at, slots->used);
	/* Below the hint everything is taken. */
	slots->hint = min(slots->hint, at);
	spin_unlock_irqrestore(&window->lock, flags);
}
