// SPDX-License-Identifier: GPL-2.0
/* What becomes of the whole partition: a watchdog that system-control has set, and its request to shut down. */

#include <linux/math64.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/reboot.h>
#include <linux/watchdog.h>

#include "handover.h"

static bool nowayout = WATCHDOG_NOWAYOUT;
module_param(nowayout, bool, 0444);
MODULE_PARM_DESC(nowayout, "once user space has opened the watchdog, the kernel does not kick it in its place again");

/* Returns the watchdog's timeout in nanoseconds, 0: system-control has set none. */
static u64 kick(struct handover *handover)
{
	handover_regs regs = {};
	int error = handover_call(handover, HANDOVER_CALL_WATCHDOG_KICK, &regs);

	if (error)
		dev_err_ratelimited(handover->dev, "cannot kick the watchdog: %d\n", error);
	return error ? 0 : regs.a1;
}

static int watchdog_kick(struct watchdog_device *watchdog)
{
	kick(watchdog_get_drvdata(watchdog));
	return 0;
}

static const struct watchdog_info watchdog_info = {
	.options = WDIOF_SETTIMEOUT | WDIOF_KEEPALIVEPING | WDIOF_MAGICCLOSE,
	.identity = "Handover",
};

/* It cannot be stopped, only by system-control: who closes it in good order leaves the kicks to the kernel again. */
static const struct watchdog_ops watchdog_ops = {
	.owner = THIS_MODULE,
	.start = watchdog_kick,
	.ping = watchdog_kick,
};

/*
 * It has run since the partition started. The kernel kicks it as long as nobody has opened /dev/watchdog, and no
 * longer than the timeout of who has.
 */
int handover_watchdog_init(struct handover *handover)
{
	struct watchdog_device *watchdog = &handover->watchdog;
	u64 nanoseconds = kick(handover);
	u64 milliseconds = div_u64(nanoseconds, NSEC_PER_MSEC);

	if (!nanoseconds)
		return 0;
	watchdog->info = &watchdog_info;
	watchdog->ops = &watchdog_ops;
	watchdog->parent = handover->dev;
	watchdog->min_timeout = 1;
	watchdog->max_hw_heartbeat_ms = clamp_t(u64, milliseconds, 1, INT_MAX);
	watchdog->timeout = max_t(u32, watchdog->max_hw_heartbeat_ms / MSEC_PER_SEC, 1);
	watchdog_set_nowayout(watchdog, nowayout);
	watchdog_set_drvdata(watchdog, handover);
	set_bit(WDOG_HW_RUNNING, &watchdog->status);
	return devm_watchdog_register_device(handover->dev, watchdog);
}

/*
 * What a power button does: user space decides how, and if it has no program for that, the kernel ends it. The time
 * that system-control gives is in nanoseconds, 0: it has not said.
 */
void handover_shutdown(struct handover *handover, u64 nanoseconds)
{
	if (nanoseconds)
		dev_info(handover->dev, "system-control asks to shut down within %llu ms\n",
			 div_u64(nanoseconds, NSEC_PER_MSEC));
	else
		dev_info(handover->dev, "system-control asks to shut down\n");
	orderly_poweroff(true);
}
