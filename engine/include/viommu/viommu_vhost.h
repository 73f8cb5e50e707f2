/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * viommu_vhost: vhost back ends behind a virtual IOMMU: in the kernel (vhost-net, vDPA) or in another process
 * (vhost-user). A library of its own: libviommu speaks no protocol of vhost. The rules at the top of viommu.h hold here
 * too.
 *
 *   messages   viommu_vhost_message_read(), viommu_vhost_message_write()   IOTLB messages as bytes
 *   front end  viommu_vhost_feeder_create()     a device of an engine: misses are answered, invalidations are sent
 *   back end   viommu_vhost_apply()             a message, done to a viommu_iotlb (viommu_iotlb.h)
 *
 * A back end asks on a miss and keeps the answer. The feeder answers with all that goes on alike around the missed
 * address, in both directions, so that a mapping that is contiguous costs one message however small its pages are.
 */
#ifndef VIOMMU_VIOMMU_VHOST_H
#define VIOMMU_VIOMMU_VHOST_H

#include <viommu/viommu.h>
#include <viommu/viommu_iotlb.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Messages --------------------------------------------------------------------------------------------------- */

/** How a message is put into bytes; numbers in it are in the machine's order. */
enum {
  VIOMMU_VHOST_PLAIN = 0, /* 32 bytes: struct vhost_iotlb_msg, the payload of vhost-user's IOTLB messages */
  VIOMMU_VHOST_V1 = 1,    /* 72 bytes: struct vhost_msg */
  VIOMMU_VHOST_V2 = 2     /* 72 bytes: struct vhost_msg_v2, which has `asid` and batches */
};
#define VIOMMU_VHOST_MESSAGE_BYTES 72 /* of the longest */

/** viommu_vhost_message.type, with the kernel's numbers. */
enum {
  VIOMMU_VHOST_MISS = 1,   /* from the back end */
  VIOMMU_VHOST_UPDATE = 2, /* to it, as all that follow */
  VIOMMU_VHOST_INVALIDATE = 3,
  VIOMMU_VHOST_ACCESS_FAIL = 4, /* there is no translation; also from a back end */
  VIOMMU_VHOST_BATCH_BEGIN = 5, /* VIOMMU_VHOST_V2 only */
  VIOMMU_VHOST_BATCH_END = 6    /* the same */
};

struct viommu_vhost_message {
  uint64_t iova;
  uint64_t last;     /* last address, inclusive */
  uint64_t uaddr;    /* of an UPDATE: where `iova` is for the back end; else 0 */
  uint32_t asid;     /* address space of the back end; VIOMMU_VHOST_V2 only, else 0 */
  uint8_t access;    /* VIOMMU_READ | VIOMMU_WRITE: asked for, or granted; of an INVALIDATE and a batch 0 */
  uint8_t type;      /* VIOMMU_VHOST_MISS ... */
  uint16_t reserved; /* 0 */
};

/**
 * Takes a message apart. Nothing in the bytes is believed: what comes out is a range that does not wrap, rights that
 * there are, and for an UPDATE a user address whose range does not wrap and that is not all ones.
 * A size of 0 is one byte in a MISS and an ACCESS_FAIL, where back ends tell none. In an INVALIDATE of address 0 it is
 * all of 2^64, as whoever computed last + 1 means it. In any other it is an error, as it is for the kernel.
 * @param form    VIOMMU_VHOST_PLAIN ...
 * @param length  bytes there are: exactly as many as the form has
 * @return VIOMMU_OK; VIOMMU_E_ARGUMENT: a null pointer, an unknown form, another length, size 0, no rights or unknown
 *         ones; VIOMMU_E_RANGE: a range that wraps; VIOMMU_E_UNSUPPORTED: another form's number in the bytes, or an
 *         unknown type. `message` is written with VIOMMU_OK alone. Threads: any.
 */
VIOMMU_API viommu_result viommu_vhost_message_read(uint32_t form, const void* bytes, size_t length,
                                                   struct viommu_vhost_message* message);
/**
 * Puts a message into bytes; what the form has beyond it is 0.
 * @param capacity  bytes at `bytes`; VIOMMU_VHOST_MESSAGE_BYTES is enough for any
 * @param length    receives the bytes written
 * @return VIOMMU_OK; VIOMMU_E_RANGE: too little room, a range that wraps, or all of 2^64, which takes two messages;
 *         VIOMMU_E_ARGUMENT; VIOMMU_E_UNSUPPORTED: a type, or an asid, that the form does not have. Threads: any.
 */
VIOMMU_API viommu_result viommu_vhost_message_write(uint32_t form, const struct viommu_vhost_message* message,
                                                    void* bytes, size_t capacity, size_t* length);
/**
 * Does what a message from the front end says to the back end's translations: viommu_iotlb_update(), _invalidate(),
 * _failed(), or nothing for the ends of a batch. The asid is the caller's to look at.
 * @param ticket  receives that of an INVALIDATE, else 0; may be NULL
 * @return as the call that was made; VIOMMU_E_ARGUMENT for a MISS and for nonsense. Threads: any.
 */
VIOMMU_API viommu_result viommu_vhost_apply(viommu_iotlb* iotlb, const struct viommu_vhost_message* message,
                                            uint64_t* ticket);

/* ---- Feeding a back end ----------------------------------------------------------------------------------------- */

typedef struct viommu_vhost_feeder viommu_vhost_feeder;

/** viommu_vhost_options.flags. */
enum {
  VIOMMU_VHOST_DEVICE_TLB = 1, /* the guest invalidates the device's TLB (ATS) as well: needs ECAP.DT */
  VIOMMU_VHOST_BATCH = 2,      /* messages that belong together stand in a batch; VIOMMU_VHOST_V2 only */
  VIOMMU_VHOST_TELL_FAIL = 4   /* a miss that is blocked is answered with ACCESS_FAIL; else it is not answered */
};

/** A zero in any field but `size`, `send` and `source` means the default. */
struct viommu_vhost_options {
  size_t size;
  void* opaque; /* first argument of each function */
  /**
   * Sends one message. Messages come one at a time and in their order, from the thread of a miss, from whichever thread
   * works for the engine, or from another of these that is at it. No lock is held; whoever needs an INVALIDATE sent
   * waits for it, so a back end that has to confirm it (REPLY_ACK) is waited for in here. It may call back into the
   * feeder, but for viommu_vhost_feeder_destroy().
   */
  void (*send)(void* opaque, const void* bytes, size_t length);
  /**
   * The region of guest memory that has `gpa`, as it was added to the engine, with the user address in `hva`: 0, or
   * negative when there is none. Without it the user address is the guest-physical address.
   */
  int32_t (*memory)(void* opaque, uint64_t gpa, struct viommu_region* region);
  uint64_t window;  /* an answer stays inside the aligned block of so many bytes around the missed address: a power of
                       two from 4 KiB to 2^40; default 1 GiB. A look at it takes about 40 ns for each leaf of 4 KiB
                       that goes on alike, so it also bounds how long a miss takes */
  uint32_t ahead;   /* further ranges that an answer may have, behind the missed one; default 0, at most 60 */
  uint32_t flags;   /* VIOMMU_VHOST_DEVICE_TLB ... */
  uint32_t form;    /* VIOMMU_VHOST_PLAIN ... */
  uint32_t asid;    /* VIOMMU_VHOST_V2 only */
  uint32_t readers; /* misses that can be answered at the same time; default 2, at most 64 */
  uint16_t source;  /* requester id of the device; requests are without a PASID */
  uint16_t reserved;
};

/**
 * Feeds the back end of one device from now on. Its memory is the process's.
 * @param refusal  as for viommu_subscribe(); may be NULL
 * @return as viommu_subscribe() and viommu_reader_create(); VIOMMU_E_ARGUMENT, VIOMMU_E_MEMORY. Threads: any.
 */
VIOMMU_API viommu_result viommu_vhost_feeder_create(viommu_engine* engine, const struct viommu_vhost_options* options,
                                                    struct viommu_refusal* refusal, viommu_vhost_feeder** feeder);
/** Ends it: nothing is sent any more, and what the back end has is the VMM's to take away. No other call may be
 *  running. VIOMMU_E_BUSY from a callback of the engine. NULL is allowed. */
VIOMMU_API viommu_result viommu_vhost_feeder_destroy(viommu_vhost_feeder* feeder);

/**
 * Answers a miss: UPDATE for all of [first, last] as far as it is mapped in a row, and for what goes on alike before
 * and behind it, cut at the window and at the ends of guest memory. An answer is one message where that is contiguous.
 * `first` counts as a request of the device: where it is blocked the engine reports it like any other, and the answer
 * is ACCESS_FAIL or none; the look at what is around it is never reported. While dirty tracking is on, what may be
 * written is fed page by page, because an answer for writing is dirty.
 * No UPDATE is sent behind an INVALIDATE with a translation that is older: an answer that an invalidation has overtaken
 * is looked for again.
 * @return VIOMMU_OK: answered; VIOMMU_E_FAULT: blocked; VIOMMU_E_BUSY: overtaken 8 times, or all `readers` are in use:
 *         nothing is sent, call again; VIOMMU_E_ARGUMENT. Threads: any; outside guards, and not from the engine's
 *         callbacks.
 */
VIOMMU_API viommu_result viommu_vhost_feeder_miss(viommu_vhost_feeder* feeder, uint64_t first, uint64_t last,
                                                  uint32_t access);
/** The same for a message of the back end. What is no MISS is VIOMMU_E_ARGUMENT; the rest as
 *  viommu_vhost_message_read() and viommu_vhost_feeder_miss(). */
VIOMMU_API viommu_result viommu_vhost_feeder_message(viommu_vhost_feeder* feeder, const void* bytes, size_t length);
/** Sends an INVALIDATE that is the VMM's own, as when guest memory goes or a user address changes: once the change can
 *  be seen by `memory`. It is sent when the call returns. VIOMMU_E_ARGUMENT. Threads: any. */
VIOMMU_API viommu_result viommu_vhost_feeder_withdraw(viommu_vhost_feeder* feeder, uint64_t first, uint64_t last);

struct viommu_vhost_figures {
  size_t size;
  uint64_t misses; /* since creation, all of them */
  uint64_t faults; /* of these, blocked */
  uint64_t updates;
  uint64_t updated_bytes;
  uint64_t invalidations; /* messages */
  uint64_t overtaken;     /* answers that were looked for again */
};
/** Fills in as many fields as figures->size says. Threads: any. */
VIOMMU_API viommu_result viommu_vhost_figures_get(viommu_vhost_feeder* feeder, struct viommu_vhost_figures* figures);

#ifdef __cplusplus
}
#endif

#endif
