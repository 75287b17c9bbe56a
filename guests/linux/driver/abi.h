/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hypercall interface, in the words of the crate handover-abi, which defines it. A test of the crate
 * handover-linux compares every number here with that crate's.
 */
#ifndef HANDOVER_ABI_H
#define HANDOVER_ABI_H

#define HANDOVER_ABI_MAJOR 1

#define HANDOVER_CALL_VERSION 0xc6000000
#define HANDOVER_CALL_IDENTIFY 0xc6000001
#define HANDOVER_CALL_END 0xc6000002
#define HANDOVER_CALL_ACCOUNT_READ 0xc6000003
#define HANDOVER_CALL_REGION_CREATE 0xc6000010
#define HANDOVER_CALL_REGION_DESTROY 0xc6000011
#define HANDOVER_CALL_REGION_MAP 0xc6000012
#define HANDOVER_CALL_REGION_INFO 0xc6000014
#define HANDOVER_CALL_CONNECT 0xc6000020
#define HANDOVER_CALL_ACCEPT 0xc6000021
#define HANDOVER_CALL_REFUSE 0xc6000022
#define HANDOVER_CALL_DISCONNECT 0xc6000023
#define HANDOVER_CALL_SEND 0xc6000024
#define HANDOVER_CALL_RECEIVE 0xc6000025
#define HANDOVER_CALL_PORT_STATUS 0xc6000026
#define HANDOVER_CALL_EVENT_NEXT 0xc6000030
#define HANDOVER_CALL_EVENT_SEND 0xc6000031
#define HANDOVER_CALL_EVENT_MASK 0xc6000032
#define HANDOVER_CALL_EVENT_UNMASK 0xc6000033
#define HANDOVER_CALL_SIGNAL_NEXT 0xc6000040
#define HANDOVER_CALL_SHARED_MAP 0xc6000048
#define HANDOVER_CALL_SHARED_INFO 0xc600004a
#define HANDOVER_CALL_WATCHDOG_KICK 0xc6000058
#define HANDOVER_CALL_CALL 0xc6000060
#define HANDOVER_CALL_CALL_SETUP 0xc6000066

#define HANDOVER_ERROR_NOT_SUPPORTED (-1)
#define HANDOVER_ERROR_INVALID_ARGUMENT (-2)
#define HANDOVER_ERROR_BAD_HANDLE (-3)
#define HANDOVER_ERROR_BAD_ADDRESS (-4)
#define HANDOVER_ERROR_IN_USE (-5)
#define HANDOVER_ERROR_WOULD_BLOCK (-6)
#define HANDOVER_ERROR_QUEUE_FULL (-7)
#define HANDOVER_ERROR_PEER_CLOSED (-8)
#define HANDOVER_ERROR_NOT_CONNECTED (-9)
#define HANDOVER_ERROR_LIMIT (-10)
#define HANDOVER_ERROR_NO_MEMORY (-11)
#define HANDOVER_ERROR_DENIED (-12)
#define HANDOVER_ERROR_WRONG_STATE (-13)
#define HANDOVER_ERROR_TOO_LARGE (-14)
#define HANDOVER_ERROR_TIMED_OUT (-15)
#define HANDOVER_ERROR_NO_CAPACITY (-16)
#define HANDOVER_ERROR_THROTTLED (-17)
#define HANDOVER_ERROR_DEADLOCK (-18)

/* Port events (Causes) and what PortStatus reports. */
#define HANDOVER_CAUSE_CONNECTED 0x01
#define HANDOVER_CAUSE_MESSAGE 0x02
#define HANDOVER_CAUSE_PEER_CLOSED 0x04
#define HANDOVER_CAUSE_REFUSED 0x08
#define HANDOVER_CAUSE_SPACE 0x10
#define HANDOVER_CAUSE_SIGNAL 0x20
#define HANDOVER_CAUSE_TIMED_OUT 0x40

/* Control signals. */
#define HANDOVER_SIGNAL_KIND_CONNECT 1
#define HANDOVER_SIGNAL_KIND_SHUTDOWN_REQUEST 3

#define HANDOVER_PORT_CONTROL 0
#define HANDOVER_WINDOW_SLOT 0x200000
#define HANDOVER_REGION_MIN 0x1000
#define HANDOVER_REGION_MAX 0x40000000

/* What a request asks for besides a channel on which both ends send: flags in bits 55:32, log2 of the bytes of shared memory in 61:56. */
#define HANDOVER_REQUEST_SEND_ONLY 0x200000000
#define HANDOVER_REQUEST_RECEIVE_ONLY 0x400000000
#define HANDOVER_REQUEST_EVENTS 0x800000000
#define HANDOVER_REQUEST_MEMORY 0x1000000000
#define HANDOVER_REQUEST_ORDER_SHIFT 56
#define HANDOVER_REQUEST_FLAGS(word) ((word) & 0xffffff00000000)

/* An event: port in bits 23:0, causes in 63:32. */
#define HANDOVER_EVENT_PORT(event) ((u32)(event) & 0xffffff)
#define HANDOVER_EVENT_CAUSES(event) ((u32)((event) >> 32))

/* A message word: port in bits 23:0, region in 47:24, length in 55:48, log2 of the region's size in 61:56. */
#define HANDOVER_WORD(port, region, length) ((u64)(port) | (u64)(region) << 24 | (u64)(length) << 48)
#define HANDOVER_WORD_PORT(word) ((u32)(word) & 0xffffff)
#define HANDOVER_WORD_REGION(word) ((u32)((word) >> 24) & 0xffffff)
#define HANDOVER_WORD_LENGTH(word) ((u32)((word) >> 48) & 0xff)
#define HANDOVER_WORD_ORDER(word) ((u32)((word) >> 56) & 0x3f)

/* Of a direct call: the region is lent; whoever lends it goes on reading it. */
#define HANDOVER_WORD_LENT BIT_ULL(63)
#define HANDOVER_WORD_KEPT BIT_ULL(62)

#endif
