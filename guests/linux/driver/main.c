// SPDX-License-Identifier: GPL-2.0
/* The device: found in the device tree, announced by an interrupt, opened as /dev/handover. */

#include <linux/capability.h>
#include <linux/interrupt.h>
#include <linux/ioport.h>
#include <linux/mod_devicetable.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "handover.h"

/* What user space was promised; the crate handover-linux asserts the same numbers. */
static_assert(sizeof(struct handover_info) == 40);
static_assert(sizeof(struct handover_service) == 48);
static_assert(sizeof(struct handover_connect) == 24);
static_assert(sizeof(struct handover_listen) == 16);
static_assert(sizeof(struct handover_request) == 16);
static_assert(sizeof(struct handover_accept) == 16);
static_assert(sizeof(struct handover_refuse) == 8);
static_assert(sizeof(struct handover_account) == 24);
static_assert(sizeof(struct handover_region_create) == 16);
static_assert(sizeof(struct handover_region_info) == 16);
static_assert(sizeof(struct handover_message) == 152);
static_assert(offsetof(struct handover_message, data) == 24);
static_assert(sizeof(struct handover_status) == 16);
static_assert(sizeof(struct handover_share) == 32);
static_assert(sizeof(struct handover_shared_info) == 24);
static_assert(HANDOVER_STATE_CONNECTED == HANDOVER_CAUSE_CONNECTED);
static_assert(HANDOVER_STATE_MESSAGE == HANDOVER_CAUSE_MESSAGE);
static_assert(HANDOVER_STATE_PEER_CLOSED == HANDOVER_CAUSE_PEER_CLOSED);
static_assert(HANDOVER_STATE_REFUSED == HANDOVER_CAUSE_REFUSED);
static_assert(HANDOVER_STATE_SPACE == HANDOVER_CAUSE_SPACE);
static_assert(HANDOVER_STATE_SIGNAL == HANDOVER_CAUSE_SIGNAL);

/* Events taken with interrupts off before the thread goes on. */
#define HARD_IRQ_EVENTS 16

/* There is one control OS. */
static unsigned long bound;

/* Takes at most that many events; true if there may be more. */
static bool take_events(struct handover *handover, unsigned int most)
{
	while (most--) {
		struct handover_channel *channel;
		handover_regs regs = {};
		unsigned long flags;
		u32 port;
		int error;

		xa_lock_irqsave(&handover->ports, flags);
		error = handover_call(handover, HANDOVER_CALL_EVENT_NEXT, &regs);
		port = HANDOVER_EVENT_PORT(regs.a1);
		if (!error && port != HANDOVER_PORT_CONTROL) {
			channel = xa_load(&handover->ports, port);
			if (channel)
				handover_channel_event(channel, HANDOVER_EVENT_CAUSES(regs.a1));
		}
		xa_unlock_irqrestore(&handover->ports, flags);
		if (error) {
			if (error != -EAGAIN)
				dev_err_ratelimited(handover->dev, "cannot take events: %d\n", error);
			return false;
		}
		if (port == HANDOVER_PORT_CONTROL)
			schedule_work(&handover->signal_work);
	}
	return true;
}

static irqreturn_t hard_irq(int irq, void *data)
{
	return take_events(data, HARD_IRQ_EVENTS) ? IRQ_WAKE_THREAD : IRQ_HANDLED;
}

static irqreturn_t threaded_irq(int irq, void *data)
{
	while (take_events(data, HARD_IRQ_EVENTS))
		cond_resched();
	return IRQ_HANDLED;
}

static int info_ioctl(struct handover *handover, void __user *argument)
{
	struct handover_info info = handover->info;

	if (!capable(CAP_SYS_RAWIO))
		info.window_base = 0;
	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static int service_ioctl(struct handover *handover, void __user *argument)
{
	struct handover_service service;

	if (copy_from_user(&service, argument, sizeof(service)))
		return -EFAULT;
	if (service.index >= handover->info.services)
		return -ENOENT;
	return copy_to_user(argument, &handover->services[service.index], sizeof(service)) ? -EFAULT : 0;
}

static int account_ioctl(struct handover *handover, void __user *argument)
{
	struct handover_account account;
	handover_regs regs = {};
	int error;

	if (copy_from_user(&account, argument, sizeof(account)))
		return -EFAULT;
	if (account.reserved)
		return -EINVAL;
	regs.a2 = account.account;
	error = handover_call(handover, HANDOVER_CALL_ACCOUNT_READ, &regs);
	if (error)
		return error;
	account.used = regs.a1;
	account.limit = regs.a2;
	return copy_to_user(argument, &account, sizeof(account)) ? -EFAULT : 0;
}

static int exit_ioctl(struct handover *handover, void __user *argument)
{
	handover_regs regs = {};
	u64 status;

	if (!capable(CAP_SYS_BOOT))
		return -EPERM;
	if (copy_from_user(&status, argument, sizeof(status)))
		return -EFAULT;
	regs.a1 = status;
	return handover_call(handover, HANDOVER_CALL_END, &regs);
}

static int device_open(struct inode *inode, struct file *file)
{
	file->private_data = container_of(file->private_data, struct handover, misc);
	return nonseekable_open(inode, file);
}

static long device_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct handover *handover = file->private_data;
	void __user *user = (void __user *)argument;

	switch (command) {
	case HANDOVER_INFO:
		return info_ioctl(handover, user);
	case HANDOVER_SERVICE:
		return service_ioctl(handover, user);
	case HANDOVER_CONNECT:
		return handover_connect(handover, user);
	case HANDOVER_LISTEN:
		return handover_listen(handover, user);
	case HANDOVER_REGION_CREATE:
		return handover_region_create(handover, 0, user);
	case HANDOVER_SHARE:
		return handover_share(handover, user);
	case HANDOVER_ACCOUNT:
		return account_ioctl(handover, user);
	case HANDOVER_EXIT:
		return exit_ioctl(handover, user);
	}
	return -ENOTTY;
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.llseek = noop_llseek,
	.open = device_open,
	.unlocked_ioctl = device_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* Reads one service node; false if it is none, or damaged. */
static bool read_service(struct handover *handover, struct device_node *node, struct handover_service *service)
{
	const char *name;

	if (of_node_name_eq(node, "service"))
		service->role = HANDOVER_ROLE_CLIENT;
	else if (of_node_name_eq(node, "provides"))
		service->role = HANDOVER_ROLE_SERVER;
	else
		return false;
	service->partition = handover->info.partition;
	if (of_property_read_string(node, "service-name", &name) || strlen(name) >= sizeof(service->name) ||
	    of_property_read_u32(node, "service", &service->service) ||
	    (service->role == HANDOVER_ROLE_CLIENT && of_property_read_u32(node, "partition", &service->partition))) {
		dev_warn(handover->dev, "%pOF: want service-name (at most %zu bytes), service and partition\n", node,
			 sizeof(service->name) - 1);
		return false;
	}
	strscpy(service->name, name, sizeof(service->name));
	return true;
}

static int read_services(struct handover *handover)
{
	struct device_node *node;
	u32 count = 0;

	handover->services = devm_kcalloc(handover->dev, of_get_child_count(handover->dev->of_node) + 1,
					  sizeof(*handover->services), GFP_KERNEL);
	if (!handover->services)
		return -ENOMEM;
	for_each_child_of_node(handover->dev->of_node, node) {
		struct handover_service *service = &handover->services[count];

		if (read_service(handover, node, service))
			service->index = count++;
		else
			memset(service, 0, sizeof(*service));
	}
	handover->info.services = count;
	return 0;
}

static int ask_control_os(struct handover *handover)
{
	handover_regs regs = {};
	int error;

	if (arm_smccc_1_1_get_conduit() != SMCCC_CONDUIT_HVC) {
		dev_err(handover->dev, "SMCCC conduit is not hvc\n");
		return -ENODEV;
	}
	error = handover_call(handover, HANDOVER_CALL_VERSION, &regs);
	if (error) {
		dev_err(handover->dev, "no answer to the version call: %d\n", error);
		return -ENODEV;
	}
	handover->info.version = regs.a1;
	handover->info.features = regs.a2;
	if (handover->info.version >> 16 != HANDOVER_ABI_MAJOR) {
		dev_err(handover->dev, "control OS speaks version %u.%u, this driver %u\n", handover->info.version >> 16,
			handover->info.version & 0xffff, HANDOVER_ABI_MAJOR);
		return -ENODEV;
	}
	memset(&regs, 0, sizeof(regs));
	error = handover_call(handover, HANDOVER_CALL_IDENTIFY, &regs);
	handover->info.partition = regs.a1;
	handover->info.privileged = regs.a2;
	return error;
}

static int set_up(struct handover *handover, struct platform_device *pdev)
{
	struct resource *window = platform_get_resource(pdev, IORESOURCE_MEM, 0);
	int irq, error;

	if (!window) {
		dev_err(handover->dev, "no message window (reg)\n");
		return -EINVAL;
	}
	irq = platform_get_irq(pdev, 0);
	if (irq < 0)
		return irq;
	error = ask_control_os(handover);
	if (error)
		return error;
	handover->info.window_base = window->start;
	handover->info.window_size = resource_size(window);
	/* With the range claimed, /dev/mem does not go round this driver, unless the kernel runs with iomem=relaxed. */
	if (!devm_request_mem_region(handover->dev, window->start, resource_size(window), "handover"))
		return -EBUSY;
	error = handover_window_init(handover, window->start, resource_size(window));
	if (error)
		return error;
	error = read_services(handover);
	if (error)
		return error;
	error = devm_request_threaded_irq(handover->dev, irq, hard_irq, threaded_irq, 0, "handover", handover);
	if (error) {
		dev_err(handover->dev, "cannot have interrupt %d: %d\n", irq, error);
		return error;
	}
	handover->irq = irq;
	/* What came before there was a handler. */
	while (take_events(handover, HARD_IRQ_EVENTS))
		cond_resched();
	schedule_work(&handover->signal_work);
	error = handover_watchdog_init(handover);
	if (error) {
		dev_err(handover->dev, "cannot have a watchdog: %d\n", error);
		return error;
	}
	return misc_register(&handover->misc);
}

static void tear_down(struct handover *handover)
{
	/* It starts the work. */
	if (handover->irq)
		disable_irq(handover->irq);
	cancel_work_sync(&handover->signal_work);
	xa_destroy(&handover->ports);
	clear_bit(0, &bound);
}

static int handover_probe(struct platform_device *pdev)
{
	struct handover *handover;
	int error;

	handover = devm_kzalloc(&pdev->dev, sizeof(*handover), GFP_KERNEL);
	if (!handover)
		return -ENOMEM;
	if (test_and_set_bit(0, &bound)) {
		dev_err(&pdev->dev, "there is one already\n");
		return -EBUSY;
	}
	handover->dev = &pdev->dev;
	handover->misc.minor = MISC_DYNAMIC_MINOR;
	handover->misc.name = "handover";
	handover->misc.fops = &device_fops;
	handover->misc.parent = &pdev->dev;
	xa_init_flags(&handover->ports, XA_FLAGS_LOCK_IRQ);
	mutex_init(&handover->listen_lock);
	INIT_LIST_HEAD(&handover->listeners);
	INIT_WORK(&handover->signal_work, handover_signal_work);
	platform_set_drvdata(pdev, handover);

	error = set_up(handover, pdev);
	if (error) {
		tear_down(handover);
		return error;
	}
	dev_info(&pdev->dev, "partition %u, interface %u.%u, window %pa+%#llx, %u services\n", handover->info.partition,
		 handover->info.version >> 16, handover->info.version & 0xffff, &handover->info.window_base,
		 handover->info.window_size, handover->info.services);
	return 0;
}

static void handover_remove(struct platform_device *pdev)
{
	struct handover *handover = platform_get_drvdata(pdev);

	misc_deregister(&handover->misc);
	tear_down(handover);
}

static const struct of_device_id handover_match[] = {
	{ .compatible = "handover,handover-1.0" },
	{ .compatible = "handover,handover" },
	{}
};
MODULE_DEVICE_TABLE(of, handover_match);

static struct platform_driver handover_driver = {
	.probe = handover_probe,
	.remove_new = handover_remove,
	.driver = {
		.name = "handover",
		.of_match_table = handover_match,
		/* Descriptors and mappings must not outlive the device. */
		.suppress_bind_attrs = true,
	},
};

static int __init handover_init(void)
{
	int error = handover_region_fs_init();

	if (error)
		return error;
	error = platform_driver_register(&handover_driver);
	if (error)
		handover_region_fs_exit();
	return error;
}
module_init(handover_init);

static void __exit handover_exit(void)
{
	platform_driver_unregister(&handover_driver);
	handover_region_fs_exit();
}
module_exit(handover_exit);

MODULE_DESCRIPTION("Handover channels and message regions");
MODULE_AUTHOR("The Handover authors");
MODULE_LICENSE("GPL");
