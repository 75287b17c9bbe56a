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

struct handover_channel {
	struct handover *handover;
	u32 port; /* 0: none */
	atomic_t events; /* how many were told */
	unsigned long signalled; /* bit 0 */
	wait_queue_head_t wait;

	struct mutex receive_lock;
	struct handover_region *spare; /* a slot for the next region */
	/* A message taken from the control OS that could not be delivered; it is the next one. */
	bool aside;
	u64 word;
	struct handover_region *region;
	u8 data[HANDOVER_SHORT_MAX];
};

/* Under the xarray's lock, interrupts off. */
void handover_channel_event(struct handover_channel *channel, u32 causes)
{
	if (causes & HANDOVER_CAUSE_SIGNAL)
		set_bit(0, &channel->signalled);
	atomic_inc_return_release(&channel->events);
	wake_up_all(&channel->wait);
}

/* Waits for an event after the moment when the counter was seen. */
static int wait_event_after(struct handover_channel *channel, int seen)
{
	return wait_event_interruptible(channel->wait, atomic_read_acquire(&channel->events) != seen);
}

/* What holds now, the refusal's reason in *reason and the peer's id in *partition where they are wanted. */
static int channel_status(struct handover_channel *channel, u32 *causes, u32 *partition, u32 *reason)
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
static int not_connected(struct handover_channel *channel)
{
	u32 causes;
	int error = channel_status(channel, &causes, NULL, NULL);

	if (error)
		return error;
	return causes & HANDOVER_CAUSE_REFUSED ? -ECONNREFUSED : -EAGAIN;
}

/* The short message's place in the registers: x2 to x17. */
static u8 *short_message(handover_regs *regs)
{
	BUILD_BUG_ON(offsetofend(handover_regs, a17) - offsetof(handover_regs, a2) != HANDOVER_SHORT_MAX);
	return (u8 *)regs + offsetof(handover_regs, a2);
}

static int send_once(struct handover_channel *channel, struct handover_region *region, const u8 *data, u32 length)
{
	handover_regs regs = {};
	int error;

	memcpy(short_message(&regs), data, length);
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
			error = not_connected(channel);
		else if (error == -ENOBUFS)
			error = -EAGAIN;
		if (error != -EAGAIN || nonblock)
			return error;
		error = wait_event_after(channel, seen);
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
	memcpy(channel->data, short_message(&regs), sizeof(channel->data));
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
			error = not_connected(channel);
		else if (error == -EPIPE)
			error = -ENODATA;
		if (error != -EAGAIN || nonblock)
			return error;
		error = wait_event_after(channel, seen);
		if (error)
			return error;
	}
}

static int send_ioctl(struct file *file, void __user *argument)
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

static int receive_ioctl(struct file *file, void __user *argument)
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

static ssize_t channel_read(struct file *file, char __user *to, size_t count, loff_t *position)
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

static ssize_t channel_write(struct file *file, const char __user *from, size_t count, loff_t *position)
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

static int status_ioctl(struct handover_channel *channel, void __user *argument)
{
	struct handover_status status = {};
	u32 causes;
	int error;

	error = channel_status(channel, &causes, &status.partition, &status.reason);
	if (error)
		return error;
	status.state = causes & ~HANDOVER_CAUSE_SIGNAL;
	if (READ_ONCE(channel->aside))
		status.state |= HANDOVER_STATE_MESSAGE;
	if (test_bit(0, &channel->signalled))
		status.state |= HANDOVER_STATE_SIGNAL;
	return copy_to_user(argument, &status, sizeof(status)) ? -EFAULT : 0;
}

static int signal_ioctl(struct handover_channel *channel)
{
	handover_regs regs = { .a1 = channel->port };
	int error = handover_call(channel->handover, HANDOVER_CALL_EVENT_SEND, &regs);

	return error == -ENOTCONN ? not_connected(channel) : error;
}

static long channel_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct handover_channel *channel = file->private_data;
	void __user *user = (void __user *)argument;

	switch (command) {
	case HANDOVER_SEND:
		return send_ioctl(file, user);
	case HANDOVER_RECEIVE:
		return receive_ioctl(file, user);
	case HANDOVER_STATUS:
		return status_ioctl(channel, user);
	case HANDOVER_SIGNAL:
		return signal_ioctl(channel);
	case HANDOVER_SIGNAL_TAKE:
		return test_and_clear_bit(0, &channel->signalled) ? 0 : -EAGAIN;
	}
	return -ENOTTY;
}

static __poll_t channel_poll(struct file *file, poll_table *table)
{
	struct handover_channel *channel = file->private_data;
	__poll_t events = 0;
	u32 causes;

	poll_wait(file, &channel->wait, table);
	if (channel_status(channel, &causes, NULL, NULL))
		return EPOLLERR;
	if (READ_ONCE(channel->aside) || causes & HANDOVER_CAUSE_MESSAGE)
		events |= EPOLLIN | EPOLLRDNORM;
	if (causes & HANDOVER_CAUSE_SPACE)
		events |= EPOLLOUT | EPOLLWRNORM;
	if (causes & HANDOVER_CAUSE_PEER_CLOSED)
		events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP;
	if (causes & HANDOVER_CAUSE_REFUSED)
		events |= EPOLLERR | EPOLLHUP;
	if (test_bit(0, &channel->signalled))
		events |= EPOLLPRI;
	return events;
}

static void channel_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct handover_channel *channel = file->private_data;
	u32 causes, partition;

	if (!channel_status(channel, &causes, &partition, NULL))
		seq_printf(seq, "port:\t%u\npeer:\t%u\nstate:\t%#x\n", channel->port, partition, causes);
}

static int channel_release(struct inode *inode, struct file *file)
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
	.read = channel_read,
	.write = channel_write,
	.poll = channel_poll,
	.unlocked_ioctl = channel_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = channel_show_fdinfo,
	.release = channel_release,
};

/* A channel without a port, with its file and a reserved descriptor. The file owns it. */
struct handover_channel *handover_channel_alloc(struct handover *handover, u32 flags, int *fd, struct file **file)
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
	*file = anon_inode_getfile("[handover-channel]", &channel_fops, channel,
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

/* Undoes handover_channel_alloc, and disconnects if it came that far. */
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
static int wait_answer(struct handover_channel *channel, u32 *reason)
{
	for (;;) {
		int seen = atomic_read_acquire(&channel->events);
		u32 causes;
		int error = channel_status(channel, &causes, NULL, reason);

		if (error)
			return error;
		if (causes & HANDOVER_CAUSE_REFUSED)
			return -ECONNREFUSED;
		/* Who accepted and went at once did accept: reads tell the rest. */
		if (causes & (HANDOVER_CAUSE_CONNECTED | HANDOVER_CAUSE_PEER_CLOSED))
			return 0;
		error = wait_event_after(channel, seen);
		/* Started again by itself, it would be another request. */
		if (error)
			return -EINTR;
	}
}

int handover_connect(struct handover *handover, void __user *argument)
{
	struct handover_channel *channel;
	struct handover_connect connect;
	struct file *file;
	int error, fd;

	if (copy_from_user(&connect, argument, sizeof(connect)))
		return -EFAULT;
	if (connect.flags & ~HANDOVER_NONBLOCK || connect.reserved)
		return -EINVAL;
	channel = handover_channel_alloc(handover, connect.flags, &fd, &file);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	connect.reason = 0;
	error = handover_channel_open(channel, HANDOVER_CALL_CONNECT, connect.partition, connect.service);
	/* The partition has ended, or has not started. */
	if (error == -EPIPE || error == -ENOTCONN)
		error = -EHOSTDOWN;
	if (!error && !(connect.flags & HANDOVER_NONBLOCK))
		error = wait_answer(channel, &connect.reason);
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
