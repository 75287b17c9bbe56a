/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The Handover driver.
 *
 * Locking
 *
 * Who takes two locks takes them in this order:
 *
 *	channel->receive_lock > mmap_lock > region->lock > mapping->i_mmap_rwsem, page-table locks
 *	channel->receive_lock, region->lock > window->lock
 *	listener lock (handover->listen_lock) > nothing
 *	ports (xa_lock, interrupts off) > wait queue locks
 *
 * region->lock (rwsem): shared by who uses a region's bytes (the fault handler while it enters a page, read() and
 * write() while they copy), exclusive for who sends or destroys it. The fault handler runs under mmap_lock;
 * therefore nobody touches user memory while holding it: read() and write() copy through a buffer of their own. A
 * send takes it exclusively, which waits for the copies in progress, removes every user mapping and the kernel
 * mapping, and makes the hypercall; a fault that comes meanwhile waits, and finds either the region alive, or no
 * region and raises SIGBUS. So at the time of the hypercall no page table of this kernel maps the region, and none
 * will after it succeeded.
 *
 * channel->receive_lock (mutex): one receiver at a time; guards the spare slot and the message set aside.
 *
 * listen_lock (mutex): the list of listeners and the requests of each.
 *
 * ports (xarray of channels by port number): a port comes to life, and an event is taken and told to its channel,
 * under the xarray's lock. So no event of a new port is dropped, and no channel is freed under the interrupt
 * handler's hands.
 *
 * Events only wake: each bumps channel->events. Who has to wait reads that counter, asks the control OS, and
 * sleeps until the counter is another one. What they told is in channel->causes until a program takes it.
 *
 * Every descriptor holds the module (file_operations.owner), and so does every mapping through its file. The
 * driver cannot be unbound by sysfs, so that struct handover outlives all of them.
 */
#ifndef HANDOVER_H
#define HANDOVER_H

#include <linux/arm-smccc.h>
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/watchdog.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "abi.h"
#include "uapi/handover.h"

/* A part of the message window, and which slots of it are taken. */
struct handover_slots {
	u64 base;
	u64 slot; /* bytes of one */
	unsigned long count;
	unsigned long hint; /* below it all are taken */
	unsigned long *used;
};

struct handover_window {
	spinlock_t lock;
	struct handover_slots small; /* for regions up to 2 MiB */
	struct handover_slots large; /* for larger ones */
};

struct handover {
	struct device *dev;
	int irq; /* 0: not requested yet */
	struct miscdevice misc;
	struct handover_window window;
	struct xarray ports;

	struct mutex listen_lock;
	struct list_head listeners;
	struct work_struct signal_work;
	struct watchdog_device watchdog;

	struct handover_info info;
	struct handover_service *services;
};

struct handover_region {
	struct handover *handover;
	struct rw_semaphore lock;
	struct address_space *mapping; /* NULL while it has no file */
	u32 handle; /* 0: not ours */
	u64 size;
	u64 address; /* of its slot; 0: none */
	u64 slot; /* bytes of its slot */
	void *kernel; /* made at the first read() or write() */
};

struct handover_channel {
	struct handover *handover;
	u32 port; /* 0: none */
	atomic_t events; /* how many were told */
	atomic_t causes; /* HANDOVER_CAUSE_* that nobody has taken */
	bool mute; /* this end never sends a message */
	bool patient; /* its direct calls have an end */
	wait_queue_head_t wait;

	/* Of shared memory. */
	u64 size;
	u64 address; /* of its slot; 0: none */
	u64 slot; /* bytes of its slot */
	u32 access; /* HANDOVER_SHARED_* */

	struct mutex receive_lock;
	struct handover_region *spare; /* a slot for the next region */
	/* A message taken from the control OS that could not be delivered; it is the next one. */
	bool aside;
	u64 word;
	struct handover_region *region;
	u8 data[HANDOVER_SHORT_MAX];
};

typedef struct arm_smccc_1_2_regs handover_regs;

/* call.c */
int handover_call(struct handover *handover, u32 function, handover_regs *regs);

/* window.c */
int handover_window_init(struct handover *handover, u64 base, u64 size);
u64 handover_window_take(struct handover_window *window, u64 size, u64 *slot);
void handover_window_give(struct handover_window *window, u64 address, u64 slot);

/* region.c */
int handover_region_fs_init(void);
void handover_region_fs_exit(void);
struct handover_region *handover_region_alloc(struct handover *handover, u64 size);
void handover_region_free(struct handover_region *region);
struct file *handover_region_file(struct handover_region *region);
struct file *handover_region_get(int fd, struct handover_region **region);
void handover_region_unmap(struct handover_region *region);
void handover_region_gone(struct handover_region *region);
int handover_region_create(struct handover *handover, u32 port, void __user *argument);

/* channel.c */
int handover_channel_wait(struct handover_channel *channel, int seen);
int handover_channel_status(struct handover_channel *channel, u32 *causes, u32 *partition, u32 *reason);
int handover_channel_not_connected(struct handover_channel *channel);
struct handover_channel *handover_channel_alloc(struct handover *handover, u32 flags, int *fd, struct file **file);
struct handover_channel *handover_channel_make(struct handover *handover, const char *name,
					       const struct file_operations *fops, u32 flags, int *fd,
					       struct file **file);
int handover_channel_release(struct inode *inode, struct file *file);
long handover_channel_control(struct handover_channel *channel, unsigned int command, void __user *argument);
int handover_channel_wait_answer(struct handover_channel *channel, u32 *reason);
void handover_channel_abandon(struct file *file, int fd);
int handover_channel_open(struct handover_channel *channel, u32 function, u64 x1, u64 x2);
void handover_channel_event(struct handover_channel *channel, u32 causes);
int handover_channel_signal(struct handover_channel *channel);
bool handover_channel_signalled(struct handover_channel *channel);
int handover_channel_await_signal(struct handover_channel *channel, bool nonblock);
int handover_connect(struct handover *handover, void __user *argument);

/* events.c */
struct handover_channel *handover_events_alloc(struct handover *handover, u32 flags, int *fd, struct file **file);

/* shared.c */
struct handover_channel *handover_shared_alloc(struct handover *handover, u32 flags, int *fd, struct file **file);
int handover_shared_map(struct handover_channel *channel);
int handover_share(struct handover *handover, void __user *argument);

/* message.c */
int handover_message_send(struct file *file, void __user *argument);
int handover_message_receive(struct file *file, void __user *argument);
u8 *handover_short_message(handover_regs *regs);
ssize_t handover_message_read(struct file *file, char __user *to, size_t count, loff_t *position);
ssize_t handover_message_write(struct file *file, const char __user *from, size_t count, loff_t *position);

/* direct.c */
int handover_direct_call(struct handover_channel *channel, void __user *argument);
int handover_patience(struct handover_channel *channel, void __user *argument);

/* life.c */
int handover_watchdog_init(struct handover *handover);
void handover_shutdown(struct handover *handover, u64 nanoseconds);

/* listener.c */
void handover_signal_work(struct work_struct *work);
int handover_listen(struct handover *handover, void __user *argument);

#endif
