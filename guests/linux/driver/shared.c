// SPDX-License-Identifier: GPL-2.0
/*
 * Memory shared with another partition, as files. What is mapped here stays until the file goes, whatever becomes of
 * the other side: the control OS takes it from nobody, and leaves zeroes behind. So there is nothing to revoke, and
 * a program never gets a signal for it.
 */

#include <linux/capability.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "handover.h"

/* Pages entered at one fault. */
#define FAULT_AROUND 16

static vm_fault_t shared_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct handover_channel *channel = vma->vm_private_data;
	const pgoff_t pages = channel->size >> PAGE_SHIFT;
	pgoff_t first = round_down(vmf->pgoff, FAULT_AROUND), page;
	vm_fault_t result;

	if (vmf->pgoff >= pages)
		return VM_FAULT_SIGBUS;
	result = vmf_insert_pfn(vma, vmf->address, PHYS_PFN(channel->address) + vmf->pgoff);
	/* The neighbours only save later faults: without them nothing is wrong. */
	for (page = max(first, vma->vm_pgoff); page < first + FAULT_AROUND && result == VM_FAULT_NOPAGE; page++) {
		unsigned long address = vma->vm_start + ((page - vma->vm_pgoff) << PAGE_SHIFT);

		if (address >= vma->vm_end || page >= pages)
			break;
		if (page != vmf->pgoff &&
		    vmf_insert_pfn(vma, address, PHYS_PFN(channel->address) + page) != VM_FAULT_NOPAGE)
			break;
	}
	return result;
}

static const struct vm_operations_struct shared_vm_ops = {
	.fault = shared_fault,
};

static int shared_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct handover_channel *channel = file->private_data;
	const unsigned long pages = channel->size >> PAGE_SHIFT;
	const unsigned long flags = VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP;
	unsigned long never = VM_MAYEXEC;

	/* A private mapping would keep copies. */
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (!channel->address)
		return -ENOTCONN;
	if (vma->vm_pgoff >= pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -ENXIO;
	if (!(channel->access & HANDOVER_SHARED_OWN)) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		never |= VM_MAYWRITE;
	}
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, flags, never);
#else
	vma->vm_flags = (vma->vm_flags | flags) & ~never;
#endif
	vma->vm_private_data = channel;
	vma->vm_ops = &shared_vm_ops;
	return 0;
}

static int shared_info(struct handover_channel *channel, void __user *argument)
{
	struct handover_shared_info info = { .size = channel->size, .access = channel->access };

	if (capable(CAP_SYS_RAWIO))
		info.address = channel->address;
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static long shared_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct handover_channel *channel = file->private_data;
	void __user *user = (void __user *)argument;

	if (command == HANDOVER_SHARED_INFO)
		return shared_info(channel, user);
	return handover_channel_control(channel, command, user);
}

static __poll_t shared_poll(struct file *file, poll_table *table)
{
	struct handover_channel *channel = file->private_data;
	__poll_t events = 0;
	u32 causes;

	poll_wait(file, &channel->wait, table);
	if (handover_channel_status(channel, &causes, NULL, NULL))
		return EPOLLERR;
	if (causes & HANDOVER_CAUSE_PEER_CLOSED)
		events |= EPOLLRDHUP | EPOLLHUP;
	if (handover_channel_signalled(channel))
		events |= EPOLLPRI;
	return events;
}

static void shared_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct handover_channel *channel = file->private_data;

	seq_printf(seq, "port:\t%u\nsize:\t%llu\naccess:\t%#x\n", channel->port, channel->size, channel->access);
}

static const struct file_operations shared_fops = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
	.mmap = shared_mmap,
	.poll = shared_poll,
	.unlocked_ioctl = shared_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = shared_show_fdinfo,
	.release = handover_channel_release,
};

struct handover_channel *handover_shared_alloc(struct handover *handover, u32 flags, int *fd, struct file **file)
{
	return handover_channel_make(handover, "[handover-shared]", &shared_fops, flags, fd, file);
}

/* Maps what the port is joined for; release takes it back. */
int handover_shared_map(struct handover_channel *channel)
{
	struct handover *handover = channel->handover;
	handover_regs regs = { .a1 = channel->port };
	int error = handover_call(handover, HANDOVER_CALL_SHARED_INFO, &regs);

	if (error)
		return error;
	channel->size = regs.a1;
	channel->access = regs.a3;
	channel->address = handover_window_take(&handover->window, channel->size, &channel->slot);
	if (!channel->address)
		return -ENOMEM;
	memset(&regs, 0, sizeof(regs));
	regs.a1 = channel->port;
	regs.a2 = channel->address;
	error = handover_call(handover, HANDOVER_CALL_SHARED_MAP, &regs);
	if (error) {
		handover_window_give(&handover->window, channel->address, channel->slot);
		channel->address = 0;
	}
	return error;
}

int handover_share(struct handover *handover, void __user *argument)
{
	const u32 one_writes = HANDOVER_SHARE_I_WRITE | HANDOVER_SHARE_PEER_WRITES;
	struct handover_channel *channel;
	struct handover_share share;
	struct file *file;
	int error, fd;
	u64 word;

	if (copy_from_user(&share, argument, sizeof(share)))
		return -EFAULT;
	if (share.flags & ~one_writes || (share.flags & one_writes) == one_writes || share.reserved ||
	    !is_power_of_2(share.size) || share.size < HANDOVER_REGION_MIN || share.size > HANDOVER_REGION_MAX)
		return -EINVAL;
	channel = handover_shared_alloc(handover, 0, &fd, &file);
	if (IS_ERR(channel))
		return PTR_ERR(channel);
	word = share.service | HANDOVER_REQUEST_MEMORY | (u64)ilog2(share.size) << HANDOVER_REQUEST_ORDER_SHIFT;
	if (share.flags & HANDOVER_SHARE_I_WRITE)
		word |= HANDOVER_REQUEST_SEND_ONLY;
	if (share.flags & HANDOVER_SHARE_PEER_WRITES)
		word |= HANDOVER_REQUEST_RECEIVE_ONLY;
	share.reason = 0;
	error = handover_channel_open(channel, HANDOVER_CALL_CONNECT, share.partition, word);
	/* The partition has ended, or has not started. */
	if (error == -EPIPE || error == -ENOTCONN)
		error = -EHOSTDOWN;
	if (!error)
		error = handover_channel_wait_answer(channel, &share.reason);
	if (!error)
		error = handover_shared_map(channel);
	share.fd = error ? -1 : fd;
	if ((!error || error == -ECONNREFUSED) && copy_to_user(argument, &share, sizeof(share)))
		error = -EFAULT;
	if (error) {
		handover_channel_abandon(file, fd);
		return error;
	}
	fd_install(fd, file);
	return 0;
}
