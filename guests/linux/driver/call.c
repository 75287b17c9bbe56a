// SPDX-License-Identifier: GPL-2.0
/* Hypercalls, and what their errors are called here. */

#include <linux/delay.h>
#include <linux/device.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/math64.h>
#include <linux/sched/signal.h>

#include "handover.h"

static const char *const accounts[] = {
	"processor time", "address space", "memory", "control memory", "ports", "devices", "cache colours", "bus",
};

static int limit_reached(struct handover *handover, u64 account)
{
	dev_warn_ratelimited(handover->dev, "limit reached: %s\n",
			     account < ARRAY_SIZE(accounts) ? accounts[account] : "an account this driver does not know");
	return -EDQUOT;
}

/*
 * The limit of the bus is used up for so many nanoseconds. Only calls that move, unmap or destroy memory are limited,
 * and those are made where one may sleep. Who is killed need not wait, but for what nobody would destroy after it.
 */
static bool wait_for_bus(u32 function, u64 nanoseconds)
{
	fsleep(div_u64(min_t(u64, nanoseconds, NSEC_PER_SEC), NSEC_PER_USEC) + 1);
	return function == HANDOVER_CALL_REGION_DESTROY || function == HANDOVER_CALL_DISCONNECT ||
	       !fatal_signal_pending(current);
}

/*
 * Makes a call with arguments in regs->a1 and up, and leaves the results there. Returns 0 or an errno: -EAGAIN,
 * nothing to take; -ENOBUFS, the peer's queue is full; -EPIPE, the peer has gone; -ENOTCONN, not connected or
 * refused; -E2BIG, the region does not fit (its size is in a1).
 */
int handover_call(struct handover *handover, u32 function, handover_regs *regs)
{
	u64 argument = regs->a1;

	do {
		regs->a0 = function;
		regs->a1 = argument;
		arm_smccc_1_2_hvc(regs, regs);
	} while ((long)regs->a0 == HANDOVER_ERROR_THROTTLED && wait_for_bus(function, regs->a1));

	switch ((long)regs->a0) {
	case 0:
		return 0;
	case HANDOVER_ERROR_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	case HANDOVER_ERROR_INVALID_ARGUMENT:
		return -EINVAL;
	case HANDOVER_ERROR_BAD_HANDLE:
		return -ENXIO;
	case HANDOVER_ERROR_BAD_ADDRESS:
		return -EADDRNOTAVAIL;
	case HANDOVER_ERROR_IN_USE:
		return -EBUSY;
	case HANDOVER_ERROR_WOULD_BLOCK:
		return -EAGAIN;
	case HANDOVER_ERROR_QUEUE_FULL:
		return -ENOBUFS;
	case HANDOVER_ERROR_PEER_CLOSED:
		return -EPIPE;
	case HANDOVER_ERROR_NOT_CONNECTED:
		return -ENOTCONN;
	case HANDOVER_ERROR_LIMIT:
		return limit_reached(handover, regs->a1);
	case HANDOVER_ERROR_NO_MEMORY:
		return -ENOMEM;
	case HANDOVER_ERROR_DENIED:
		return -EACCES;
	case HANDOVER_ERROR_WRONG_STATE:
		return -EBADFD;
	case HANDOVER_ERROR_TOO_LARGE:
		return -E2BIG;
	case HANDOVER_ERROR_TIMED_OUT:
		return -ETIMEDOUT;
	case HANDOVER_ERROR_NO_CAPACITY:
		return -ENOSPC;
	case HANDOVER_ERROR_THROTTLED:
		return -EINTR;
	case HANDOVER_ERROR_DEADLOCK:
		return -EDEADLK;
	}
	dev_err_ratelimited(handover->dev, "call %#x answered %#lx, which this driver does not know\n", function, regs->a0);
	return -EIO;
}
