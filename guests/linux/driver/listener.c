// SPDX-License-Identifier: GPL-2.0
/* Listeners: requests for channels to a service of this partition. */

#include <linux/anon_inodes.h>
#include <linux/bitops.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "handover.h"

/* Requests a listener keeps; the next ones are refused. */
#define BACKLOG 128

struct handover_listener {
	struct handover *handover;
	struct list_head node;
	u32 service;
	u32 kind; /* HANDOVER_LISTEN_SHARED, HANDOVER_LISTEN_ONE_WAY, HANDOVER_EVENTS, or 0: requests for channels */
	u32 last_id;
	unsigned int pending; /* requests in both lists */
	struct list_head waiting; /* nobody has taken them yet */
	struct list_head taken; /* HANDOVER_REQUEST returned them */
	wait_queue_head_t wait;
};

struct request {
	struct list_head node;
	u64 token;
	u32 partition;
	u32 id;
	u32 flags; /* as in struct handover_request */
};

static int refuse(struct handover *handover, u64 token, u32 reason)
{
	handover_regs regs = { .a1 = token, .a2 = reason };
	int error = handover_call(handover, HANDOVER_CALL_REFUSE, &regs);

	/* Who asked may have gone. */
	if (error && error != -ENXIO)
		dev_err(handover->dev, "cannot refuse a request: %d\n", error);
	return error;
}

static struct handover_listener *find_listener(struct handover *handover, u32 service, u32 kind)
{
	struct handover_listener *listener;

	list_for_each_entry(listener, &handover->listeners, node) {
		if (listener->service == service && listener->kind == kind)
			return listener;
	}
	return NULL;
}

/* Gives a request to its listener, or says why not. */
static u32 route(struct handover *handover, u64 token, u32 partition, u32 service, u32 kind, u32 flags)
{
	struct handover_listener *listener;
	struct request *request;
	u32 reason = 0;

	mutex_lock(&handover->listen_lock);
	listener = find_listener(handover, service, kind);
	if (!listener) {
		reason = HANDOVER_REASON_NO_LISTENER;
		goto out;
	}
	request = listener->pending < BACKLOG ? kzalloc(sizeof(*request), GFP_KERNEL) : NULL;
	if (!request) {
		reason = HANDOVER_REASON_BACKLOG;
		goto out;
	}
	request->token = token;
	request->partition = partition;
	request->flags = flags;
	/* Below BACKLOG requests live at a time: 32 bits do not come round to one of them. */
	request->id = ++listener->last_id ?: ++listener->last_id;
	list_add_tail(&request->node, &listener->waiting);
	listener->pending++;
	wake_up_all(&listener->wait);
out:
	mutex_unlock(&handover->listen_lock);
	return reason;
}

/* Gives a request for what the word says to its listener, or says why not. */
static u32 route_word(struct handover *handover, u64 token, u32 partition, u64 word)
{
	const u64 directions = HANDOVER_REQUEST_SEND_ONLY | HANDOVER_REQUEST_RECEIVE_ONLY;
	u64 asked = HANDOVER_REQUEST_FLAGS(word);
	u32 direction = asked & HANDOVER_REQUEST_SEND_ONLY ? HANDOVER_SEND_ONLY : HANDOVER_RECEIVE_ONLY;

	switch (asked & ~directions) {
	case 0:
		if (!asked)
			return route(handover, token, partition, word, 0, 0);
		return route(handover, token, partition, word, HANDOVER_LISTEN_ONE_WAY, direction);
	case HANDOVER_REQUEST_MEMORY:
		return route(handover, token, partition, word, HANDOVER_LISTEN_SHARED, word >> HANDOVER_REQUEST_ORDER_SHIFT);
	case HANDOVER_REQUEST_EVENTS:
		return route(handover, token, partition, word, HANDOVER_EVENTS, direction);
	}
	return HANDOVER_REASON_NO_LISTENER;
}

/* Empties the control-signal port. */
void handover_signal_work(struct work_struct *work)
{
	struct handover *handover = container_of(work, struct handover, signal_work);

	for (;;) {
		handover_regs regs = {};
		int error = handover_call(handover, HANDOVER_CALL_SIGNAL_NEXT, &regs);
		u32 reason;

		if (error) {
			if (error != -EAGAIN)
				dev_err(handover->dev, "cannot take control signals: %d\n", error);
			return;
		}
		/* a1 kind, a2 token, a3 partition, a4 service and, above, what other than a channel is asked for */
		if (regs.a1 == HANDOVER_SIGNAL_KIND_CONNECT) {
			reason = route_word(handover, regs.a2, regs.a3, regs.a4);
			if (reason)
				refuse(handover, regs.a2, reason);
		} else if (regs.a1 == HANDOVER_SIGNAL_KIND_SHUTDOWN_REQUEST) {
			handover_shutdown(handover, regs.a4);
		}
		cond_resched();
	}
}

static bool has_request(struct handover_listener *listener)
{
	bool has;

	mutex_lock(&listener->handover->listen_lock);
	has = !list_empty(&listener->waiting);
	mutex_unlock(&listener->handover->listen_lock);
	return has;
}

/* Takes the next request out of the lists. */
static struct request *next_request(struct handover_listener *listener, bool nonblock)
{
	struct handover *handover = listener->handover;
	struct request *request;

	for (;;) {
		mutex_lock(&handover->listen_lock);
		request = list_first_entry_or_null(&listener->waiting, struct request, node);
		if (request)
			list_del_init(&request->node);
		mutex_unlock(&handover->listen_lock);
		if (request)
			return request;
		if (nonblock)
			return ERR_PTR(-EAGAIN);
		if (wait_event_interruptible(listener->wait, has_request(listener)))
			return ERR_PTR(-ERESTARTSYS);
	}
}

/* Takes a request that HANDOVER_REQUEST has returned out of the lists. */
static struct request *taken_request(struct handover_listener *listener, u32 id)
{
	struct request *request, *found = NULL;

	mutex_lock(&listener->handover->listen_lock);
	list_for_each_entry(request, &listener->taken, node) {
		if (request->id == id) {
			found = request;
			list_del_init(&request->node);
			break;
		}
	}
	mutex_unlock(&listener->handover->listen_lock);
	return found ?: ERR_PTR(-ENOENT);
}

static void put_back(struct handover_listener *listener, struct request *request, struct list_head *list)
{
	mutex_lock(&listener->handover->listen_lock);
	list_add(&request->node, list);
	mutex_unlock(&listener->handover->listen_lock);
	if (list == &listener->waiting)
		wake_up_all(&listener->wait);
}

static void answered(struct handover_listener *listener, struct request *request)
{
	mutex_lock(&listener->handover->listen_lock);
	listener->pending--;
	mutex_unlock(&listener->handover->listen_lock);
	kfree(request);
}

static bool nonblocking(struct file *file, u32 flags)
{
	return flags & HANDOVER_NONBLOCK || file->f_flags & O_NONBLOCK;
}

static int request_ioctl(struct file *file, void __user *argument)
{
	struct handover_listener *listener = file->private_data;
	struct handover_request result;
	struct request *request;

	if (copy_from_user(&result, argument, sizeof(result)))
		return -EFAULT;
	if (result.flags & ~HANDOVER_NONBLOCK)
		return -EINVAL;
	request = next_request(listener, nonblocking(file, result.flags));
	if (IS_ERR(request))
		return PTR_ERR(request);
	result.flags = request->flags;
	result.request = request->id;
	result.partition = request->partition;
	result.service = listener->service;
	if (copy_to_user(argument, &result, sizeof(result))) {
		put_back(listener, request, &listener->waiting);
		return -EFAULT;
	}
	put_back(listener, request, &listener->taken);
	return 0;
}

static int accept_ioctl(struct file *file, void __user *argument)
{
	struct handover_listener *listener = file->private_data;
	struct handover_channel *channel;
	struct handover_accept accept;
	struct request *request;
	struct file *channel_file;
	int error, fd;

	if (copy_from_user(&accept, argument, sizeof(accept)))
		return -EFAULT;
	if (accept.flags & ~HANDOVER_NONBLOCK)
		return -EINVAL;
	if (accept.request)
		request = taken_request(listener, accept.request);
	else
		request = next_request(listener, nonblocking(file, accept.flags));
	if (IS_ERR(request))
		return PTR_ERR(request);

	if (listener->kind == HANDOVER_LISTEN_SHARED)
		channel = handover_shared_alloc(listener->handover, accept.flags, &fd, &channel_file);
	else if (listener->kind == HANDOVER_EVENTS)
		channel = handover_events_alloc(listener->handover, accept.flags, &fd, &channel_file);
	else
		channel = handover_channel_alloc(listener->handover, accept.flags, &fd, &channel_file);
	if (IS_ERR(channel)) {
		error = PTR_ERR(channel);
		goto put_back;
	}
	channel->mute = listener->kind == HANDOVER_LISTEN_ONE_WAY && request->flags & HANDOVER_SEND_ONLY;
	accept.fd = fd;
	accept.partition = request->partition;
	if (copy_to_user(argument, &accept, sizeof(accept))) {
		error = -EFAULT;
		goto abandon;
	}
	error = handover_channel_open(channel, HANDOVER_CALL_ACCEPT, request->token, 0);
	if (error == -ENXIO || error == -EPIPE) {
		handover_channel_abandon(channel_file, fd);
		answered(listener, request);
		return -ECONNABORTED;
	}
	if (error)
		goto abandon;
	if (listener->kind == HANDOVER_LISTEN_SHARED) {
		error = handover_shared_map(channel);
		if (error) {
			/* The answer is out: who asked finds this side gone. */
			handover_channel_abandon(channel_file, fd);
			answered(listener, request);
			return error;
		}
	}
	fd_install(fd, channel_file);
	answered(listener, request);
	return 0;

abandon:
	handover_channel_abandon(channel_file, fd);
put_back:
	put_back(listener, request, accept.request ? &listener->taken : &listener->waiting);
	return error;
}

static int refuse_ioctl(struct file *file, void __user *argument)
{
	struct handover_listener *listener = file->private_data;
	struct handover_refuse answer;
	struct request *request;
	int error;

	if (copy_from_user(&answer, argument, sizeof(answer)))
		return -EFAULT;
	request = taken_request(listener, answer.request);
	if (IS_ERR(request))
		return PTR_ERR(request);
	error = refuse(listener->handover, request->token, answer.reason);
	answered(listener, request);
	return error == -ENXIO ? 0 : error;
}

static long listener_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;

	switch (command) {
	case HANDOVER_REQUEST:
		return request_ioctl(file, user);
	case HANDOVER_ACCEPT:
		return accept_ioctl(file, user);
	case HANDOVER_REFUSE:
		return refuse_ioctl(file, user);
	}
	return -ENOTTY;
}

static __poll_t listener_poll(struct file *file, poll_table *table)
{
	struct handover_listener *listener = file->private_data;

	poll_wait(file, &listener->wait, table);
	return has_request(listener) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void refuse_list(struct handover *handover, struct list_head *list)
{
	struct request *request, *next;

	list_for_each_entry_safe(request, next, list, node) {
		refuse(handover, request->token, HANDOVER_REASON_CLOSED);
		kfree(request);
	}
}

static int listener_release(struct inode *inode, struct file *file)
{
	struct handover_listener *listener = file->private_data;
	struct handover *handover = listener->handover;

	mutex_lock(&handover->listen_lock);
	list_del(&listener->node);
	mutex_unlock(&handover->listen_lock);
	/* Nobody finds it any more: the lists are ours. */
	refuse_list(handover, &listener->waiting);
	refuse_list(handover, &listener->taken);
	kfree(listener);
	return 0;
}

static const struct file_operations listener_fops = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
	.poll = listener_poll,
	.unlocked_ioctl = listener_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = listener_release,
};

int handover_listen(struct handover *handover, void __user *argument)
{
	const u32 kinds = HANDOVER_LISTEN_SHARED | HANDOVER_LISTEN_ONE_WAY | HANDOVER_EVENTS;
	struct handover_listener *listener;
	struct handover_listen listen;
	struct file *file;
	int error = 0, fd;

	if (copy_from_user(&listen, argument, sizeof(listen)))
		return -EFAULT;
	if (listen.flags & ~(HANDOVER_NONBLOCK | kinds) || hweight32(listen.flags & kinds) > 1 || listen.reserved)
		return -EINVAL;
	listener = kzalloc(sizeof(*listener), GFP_KERNEL_ACCOUNT);
	if (!listener)
		return -ENOMEM;
	listener->handover = handover;
	listener->service = listen.service;
	listener->kind = listen.flags & kinds;
	INIT_LIST_HEAD(&listener->waiting);
	INIT_LIST_HEAD(&listener->taken);
	init_waitqueue_head(&listener->wait);

	mutex_lock(&handover->listen_lock);
	if (find_listener(handover, listen.service, listener->kind))
		error = -EADDRINUSE;
	else
		list_add_tail(&listener->node, &handover->listeners);
	mutex_unlock(&handover->listen_lock);
	if (error) {
		kfree(listener);
		return error;
	}
	/* From here on release undoes it; before there is a file, we do. */
	file = anon_inode_getfile("[handover-listener]", &listener_fops, listener,
				  O_RDWR | (listen.flags & HANDOVER_NONBLOCK ? O_NONBLOCK : 0));
	if (IS_ERR(file)) {
		mutex_lock(&handover->listen_lock);
		list_del(&listener->node);
		mutex_unlock(&handover->listen_lock);
		refuse_list(handover, &listener->waiting);
		kfree(listener);
		return PTR_ERR(file);
	}
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		fput(file);
		return fd;
	}
	listen.fd = fd;
	if (copy_to_user(argument, &listen, sizeof(listen))) {
		put_unused_fd(fd);
		fput(file);
		return -EFAULT;
	}
	fd_install(fd, file);
	return 0;
}
