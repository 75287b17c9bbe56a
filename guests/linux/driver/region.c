// SPDX-License-Identifier: GPL-2.0
/*
 * Message regions as files. Each has an inode of its own on a pseudo filesystem, and thereby an address space of
 * its own: one call finds every mapping of it, in whatever process, moved or split, wherever fork() took it.
 */

#include <linux/capability.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/io.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "handover.h"

#define REGION_FS_MAGIC 0x48414e44 /* "HAND" */

/* Pages entered at one fault: 64 KiB, what the page cache does too. */
#define FAULT_AROUND 16

/* A page must not reach beyond the smallest region. */
static_assert(PAGE_SIZE == HANDOVER_REGION_MIN);

static struct vfsmount *region_mount;

/* A region without a handle, with a slot to map it in. */
struct handover_region *handover_region_alloc(struct handover *handover, u64 size)
{
	struct handover_region *region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);

	if (!region)
		return ERR_PTR(-ENOMEM);
	region->handover = handover;
	init_rwsem(&region->lock);
	region->size = size;
	region->address = handover_window_take(&handover->window, size, &region->slot);
	if (!region->address) {
		kfree(region);
		return ERR_PTR(-ENOMEM);
	}
	return region;
}

/* Removes every mapping of it, the kernel's too. The caller has the lock exclusively, or is the only user. */
void handover_region_unmap(struct handover_region *region)
{
	if (region->mapping)
		unmap_mapping_range(region->mapping, 0, 0, 1);
	if (region->kernel) {
		memunmap(region->kernel);
		region->kernel = NULL;
	}
}

/* It belongs to somebody else from now on. The caller has the lock exclusively, and has unmapped it. */
void handover_region_gone(struct handover_region *region)
{
	region->handle = 0;
	handover_window_give(&region->handover->window, region->address, region->slot);
	region->address = 0;
}

/* Destroys the region, if it is still ours. Nobody else uses it any more. */
void handover_region_free(struct handover_region *region)
{
	struct handover *handover = region->handover;
	handover_regs regs = { .a1 = region->handle };
	int error = 0;

	handover_region_unmap(region);
	if (region->handle)
		error = handover_call(handover, HANDOVER_CALL_REGION_DESTROY, &regs);
	/* A region that is still there keeps its slot: nothing else may be mapped over it. */
	if (error)
		dev_err(handover->dev, "cannot destroy region %u at %#llx: %d\n", region->handle, region->address, error);
	else if (region->address)
		handover_window_give(&handover->window, region->address, region->slot);
	kfree(region);
}

static vm_fault_t region_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct handover_region *region = vma->vm_private_data;
	pgoff_t first = round_down(vmf->pgoff, FAULT_AROUND), page;
	vm_fault_t result = VM_FAULT_SIGBUS;

	down_read(&region->lock);
	if (!region->handle || vmf->pgoff >= region->size >> PAGE_SHIFT)
		goto out;
	result = vmf_insert_pfn(vma, vmf->address, PHYS_PFN(region->address) + vmf->pgoff);
	/* The neighbours only save later faults: without them nothing is wrong. */
	for (page = max(first, vma->vm_pgoff); page < first + FAULT_AROUND && result == VM_FAULT_NOPAGE; page++) {
		unsigned long address = vma->vm_start + ((page - vma->vm_pgoff) << PAGE_SHIFT);

		if (address >= vma->vm_end || page >= region->size >> PAGE_SHIFT)
			break;
		if (page != vmf->pgoff && vmf_insert_pfn(vma, address, PHYS_PFN(region->address) + page) != VM_FAULT_NOPAGE)
			break;
	}
out:
	up_read(&region->lock);
	return result;
}

static const struct vm_operations_struct region_vm_ops = {
	.fault = region_fault,
};

static int region_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct handover_region *region = file->private_data;
	const unsigned long pages = region->size >> PAGE_SHIFT;
	const unsigned long flags = VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP;
	bool gone;

	/* A private mapping would keep copies. */
	if (!(vma->vm_flags & VM_SHARED) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (vma->vm_pgoff >= pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -ENXIO;
	down_read(&region->lock);
	gone = !region->handle;
	up_read(&region->lock);
	if (gone)
		return -ESTALE;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, flags, VM_MAYEXEC);
#else
	vma->vm_flags = (vma->vm_flags | flags) & ~VM_MAYEXEC;
#endif
	vma->vm_private_data = region;
	vma->vm_ops = &region_vm_ops;
	return 0;
}

/* Takes the lock shared, with the region ours and mapped for the kernel. */
static int region_lock_kernel(struct handover_region *region)
{
	int error = 0;

	for (;;) {
		down_read(&region->lock);
		if (!region->handle) {
			up_read(&region->lock);
			return -ESTALE;
		}
		if (region->kernel)
			return 0;
		up_read(&region->lock);

		/* A send may come and fail in between, which unmaps it again: hence the loop. */
		down_write(&region->lock);
		if (region->handle && !region->kernel) {
			region->kernel = memremap(region->address, region->size, MEMREMAP_WB);
			error = region->kernel ? 0 : -ENOMEM;
		}
		up_write(&region->lock);
		if (error)
			return error;
	}
}

static ssize_t region_copy(struct handover_region *region, char __user *to, const char __user *from, size_t count,
			   loff_t *position)
{
	size_t done = 0;
	int error = 0;
	void *page;

	if (*position < 0)
		return -EINVAL;
	if (*position >= region->size)
		return from && count ? -ENOSPC : 0;
	count = min_t(u64, count, region->size - *position);
	page = (void *)__get_free_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	while (done < count && !error) {
		size_t now = min_t(size_t, count - done, PAGE_SIZE);

		if (from && copy_from_user(page, from + done, now)) {
			error = -EFAULT;
			break;
		}
		error = region_lock_kernel(region);
		if (error)
			break;
		if (from)
			memcpy(region->kernel + *position, page, now);
		else
			memcpy(page, region->kernel + *position, now);
		up_read(&region->lock);
		if (to && copy_to_user(to + done, page, now)) {
			error = -EFAULT;
			break;
		}
		done += now;
		*position += now;
		if (signal_pending(current))
			error = -EINTR;
		cond_resched();
	}
	free_page((unsigned long)page);
	return done ? done : error;
}

static ssize_t region_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	return region_copy(file->private_data, to, NULL, count, position);
}

static ssize_t region_write(struct file *file, const char __user *from, size_t count, loff_t *position)
{
	return region_copy(file->private_data, NULL, from, count, position);
}

static loff_t region_llseek(struct file *file, loff_t offset, int whence)
{
	struct handover_region *region = file->private_data;

	return fixed_size_llseek(file, offset, whence, region->size);
}

static int region_info(struct handover_region *region, void __user *argument)
{
	struct handover_region_info info = { .size = region->size };

	down_read(&region->lock);
	if (capable(CAP_SYS_RAWIO))
		info.address = region->address;
	if (!region->handle)
		info.size = 0;
	up_read(&region->lock);
	if (!info.size)
		return -ESTALE;
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static long region_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case HANDOVER_REGION_INFO:
		return region_info(file->private_data, (void __user *)argument);
	}
	return -ENOTTY;
}

static void region_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct handover_region *region = file->private_data;

	down_read(&region->lock);
	seq_printf(seq, "size:\t%llu\nstate:\t%s\n", region->size, region->handle ? "owned" : "sent");
	up_read(&region->lock);
}

static int region_release(struct inode *inode, struct file *file)
{
	handover_region_free(file->private_data);
	return 0;
}

static const struct file_operations region_fops = {
	.owner = THIS_MODULE,
	.llseek = region_llseek,
	.read = region_read,
	.write = region_write,
	.mmap = region_mmap,
	.unlocked_ioctl = region_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = region_show_fdinfo,
	.release = region_release,
};

/* A file for the region. The file owns the region from then on; after an error the caller still does. */
struct file *handover_region_file(struct handover_region *region)
{
	struct inode *inode;
	struct file *file;

	if (!try_module_get(THIS_MODULE))
		return ERR_PTR(-ENODEV);
	inode = alloc_anon_inode(region_mount->mnt_sb);
	if (IS_ERR(inode)) {
		module_put(THIS_MODULE);
		return ERR_CAST(inode);
	}
	i_size_write(inode, region->size);
	file = alloc_file_pseudo(inode, region_mount, "[handover-region]", O_RDWR, &region_fops);
	if (IS_ERR(file)) {
		iput(inode);
		module_put(THIS_MODULE);
		return file;
	}
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	file->private_data = region;
	region->mapping = inode->i_mapping;
	return file;
}

/* The file and the region behind a descriptor; the caller puts the file. */
struct file *handover_region_get(int fd, struct handover_region **region)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != &region_fops) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	*region = file->private_data;
	return file;
}

/* Of the colours that the port's channel takes; port 0: of its maker's. */
int handover_region_create(struct handover *handover, u32 port, void __user *argument)
{
	struct handover_region_create create;
	struct handover_region *region;
	handover_regs regs = {};
	struct file *file;
	int error, fd;

	if (copy_from_user(&create, argument, sizeof(create)))
		return -EFAULT;
	if (create.flags || !is_power_of_2(create.size) || create.size < HANDOVER_REGION_MIN ||
	    create.size > HANDOVER_REGION_MAX)
		return -EINVAL;
	region = handover_region_alloc(handover, create.size);
	if (IS_ERR(region))
		return PTR_ERR(region);
	regs.a1 = region->size | (u64)port << 32;
	regs.a2 = region->address;
	error = handover_call(handover, HANDOVER_CALL_REGION_CREATE, &regs);
	if (error) {
		handover_region_free(region);
		return error;
	}
	region->handle = regs.a1;
	file = handover_region_file(region);
	if (IS_ERR(file)) {
		handover_region_free(region);
		return PTR_ERR(file);
	}
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		fput(file);
		return fd;
	}
	create.fd = fd;
	if (copy_to_user(argument, &create, sizeof(create))) {
		put_unused_fd(fd);
		fput(file);
		return -EFAULT;
	}
	fd_install(fd, file);
	return 0;
}

static char *region_dname(struct dentry *dentry, char *buffer, int length)
{
	static const char name[] = "[handover-region]";

	if (length < sizeof(name))
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + length - sizeof(name), name, sizeof(name));
}

static const struct dentry_operations region_dentry_ops = {
	.d_dname = region_dname,
};

static int region_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *context = init_pseudo(fc, REGION_FS_MAGIC);

	if (!context)
		return -ENOMEM;
	context->dops = &region_dentry_ops;
	return 0;
}

/* Without an owner: our own mount would hold the module for ever. Each file on it holds the module by itself. */
static struct file_system_type region_fs = {
	.name = "handover",
	.init_fs_context = region_fs_context,
	.kill_sb = kill_anon_super,
};

int handover_region_fs_init(void)
{
	region_mount = kern_mount(&region_fs);
	return PTR_ERR_OR_ZERO(region_mount);
}

void handover_region_fs_exit(void)
{
	kern_unmount(region_mount);
}
