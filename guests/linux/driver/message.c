// SPDX-License-Identifier: GPL-2.0
/* Messages: sending and receiving on a channel. */

#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "handover.h"

/* The short message's place in the registers: x2 to x17. */
u8 *handover_short_message(handover_regs *regs)
{
	BUILD_BUG_ON(offsetofend(handover_regs, a17) - offsetof(handover_regs, a2) != HANDOVER_SHORT_MAX);
	return (u8 *)regs + offsetof(handover_regs, a2);
}

static int send_once(struct handover_channel *channel, struct handover_region *region, const u8 *data, u32 length)
{
	handover_regs regs = {};
	int error;

	memcpy(handover_short_message(&regs), data, length);
	if (!region) {
		regs.a1 = HANDOVER_WORD(channel->port, 0, length);
		return handover_call(channel->handover, HANDOVER_CALL_SEND, &regs);
	}

	down_write(&region->lock);
	if (!region->handle) {
		up_write(&region->lock);
		return -ESTALE;
	}
	handover_region_unmap(region);
	regs.a1 = HANDOVER_WORD(channel->port, region->handle, length);
	error = handover_call(channel->handover, HANDOVER_CALL_SEND, &regs);
	if (!error)
		handover_region_gone(region);
	up_write(&region->lock);
	return error;
}

static int channel_send(struct handover_channel *channel, struct handover_region *region, const u8 *data, u32 length,
			bool nonblock)
{
	for (;;) {
		int seen = atomic_read_acquire(&channel->events);
		int error = send_once(channel, region, data, length);

		if (error == -ENOTCONN)
			error = handover_channel_not_connected(channel);
		else if (error == -ENOBUFS)
			error = -EAGAIN;
		if (error != -EAGAIN || nonblock)
			return error;
		error = handover_channel_wait(channel, seen);
		if (error)
			return error;
	}
}

/* Sees to it that there is a spare slot, for a region of that size. */
static int prepare_spare(struct handover_channel *channel, u64 size)
{
	struct handover_region *spare = channel->spare;

	if (spare && spare->slot >= size)
		return 0;
	spare = handover_region_alloc(channel->handover, size);
	if (IS_ERR(spare))
		return PTR_ERR(spare);
	if (channel->spare)
		handover_region_free(channel->spare);
	channel->spare = spare;
	return 0;
}

/* Takes the next message from the control OS and sets it aside. Under receive_lock. */
static int receive_once(struct handover_channel *channel)
{
	struct handover_region *region;
	handover_regs regs = {};
	int error;

	error = prepare_spare(channel, HANDOVER_WINDOW_SLOT);
	if (error)
		return error;
	regs.a1 = channel->port;
	regs.a2 = channel->spare->address;
	error = handover_call(channel->handover, HANDOVER_CALL_RECEIVE, &regs);
	if (error == -E2BIG) {
		error = prepare_spare(channel, regs.a1);
		if (error)
			return error;
		regs.a1 = channel->port;
		regs.a2 = channel->spare->address;
		error = handover_call(channel->handover, HANDOVER_CALL_RECEIVE, &regs);
		/* A small region must never come to a place for large ones: the control OS would keep it for small ones. */
		if (error) {
			handover_region_free(channel->spare);
			channel->spare = NULL;
		}
	}
	if (error)
		return error == -E2BIG ? -EIO : error;

	channel->word = regs.a1;
	/* The registers behind an empty message are as they were. */
	memset(channel->data, 0, sizeof(channel->data));
	memcpy(channel->data, handover_short_message(&regs), HANDOVER_WORD_LENGTH(regs.a1));
	channel->aside = true;
	if (HANDOVER_WORD_REGION(channel->word)) {
		region = channel->spare;
		channel->spare = NULL;
		region->handle = HANDOVER_WORD_REGION(channel->word);
		region->size = 1ULL << HANDOVER_WORD_ORDER(channel->word);
		channel->region = region;
	}
	return 0;
}

/* Waits until a message is set aside; then returns 0 with receive_lock held. */
static int receive_aside(struct handover_channel *channel, bool nonblock)
{
	for (;;) {
		int seen = atomic_read_acquire(&channel->events);
		int error = mutex_lock_interruptible(&channel->receive_lock);

		if (error)
			return error;
		if (channel->aside)
			return 0;
		error = receive_once(channel);
		if (!error)
			return 0;
		mutex_unlock(&channel->receive_lock);

		if (error == -ENOTCONN)
			error = handover_channel_not_connected(channel);
		else if (error == -EPIPE)
			error = -ENODATA;
		if (error != -EAGAIN || nonblock)
			return error;
		error = handover_channel_wait(channel, seen);
		if (error)
			return error;
	}
}

int handover_message_send(struct file *file, void __user *argument)
{
	struct handover_region *region = NULL;
	struct file *region_file = NULL;
	struct handover_message message;
	int error;

	if (copy_from_user(&message, argument, sizeof(message)))
		return -EFAULT;
	if (message.flags & ~HANDOVER_NONBLOCK || message.reserved || message.region_fd < -1)
		return -EINVAL;
	if (message.length > HANDOVER_SHORT_MAX)
		return -EMSGSIZE;
	if (message.region_fd >= 0) {
		region_file = handover_region_get(message.region_fd, &region);
		if (IS_ERR(region_file))
			return PTR_ERR(region_file);
	}
	error = channel_send(file->private_data, region, message.data, message.length,
			     message.flags & HANDOVER_NONBLOCK || file->f_flags & O_NONBLOCK);
	if (region_file)
		fput(region_file);
	return error;
}

/* Delivers the message set aside. Until the last step nothing is taken. */
static int deliver(struct handover_channel *channel, void __user *argument)
{
	struct handover_message message = {
		.region_fd = -1,
		.length = HANDOVER_WORD_LENGTH(channel->word),
	};
	struct file *file = NULL;
	int fd = -1;

	memcpy(message.data, channel->data, sizeof(message.data));
	if (channel->region) {
		fd = get_unused_fd_flags(O_CLOEXEC);
		if (fd < 0)
			return fd;
		message.region_fd = fd;
		message.region_size = channel->region->size;
	}
	if (copy_to_user(argument, &message, sizeof(message))) {
		if (fd >= 0)
			put_unused_fd(fd);
		return -EFAULT;
	}
	if (channel->region) {
		file = handover_region_file(channel->region);
		if (IS_ERR(file)) {
			put_unused_fd(fd);
			return PTR_ERR(file);
		}
		fd_install(fd, file);
	}
	channel->region = NULL;
	channel->aside = false;
	return 0;
}

int handover_message_receive(struct file *file, void __user *argument)
{
	struct handover_channel *channel = file->private_data;
	struct handover_message __user *message = argument;
	u32 flags;
	int error;

	if (get_user(flags, &message->flags))
		return -EFAULT;
	if (flags & ~HANDOVER_NONBLOCK)
		return -EINVAL;
	error = receive_aside(channel, flags & HANDOVER_NONBLOCK || file->f_flags & O_NONBLOCK);
	if (error)
		return error;
	error = deliver(channel, argument);
	mutex_unlock(&channel->receive_lock);
	return error;
}

ssize_t handover_message_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	struct handover_channel *channel = file->private_data;
	ssize_t result;
	u32 length;

	result = receive_aside(channel, file->f_flags & O_NONBLOCK);
	if (result == -ENODATA)
		return 0;
	if (result)
		return result;
	length = HANDOVER_WORD_LENGTH(channel->word);
	/* What does not fit stays for who asks better. */
	if (channel->region) {
		result = -EOPNOTSUPP;
	} else if (count < length) {
		result = -EMSGSIZE;
	} else if (copy_to_user(to, channel->data, length)) {
		result = -EFAULT;
	} else {
		channel->aside = false;
		result = length;
	}
	mutex_unlock(&channel->receive_lock);
	return result;
}

ssize_t handover_message_write(struct file *file, const char __user *from, size_t count, loff_t *position)
{
	u8 data[HANDOVER_SHORT_MAX];
	int error;

	if (count > sizeof(data))
		return -EMSGSIZE;
	if (copy_from_user(data, from, count))
		return -EFAULT;
	error = channel_send(file->private_data, NULL, data, count, file->f_flags & O_NONBLOCK);
	return error ? error : count;
}
