// SPDX-License-Identifier: GPL-2.0
/* Channels: connecting, sending, receiving. */

#include <linux/anon_inodes.h>
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "handover.h"

/* Under the xarray's lock, interrupts off. */
void handover_channel_event(struct handover_channel *channel, u32 causes)
{
	atomic_or(causes, &channel->causes);
	atomic_inc_return_release(&channel->events);
	wake_up_all(&channel->wait);
}

/* Waits for an event after the moment when the counter was seen. */
int handover_channel_wait(struct handover_channel *channel, int seen)
{
	return wait_event_interruptible(channel->wait, atomic_read_acquire(&channel->events) != seen);
}

/* What holds now, the refusal's reason in *reason and the peer's id in *partition where they are wanted. */
int handover_channel_status(struct handover_channel *channel, u32 *causes, u32 *partition, u32 *reason)
{
	handover_regs regs = { .a1 = channel->port };
	int error = handover_call(channel->handover, HANDOVER_CALL_PORT_STATUS, &regs);

	if (error)
		return error;
	*causes = regs.a1;
	if (partition)
		*partition = regs.a2;
	if (reason)
		*reason = regs.a3;
	return 0;
}

/* Says what -ENOTCONN means: refused, or no answer yet. */
int handover_channel_not_connected(struct handover_channel *channel)
{
	u32 causes;
	int error = handover_channel_status(channel, &causes, NULL, NULL);

	if (error)
		return error;
	return causes & HANDOVER_CAUSE_REFUSED ? -ECONNREFUSED : -EAGAIN;
}

static int status_ioctl(struct handover_channel *channel, void __user *argument)
{
	struct handover_status status = {};
	u32 causes;
	int error;

	error = handover_channel_status(channel, &causes, &status.partition, &status.reason);
	if (error)
		return error;
	status.state = causes & ~HANDOVER_CAUSE_SIGNAL;
	if (READ_ONCE(channel->aside))
		status.state |= HANDOVER_STATE_MESSAGE;
	if (handover_channel_signalled(channel))
		status.state |= HANDOVER_STATE_SIGNAL;
	return copy_to_user(argument, &status, sizeof(status)) ? -EFAULT : 0;
}

int handover_channel_signal(struct handover_channel *channel)
{
	handover_regs regs = { .a1 = channel->port };
	int error = handover_call(channel->handover, HANDOVER_CALL_EVENT_SEND, &regs);

	return error == -ENOTCONN ? handover_channel_not_connected(channel) : error;
}

bool handover_channel_signalled(struct handover_channel *channel)
{
	return atomic_read(&channel->causes) & HANDOVER_CAUSE_SIGNAL;
}

static bool take_signal(struct handover_channel *channel)
{
	return atomic_fetch_andnot(HANDOVER_CAUSE_SIGNAL, &channel->causes) & HANDOVER_CAUSE_SIGNAL;
}

/* After the end. A signal that came before it may have been taken since the last look, and is told of when the lock is free. */
static bool take_last(struct handover_channel *channel)
{
	bool taken;

	xa_lock_irq(&channel->handover->ports);
	taken = take_signal(channel);
	xa_unlock_irq(&channel->handover->ports);
	return taken;
}

/* Waits for the peer's signal and takes it; -ENODATA: the peer has gone, and there is none. */
int handover_channel_await_signal(struct handover_channel *channel, bool nonblock)
{
	for (;;) {
		int seen = atomic_read_acquire(&channel->events);
		u32 causes;
		int error;

		if (take_signal(channel))
			return 0;
		error = handover_channel_status(channel, &causes, NULL, NULL);
		if (error)
			return error;
		if (causes & HANDOVER_CAUSE_REFUSED)
			return -ECONNREFUSED;
		if (causes & HANDOVER_CAUSE_PEER_CLOSED && !(causes & HANDOVER_CAUSE_SIGNAL))
			return take_last(channel) ? 0 : -ENODATA;
		if (nonblock)
			return -EAGAIN;
		error = handover_channel_wait(channel, seen);
		if (error)
			return error;
	}
}

static int event_ioctl(struct handover_channel *channel, u32 __user *argument)
{
	u32 causes = atomic_xchg(&channel->causes, 0);

	if (!causes)
		return -EAGAIN;
	if (put_user(causes, argument)) {
		atomic_or(causes, &channel->causes);
		return -EFAULT;
	}
	return 0;
}

/* What there is for every port, whatever it is joined for. */
long handover_channel_control(struct handover_channel *channel, unsigned int command, void __user *argument)
{
	switch (command) {
	case HANDOVER_STATUS:
		return status_ioctl(channel, argument);
	case HANDOVER_SIGNAL:
		return handover_channel_signal(channel);
	case HANDOVER_SIGNAL_TAKE:
		return take_signal(channel) ? 0 : -EAGAIN;
	case HANDOVER_SIGNAL_WAIT:
		return handover_channel_await_signal(channel, false);
	case HANDOVER_EVENT:
		return event_ioctl(channel, argument);
	}
	return -ENOTTY;
}

static long channel_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct handover_channel *channel = file->private_data;
	void __user *user = (void __user *)argument;

	switch (command) {
	case HANDOVER_SEND:
		return handover_message_send(file, user);
	case HANDOVER_RECEIVE:
		return handover_message_receive(file, user);
	case HANDOVER_CALL:
		return handover_direct_call(channel, user);
	case HANDOVER_PATIENCE:
		return handover_patience(channel, user);
	case HANDOVER_REGION_CREATE:
		return handover_region_create(channel->handover, channel->port, user);
	}
	return handover_channel_control(channel, command, user);
}

static __poll_t channel_poll(struct file *file, poll_table *table)
{
	struct handover_channel *channel = file->private_data;
	__poll_t events = 0;
	u32 causes;

	poll_wait(file, &channel->wait, table);
	if (handover_channel_status(channel, &causes, NULL, NULL))
		return EPOLLERR;
	if (READ_ONCE(channel->aside) || causes & HANDOVER_CAUSE_MESSAGE)
		events |= EPOLLIN | EPOLLRDNORM;
	if (causes & HANDOVER_CAUSE_SPACE || (channel->mute && causes & HANDOVER_CAUSE_CONNECTED))
		events |= EPOLLOUT | EPOLLWRNORM;
	if (causes & HANDOVER_CAUSE_PEER_CLOSED)
		events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP;
	if (causes & HANDOVER_CAUSE_REFUSED)
		events |= EPOLLERR | EPOLLHUP;
	if (handover_channel_signalled(channel))
		events |= EPOLLPRI;
	return events;
}

static void channel_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct handover_channel *channel = file->private_data;
	u32 causes, partition;

	if (!handover_channel_status(channel, &causes, &partition, NULL))
		seq_printf(seq, "port:\t%u\npeer:\t%u\nstate:\t%#x\n", channel->port, partition, causes);
}

int handover_channel_release(struct inode *inode, struct file *file)
{
	struct handover_channel *channel = file->private_data;
	struct handover *handover = channel->handover;
	handover_regs regs = { .a1 = channel->port };
	int error;

	if (channel->port) {
		/* First nobody finds it any more; then the number may come back. */
		xa_erase_irq(&handover->ports, channel->port);
		error = handover_call(handover, HANDOVER_CALL_DISCONNECT, &regs);
		if (error)
			dev_err(handover->dev, "cannot disconnect port %u: %d\n", channel->port, error);
		/* What may still be mapped keeps its slot. */
		else if (channel->address)
			handover_window_give(&handover->window, channel->address, channel->slot);
	}
	if (channel->region)
		handover_region_free(channel->region);
	if (channel->spare)
		handover_region_free(channel->spare);
	kfree(channel);
	return 0;
}

static const struct file_operations channel_fops = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
	.read = handover_message_read,
	.write = handover_message_write,
	.poll = channel_poll,
	.unlocked_ioctl = channel_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = channel_show_fdinfo,
	.release = handover_channel_release,
};

/* A channel without a port, with its file and a reserved descriptor. The file owns it. */
struct handover_channel *handover_channel_make(struct handover *handover, const char *name,
					       const struct file_operations *fops, u32 flags, int *fd,
					       struct file **file)
{
	struct handover_channel *channel = kzalloc(sizeof(*channel), GFP_KERNEL_ACCOUNT);
	int error;

	if (!channel)
		return ERR_PTR(-ENOMEM);
	channel->handover = handover;
	atomic_set(&channel->events, 0);
	init_waitqueue_head(&channel->wait);
	mutex_init(&channel->receive_lock);

	*fd = get_unused_fd_flags(O_CLOEXEC);
	if (*fd < 0) {
		error = *fd;
		goto free;
	}
	*file = anon_inode_getfile(name, fops, channel,
				   O_RDWR | (flags & HANDOVER_NONBLOCK ? O_NONBLOCK : 0));
	if (IS_ERR(*file)) {
		error = PTR_ERR(*file);
		goto put_fd;
	}
	return channel;

put_fd:
	put_unused_fd(*fd);
free:
	kfree(channel);
	return ERR_PTR(error);
}

struct handover_channel *handover_channel_alloc(struct handover *handover, u32 flags, int *fd, struct file **file)
{
	return handover_channel_make(handover, "[handover-channel]", &channel_fops, flags, fd, file);
}

/* Undoes handover_channel_make, and disconnects if it came that far. */
void handover_channel_abandon(struct file *file, int fd)
{
	put_unused_fd(fd);
	fput(file);
}

/* Makes the port by Connect or Accept; its events find the channel from the first on. */
int handover_channel_open(struct handover_channel *channel, u32 function, u64 x1, u64 x2)
{
	struct handover *handover = channel->handover;
	handover_regs regs = { .a1 = x1, .a2 = x2 };
	unsigned long flags;
	int error;

	xa_lock_irqsave(&handover->ports, flags);
	error = handover_call(handover, function, &regs);
	if (!error) {
		channel->port = regs.a1;
		/* Release disconnects the port, should this fail. */
		error = xa_err(__xa_store(&handover->ports, channel->port, channel, GFP_ATOMIC));
	}
	xa_unlock_irqrestore(&handover->ports, flags);
	return error;
}

/* Waits for the server's answer. */
int handover_channel_wait_answer(struct handover_channel *channel, u32 *reason)
{
	for (;;) {
		int seen = atomic_read_acquire(&channel->events);
		u32 causes;
		int error = handover_channel_status(channel, &causes, NULL, reason);

		if (error)
			return error;
		if (causes & HANDOVER_CAUSE_REFUSED)
			return -ECONNREFUSED;
		/* Who accepted and went at once did accept: reads tell the rest. */
		if (causes & (HANDOVER_CAUSE_CONNECTED | HANDOVER_CAUSE_PEER_CLOSED))
			return 0;
		error = handover_channel_wait(channel, seen);
		/* Started again by itself, it would be another request. */
		if (error)
			return -EINTR;
	}
}

/* What the control OS is asked for; false if that is nothing. */
static bool request_word(const struct handover_connect *connect, u64 *word)
{
	const u32 directions = connect->flags & (HANDOVER_SEND_ONLY | HANDOVER_RECEIVE_ONLY);
	const u32 known = HANDOVER_NONBLOCK | HANDOVER_SEND_ONLY | HANDOVER_RECEIVE_ONLY | HANDOVER_EVENTS;

	if (connect->flags & ~known || connect->reserved || directions == (HANDOVER_SEND_ONLY | HANDOVER_RECEIVE_ONLY) ||
	    (connect->flags & HANDOVER_EVENTS && !directions))
		return false;
	*word = connect->service;
	if (connect->flags & HANDOVER_SEND_ONLY)
		*word |= HANDOVER_REQUEST_SEND_ONLY;
	if (connect->flags & HANDOVER_RECEIVE_ONLY)
		*word |= HANDOVER_REQUEST_RECEIVE_ONLY;
	if (connect->flags & HANDOVER_EVENTS)
		*word |= HANDOVER_REQUEST_EVENTS;
	return true;
}

int handover_connect(struct handover *handover, void __user *argument)
{
	struct handover_channel *channel;
	struct handover_connect connect;
	struct file *file;
	int error, fd;
	u64 word;

	if (copy_from_user(&connect, argument, sizeof(connect)))
		return -EFAULT;
	if (!request_word(&connect, &word))
		return -EINVAL;
	if (connect.flags & HANDOVER_EVENTS)
		channel = handover_events_alloc(handover, connect.flags, &fd, &file);
	else
		channel = handover_channel_alloc(handover, connect.flags, &fd, &file);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	channel->mute = connect.flags & HANDOVER_RECEIVE_ONLY;
	connect.reason = 0;
	error = handover_channel_open(channel, HANDOVER_CALL_CONNECT, connect.partition, word);
	/* The partition has ended, or has not started. */
	if (error == -EPIPE || error == -ENOTCONN)
		error = -EHOSTDOWN;
	if (!error && !(connect.flags & HANDOVER_NONBLOCK))
		error = handover_channel_wait_answer(channel, &connect.reason);
	connect.fd = error ? -1 : fd;
	if ((!error || error == -ECONNREFUSED) && copy_to_user(argument, &connect, sizeof(connect)))
		error = -EFAULT;
	if (error) {
		handover_channel_abandon(file, fd);
		return error;
	}
	fd_install(fd, file);
	return 0;
}
