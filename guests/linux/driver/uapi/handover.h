/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/handover: channels and message regions of a Handover partition.
 *
 * Five kinds of file descriptors come out of the device:
 *
 *  region	memory that belongs to this partition alone. mmap() it MAP_SHARED, or read(), write(), pread(),
 *		pwrite() and lseek() it. Once it has been sent, the descriptor stays open but is dead: mappings of
 *		it raise SIGBUS, system calls given an address in one fail with EFAULT, and every operation on the
 *		descriptor fails with ESTALE. close() destroys a region that was not sent.
 *  channel	one end of a two-way channel to another partition. HANDOVER_SEND and HANDOVER_RECEIVE move whole
 *		messages; read() and write() move short ones. poll() reports EPOLLIN for a message, EPOLLOUT for
 *		room in the peer's queue, EPOLLPRI for a signal, EPOLLHUP when the peer has gone, EPOLLERR when the
 *		request was refused.
 *  shared	memory that another partition has too. mmap() it MAP_SHARED. It stays until it is closed and unmapped here: when
 *		the other side goes, it reads as zeroes, if that side could write, and no access fails. poll() reports EPOLLPRI
 *		for a signal, EPOLLHUP when the peer has gone and all is zero. HANDOVER_STATUS and the signals as for a channel.
 *  events	one end of an event port: no messages, and one end gets what the other sends. As with an eventfd, read() of 8 bytes
 *		waits for an event, takes it, and gives the number 1, or 0 bytes when the peer has gone and no event is left; write()
 *		of 8 bytes, whatever they are, sends one: EACCES at the end that gets them. An event that nobody has taken yet
 *		swallows the next. poll() reports EPOLLIN and EPOLLPRI for an event, EPOLLOUT while it is connected, EPOLLIN and
 *		EPOLLHUP when the peer has gone. HANDOVER_STATUS and the signals, which are the events, as for a channel.
 *  listener	requests for channels to one service of this partition, for event ports, or for shared memory. poll() reports EPOLLIN for a
 *		request.
 *
 * All are opened close-on-exec. O_NONBLOCK on the descriptor, or HANDOVER_NONBLOCK in a structure, turns waiting into
 * EAGAIN. Flags and reserved fields that are not defined must be zero, else EINVAL.
 *
 * Errors that any request may give: EDQUOT, a limit of this partition is reached (the kernel log tells which); ENOMEM,
 * the machine or the kernel has no memory left; EFAULT, a bad pointer; EINVAL, a bad argument; EIO, an answer from the
 * control OS that this driver does not know.
 */
#ifndef _UAPI_HANDOVER_H
#define _UAPI_HANDOVER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Bytes of a short message. */
#define HANDOVER_SHORT_MAX 128
/* Bytes of a service's name, its terminating zero included. */
#define HANDOVER_NAME_SIZE 32

/* Do not wait in this call; for a new descriptor: set O_NONBLOCK on it. */
#define HANDOVER_NONBLOCK 0x1

/* Of a request: who asks sends, and does not receive; or the other way. At most one of them. */
#define HANDOVER_SEND_ONLY 0x4
#define HANDOVER_RECEIVE_ONLY 0x8
/* Of a request, with one of the two: for an event port. Of a listener: for such requests, instead of those for channels. */
#define HANDOVER_EVENTS 0x10

/* Of a direct call: the server reads the region until it replies, and here nobody reaches it; or everybody goes on reading it. */
#define HANDOVER_LEND 0x20
#define HANDOVER_SHOW 0x40

/* Reasons this driver refuses requests for; servers should use smaller numbers. */
#define HANDOVER_REASON_NO_LISTENER 0xffffffff
#define HANDOVER_REASON_BACKLOG 0xfffffffe
#define HANDOVER_REASON_CLOSED 0xfffffffd

/* HANDOVER_INFO, on the device. */
struct handover_info {
	__u32 version; /* of the hypercall interface: major in bits 31:16, minor in 15:0 */
	__u32 partition; /* this partition's id */
	__u64 features; /* of the control OS */
	__u64 window_base; /* the message window: physical address as this partition sees it; 0 without CAP_SYS_RAWIO */
	__u64 window_size; /* bytes */
	__u32 services; /* how many services HANDOVER_SERVICE knows */
	__u32 privileged; /* 1 if this partition is system-control */
};

/* This partition may connect to the service. */
#define HANDOVER_ROLE_CLIENT 1
/* This partition provides the service. */
#define HANDOVER_ROLE_SERVER 2

/* HANDOVER_SERVICE, on the device. ENOENT when index is not below handover_info.services. */
struct handover_service {
	__u32 index; /* in */
	__u32 role; /* HANDOVER_ROLE_* */
	__u32 partition; /* who provides it */
	__u32 service; /* its id */
	char name[HANDOVER_NAME_SIZE];
};

/*
 * HANDOVER_CONNECT, on the device. Waits for the answer, unless HANDOVER_NONBLOCK is set: then the channel is still
 * connecting, and poll() reports EPOLLOUT or EPOLLERR once it is answered (EPOLLOUT also at an end that may not send).
 * close() takes the request back. With HANDOVER_EVENTS the descriptor is one for events. ECONNREFUSED: the server refused, see
 * reason. ENXIO: no such partition. EHOSTDOWN: it has not started, or has ended.
 */
struct handover_connect {
	__u32 partition; /* in */
	__u32 service; /* in */
	__u32 flags; /* in: HANDOVER_NONBLOCK, HANDOVER_SEND_ONLY, HANDOVER_RECEIVE_ONLY, HANDOVER_EVENTS */
	__s32 fd; /* out: the channel */
	__u32 reason; /* out: the server's, after ECONNREFUSED */
	__u32 reserved;
};

/* HANDOVER_LISTEN: for requests for shared memory, instead of channels. Its HANDOVER_ACCEPT makes shared descriptors. */
#define HANDOVER_LISTEN_SHARED 0x2
/* HANDOVER_LISTEN: for requests for channels whose messages go one way, instead of both ways. */
#define HANDOVER_LISTEN_ONE_WAY 0x80

/* HANDOVER_LISTEN, on the device. EADDRINUSE: somebody listens on it already. */
struct handover_listen {
	__u32 service; /* in */
	__u32 flags; /* in: HANDOVER_NONBLOCK, and at most one of HANDOVER_LISTEN_SHARED, HANDOVER_LISTEN_ONE_WAY, HANDOVER_EVENTS */
	__s32 fd; /* out: the listener */
	__u32 reserved;
};

/*
 * HANDOVER_REQUEST, on a listener: waits for the next request and takes it; it must be answered by HANDOVER_ACCEPT or
 * HANDOVER_REFUSE (closing the listener refuses it). Its flags are log2 of the bytes of shared memory; for an event port or a
 * channel that goes one way what who asks does there; and for a channel that goes both ways 0.
 */
struct handover_request {
	__u32 flags; /* in: HANDOVER_NONBLOCK; out: log2 of the bytes, or HANDOVER_SEND_ONLY or ..._RECEIVE_ONLY, or 0 */
	__u32 request; /* out: never 0 */
	__u32 partition; /* out: who asks */
	__u32 service; /* out */
};

/* HANDOVER_ACCEPT, on a listener. ENOENT: no such request; ECONNABORTED: who asked has gone. */
struct handover_accept {
	__u32 request; /* in: from HANDOVER_REQUEST, or 0: wait for the next one */
	__u32 flags; /* in: HANDOVER_NONBLOCK */
	__s32 fd; /* out: the channel */
	__u32 partition; /* out: who asked */
};

/* HANDOVER_REFUSE, on a listener. ENOENT: no such request. */
struct handover_refuse {
	__u32 request; /* in: from HANDOVER_REQUEST */
	__u32 reason; /* in */
};

/* HANDOVER_ACCOUNT, on the device: what this partition is charged for. EINVAL: no such account. */
struct handover_account {
	__u32 account; /* in: 0 processor time, 1 address space, 2 memory, 3 control memory, 4 ports, 5 devices, ... */
	__u32 reserved;
	__u64 used; /* out */
	__u64 limit; /* out */
};

/* HANDOVER_REGION_CREATE, on the device, or on a channel: of the cache colours that are declared for it. A region of zeroes. */
struct handover_region_create {
	__u64 size; /* in: bytes; a power of two, 4 KiB to 1 GiB */
	__u32 flags; /* in: 0 */
	__s32 fd; /* out: the region */
};

/* HANDOVER_REGION_INFO, on a region. ESTALE once it has been sent. */
struct handover_region_info {
	__u64 size; /* bytes */
	__u64 address; /* physical, as this partition sees it; 0 without CAP_SYS_RAWIO */
};

/*
 * HANDOVER_SEND and HANDOVER_RECEIVE, on a channel.
 *
 * Send: ESTALE, the region was sent before; EBADF, region_fd is not a region; EMSGSIZE, length is above
 * HANDOVER_SHORT_MAX; EPIPE, the peer has gone; ECONNREFUSED. After an error the region is the caller's as before.
 *
 * Receive: ENODATA, the peer has gone and no message is left. After any other error the message is still there.
 */
struct handover_message {
	__s32 region_fd; /* -1: no region goes with the message */
	__u32 length; /* bytes of data used */
	__u64 region_size; /* out, receive: bytes, or 0 */
	__u32 flags; /* in: HANDOVER_NONBLOCK; of a call HANDOVER_LEND or HANDOVER_SHOW */
	__u32 reserved;
	__u8 data[HANDOVER_SHORT_MAX]; /* received: zeroes beyond length */
};

/*
 * HANDOVER_CALL, on a channel: sends a message, has the server go on with it at once, and waits for its reply, which takes the
 * message's place. This logical processor takes no interrupt meanwhile, which is why HANDOVER_PATIENCE has a limit.
 *
 * A region moves, unless HANDOVER_LEND or HANDOVER_SHOW says that it stays the caller's: lent, it is out of reach until the
 * reply, and who touches it waits; shown, everybody goes on, and should only read.
 *
 * ETIMEDOUT: patience was over. EPIPE: the server, or the channel, has gone. EDEADLK: nobody is left who could reply. EAGAIN:
 * the server has no room for the region. EACCES: not a channel both ways. After these the region is the caller's as before,
 * or dead, ESTALE, if the server had taken it. ENOMEM, EDQUOT, EFAULT may also mean that the reply could not be delivered.
 */

/* HANDOVER_STATUS, on a channel. */
struct handover_status {
	__u32 state; /* HANDOVER_STATE_*, all that hold */
	__u32 partition; /* the peer */
	__u32 reason; /* of a refusal */
	__u32 reserved;
};

#define HANDOVER_STATE_CONNECTED 0x01
#define HANDOVER_STATE_MESSAGE 0x02
#define HANDOVER_STATE_PEER_CLOSED 0x04
#define HANDOVER_STATE_REFUSED 0x08
#define HANDOVER_STATE_SPACE 0x10
#define HANDOVER_STATE_SIGNAL 0x20

/* Who writes: both sides, unless one of these says otherwise. */
#define HANDOVER_SHARE_I_WRITE 0x1
#define HANDOVER_SHARE_PEER_WRITES 0x2

/*
 * HANDOVER_SHARE, on the device: asks for memory to share, and waits for the answer. Errors as for HANDOVER_CONNECT. Both
 * sides are charged for all of it.
 */
struct handover_share {
	__u32 partition; /* in */
	__u32 service; /* in */
	__u64 size; /* in: bytes; a power of two, 4 KiB to 1 GiB */
	__u32 flags; /* in: one of HANDOVER_SHARE_*, or 0 */
	__s32 fd; /* out: the shared memory */
	__u32 reason; /* out: the server's, after ECONNREFUSED */
	__u32 reserved;
};

#define HANDOVER_SHARED_OWN 0x1
#define HANDOVER_SHARED_PEER 0x2

/* HANDOVER_SHARED_INFO, on shared memory. */
struct handover_shared_info {
	__u64 size; /* bytes */
	__u64 address; /* physical, as this partition sees it; 0 without CAP_SYS_RAWIO */
	__u32 access; /* who may write: HANDOVER_SHARED_* */
	__u32 reserved;
};

#define HANDOVER_MAGIC 0xbe

/* On the device. */
#define HANDOVER_INFO _IOR(HANDOVER_MAGIC, 0x00, struct handover_info)
#define HANDOVER_SERVICE _IOWR(HANDOVER_MAGIC, 0x01, struct handover_service)
#define HANDOVER_CONNECT _IOWR(HANDOVER_MAGIC, 0x02, struct handover_connect)
#define HANDOVER_LISTEN _IOWR(HANDOVER_MAGIC, 0x03, struct handover_listen)
#define HANDOVER_REGION_CREATE _IOWR(HANDOVER_MAGIC, 0x04, struct handover_region_create)
/* Ends the partition with a status; does not return. Needs CAP_SYS_BOOT. Nothing is synced or unmounted. */
#define HANDOVER_EXIT _IOW(HANDOVER_MAGIC, 0x05, __u64)

#define HANDOVER_ACCOUNT _IOWR(HANDOVER_MAGIC, 0x06, struct handover_account)
#define HANDOVER_SHARE _IOWR(HANDOVER_MAGIC, 0x09, struct handover_share)

/* On a listener. */
#define HANDOVER_REQUEST _IOWR(HANDOVER_MAGIC, 0x10, struct handover_request)
#define HANDOVER_ACCEPT _IOWR(HANDOVER_MAGIC, 0x11, struct handover_accept)
#define HANDOVER_REFUSE _IOW(HANDOVER_MAGIC, 0x12, struct handover_refuse)

/* On a region. */
#define HANDOVER_REGION_INFO _IOR(HANDOVER_MAGIC, 0x20, struct handover_region_info)

/* On shared memory. */
#define HANDOVER_SHARED_INFO _IOR(HANDOVER_MAGIC, 0x21, struct handover_shared_info)

/* On a channel. */
#define HANDOVER_SEND _IOW(HANDOVER_MAGIC, 0x30, struct handover_message)
#define HANDOVER_RECEIVE _IOWR(HANDOVER_MAGIC, 0x31, struct handover_message)
#define HANDOVER_STATUS _IOR(HANDOVER_MAGIC, 0x32, struct handover_status)
/* Signals the peer: its poll() reports EPOLLPRI. Signals do not add up. */
#define HANDOVER_SIGNAL _IO(HANDOVER_MAGIC, 0x33)
/* Takes the peer's signal; EAGAIN when there is none. */
#define HANDOVER_SIGNAL_TAKE _IO(HANDOVER_MAGIC, 0x34)
/* Takes what has happened since the last time, as HANDOVER_STATE_*, the peer's signal too; EAGAIN when that is nothing. */
#define HANDOVER_EVENT _IOR(HANDOVER_MAGIC, 0x35, __u32)
/* Sends a message and waits for the reply. */
#define HANDOVER_CALL _IOWR(HANDOVER_MAGIC, 0x39, struct handover_message)
/* How many nanoseconds calls by this channel wait, from 1 to 1000000000, which it is without. */
#define HANDOVER_PATIENCE _IOW(HANDOVER_MAGIC, 0x3a, __u64)
/* Waits for the peer's signal and takes it; ENODATA: the peer has gone, and there is none. */
#define HANDOVER_SIGNAL_WAIT _IO(HANDOVER_MAGIC, 0x38)

/* On an event port: keeps events back until HANDOVER_UNMASK. */
#define HANDOVER_MASK _IO(HANDOVER_MAGIC, 0x36)
#define HANDOVER_UNMASK _IO(HANDOVER_MAGIC, 0x37)

#endif
