// SPDX-License-Identifier: GPL-2.0
/*
 * Direct calls: the server goes on at once, on the physical processor and in the time of whoever calls.
 *
 * The logical processor that calls takes no interrupt until the reply, so patience has an end, which is well below what
 * Linux calls a stall. There is no way to serve: a call is owed by the logical processor that took it, and one that waits
 * for calls runs nothing else, while Linux moves its threads from one to the other and has others run in between.
 */

#include <linux/file.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "handover.h"

#define PATIENCE_MAX NSEC_PER_SEC

static int set_patience(struct handover_channel *channel, u64 nanoseconds)
{
	handover_regs regs = { .a1 = channel->port, .a3 = nanoseconds };
	int error = handover_call(channel->handover, HANDOVER_CALL_CALL_SETUP, &regs);

	if (!error)
		WRITE_ONCE(channel->patient, true);
	return error;
}

int handover_patience(struct handover_channel *channel, void __user *argument)
{
	u64 nanoseconds;

	if (copy_from_user(&nanoseconds, argument, sizeof(nanoseconds)))
		return -EFAULT;
	if (!nanoseconds || nanoseconds > PATIENCE_MAX)
		return -EINVAL;
	return set_patience(channel, nanoseconds);
}

/* Gives back a region that nobody here asked for, and that is mapped nowhere. */
static void destroy(struct handover *handover, u32 handle)
{
	handover_regs regs = { .a1 = handle };
	int error = handover_call(handover, HANDOVER_CALL_REGION_DESTROY, &regs);

	if (error)
		dev_err(handover->dev, "cannot destroy region %u: %d\n", handle, error);
}

/* Maps a region of the handle, which is mapped nowhere, where the region has its slot. */
static int map(struct handover_region *region, u32 handle)
{
	handover_regs regs = { .a1 = handle, .a2 = region->address };
	int error = handover_call(region->handover, HANDOVER_CALL_REGION_MAP, &regs);

	if (!error)
		region->handle = handle;
	return error;
}

static bool is_of_size(struct handover *handover, u32 handle, u64 size)
{
	handover_regs regs = { .a1 = handle };

	return !handover_call(handover, HANDOVER_CALL_REGION_INFO, &regs) && regs.a1 == size;
}

/*
 * A call with a region that was to move has failed, and has waited. The region has come back under its handle, unmapped, unless the
 * server has taken it; what comes back instead is one that the server had forwarded. Under the region's lock.
 */
static void come_back(struct handover_region *region, u32 handle)
{
	struct handover *handover = region->handover;

	if (handle && handle == region->handle && is_of_size(handover, handle, region->size) && !map(region, handle))
		return;
	if (handle)
		destroy(handover, handle);
	handover_region_gone(region);
}

/* Whether a call that failed had waited: then its word names no port, and a region that is unmapped, if any. */
static bool has_waited(int error, u64 word)
{
	return (error == -EPIPE || error == -ETIMEDOUT || error == -EDEADLK) && !HANDOVER_WORD_PORT(word);
}

static int make_call(struct handover_channel *channel, struct handover_region *region, u32 flags, handover_regs *regs,
		     u32 length)
{
	const bool moves = region && !(flags & (HANDOVER_LEND | HANDOVER_SHOW));
	struct handover *handover = channel->handover;
	u64 word = HANDOVER_WORD(channel->port, region ? region->handle : 0, length);
	int error;

	if (flags & (HANDOVER_LEND | HANDOVER_SHOW))
		word |= HANDOVER_WORD_LENT;
	if (flags & HANDOVER_SHOW)
		word |= HANDOVER_WORD_KEPT;
	regs->a1 = word;
	error = handover_call(handover, HANDOVER_CALL_CALL, regs);
	if (moves && !error)
		handover_region_gone(region);
	if (!has_waited(error, regs->a1))
		return error;
	if (moves)
		come_back(region, HANDOVER_WORD_REGION(regs->a1));
	else if (HANDOVER_WORD_REGION(regs->a1))
		destroy(handover, HANDOVER_WORD_REGION(regs->a1));
	return error;
}

/* The same, with the region out of reach meanwhile if it moves or is lent, or at least not sent if it is shown. */
static int call_locked(struct handover_channel *channel, struct handover_region *region, u32 flags, handover_regs *regs,
		       u32 length)
{
	const bool shown = flags & HANDOVER_SHOW;
	int error = -ESTALE;

	if (!region)
		return make_call(channel, NULL, flags, regs, length);
	if (shown)
		down_read(&region->lock);
	else
		down_write(&region->lock);
	if (region->handle) {
		if (!shown)
			handover_region_unmap(region);
		error = make_call(channel, region, flags, regs, length);
	}
	if (shown)
		up_read(&region->lock);
	else
		up_write(&region->lock);
	return error;
}

/* The region that came with a reply, mapped; NULL: none did. */
static struct handover_region *replied_region(struct handover *handover, u64 word)
{
	u32 handle = HANDOVER_WORD_REGION(word);
	struct handover_region *region;
	int error;

	if (!handle)
		return NULL;
	region = handover_region_alloc(handover, 1ULL << HANDOVER_WORD_ORDER(word));
	error = PTR_ERR_OR_ZERO(region);
	if (!error)
		error = map(region, handle);
	if (!error)
		return region;
	destroy(handover, handle);
	if (!IS_ERR(region))
		handover_region_free(region);
	return ERR_PTR(error);
}

/* Hands a reply to the program; fd is one to use for its region. */
static int deliver(struct handover_channel *channel, handover_regs *regs, int fd, void __user *argument)
{
	struct handover_message message = { .region_fd = -1, .length = HANDOVER_WORD_LENGTH(regs->a1) };
	struct handover_region *region = replied_region(channel->handover, regs->a1);
	struct file *file;

	if (IS_ERR(region))
		return PTR_ERR(region);
	memcpy(message.data, handover_short_message(regs), message.length);
	if (region) {
		message.region_fd = fd;
		message.region_size = region->size;
		file = handover_region_file(region);
		if (IS_ERR(file)) {
			handover_region_free(region);
			return PTR_ERR(file);
		}
	}
	if (copy_to_user(argument, &message, sizeof(message))) {
		if (region)
			fput(file);
		return -EFAULT;
	}
	if (region)
		fd_install(fd, file);
	return region ? 1 : 0;
}

int handover_direct_call(struct handover_channel *channel, void __user *argument)
{
	const u32 loans = HANDOVER_LEND | HANDOVER_SHOW;
	struct handover_region *region = NULL;
	struct handover_message message;
	struct file *file = NULL;
	handover_regs regs = {};
	int error, fd;

	if (copy_from_user(&message, argument, sizeof(message)))
		return -EFAULT;
	if (message.flags & ~loans || (message.flags & loans) == loans || message.reserved || message.region_fd < -1 ||
	    (message.flags && message.region_fd < 0))
		return -EINVAL;
	if (message.length > HANDOVER_SHORT_MAX)
		return -EMSGSIZE;
	error = READ_ONCE(channel->patient) ? 0 : set_patience(channel, PATIENCE_MAX);
	if (error)
		return error;
	/* Whatever can fail here fails before anything is sent. */
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	if (message.region_fd >= 0) {
		file = handover_region_get(message.region_fd, &region);
		if (IS_ERR(file)) {
			put_unused_fd(fd);
			return PTR_ERR(file);
		}
	}
	memcpy(handover_short_message(&regs), message.data, message.length);
	error = call_locked(channel, region, message.flags, &regs, message.length);
	if (error == -ENOTCONN)
		error = handover_channel_not_connected(channel);
	else if (error == -ENOBUFS)
		error = -EAGAIN;
	if (file)
		fput(file);
	if (!error)
		error = deliver(channel, &regs, fd, argument);
	if (error <= 0)
		put_unused_fd(fd);
	return min(error, 0);
}
