// SPDX-License-Identifier: GPL-2.0
/* Event ports: no messages, and one end gets what the other sends. */

#include <linux/module.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "handover.h"

/* As for an eventfd: what is read and written is a number of 64 bits. */
typedef u64 event_number;

static ssize_t events_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	const event_number one = 1;
	int error;

	if (count < sizeof(one))
		return -EINVAL;
	error = handover_channel_await_signal(file->private_data, file->f_flags & O_NONBLOCK);
	if (error)
		return error == -ENODATA ? 0 : error;
	return copy_to_user(to, &one, sizeof(one)) ? -EFAULT : sizeof(one);
}

static ssize_t events_write(struct file *file, const char __user *from, size_t count, loff_t *position)
{
	int error;

	if (count != sizeof(event_number))
		return -EINVAL;
	error = handover_channel_signal(file->private_data);
	return error ? error : count;
}

static int set_mask(struct handover_channel *channel, u32 function)
{
	handover_regs regs = { .a1 = channel->port };

	return handover_call(channel->handover, function, &regs);
}

static long events_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case HANDOVER_MASK:
		return set_mask(file->private_data, HANDOVER_CALL_EVENT_MASK);
	case HANDOVER_UNMASK:
		return set_mask(file->private_data, HANDOVER_CALL_EVENT_UNMASK);
	}
	return handover_channel_control(file->private_data, command, (void __user *)argument);
}

static __poll_t events_poll(struct file *file, poll_table *table)
{
	struct handover_channel *channel = file->private_data;
	__poll_t events = 0;
	u32 causes;

	poll_wait(file, &channel->wait, table);
	if (handover_channel_status(channel, &causes, NULL, NULL))
		return EPOLLERR;
	if (handover_channel_signalled(channel))
		events |= EPOLLIN | EPOLLRDNORM | EPOLLPRI;
	if (causes & HANDOVER_CAUSE_CONNECTED)
		events |= EPOLLOUT | EPOLLWRNORM;
	if (causes & HANDOVER_CAUSE_PEER_CLOSED)
		events |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP | EPOLLHUP;
	if (causes & HANDOVER_CAUSE_REFUSED)
		events |= EPOLLERR | EPOLLHUP;
	return events;
}

static void events_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct handover_channel *channel = file->private_data;

	seq_printf(seq, "port:\t%u\nevent:\t%d\n", channel->port, handover_channel_signalled(channel));
}

static const struct file_operations events_fops = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
	.read = events_read,
	.write = events_write,
	.poll = events_poll,
	.unlocked_ioctl = events_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = events_show_fdinfo,
	.release = handover_channel_release,
};

struct handover_channel *handover_events_alloc(struct handover *handover, u32 flags, int *fd, struct file **file)
{
	return handover_channel_make(handover, "[handover-events]", &events_fops, flags, fd, file);
}
