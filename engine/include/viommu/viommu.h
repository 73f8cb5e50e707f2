/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * libviommu: the C interface, and its manual.
 *
 * An *engine* is one remapping unit (Intel VT-d, legacy mode). The VMM gives it guest memory, passes the guest's
 * register accesses to it, and asks it to translate what devices send.
 *
 *   create     viommu_create_vtd()                        options: what the unit can do; host: what the VMM offers
 *   memory     viommu_region_add(), viommu_region_remove()
 *   registers  viommu_mmio_read(), viommu_mmio_write()    the guest's accesses to the register window
 *   work       viommu_process()                           what a register write started and did not finish
 *   translate  viommu_reader_create(), viommu_enter(), viommu_translate*(), viommu_leave()
 *   DMA that outlives the call: viommu_hold(), viommu_release()
 *   interrupts viommu_interrupt*(), viommu_route()        what becomes of a message, for delivery and for routes kept
 *   ATS, PRI   viommu_ats_*(), viommu_request_page()      and host.device_invalidate, viommu_device_invalidated()
 *   questions  viommu_statistics_get(), viommu_dump()     counters, and a document about all of it
 *
 * Rules that hold for every call
 * - Results are VIOMMU_OK (0) or a negative VIOMMU_E_*; nothing is thrown, printed or aborted, whatever the guest does.
 * - Structs that start with `size` are sized: set it to sizeof(the struct). A zero in any other field means the
 *   default, so `struct viommu_vtd_options options = {sizeof options};` is a complete set of options. They only ever
 *   grow. A longer one is taken when all that this version does not know is zero.
 * - Everything but viommu_destroy() may be called from any thread at any time. One reader is used by one thread at a
 *   time.
 * - From a host callback: translating and interrupts (with another reader, or the calls without one), viommu_route(),
 *   viommu_statistics_get() and the host's own wake are allowed; every other call on the same engine answers
 *   VIOMMU_E_BUSY and does nothing.
 * - Addresses and lengths are bytes; lengths of 0 are errors; ranges may end at the last address.
 *
 * What a translation is worth
 * - Inside a guard (viommu_enter .. viommu_leave) an answer stays usable until viommu_leave: the guest is not told that
 *   an invalidation is complete (wait descriptor, GSTS, ICC, IVT) while a guard that began before it is open.
 *   A guard is short: no blocking in it, and no call on the same engine but translating and viommu_hold.
 * - viommu_hold makes an answer outlive its guard, until viommu_release (from any thread).
 * - An answer given outside a guard is a hint: it was true at some instant during the call.
 */
#ifndef VIOMMU_VIOMMU_H
#define VIOMMU_VIOMMU_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define VIOMMU_API
#else
#define VIOMMU_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Results ---------------------------------------------------------------------------------------------------- */

typedef int32_t viommu_result;

enum {
  VIOMMU_OK = 0,
  VIOMMU_E_REFUSED = -1,     /* the refusal says why */
  VIOMMU_E_NOT_FOUND = -2,   /* no such region or hold */
  VIOMMU_E_MEMORY = -12,     /* the host's allocator had no memory */
  VIOMMU_E_FAULT = -14,      /* the request is blocked; the translation says why */
  VIOMMU_E_BUSY = -16,       /* called from a host callback, or readers or holds are still open */
  VIOMMU_E_EXISTS = -17,     /* the region overlaps one that is there */
  VIOMMU_E_ARGUMENT = -22,   /* a null pointer, a wrong size, a value that makes no sense */
  VIOMMU_E_LIMIT = -28,      /* a quota given at creation is used up */
  VIOMMU_E_RANGE = -34,      /* beyond the register window, or beyond what a narrowed unit can address */
  VIOMMU_E_UNSUPPORTED = -95 /* capabilities this build does not have; the error text names the field */
};

/** A short constant text for a result code; "unknown result" for anything else. Threads: any. */
VIOMMU_API const char* viommu_result_text(viommu_result result);

/** "major.minor.patch" of the library. Threads: any. */
VIOMMU_API const char* viommu_version(void);

/* ---- The host --------------------------------------------------------------------------------------------------- */

/** Log levels of viommu_host.log. */
enum { VIOMMU_LOG_ERROR = 0, VIOMMU_LOG_WARNING = 1, VIOMMU_LOG_INFO = 2 };

/**
 * What the VMM offers. Copied at creation. Every function is optional; memory must come from regions or from
 * memory_read. Called without any lock held, from whichever thread called the engine.
 */
struct viommu_host {
  size_t size;
  void* opaque; /* first argument of each function */

  /** Reads `size` (8 or 16) bytes of guest memory, aligned to `size`, outside all regions. Each 8-byte word must be
   * read as a whole, and 16 bytes so that they stood there together (low, high, and low again): half of an entry that
   * the guest rewrites meanwhile would look malformed. 0, or negative when there is no memory: the guest then sees the
   * specification's access fault. */
  int32_t (*memory_read)(void* opaque, uint64_t gpa, void* data, uint64_t size);
  /** Writes `size` (4 or 8, for a virtqueue also 1 or 2) bytes, aligned, outside all regions: as a whole, and visible
   * to the guest after all writes before it. 0 or negative. Must refuse what is not RAM. */
  int32_t (*memory_write)(void* opaque, uint64_t gpa, const void* data, uint64_t size);
  /** Compare-exchange of an aligned 8-byte word outside all regions: 0 done, 1 lost (*expected is what was found),
   *  negative when there is no memory. */
  int32_t (*memory_compare_exchange)(void* opaque, uint64_t gpa, uint64_t* expected, uint64_t desired);

  /** Sends an interrupt message of the unit itself (fault event, wait completion). After all stores it announces, one
   * at a time per engine, in order. */
  void (*msi)(void* opaque, uint64_t address, uint32_t data);
  /** viommu_process() should be called soon, from any thread (not from here). */
  void (*wake)(void* opaque);
  /** Monotonic nanoseconds: the only clock the engine knows. Without it holds are never reported as overdue. */
  uint64_t (*now_ns)(void* opaque);
  /** One line of text for the VMM's log, without a line feed and in printable ASCII; `text` is valid during the call.
   *  Told are: the invalidation queue stopped by an error (code, head, the descriptor's words), a status write that met
   *  no writable memory, an overdue hold, and a completion withheld for longer than hold_report_ns (the last two need
   *  now_ns). Each of these four is told the 1st, 2nd, 4th, 8th ... time only, with how often it was: no guest can
   *  flood the log. It comes after the guest can see what it is about; `level` is VIOMMU_LOG_WARNING for all so far. */
  void (*log)(void* opaque, int32_t level, const char* text);
  /** Runs task(context, i) for every i in [0, count), in any order, perhaps in parallel; returns when all have ended,
   *  and what they wrote is visible then. Used for long work only: sweeps, and long runs of invalidations where there
   *  is more than one of `shards`. Tasks wait for nothing. Without it work stays on the calling thread. viommu_tbb.h
   *  offers one. */
  void (*execute)(void* opaque, uint32_t count, void (*task)(void* context, uint32_t index), void* context);
  /** Memory for the engine, at creation, for region changes and when dirty tracking goes on. Both or neither.
   *  `alignment` is a power of two. */
  void* (*allocate)(void* opaque, size_t size, size_t alignment);
  void (*deallocate)(void* opaque, void* memory, size_t size, size_t alignment);
  /** Nothing can reach the removed region `cookie` any more: the VMM may unmap it. */
  void (*region_gone)(void* opaque, uint64_t cookie);
  /** Interrupt table entries [first, first + count) may have changed; before the guest sees the completion. Whoever
   * keeps routes asks viommu_route() for them again, from here if it likes. Told at each invalidation of the interrupt
   * entry cache, and with the whole table when remapping goes on or off, at a new table (CAP.ESIRTPS set), and at a
   * reset after any of these.
   * `count` 0: no entry, but whether messages in compatibility format pass (CFI). */
  void (*routes_changed)(void* opaque, uint32_t first, uint32_t count);
  /** A hold has kept a completion back for longer than hold_report_ns; told once for each hold. */
  void (*hold_overdue)(void* opaque, uint64_t hold, uint64_t cookie, uint64_t age_ns);
  /** Recording sink: receives the trace (one or more whole lines, with line feeds) of everything the engine is asked
   * and answers. An engine with a sink serves one call at a time and reads regions through the recorder. */
  void (*record)(void* opaque, const char* text, size_t length);
  /** The answer to a page request that viommu_request_page() queued as the last of its group: `pasid` is all ones for a
   * request without one, `code` VIOMMU_PAGE_SUCCESS ... Once for each; a reset answers what is open with failure. */
  void (*page_response)(void* opaque, uint16_t source, uint32_t pasid, uint32_t group, uint32_t code);
  /** The device `source` is to drop the translations it keeps (ATS) of [iova, iova + mask], and to finish what uses
   * them: those of `pasid`, of requests without one (VIOMMU_NO_PASID), or all (VIOMMU_EVERY_PASID). Called when every
   * guard has ended in which it may have been given one of them. Answers VIOMMU_DEVICE_DONE (also for a device that is
   * not there or keeps none), VIOMMU_DEVICE_PENDING when viommu_device_invalidated() says so with this `ticket`,
   * perhaps before this returns, or a negative number when the device will not: that is a time-out at once.
   * Without it all is done at once. Needed by whoever keeps answers of viommu_ats_translate(). */
  int32_t (*device_invalidate)(void* opaque, uint64_t ticket, uint16_t source, uint32_t pasid, uint64_t iova,
                               uint64_t mask);
  /** The view of a device that was added or subscribed to is another one now: after the old one was withdrawn from its
   * consumers, before the new one is delivered. */
  void (*view_changed)(void* opaque, uint16_t source, uint32_t view);
  /* Of a virtio-iommu (viommu_virtio.h); from any thread that is at its work or translates. */
  /** The driver wants to hear of used buffers of queue `queue`: send its interrupt. */
  void (*virtio_notify)(void* opaque, uint32_t queue);
  /** The device needs a reset: set DEVICE_NEEDS_RESET and send the interrupt of a configuration change. */
  void (*virtio_needs_reset)(void* opaque);
  /** A fault report of `size` bytes, for a VMM that works the event queue itself: 0 when it has a buffer for it,
   *  negative when it has none, and the report is dropped. */
  int32_t (*virtio_event)(void* opaque, const void* event, uint32_t size);
};

/** `pasid` of host.page_response and host.device_invalidate, where it is none. */
#define VIOMMU_NO_PASID 0xFFFFFFFFU
#define VIOMMU_EVERY_PASID 0xFFFFFFFEU
/** Answers of host.device_invalidate. */
enum { VIOMMU_DEVICE_DONE = 0, VIOMMU_DEVICE_PENDING = 1 };

/* ---- Engine ----------------------------------------------------------------------------------------------------- */

typedef struct viommu_engine viommu_engine;
typedef struct viommu_reader viommu_reader;

/** Flags of viommu_vtd_options.flags. */
enum {
  VIOMMU_FAULT_COMPRESSION = 1,  /* drop a fault while one of its source is pending in a fault recording register */
  VIOMMU_UNCACHED = 2,           /* nothing is put into the IOTLB: each request walks. For measuring and for doubt */
  VIOMMU_NARROW_HAW = 4,         /* a narrower host may narrow guest-physical addresses too */
  VIOMMU_FIRST_STAGE_CHECKS = 8, /* devices are checked for a host that walks the guest's first stage itself */
  VIOMMU_MIGRATABLE_ONLY = 16,   /* what would block migration is refused */
  VIOMMU_SHARE_SPACES = 32,      /* devices of one address space share a host address space, where consumers say so */
  VIOMMU_UNKNOWN_BYPASSES = 64   /* a device of VIOMMU_ABILITY_UNKNOWN is taken for one that is not able, not refused */
};

/** viommu_vtd_options.drain: how a guard announces itself, and who pays for it. */
enum {
  VIOMMU_DRAIN_DEFAULT = 0, /* VIOMMU_DRAIN_AUTO */
  VIOMMU_DRAIN_FENCE = 1,   /* a full fence at each enter; a completion makes no system call but to wait for a guard */
  VIOMMU_DRAIN_BARRIER = 2, /* no fence at all; each completion makes a process-wide barrier (Linux: membarrier) */
  VIOMMU_DRAIN_AUTO = 3     /* by the measured number of guards between completions. Both of these become
                               VIOMMU_DRAIN_FENCE where the barrier is not to be had */
};

/** viommu_vtd_options.fill: what a walk may put into the IOTLB besides its answer. */
enum {
  VIOMMU_FILL_DEFAULT = 0, /* VIOMMU_FILL_ALL */
  VIOMMU_FILL_EXACT = 1,   /* nothing: only entries on the path of the address are read */
  VIOMMU_FILL_LINE = 2,    /* up to seven neighbours: pages whose leaves lie in the same cache line and go on alike */
  VIOMMU_FILL_ALL = 3      /* also the next line of a sequential stream */
};

/** A VT-d unit. Zero in any field but `size` means the default named there. */
struct viommu_vtd_options {
  size_t size;
  uint64_t capability;          /* CAP_REG; default: 39, 48 and 57 bit, 2 MiB and 1 GiB pages, 8 fault records, CM 0 */
  uint64_t extended_capability; /* ECAP_REG; default: QI, PT, page-walk coherency */
  uint32_t version;             /* VER_REG; default 0x10 */
  uint32_t host_address_width;  /* guest-physical address bits, 32..52; default: MGAW + 1, at most 52 */
  uint32_t flags;               /* VIOMMU_FAULT_COMPRESSION, VIOMMU_UNCACHED */
  uint32_t drain;               /* VIOMMU_DRAIN_* */
  uint32_t fill;                /* VIOMMU_FILL_* */
  uint32_t iotlb_pages;         /* translations the IOTLB is laid out for; default 65,536, at most 2^24 */
  uint32_t context_entries;     /* context entries cached at a time; default 4,096, at most 65,536 */
  uint32_t address_spaces;      /* different address spaces cached at a time, at most 65,536; default: as
                                   context_entries and, in a unit with scalable mode, pasid_entries together */
  uint32_t tag_bits;            /* width of the tags that tell address spaces apart, 4..16; default 16 */
  uint32_t readers;             /* readers that can exist at a time; default 64, at most 4,096 */
  uint32_t holds;               /* holds that can be open at a time; default 1,024, at most 2^20 */
  uint32_t regions;             /* memory regions at a time; default 256, at most 65,536 */
  uint64_t hold_report_ns;      /* after this long a hold that delays a completion is reported; default 1 s */
  uint64_t hash_seed;           /* seed of the IOTLB's hash; default: random for each engine */
  const char* kernel;           /* walk kernel: "scalar", "avx2", "avx512", "neon", "avx2-gather", "avx512-gather";
                                   default: what VIOMMU_KERNEL in the environment names, else the best of this CPU */
  uint32_t structures;    /* page tables the paging-structure cache is laid out for; default 4,096, at most 2^20 */
  uint32_t shards;        /* parts of the IOTLB, each domain in one (its id modulo shards): what the host's executor
                             can do at the same time; best some more than its threads. A power of two up to 64;
                             default 1 */
  uint32_t pasid_entries; /* PASIDs of sources cached at a time, beside context_entries: a power of two from 8
                             to 65,536; default 4,096. A unit without scalable mode (SMTS) caches none */
  uint32_t fault_limit;   /* faults of one source that are recorded in a second of the host's clock, so that it cannot
                             keep the records from the others; default: all. Needs host.now_ns */
  uint32_t accounts;      /* pairs of a device and a domain that are counted apart at a time, at most 65,535, for
                             viommu_device_statistics_get() and _domain_; default: none. Each takes 24 bytes a reader,
                             and a hit costs about half as much again */
  uint64_t device_timeout_ns; /* a device-TLB invalidation that is not answered for so long has timed out (ITE); default
                                 60 s, the shortest of PCI Express. Without host.now_ns none does */
  uint32_t policy;            /* VIOMMU_POLICY_*: what becomes of capabilities that a device's host does not have */
  uint32_t subscriptions;     /* consumers at a time; default 256, at most 65,536 */
  uint64_t mapping_quota;     /* mappings of one consumer at a time, 16 bytes for each and 64 MiB at most;
                                 default 2^24 */
};

/** viommu_vtd_options.policy. */
enum {
  VIOMMU_POLICY_CHECK = 0, /* a device whose host cannot do what the unit says is refused */
  VIOMMU_POLICY_SYNC = 1   /* before viommu_ready() the unit narrows to what the host can do; then as CHECK. Nothing may
                              be translated, or routed, meanwhile, and registers are at their reset values after it */
};

/**
 * Creates a VT-d unit with its registers at their reset values and no memory.
 * @param error       where a text goes that says what is wrong with the options (may be NULL); always terminated
 * @param error_size  bytes at `error`
 * @return VIOMMU_OK, _E_ARGUMENT (also: capability dependencies), _E_UNSUPPORTED, _E_MEMORY. Threads: any.
 */
VIOMMU_API viommu_result viommu_create_vtd(const struct viommu_vtd_options* options, const struct viommu_host* host,
                                           char* error, size_t error_size, viommu_engine** engine);

/** Name of the walk kernel that the engine uses; a constant. Threads: any. */
VIOMMU_API const char* viommu_kernel(const viommu_engine* engine);

/** Frees the engine. No other call may be running. VIOMMU_E_BUSY while readers exist, holds are open, or from a
 * callback. NULL is allowed. */
VIOMMU_API viommu_result viommu_destroy(viommu_engine* engine);

/* ---- Guest memory ----------------------------------------------------------------------------------------------- */

/** viommu_region.flags. */
enum {
  VIOMMU_REGION_READ_ONLY = 1, /* the engine never writes there: a status write is dropped, as outside RAM */
  VIOMMU_REGION_UNMAPPED = 2,  /* it has no address here (`hva` NULL): read through the host's memory functions */
  VIOMMU_REGION_MMIO = 4       /* a device's BAR: never read or written by the engine (`hva` may be NULL), and only for
                                  consumers with VIOMMU_CONSUMER_MMIO */
};

/** Guest memory mapped into this process; all three are multiples of 4 KiB, the end may be 2^64 - 1. */
struct viommu_region {
  uint64_t gpa;
  uint64_t length;
  void* hva; /* mapped, and readable (writable unless read-only), until region_gone */
  uint64_t flags;
};

/** Adds a region. VIOMMU_E_EXISTS when it overlaps one that is there, _E_RANGE when it ends above the guest-physical
 *  addresses of a unit that was narrowed to a host (VIOMMU_POLICY_SYNC), _E_LIMIT, _E_ARGUMENT. Threads: any. */
VIOMMU_API viommu_result viommu_region_add(viommu_engine* engine, const struct viommu_region* region);

/** Removes the region that begins at `gpa`. Walks that start later do not see it, translations are dropped;
 *  host.region_gone(cookie) fires when no guard and no hold can reach it, perhaps before this returns.
 *  VIOMMU_E_NOT_FOUND; VIOMMU_E_LIMIT while 64 removals are under way. Threads: any. */
VIOMMU_API viommu_result viommu_region_remove(viommu_engine* engine, uint64_t gpa, uint64_t cookie);

/** What a part of a region is. */
enum {
  VIOMMU_PART_SHARED = 0,    /* as it was added */
  VIOMMU_PART_DISCARDED = 1, /* without memory behind it (balloon, virtio-mem): never read, never mapped */
  VIOMMU_PART_PRIVATE = 2    /* of a confidential guest: never read, mapped only for VIOMMU_CONSUMER_PRIVATE */
};
/** Makes [gpa, gpa + length), whole pages inside one region, such a part. It is a removal and an addition: lookups
 *  there fail, or find it, at once; consumers are told by viommu_process(), and host.region_gone(cookie) fires when
 *  nothing uses the part as it was before. VIOMMU_E_NOT_FOUND; VIOMMU_E_LIMIT (options.regions parts). Threads: any. */
VIOMMU_API viommu_result viommu_region_part(viommu_engine* engine, uint64_t gpa, uint64_t length, uint32_t part,
                                            uint64_t cookie);

/* ---- The register window and the work behind it ----------------------------------------------------------------- */

/** Size of the register window in bytes, a multiple of 4 KiB. Threads: any. */
VIOMMU_API uint64_t viommu_mmio_size(const viommu_engine* engine);

/**
 * The guest's accesses. `size` is 1, 2, 4 or 8. Unaligned accesses (but 8 bytes at a multiple of 4) read 0 and write
 * nothing. VIOMMU_E_RANGE beyond the window (*value is 0 then), _E_ARGUMENT for another size. A write does one
 * viommu_process() slice itself, or leaves the work to a thread that is at it already. Threads: any.
 */
VIOMMU_API viommu_result viommu_mmio_read(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t* value);
VIOMMU_API viommu_result viommu_mmio_write(viommu_engine* engine, uint64_t offset, uint32_t size, uint64_t value);

/** What viommu_process() left. */
enum {
  VIOMMU_PROCESS_IDLE = 0, /* nothing to do */
  VIOMMU_PROCESS_MORE = 1, /* the budget is used up: call again */
  VIOMMU_PROCESS_WAIT = 2  /* a completion waits for a guard or a hold: call again at wait_until_ns, or when woken */
};
struct viommu_progress {
  uint32_t state;         /* VIOMMU_PROCESS_* */
  uint32_t reserved;      /* 0 */
  uint64_t wait_until_ns; /* of the host's clock; all ones without a clock. Only with VIOMMU_PROCESS_WAIT */
};

/**
 * Goes on with the unit's work: invalidation descriptors, completions, region removals.
 * @param budget  descriptors to process at most; 0 means one whole queue
 * Threads: any; when another thread is at it, that thread does the work and this call says IDLE.
 */
VIOMMU_API viommu_result viommu_process(viommu_engine* engine, uint32_t budget, struct viommu_progress* progress);

/** System reset: registers and caches as after creation; regions, readers and holds stay. VIOMMU_E_BUSY, and nothing
 *  done, while another thread is inside a register write, viommu_process(), or the work section of viommu_dump().
 *  Threads: any. */
VIOMMU_API viommu_result viommu_reset(viommu_engine* engine);

/** Drops every cached translation and context. Answers stay the same, the next ones walk. Threads: any. */
VIOMMU_API viommu_result viommu_drop_caches(viommu_engine* engine);

/* ---- Translating ------------------------------------------------------------------------------------------------ */

/** Rights, as asked and as granted. An atomic request asks for both. */
enum { VIOMMU_READ = 1, VIOMMU_WRITE = 2 };

/** viommu_request.flags. */
enum {
  VIOMMU_NO_REPORT = 1,   /* same answer, but no fault record and no event */
  VIOMMU_HAS_PASID = 2,   /* `pasid` is valid */
  VIOMMU_ZERO_LENGTH = 4, /* a zero-length read; `access` is VIOMMU_READ */
  VIOMMU_PRIVILEGED = 8,  /* of a supervisor (PR); only with VIOMMU_HAS_PASID */
  VIOMMU_EXECUTE = 16     /* an instruction fetch (ER), always blocked; only with VIOMMU_HAS_PASID, not with a write */
};

/** One device request. */
struct viommu_request {
  uint64_t iova;
  uint64_t length; /* bytes; 0: not told (viommu_translate), an error (viommu_translate_range) */
  uint32_t pasid;
  uint16_t source; /* requester id: bus << 8 | devfn */
  uint8_t access;  /* VIOMMU_READ | VIOMMU_WRITE, not 0 */
  uint8_t flags;
};

/** viommu_translation.kind. */
enum {
  VIOMMU_FAULT = 0,      /* blocked: see reason and status */
  VIOMMU_TRANSLATED = 1, /* through page tables */
  VIOMMU_IDENTITY = 2,   /* pass-through, or translation is off: gpa == iova */
  VIOMMU_INTERRUPT = 3   /* a write into the interrupt address range: an interrupt request, not DMA */
};

/** viommu_translation.status of a fault. */
enum {
  VIOMMU_FAULT_NOT_REPORTED = 0, /* VIOMMU_NO_REPORT, or a fault that is never recorded */
  VIOMMU_FAULT_RECORDED = 1,
  VIOMMU_FAULT_COMPRESSED = 2,   /* one of the same source is still pending */
  VIOMMU_FAULT_OVERFLOW_SET = 3, /* no register was free: the overflow bit is set now */
  VIOMMU_FAULT_OVERFLOWED = 4,   /* the overflow bit was set already */
  VIOMMU_FAULT_DISABLED = 5,     /* fault processing is disabled for the source (FPD) */
  VIOMMU_FAULT_LIMITED = 6,      /* the source has had its records for this second (options.fault_limit) */
  VIOMMU_FAULT_NO_BUFFER = 7     /* of virtio-iommu: the driver has given no buffer for a report */
};

/** The answer to one request. */
struct viommu_translation {
  uint64_t gpa;      /* address of the access itself */
  uint64_t mask;     /* size - 1 of the aligned block around iova (and gpa) in which every address translates alike */
  uint8_t kind;      /* VIOMMU_TRANSLATED ... */
  uint8_t rights;    /* VIOMMU_READ | VIOMMU_WRITE that the tables grant, and VIOMMU_MMIO where it leads into a region
                        with VIOMMU_REGION_MMIO. Where tables have dirty flags a write is not among them before one
                        was asked for */
  uint8_t reason;    /* VT-d fault reason code, 0 without a fault */
  uint8_t status;    /* VIOMMU_FAULT_* */
  uint32_t reserved; /* 0 */
};

/** Creates a reader: the handle through which one thread or one queue translates. VIOMMU_E_LIMIT, VIOMMU_E_BUSY. */
VIOMMU_API viommu_result viommu_reader_create(viommu_engine* engine, viommu_reader** reader);
/** Returns the reader. VIOMMU_E_BUSY inside its guard. NULL is allowed. */
VIOMMU_API viommu_result viommu_reader_destroy(viommu_reader* reader);

/** Opens the reader's guard; may be nested. Wait-free, no shared write but to the reader's own line. */
VIOMMU_API void viommu_enter(viommu_reader* reader);
/** Closes it. May call host.wake. Without an open guard it does nothing. */
VIOMMU_API void viommu_leave(viommu_reader* reader);

/**
 * Translates one request. Never blocks; takes no lock on a hit (but while protected memory is on); makes at most 7
 * guest loads on a miss, each of a word, an entry of 16 bytes or a leaf's cache line (see fill). In scalable mode it
 * makes at most 7 for the context, and a first stage where flags are to be set takes up to 40, and 40 exchanges, if the
 * guest keeps changing its entries.
 * Outside a guard the call opens one for itself, and the answer is a hint.
 * @return VIOMMU_OK, VIOMMU_E_FAULT (translation->reason says why), VIOMMU_E_ARGUMENT. Source: VT-d, "DMA Remapping".
 */
VIOMMU_API viommu_result viommu_translate(viommu_reader* reader, const struct viommu_request* request,
                                          struct viommu_translation* translation);

/* ---- Address translation services ------------------------------------------------------------------------------- */

/** viommu_ats_completion.status: how the request is completed on the bus. */
enum {
  VIOMMU_ATS_SUCCESS = 0,
  VIOMMU_ATS_UNSUPPORTED_REQUEST = 1,
  VIOMMU_ATS_COMPLETER_ABORT = 2,
};
/** viommu_ats_completion.flags. */
enum {
  VIOMMU_ATS_PRIVILEGED = 1,        /* PRIV */
  VIOMMU_ATS_UNTRANSLATED_ONLY = 2, /* U: the range is to be accessed by untranslated requests */
  VIOMMU_ATS_MUST_SNOOP = 4         /* N */
};

/** The answer to a translation request. A success without rights grants nothing, and gpa and mask say nothing then. */
struct viommu_ats_completion {
  uint64_t gpa;     /* of the address asked for */
  uint64_t mask;    /* size - 1 of the aligned range that the answer is for; S is set when it is above 0xFFF */
  uint8_t status;   /* VIOMMU_ATS_SUCCESS ... */
  uint8_t rights;   /* what is granted of what was asked for */
  uint8_t flags;    /* VIOMMU_ATS_PRIVILEGED ... */
  uint8_t reason;   /* VT-d fault reason code, 0 without one; also of a success that grants nothing */
  uint8_t recorded; /* VIOMMU_FAULT_* of the fault's record */
  uint8_t reserved[3];
};

/**
 * A translation request (AT 01) of a device that keeps translations of its own. `request->access` is VIOMMU_READ when
 * the device needs no right to write (NW), which counts only in a unit with NWFS, and VIOMMU_READ | VIOMMU_WRITE
 * otherwise: a page that may be written is then dirty from now on. The device must have dropped the translation before
 * a device-TLB invalidation that names it is answered.
 * Inside a guard as viommu_translate(), with the same bounds, asked for at most three times.
 * @return VIOMMU_OK whatever the completion says, VIOMMU_E_ARGUMENT. Source: VT-d, "Address Translation Services".
 */
VIOMMU_API viommu_result viommu_ats_translate(viommu_reader* reader, const struct viommu_request* request,
                                              struct viommu_ats_completion* completion);

/**
 * A translated request (AT 10): `request->iova` is what an ATS completion gave. Says whether it may go there.
 * @return VIOMMU_OK: translation->kind is VIOMMU_IDENTITY; VIOMMU_E_FAULT: blocked (UR); VIOMMU_E_ARGUMENT.
 */
VIOMMU_API viommu_result viommu_ats_check(viommu_reader* reader, const struct viommu_request* request,
                                          struct viommu_translation* translation);

/** Answers to page requests, as the guest gives them. */
enum { VIOMMU_PAGE_SUCCESS = 0, VIOMMU_PAGE_INVALID = 1, VIOMMU_PAGE_FAILURE = 15 };

/** A device's request for a page (PRI). */
struct viommu_page_request {
  uint64_t iova;
  uint32_t pasid;  /* with VIOMMU_HAS_PASID */
  uint16_t source; /* requester id */
  uint16_t group;  /* page request group index, 0 to 511 */
  uint8_t access;  /* VIOMMU_READ | VIOMMU_WRITE */
  uint8_t flags;   /* VIOMMU_HAS_PASID, with it VIOMMU_PRIVILEGED and VIOMMU_EXECUTE */
  uint8_t last;    /* 1: the last of its group, which is answered */
  uint8_t reserved[5];
};

/** What became of a page request. */
enum {
  VIOMMU_PAGE_QUEUED = 0,   /* the guest is asked; host.page_response answers the last of the group */
  VIOMMU_PAGE_ANSWERED = 1, /* *code is the answer: success where the guest's queue has no place, else invalid */
  VIOMMU_PAGE_DROPPED = 2   /* the same, and there is no answer because it is not the last of its group */
};

/**
 * Puts a page request into the guest's page request queue, or answers it. At most 512 groups wait for their answer, and
 * 64 requests for being written; more are as many for which the queue is full. The guest sees it, and the event, before
 * this call or another thread's viommu_process() returns.
 * @param code  of VIOMMU_PAGE_ANSWERED
 * @return VIOMMU_PAGE_QUEUED ..., or VIOMMU_E_ARGUMENT, VIOMMU_E_BUSY (from a callback, or while 64 calls without a
 *         reader run), VIOMMU_E_UNSUPPORTED (the unit has no PRS). Threads: any. Source: VT-d, "Page Requests".
 */
VIOMMU_API viommu_result viommu_request_page(viommu_engine* engine, const struct viommu_page_request* request,
                                             uint32_t* code);

/** Arguments of viommu_device_invalidated(). */
enum {
  VIOMMU_INVALIDATED = 0,           /* the device keeps nothing of it any more */
  VIOMMU_INVALIDATION_TIMEOUT = 1,  /* it has not answered, and is not waited for any longer: the guest is told (ITE),
                                       its open waits are aborted and the queue stops */
  VIOMMU_INVALIDATION_MALFORMED = 2 /* it has said something that is no answer: the guest is told (ICE), and the
                                       invalidation stays open */
};

/**
 * What has become of an invalidation that host.device_invalidate answered VIOMMU_DEVICE_PENDING. At most 64 are open at
 * a time, and of one function as many as its descriptors allow (MIP): the queue stands meanwhile.
 * Waits complete when all invalidations before them are answered. May call host.wake.
 * @return VIOMMU_OK, VIOMMU_E_NOT_FOUND for a ticket that is not open: answered, timed out, or forgotten by a reset or
 *         because the guest has switched the queue off; VIOMMU_E_ARGUMENT, VIOMMU_E_BUSY from a callback. Threads: any.
 *         Source: VT-d, "Device-TLB Invalidate Descriptor", "Invalidation Time-outs".
 */
VIOMMU_API viommu_result viommu_device_invalidated(viommu_engine* engine, uint64_t ticket, uint32_t what);

/* ---- Translating without a reader, ranges, batches, holds -------------------------------------------------------- */

/** The same without a reader, for rare uses: the answer is a hint. VIOMMU_E_BUSY while 64 such calls run. */
VIOMMU_API viommu_result viommu_translate_once(viommu_engine* engine, const struct viommu_request* request,
                                               struct viommu_translation* translation);

/** One piece of a buffer. */
struct viommu_piece {
  uint64_t iova;
  uint64_t gpa;
  uint64_t length;     /* bytes, not 0 */
  uint8_t kind;        /* VIOMMU_TRANSLATED, _IDENTITY or _INTERRUPT */
  uint8_t rights;      /* as viommu_translation.rights */
  uint8_t reserved[6]; /* 0 */
};

/** Where viommu_translate_range() stopped. */
struct viommu_range_end {
  uint64_t translated; /* bytes covered by the pieces */
  uint32_t pieces;     /* pieces written */
  uint8_t reason;      /* of the fault at iova + translated; 0: not stopped by a fault */
  uint8_t status;      /* VIOMMU_FAULT_* */
  uint8_t complete;    /* 1: the whole range is covered */
  uint8_t reserved;    /* 0 */
};

/**
 * Translates [request.iova, request.iova + request.length) into pieces that are as long as address, kind and rights go
 * on alike. Stops at the first byte that is blocked, and reports that fault as one of the request's. One call answers a
 * bounded number of blocks (65,536 in a row that go on alike): ask again for the rest of a larger buffer.
 * @param pieces    array of `capacity` elements
 * @return VIOMMU_OK (complete, out of room, or bounded), VIOMMU_E_FAULT (stopped), VIOMMU_E_ARGUMENT (length 0, range
 *         past 2^64)
 */
VIOMMU_API viommu_result viommu_translate_range(viommu_reader* reader, const struct viommu_request* request,
                                                struct viommu_piece* pieces, uint32_t capacity,
                                                struct viommu_range_end* end);

/**
 * Translates requests[i] into translations[i] for every i in [0, count); each is complete or a fault, never partial.
 * @param count  0..65535; the arrays hold that many elements and do not overlap
 * @return VIOMMU_OK (also when some or all are faults), VIOMMU_E_ARGUMENT: then nothing is written.
 */
VIOMMU_API viommu_result viommu_translate_batch(viommu_reader* reader, const struct viommu_request* requests,
                                                struct viommu_translation* translations, uint32_t count);

/* ---- DMA that outlives the call --------------------------------------------------------------------------------- */

/**
 * Translates like viommu_translate() and keeps the answer usable until viommu_release(): completions of invalidations
 * that concern it wait. Inside or outside a guard.
 * @param cookie  the owner's, for host.hold_overdue
 * @param hold    receives a handle, never 0
 * @return as viommu_translate(), VIOMMU_E_LIMIT when options.holds are open, and VIOMMU_E_BUSY from a host callback.
 *         The interrupt range cannot be held.
 */
VIOMMU_API viommu_result viommu_hold(viommu_reader* reader, const struct viommu_request* request, uint64_t cookie,
                                     struct viommu_translation* translation, uint64_t* hold);
/** Ends a hold, from any thread. May call host.wake. VIOMMU_E_NOT_FOUND for a handle that is not open. */
VIOMMU_API viommu_result viommu_release(viommu_engine* engine, uint64_t hold);
/** The same, said by a VMM that has stopped the device: counted apart. A later viommu_release() of it is NOT_FOUND. */
VIOMMU_API viommu_result viommu_hold_revoke(viommu_engine* engine, uint64_t hold);

/**
 * The host's IOMMU has blocked a request of a real device that it translates itself: the guest is told as if the unit
 * had done it, under the same rules (FPD of the device's context, compression, options.fault_limit, event).
 * @param request  source, iova, access, pasid and its flags as the device sent them; VIOMMU_NO_REPORT is an error
 * @param reason   VT-d fault reason code in the guest's terms: not 0, nor one of interrupts (20h to 28h)
 * @param status   receives VIOMMU_FAULT_*; may be NULL
 * @return VIOMMU_OK, VIOMMU_E_NOT_FOUND (no such device was added, or it is gone: dropped), VIOMMU_E_ARGUMENT,
 *         VIOMMU_E_BUSY. While translation is off there is nothing to report: VIOMMU_FAULT_NOT_REPORTED. Threads: any.
 */
VIOMMU_API viommu_result viommu_report_host_fault(viommu_engine* engine, const struct viommu_request* request,
                                                  uint8_t reason, uint8_t* status);

/* ---- Interrupts ------------------------------------------------------------------------------------------------- */

/** viommu_message.flags. */
enum {
  VIOMMU_MESSAGE_ANY_SOURCE = 1 /* the source is not known and the VMM vouches for the request (an interrupt controller
                                   of its own that has no requester id): it is not verified. `source` is recorded */
};

/** One interrupt request: what a device or an interrupt controller writes, 4 bytes into the interrupt address range. */
struct viommu_message {
  uint64_t address; /* 0xFEE0_0000 .. 0xFEEF_FFFF */
  uint32_t data;
  uint16_t source; /* requester id */
  uint16_t flags;  /* VIOMMU_MESSAGE_ANY_SOURCE */
};

/** viommu_routed.kind. */
enum {
  VIOMMU_ROUTE_FAULT = 0,     /* blocked: see reason and status */
  VIOMMU_ROUTE_UNCHANGED = 1, /* the message itself: remapping is off, or it passes in compatibility format */
  VIOMMU_ROUTE_REMAPPED = 2,  /* what the table entry makes of it */
  VIOMMU_ROUTE_POSTED = 3     /* goes into a posted-interrupt descriptor (CAP.PI) */
};

/** What becomes of one. */
struct viommu_routed {
  uint64_t address;    /* the message to be delivered: vector, delivery mode and trigger as the processors know them; */
                       /* bits 31:8 of a 32-bit destination in bits 63:40 */
  uint64_t descriptor; /* POSTED: guest-physical address of the descriptor; else 0 */
  uint32_t data;
  uint32_t index;      /* of the table entry, where the request names one; else 0 */
  uint8_t kind;        /* VIOMMU_ROUTE_* */
  uint8_t reason;      /* VT-d fault reason code, 20h to 2Bh; 0 without a fault */
  uint8_t status;      /* VIOMMU_FAULT_*; NOT_REPORTED from viommu_route() */
  uint8_t vector;      /* POSTED: the virtual vector; else 0 */
  uint8_t notify;      /* POSTED: 1: the descriptor asks for a notification, which is the message above; 0 also from
                          viommu_route() */
  uint8_t urgent;      /* POSTED: the entry's URG */
  uint8_t reserved[2]; /* 0 */
};

/**
 * An interrupt request of a device, or of an interrupt controller that goes through the unit: remaps it, posts it, or
 * blocks it and records the fault. Every write into the interrupt address range comes here, whether viommu_translate()
 * calls it VIOMMU_INTERRUPT or, while translation is off, VIOMMU_IDENTITY. Never blocks and keeps nothing: the table
 * entry is read each time, in one piece.
 * The message may be delivered until the reader's guard ends: an invalidation of entries, and IRES, IRTPS and CFIS, are
 * shown to the guest when the guards that began before have ended. Without a guard the answer is a hint.
 * @return VIOMMU_OK, VIOMMU_E_FAULT (routed->reason says why), VIOMMU_E_ARGUMENT (address outside the range; flags).
 *         Source: VT-d, "Interrupt Remapping".
 */
VIOMMU_API viommu_result viommu_interrupt(viommu_reader* reader, const struct viommu_message* message,
                                          struct viommu_routed* routed);
/** The same without a reader: the answer is a hint. VIOMMU_E_BUSY while 64 calls without a reader go on and on. */
VIOMMU_API viommu_result viommu_interrupt_once(viommu_engine* engine, const struct viommu_message* message,
                                               struct viommu_routed* routed);
/** What would become of the message, for routes that the VMM keeps; nothing is posted, recorded or written, and a
 *  descriptor is not looked at. Needs neither reader nor guard. Threads: any; allowed in callbacks, in
 *  host.routes_changed above all: it answers by the state that the guest is about to be told of. Results as
 *  viommu_interrupt_once(). */
VIOMMU_API viommu_result viommu_route(viommu_engine* engine, const struct viommu_message* message,
                                      struct viommu_routed* routed);

/* ---- Refusals --------------------------------------------------------------------------------------------------- */

/** viommu_refusal.code: why a device, a subscription or a state is not taken. */
enum {
  VIOMMU_REFUSED_NOTHING = 0,
  VIOMMU_REFUSED_CACHING_MODE = 1,    /* the unit cannot announce new mappings, and the device needs them */
  VIOMMU_REFUSED_NOT_SUPPORTED = 2,   /* a notification or declaration, which `field` names */
  VIOMMU_REFUSED_ALREADY_EXISTS = 3,  /* the source id has a device, or host facts, already */
  VIOMMU_REFUSED_WIDTH_TOO_SMALL = 4, /* found: the host's bits; expected: ours */
  VIOMMU_REFUSED_HOST_TYPE = 5,       /* found: viommu_host_facts.kind */
  VIOMMU_REFUSED_NEED_IOMMUFD = 6,
  VIOMMU_REFUSED_NESTING_UNSUPPORTED = 7,
  VIOMMU_REFUSED_FIELD_MISMATCH = 8, /* `field`: of CAP or ECAP, or a fact that could not be had */
  VIOMMU_REFUSED_GRANULE_FROZEN = 9,
  VIOMMU_REFUSED_PAGE_SIZES_DISJOINT = 10,
  VIOMMU_REFUSED_NARROWS_HAW = 11, /* found: the width that would be left; expected: what may not be narrowed */
  VIOMMU_REFUSED_ALIAS_CONFLICT = 12,
  VIOMMU_REFUSED_MIGRATION_NOT_ALLOWED = 13,
  VIOMMU_REFUSED_CANNOT_TRANSLATE = 14,
  VIOMMU_REFUSED_UNKNOWN_ABILITY = 15,
  VIOMMU_REFUSED_INVALID = 16,        /* makes no sense; `field` says what */
  VIOMMU_REFUSED_VETOED = 17,         /* `text` is the veto's */
  VIOMMU_REFUSED_CONSUMER_ERROR = 18, /* found: its code */
  VIOMMU_REFUSED_BUSY = 19,           /* `field`: what is in the way; found: its owner */
  VIOMMU_REFUSED_BAD_STATE = 20       /* `field`: the section; `text`: what is wrong with it */
};

/** The one form of every refusal, the same for a device that is there at the start and one that is plugged later.
 *  The engine is as it was. */
struct viommu_refusal {
  size_t size;
  uint32_t code;     /* VIOMMU_REFUSED_* */
  uint16_t source;   /* of the device it is about */
  uint16_t reserved; /* 0 */
  uint64_t expected;
  uint64_t found;
  char field[24]; /* terminated; empty where there is none */
  char text[160]; /* one line for a person, terminated: the device as bus:device.function, expected and found */
};

/** A constant name of a refusal's code, such as "CachingModeRequired"; "" for none. Threads: any. */
VIOMMU_API const char* viommu_refusal_name(uint32_t code);

/* ---- Devices ---------------------------------------------------------------------------------------------------- */

/** First and last, both inside. */
struct viommu_range {
  uint64_t first;
  uint64_t last;
};

/** viommu_host_facts.backend. */
enum { VIOMMU_BACKEND_VFIO = 1, VIOMMU_BACKEND_IOMMUFD = 2 };
/** viommu_host_facts.kind(), with iommufd's numbers. */
enum { VIOMMU_HOST_KIND_VTD = 1, VIOMMU_HOST_KIND_SMMUV3 = 2 };

/**
 * What the host's IOMMU can do for one device. Each function answers 0 and the fact, or a negative number when it
 * cannot be had; an error is never taken for a zero. A null function is a fact that this backend does not have: legacy
 * VFIO has neither `kind` nor `capabilities`. Called during viommu_device_add() only; `opaque` is not kept.
 */
struct viommu_host_facts {
  size_t size;
  void* opaque;                                                         /* first argument of each function */
  uint32_t backend;                                                     /* VIOMMU_BACKEND_* */
  uint32_t reserved;                                                    /* 0 */
  int32_t (*kind)(void* opaque, uint32_t* kind);                        /* VIOMMU_HOST_KIND_* */
  int32_t (*width)(void* opaque, uint32_t* bits);                       /* of input addresses */
  int32_t (*capabilities)(void* opaque, uint64_t* cap, uint64_t* ecap); /* CAP_REG and ECAP_REG of a VT-d host */
  /** Usable input addresses, ascending: as many as fit are written, *count says how many there are, at most 4,096. */
  int32_t (*iova_ranges)(void* opaque, struct viommu_range* ranges, uint32_t capacity, uint32_t* count);
  int32_t (*page_sizes)(void* opaque, uint64_t* mask);
};

/** viommu_device.kind. */
enum {
  VIOMMU_DEVICE_EMULATED = 0, /* its DMA is made by the VMM, through viommu_translate() or a consumer that asks */
  VIOMMU_DEVICE_HOST = 1,     /* a real device behind a real IOMMU: its consumer has to know every mapping */
  VIOMMU_DEVICE_MEDIATED = 2  /* host-backed without a host IOMMU of its own: has no facts, and is not checked */
};
/** viommu_device.flags. */
enum {
  VIOMMU_DEVICE_HAS_ALIAS = 1,       /* `alias` counts: the requester id that its bus gives its requests */
  VIOMMU_DEVICE_BYPASSED = 2,        /* its bus does not pass the unit: always VIOMMU_VIEW_SYSTEM, and in no scope */
  VIOMMU_DEVICE_VIRTIO = 4,          /* passes the unit only when its driver agreed to (viommu_driver_features()) */
  VIOMMU_DEVICE_OFFERS_PLATFORM = 8, /* a virtio device that offers VIRTIO_F_ACCESS_PLATFORM (33); one that does not is
                                        VIOMMU_ABILITY_NOT_ABLE, whatever `ability` says */
  VIOMMU_DEVICE_ACS = 16,            /* what it sends to a neighbour goes up to the unit (viommu_isolatable()) */
  VIOMMU_DEVICE_VIRTUAL_FUNCTION = 32, /* `physical` counts: the physical function whose it is */
  VIOMMU_DEVICE_ENDPOINT = 64          /* `endpoint` counts */
};
/** viommu_device.ability: whether it can be made to send its requests through a unit. Of this device: another with the
 *  same vendor and device id may be otherwise. */
enum {
  VIOMMU_ABILITY_DEFAULT = 0, /* of a virtual function that of its physical one where that was added, else ABLE */
  VIOMMU_ABILITY_ABLE = 1,
  VIOMMU_ABILITY_NOT_ABLE = 2, /* it bypasses */
  VIOMMU_ABILITY_UNKNOWN = 3   /* refused, but with VIOMMU_UNKNOWN_BYPASSES */
};
/** viommu_device.wish: what the platform wants of it. */
enum {
  VIOMMU_WISH_UNSET = 0,     /* to translate what can be, or as the physical function's */
  VIOMMU_WISH_TRANSLATE = 1, /* refused of a device that bypasses (CannotTranslate) */
  VIOMMU_WISH_BYPASS = 2
};

/** A device of the machine. */
struct viommu_device {
  size_t size;
  uint16_t source; /* requester id, the device's own */
  uint16_t alias;
  uint32_t kind;           /* VIOMMU_DEVICE_* */
  uint32_t flags;          /* VIOMMU_DEVICE_HAS_ALIAS ... */
  uint32_t reserved_count; /* at most 256 */
  /** `reserved_count` regions that firmware wants mapped one to one (RMRR). They lie in regions of guest memory, of
   *  whatever kind, when viommu_ready() is called, unless the device bypasses. */
  const struct viommu_range* reserved_memory;
  /** Of VIOMMU_DEVICE_HOST, needed unless it says here that it bypasses; else NULL. */
  const struct viommu_host_facts* facts;
  uint8_t ability;   /* VIOMMU_ABILITY_* */
  uint8_t wish;      /* VIOMMU_WISH_* */
  uint16_t physical; /* of VIOMMU_DEVICE_VIRTUAL_FUNCTION */
  uint32_t endpoint; /* behind a virtio-iommu: by what the guest knows it, with several segments usually segment << 16 |
                        requester id; default: its requester id, which is `alias` where it has one. Devices behind one
                        alias are one endpoint, and known by the alias in requests, views, ways and subscriptions;
                        their requests meet the strictest of their ways: blocked, else the unit where one of them
                        passes it */
};

/**
 * A device is there, cold before viommu_ready() and hot after it. All checks are made here but one: a host-backed
 * device behind a unit that cannot announce new mappings is refused at once when hot, and by viommu_ready() when cold.
 * Order of checks, the first that fails is told: duplicate, ability and wish, announcing (hot), backend and kind,
 * width, guest-physical width, fields, page sizes and ranges, alias, vetoes (hot).
 * A device that bypasses, by its bus, ability or wish, is taken without any of the checks of hosts; the refusal says
 * so: its `field` is "Bypassed" then. One of unknown ability is refused (UnknownAbility), and nothing that comes under
 * its source id goes anywhere until a device is added there, or viommu_device_remove() is called for it.
 * A width (MGAW) that is narrowed takes SAGAW along, and blocks migration; a refusal names the field. A backend without
 * a width, legacy VFIO, has that of its highest usable address. Devices that share a requester id (`alias`) have to
 * have the same ranges, page sizes and width.
 * An emulated device need not be added to be translated for: it has been there always. Adding it makes it known to
 * views and to the topology.
 * @param refusal  receives why (may be NULL)
 * @return VIOMMU_OK, VIOMMU_E_REFUSED (nothing is changed), _E_ARGUMENT, _E_LIMIT (reserved_count), _E_MEMORY,
 *         _E_BUSY (from a callback, or while another thread is at the unit's work). Threads: any.
 */
VIOMMU_API viommu_result viommu_device_add(viommu_engine* engine, const struct viommu_device* device,
                                           struct viommu_refusal* refusal);
/** The device is gone: its subscriptions end (withdrawn first), its facts go, and what is cached of its contexts and in
 *  the domains that these lead to: one that is plugged there later starts cold. Capabilities, and blockers of
 *  migration, stay as they are. VIOMMU_OK also when there is none. _E_BUSY as above. Threads: any. */
VIOMMU_API viommu_result viommu_device_remove(viommu_engine* engine, uint16_t source);

/** viommu_device_way(): what the requests of a source id meet. */
enum {
  VIOMMU_WAY_UNIT = 0,   /* the unit */
  VIOMMU_WAY_SYSTEM = 1, /* guest memory at its own addresses: VIOMMU_VIEW_SYSTEM whatever the unit does */
  VIOMMU_WAY_BLOCKED = 2 /* nothing: blocked without a reason, and reported to nobody */
};
/** Now. @param source  the id that requests carry: one that no device was added for passes the unit.
 *  Threads: any; allowed in callbacks. */
VIOMMU_API viommu_result viommu_device_way(viommu_engine* engine, uint16_t source, uint32_t* way);
/**
 * The driver of a VIOMMU_DEVICE_VIRTIO sets FEATURES_OK, or starts the device without it (`accepted` is 0 then): the
 * way of its requests is settled, and its consumers are told. Before this call they go to guest memory as it is; the
 * VMM is to let no queue run before it.
 * @param accepted  1: with VIRTIO_F_ACCESS_PLATFORM; 0: without
 * @return VIOMMU_OK; VIOMMU_E_REFUSED: FEATURES_OK is to stay clear. NotSupported: the bit was offered and not
 *         accepted, and all that the device sends is blocked (VIOMMU_WAY_BLOCKED) until it is reset or the driver
 *         agrees. Invalid: accepted and not offered, or no virtio device. _E_ARGUMENT, _E_BUSY as above. Threads: any.
 */
VIOMMU_API viommu_result viommu_driver_features(viommu_engine* engine, uint16_t source, uint32_t accepted,
                                                struct viommu_refusal* refusal);
/** The virtio device was reset, by its driver or with the machine: it is as before viommu_driver_features(). VIOMMU_OK
 *  also when there is none. _E_BUSY as above. Threads: any. */
VIOMMU_API viommu_result viommu_driver_reset(viommu_engine* engine, uint16_t source);
/** Its host facts are withdrawn, the device stays; repeatable. They can be set again by viommu_device_add(), which is
 *  a duplicate no longer then, and has to say the same alias, and the same of bypassing. Threads: any. */
VIOMMU_API viommu_result viommu_host_facts_unset(viommu_engine* engine, uint16_t source);
/** The guest gave a bus another number: its devices, their facts and subscriptions go with it, and nothing is cached of
 *  either number any more. _E_EXISTS when there is a device on the new one. Threads: any. */
VIOMMU_API viommu_result viommu_bus_renumber(viommu_engine* engine, uint8_t from, uint8_t to);

/** Whether a device may be plugged while the guest runs: a pure question, asked in the order of adding, and not for a
 *  device that is there at the start. 0, or not 0 with a text. */
struct viommu_veto {
  void* opaque;
  int32_t (*refuses)(void* opaque, const struct viommu_device* device, char* text, size_t text_size);
};
/** VIOMMU_OK, _E_LIMIT (16 of them), _E_BUSY as above. They stay, and so must `opaque`. Threads: any. */
VIOMMU_API viommu_result viommu_veto_add(viommu_engine* engine, const struct viommu_veto* veto);

/**
 * All devices and regions of the start are there and the guest is about to run: looks at them once more, and freezes
 * CAP and ECAP. Refused are host-backed devices that the unit cannot announce mappings for (CachingModeRequired), and
 * reserved memory that is in no region (Invalid, `field` "reserved_memory", `found` its first such address).
 * @param refusals  array of `capacity`, each with its size set (may be NULL when 0); ascending by source
 * @param count     receives how many there are
 * @return VIOMMU_OK (also a second time), VIOMMU_E_REFUSED: nothing is frozen; _E_BUSY as above. Threads: any.
 */
VIOMMU_API viommu_result viommu_ready(viommu_engine* engine, struct viommu_refusal* refusals, uint32_t capacity,
                                      uint32_t* count);

/** The capabilities in force, which options.policy may have narrowed. Any of the last three may be NULL. Threads: any.
 */
VIOMMU_API viommu_result viommu_capabilities_get(viommu_engine* engine, uint64_t* capability,
                                                 uint64_t* extended_capability, uint32_t* host_address_width);
/** Why the machine may not be migrated: the `index`-th reason, terminated. VIOMMU_E_NOT_FOUND past the last. */
VIOMMU_API viommu_result viommu_migration_blocker(viommu_engine* engine, uint32_t index, char* text, size_t text_size);

/* ---- Isolation: who can be handed to a nested guest, and what it may be told ------------------------------------- */

/** viommu_bridge.flags. */
enum {
  VIOMMU_BRIDGE_ACS = 1, /* a port that sends requests for its neighbours up; also the upstream port of a switch,
                                    whose downstream ports decide */
  VIOMMU_BRIDGE_CONVENTIONAL = 2 /* the bus behind it is one on which devices see each other's requests */
};
/** A bridge, a root port or a port of a switch, by the numbers that buses have now. */
struct viommu_bridge {
  uint16_t source;
  uint8_t secondary; /* the buses behind it are [secondary, subordinate] */
  uint8_t subordinate;
  uint32_t flags; /* VIOMMU_BRIDGE_* */
};
/** All bridges of the machine, instead of those told before: again when the guest numbers its buses anew. What hangs on
 *  one that is not told is taken to be on buses of its own.
 *  VIOMMU_OK, _E_ARGUMENT (one whose buses are not behind its own; an unknown flag), _E_LIMIT (255), _E_MEMORY, _E_BUSY
 *  as above. Threads: any. */
VIOMMU_API viommu_result viommu_bridges_put(viommu_engine* engine, const struct viommu_bridge* bridges, uint32_t count);

/** Whether requests of this source id are ever translated: 1, and it is in a scope of the topology, or 0: it bypasses,
 *  or is of unknown ability. A virtio device that offers ACCESS_PLATFORM may come to it. Threads: any; allowed in
 *  callbacks. */
VIOMMU_API viommu_result viommu_in_scope(viommu_engine* engine, uint16_t source, uint32_t* in_scope);

/**
 * Whether the device can be handed to somebody whom it must not let out, such as a nested guest: 1 when it, and all
 * that it reaches or can pose as without passing the unit, are in scope. These are its group: whoever has its requester
 * id or alias; functions of one device, virtual ones included, unless both have VIOMMU_DEVICE_ACS; all behind a
 * conventional bus, behind a port without VIOMMU_BRIDGE_ACS, or behind a switch that has one. A group can only be
 * handed over whole.
 * @return VIOMMU_OK, _E_ARGUMENT, _E_BUSY as above. Threads: any.
 */
VIOMMU_API viommu_result viommu_isolatable(viommu_engine* engine, uint16_t source, uint32_t* isolatable);

/** What a device says of itself to whoever gets it. */
struct viommu_description {
  size_t size;
  uint16_t source;
  uint16_t reserved;   /* 0 */
  uint32_t ability;    /* VIOMMU_ABILITY_ABLE ... */
  uint32_t translated; /* 1: its requests pass the unit now (VIOMMU_WAY_UNIT) */
  uint32_t isolatable; /* as viommu_isolatable() */
};
/** What is true of `description->source`. VIOMMU_OK, _E_ARGUMENT, _E_BUSY as above. Threads: any. */
VIOMMU_API viommu_result viommu_describe(viommu_engine* engine, struct viommu_description* description);
/** Whether a nested guest may be told this instead: less than is true, never more. VIOMMU_OK; VIOMMU_E_REFUSED:
 *  CannotTranslate, and `field` names what would be claimed and is not so, or Invalid: translated, and not able to be;
 *  _E_ARGUMENT, _E_BUSY as above. Threads: any. */
VIOMMU_API viommu_result viommu_may_describe(viommu_engine* engine, const struct viommu_description* description,
                                             struct viommu_refusal* refusal);

/* ---- Views ------------------------------------------------------------------------------------------------------ */

/** What a device's DMA sees. */
enum {
  VIOMMU_VIEW_SYSTEM = 0,     /* guest memory at its own addresses */
  VIOMMU_VIEW_TRANSLATED = 1, /* what tables map */
  VIOMMU_VIEW_BLOCKED = 2     /* nothing: its context does not translate, or more is mapped than its consumer takes */
};
/** The view in force of a source id: that of its context as of the last invalidation of it. Threads: any. */
VIOMMU_API viommu_result viommu_view(viommu_engine* engine, uint16_t source, uint32_t* view);

/* ---- Consumers: who keeps mappings of his own (VFIO, iommufd, vhost) --------------------------------------------- */

/** viommu_event.kind. */
enum { VIOMMU_EVENT_MAP = 1, VIOMMU_EVENT_UNMAP = 2, VIOMMU_EVENT_DEVICE_UNMAP = 4 };
/** Beside VIOMMU_READ and VIOMMU_WRITE in the rights of events, translations and pieces. */
enum { VIOMMU_MMIO = 4 /* a device's BAR, for peer-to-peer DMA */ };

/** One change of what is mapped. Inclusive, so that all of 2^64 can be said. */
struct viommu_event {
  uint64_t iova;
  uint64_t last;     /* last address */
  uint64_t gpa;      /* of `iova`; also of an UNMAP that takes back exactly what one MAP gave; else VIOMMU_NO_GPA */
  void* hva;         /* of a MAP; NULL where the region has no address here */
  uint8_t kind;      /* VIOMMU_EVENT_* */
  uint8_t rights;    /* of a MAP */
  uint16_t reserved; /* 0 */
  int32_t status;    /* 0 when it is called; the consumer sets a negative number where it failed */
};
#define VIOMMU_NO_GPA 0xFFFFFFFFFFFFFFFFULL

/** viommu_consumer.declares: what the consumer can do, and what it wants. */
enum {
  VIOMMU_CONSUMER_LEAF = 1,       /* one event for each leaf of the tables */
  VIOMMU_CONSUMER_NO_BLINK = 2,   /* what did not change is never withdrawn: units are leaves */
  VIOMMU_CONSUMER_SPLIT = 4,      /* it can unmap part of an earlier map: runs are as long as they go on */
  VIOMMU_CONSUMER_POW2 = 8,       /* events are of a power of two, and aligned to it */
  VIOMMU_CONSUMER_SNOOPS = 16,    /* it honours snoop control */
  VIOMMU_CONSUMER_MMIO = 32,      /* it can map device BARs */
  VIOMMU_CONSUMER_PRIVATE = 64,   /* it can map private memory of a confidential guest */
  VIOMMU_CONSUMER_LOGS = 128,     /* it can log dirty pages */
  VIOMMU_CONSUMER_SHARES = 256,   /* devices of one address space may use one host address space (see attach) */
  VIOMMU_CONSUMER_UNMAP_ALL = 512 /* one UNMAP of the whole range may stand for all that is in it */
};

/** viommu_consumer_report.what. */
enum {
  VIOMMU_REPORT_FAILED = 0,    /* an event failed: `event.status` */
  VIOMMU_REPORT_NO_MEMORY = 1, /* a mapping to an address that is no guest memory was left out */
  VIOMMU_REPORT_MMIO = 2,      /* left out: of a device's BAR */
  VIOMMU_REPORT_DISCARDED = 3, /* left out: discarded or private */
  VIOMMU_REPORT_QUOTA = 4,     /* more mappings than `quota`: all are withdrawn, the device is blocked until its context
                                   is invalidated and they fit */
  VIOMMU_REPORT_UNSUPPORTED = 5 /* tables that cannot be mirrored (first stage): the device is blocked */
};
struct viommu_consumer_report {
  uint32_t what; /* VIOMMU_REPORT_* */
  uint16_t source;
  uint16_t reserved;
  struct viommu_event event; /* or, of a mapping that was left out, what it would have been */
};

/**
 * A consumer of one device's mappings. Its functions are called without a lock held, one at a time for one consumer,
 * never after viommu_unsubscribe() has returned, and may take their time.
 */
struct viommu_consumer {
  size_t size;
  void* opaque;
  uint32_t notify;   /* VIOMMU_EVENT_MAP | _UNMAP | _DEVICE_UNMAP; MAP needs UNMAP */
  uint32_t declares; /* VIOMMU_CONSUMER_* */
  uint64_t first;    /* events are clipped to [first, last], and gpa moves with the clip */
  uint64_t last;
  uint64_t unit_bytes; /* longest MAP of a consumer that cannot split: 2 MiB (0) or 1 GiB, of whole tables and large
                          pages that go on (with POW2: of leaves). All of it is withdrawn and the rest given again when
                          part of it changes */
  uint64_t quota;      /* mappings at a time; 0: options.mapping_quota */
  /** events[0, count) in order. Sets the status of each that failed; a MAP that failed is not there, an UNMAP that
   *  failed leaves what was there, and both are tried again with the next change around them. */
  void (*events)(void* opaque, struct viommu_event* events, uint32_t count);
  /** Something was not delivered (may be NULL). */
  void (*report)(void* opaque, const struct viommu_consumer_report* report);
  /** With VIOMMU_CONSUMER_SHARES and options.flags VIOMMU_SHARE_SPACES, all three and of one consumer of a device: the
   *  device is to use the host address space `space` from now on, in one step, instead of the one before. What is in a
   *  space is told by space_events() and not by events(), perhaps before any device uses it, and to one consumer for
   *  all that share it. A space that nobody uses any more is told by space_gone(): it is empty, or its last consumer
   *  has been unsubscribed, and all that is in it goes. Devices share where these are equal: the guest's address space,
   *  share_group, range, declares, unit_bytes, quota, and the facts of their hosts. */
  void (*attach)(void* opaque, uint64_t space);
  void (*space_gone)(void* opaque, uint64_t space);
  /** As events(), of one space. Numbers are above 2^32: those below are the VMM's own. */
  void (*space_events)(void* opaque, uint64_t space, struct viommu_event* events, uint32_t count);
  uint64_t share_group; /* of the host that has the spaces, where there are several: an iommufd */
};

/**
 * Adds a consumer of `source`, which gets UNMAP events at once, and MAP events from viommu_replay() on. A device behind
 * an alias is subscribed to by its own id or by that of its requests: it is one subscription of the alias.
 * @return VIOMMU_OK, VIOMMU_E_REFUSED (all as before; NotSupported: MAP without caching mode, DEVICE_UNMAP without
 *         ECAP.DT, MAP with ECAP.SC and no VIOMMU_CONSUMER_SNOOPS; Invalid: a range that ends before it begins, a
 *         second consumer that shares ...),
 *         _E_ARGUMENT, _E_LIMIT (options.subscriptions), _E_MEMORY, _E_BUSY. Threads: any.
 */
VIOMMU_API viommu_result viommu_subscribe(viommu_engine* engine, uint16_t source,
                                          const struct viommu_consumer* consumer, struct viommu_refusal* refusal,
                                          uint64_t* subscription);
/** All that is mapped now, as MAP events to this consumer alone; from here on it is kept equal. Long tables go on in
 *  viommu_process(). Nothing for a consumer without MAP. VIOMMU_E_NOT_FOUND, _E_BUSY. Threads: any. */
VIOMMU_API viommu_result viommu_replay(viommu_engine* engine, uint64_t subscription);
/** Ends it. Nothing is withdrawn: the consumer drops all it has. VIOMMU_E_NOT_FOUND, _E_BUSY. Threads: any. */
VIOMMU_API viommu_result viommu_unsubscribe(viommu_engine* engine, uint64_t subscription);

/** What a subscription holds now, for whoever wants to compare. */
struct viommu_subscription_figures {
  size_t size;
  uint64_t mappings; /* MAP events not withdrawn */
  uint64_t mapped_bytes;
  uint64_t shadow_bytes; /* memory that it takes to know that */
  uint64_t maps;         /* events since viommu_subscribe() */
  uint64_t unmaps;
  uint64_t split_bytes; /* withdrawn and given again because a neighbour in their unit changed */
  uint64_t failures;    /* events that failed */
  uint64_t left_out;    /* mappings that were reported and not delivered */
  uint64_t tables;      /* page tables looked through */
};
VIOMMU_API viommu_result viommu_subscription_figures_get(viommu_engine* engine, uint64_t subscription,
                                                         struct viommu_subscription_figures* figures);
/** Bytes that devices hold pinned: those of all host address spaces, a shared one counted once. Threads: any. */
VIOMMU_API viommu_result viommu_pinned_bytes(viommu_engine* engine, uint64_t* bytes);

/* ---- Topology: which unit a device's requests go to, and the ACPI table that says so ----------------------------- */

/** viommu_dmar_scope.kind, with the table's numbers. */
enum {
  VIOMMU_SCOPE_ENDPOINT = 1, /* one PCI function; its virtual functions go with it */
  VIOMMU_SCOPE_BRIDGE = 2,   /* a bridge, a root port or a port of a switch, and all that is behind it */
  VIOMMU_SCOPE_IOAPIC = 3,
  VIOMMU_SCOPE_HPET = 4,
  VIOMMU_SCOPE_NAMED = 5 /* a device of the ACPI name space, declared by a viommu_dmar_andd */
};
enum { VIOMMU_SCOPE_HOPS = 16 };

struct viommu_dmar_hop {
  uint8_t device;   /* 0..31 */
  uint8_t function; /* 0..7 */
};

/** A device by its way, which is what the table has: from `start_bus` by the bridges in `path` to the last hop. And by
 *  the numbers that buses have now, which routing needs: they change when the guest numbers its buses anew, and the
 *  table does not. */
struct viommu_dmar_scope {
  uint8_t kind;      /* VIOMMU_SCOPE_* */
  uint8_t id;        /* I/O APIC id, HPET number, viommu_dmar_andd.number; of PCI devices 0 */
  uint8_t start_bus; /* of a root bus */
  uint8_t hops;      /* 1..VIOMMU_SCOPE_HOPS */
  uint8_t bus;       /* where the way ends, with more than one hop; else it is not looked at */
  uint8_t secondary; /* of a bridge: the buses behind it are [secondary, subordinate]; both 0 while it has none */
  uint8_t subordinate;
  uint8_t reserved; /* 0 */
  struct viommu_dmar_hop path[VIOMMU_SCOPE_HOPS];
};

/** viommu_dmar_unit.flags. */
enum { VIOMMU_DMAR_INCLUDE_ALL = 1 /* the rest of its segment: at most one in a segment, behind its other units */ };

/** A remapping unit (DRHD). */
struct viommu_dmar_unit {
  const viommu_engine* engine; /* may be NULL; else it says its widths, its window and whether it remaps interrupts */
  uint64_t base;               /* of its registers */
  uint64_t register_bytes;     /* a power of two of pages; default: what the engine's window needs, else one page */
  uint16_t segment;
  uint16_t flags; /* VIOMMU_DMAR_INCLUDE_ALL */
  uint32_t scope_count;
  const struct viommu_dmar_scope* scopes;
};

/** Memory that firmware wants mapped one to one for some endpoints (RMRR). */
struct viommu_dmar_rmrr {
  uint64_t base;
  uint64_t limit; /* last address */
  uint16_t segment;
  uint16_t reserved; /* 0 */
  uint32_t scope_count;
  const struct viommu_dmar_scope* scopes;
};

/** Flags of viommu_dmar_atsr and viommu_dmar_satc. */
enum { VIOMMU_DMAR_ALL_PORTS = 1, VIOMMU_DMAR_ATC_REQUIRED = 1 };

/** Root ports that support ATS (ATSR): bridges, or all of the segment. */
struct viommu_dmar_atsr {
  uint16_t segment;
  uint16_t flags; /* VIOMMU_DMAR_ALL_PORTS, then without scopes */
  uint32_t scope_count;
  const struct viommu_dmar_scope* scopes;
};

/** Endpoints of the root complex that have an address translation cache (SATC), and perhaps must have it. */
struct viommu_dmar_satc {
  uint16_t segment;
  uint16_t flags; /* VIOMMU_DMAR_ATC_REQUIRED */
  uint32_t scope_count;
  const struct viommu_dmar_scope* scopes;
};

/** The NUMA node of the unit whose registers are at `base` (RHSA). */
struct viommu_dmar_rhsa {
  uint64_t base;
  uint32_t proximity_domain;
  uint32_t reserved; /* 0 */
};

/** A device of the ACPI name space that makes requests (ANDD). A unit lists it by its number. */
struct viommu_dmar_andd {
  const char* name; /* such as "\\_SB.I2C0", terminated, at most 255 bytes */
  uint8_t number;
  uint8_t reserved[7]; /* 0 */
};

/** Source ids [first, last] of a segment whose requests pass no unit. A whole bus: bus << 8 to bus << 8 | 255. */
struct viommu_dmar_bypass {
  uint16_t segment;
  uint16_t first;
  uint16_t last;
  uint16_t reserved; /* 0 */
};

/** viommu_dmar.flags. */
enum {
  VIOMMU_DMAR_INTERRUPT_REMAPPING = 1, /* INTR_REMAP; set without being told where each unit has an engine with ECAP.IR,
                                          refused beside an engine without */
  VIOMMU_DMAR_X2APIC_OPT_OUT = 2,      /* needs INTR_REMAP */
  VIOMMU_DMAR_DMA_CONTROL_OPT_IN = 4   /* DMA_CTRL_PLATFORM_OPT_IN_FLAG */
};

/**
 * The machine as its units see it: the one source of the DMAR table and of the VMM's own routing.
 *
 * Bypassing. What `bypassed` names is in no scope of the table, and viommu_dmar_unit_of() finds no unit for it; that is
 * how a VMM excludes a bus. So is what a unit's engine knows as VIOMMU_DEVICE_BYPASSED, in the segment of that unit: it
 * need not be named. INCLUDE_ALL would claim it, so where something of
 * a segment bypasses the flag is off in the table, and the scopes of the unit that has it are listed instead. Give such
 * a unit scopes for all that is on the segment's root buses, bypassing or not: beside INCLUDE_ALL those of PCI devices
 * are left out, and of listed ones those that bypass are. A device plugged into a slot that no scope names is then
 * under no unit, so name empty slots too where hot-plug is to work. A bridge of which only part bypasses cannot be
 * listed: name what is behind it that does not. An RMRR, SATC or ATSR of which all devices bypass is left out, as is an
 * ANDD that only bypassing scopes name.
 */
struct viommu_dmar {
  size_t size;
  uint32_t flags; /* VIOMMU_DMAR_INTERRUPT_REMAPPING ... */
  uint32_t
      host_address_width;    /* default: that of the units' engines, which must agree with it and each other. The table
                                  has it less 1 */
  char oem_id[6];            /* default "VIOMMU"; padded with spaces or zeros, as the others */
  char oem_table_id[8];      /* default "VIOMMU  " */
  char creator_id[4];        /* default "VIOM" */
  uint16_t reserved;         /* 0 */
  uint32_t oem_revision;     /* default 1 */
  uint32_t creator_revision; /* default 1 */
  uint32_t unit_count;
  uint32_t rmrr_count; /* of each of these at most 1,024 */
  uint32_t atsr_count;
  uint32_t rhsa_count;
  uint32_t andd_count;
  uint32_t satc_count;
  uint32_t bypass_count; /* at most 4,096 */
  const struct viommu_dmar_unit* units;
  const struct viommu_dmar_rmrr* rmrrs;
  const struct viommu_dmar_atsr* atsrs;
  const struct viommu_dmar_rhsa* rhsas;
  const struct viommu_dmar_andd* andds;
  const struct viommu_dmar_satc* satcs;
  const struct viommu_dmar_bypass* bypassed; /* ascending, and apart from each other */
};

/**
 * Writes the ACPI table. `*length` receives its bytes, at most 64 KiB; with `capacity` too small nothing is written.
 * Capabilities of engines are those in force: write it after viommu_ready().
 * @param bytes  may be NULL when `capacity` is 0
 * @return VIOMMU_OK; VIOMMU_E_RANGE (too small); VIOMMU_E_REFUSED: the table would be illegal or ambiguous, which
 *         `refusal` explains (may be NULL): Invalid with `field` such as "drhd[1].scopes[0]", or FieldMismatch where an
 *         engine says otherwise; VIOMMU_E_ARGUMENT: a null pointer, an unknown flag, a reserved field; _E_UNSUPPORTED;
 *         _E_MEMORY. Threads: any; the engines stay; allowed in callbacks. Source: VT-d, "BIOS Considerations".
 */
VIOMMU_API viommu_result viommu_dmar_write(const struct viommu_dmar* dmar, void* bytes, size_t capacity, size_t* length,
                                           struct viommu_refusal* refusal);

/**
 * The unit whose engine is to be asked for what a device sends, as an operating system finds it in the table: the one
 * that lists it, or a bridge that it is behind, or the INCLUDE_ALL of its segment.
 * @param source  requester id; of a virtual function that of its physical function
 * @param kind    VIOMMU_SCOPE_*, who sends: ENDPOINT and BRIDGE are both a PCI device. The others are found only where
 *                they are listed
 * @param unit    receives the index in `units`
 * @return VIOMMU_OK; VIOMMU_E_NOT_FOUND: it bypasses, or is under no unit; else as viommu_dmar_write(). Threads: any;
 *         allowed in callbacks.
 */
VIOMMU_API viommu_result viommu_dmar_unit_of(const struct viommu_dmar* dmar, uint16_t segment, uint16_t source,
                                             uint32_t kind, uint32_t* unit, struct viommu_refusal* refusal);

/* ---- Migration -------------------------------------------------------------------------------------------------- */

/** Leads to where viommu_save() is possible: does the work there is, and takes no doorbell as a reason to begin again.
 *  VIOMMU_OK, or VIOMMU_E_REFUSED (Busy) while something is open. `field` says what, `found` whose it is:
 *    "hold"                 one for writing, or one that a completion waits for: its cookie
 *    "device invalidation"  a device that has not answered: its source id, also in `source`
 *    "guard"                a completion waits for a reader
 *    "region"               one that was removed and is not gone: its cookie
 *    "descriptors", "command", "page request", "message", "process" (another thread is at the unit's work),
 *    "dirty tracking" (is being switched)
 *  Threads: any. */
VIOMMU_API viommu_result viommu_quiesce(viommu_engine* engine, struct viommu_refusal* refusal);
/** Writes the state: what the guest can see or waits for, never a cache, and nothing of the VMM's own (regions,
 *  devices, readers, dirty tracking). `*length` receives its bytes; with `capacity` too small nothing is written
 *  (VIOMMU_E_RANGE; `state` may be NULL with 0). VIOMMU_E_REFUSED (Busy, as above) when the engine is not quiet: the
 *  call does no work. What was loaded is saved as the same bytes. Threads: any. */
VIOMMU_API viommu_result viommu_save(viommu_engine* engine, void* state, size_t capacity, size_t* length,
                                     struct viommu_refusal* refusal);
/** Takes a state into an engine with its regions, devices and subscriptions there, whatever it was before: page
 *  requests that are open in it are answered with failure, as by viommu_reset(). Views are made and consumers told
 *  before it returns, but for long tables, which go on in viommu_process(); the VMM is told of the whole interrupt
 *  table. Devices are let in when viommu_process() says IDLE. States of older versions load.
 *  VIOMMU_E_REFUSED: the engine is as it was. BadState: `field` is "header", "checksum", "version", or the section;
 *  FieldMismatch: the first field of VER, CAP or ECAP, "HAW" or "fault compression" that differs. VIOMMU_E_BUSY while
 *  another thread is at the unit's work; VIOMMU_E_UNSUPPORTED in an engine that records. Threads: any. */
VIOMMU_API viommu_result viommu_load(viommu_engine* engine, const void* state, size_t length,
                                     struct viommu_refusal* refusal);

/** viommu_dirty_tracking(). */
enum { VIOMMU_DIRTY_OFF = 0, VIOMMU_DIRTY_ON = 1 };
/** Switches logging of writes to guest memory in regions, a global invalidation with drain either way: done when
 *  viommu_dirty_tracking_is() says so, which may take viommu_process(). Takes memory, two bits for each page of 4 KiB
 *  in pieces for 32 MiB, which the engine keeps; regions that are added later take theirs then.
 *  While it is on:
 *  - the answer to a request with VIOMMU_WRITE is for no more than its length (the rest of the page where that is 0:
 *    `mask` is at most 0xFFF), and all it is for is dirty when the call returns; an answer to a read lets nobody write
 *  - a hold for writing is dirty once more when it ends
 *  - what the unit itself writes is dirty: status words, page requests, flags in tables, posted interrupts
 *  - viommu_ats_translate() grants writing with VIOMMU_ATS_UNTRANSLATED_ONLY, so that the device asks each time; what
 *    it writes by an older answer is dirty when viommu_ats_check() lets it through
 *  Off and on again forgets what was not fetched. It survives viommu_reset() and viommu_load().
 *  VIOMMU_E_MEMORY, _E_BUSY; VIOMMU_E_UNSUPPORTED in an engine that records. Threads: any. */
VIOMMU_API viommu_result viommu_dirty_tracking(viommu_engine* engine, uint32_t on);
/** VIOMMU_DIRTY_ON or _OFF: what was reached last. Threads: any; allowed in callbacks. */
VIOMMU_API viommu_result viommu_dirty_tracking_is(viommu_engine* engine, uint32_t* on);
/** Fetches and clears: runs of whole dirty pages by guest-physical address, ascending. When more than `capacity` are
 *  dirty the rest stays for the next call. A page is told when the guards have ended in which it may have been written,
 *  so it can be copied at once.
 *  VIOMMU_E_BUSY (also): such a guard is open, or another thread is at the unit's work; nothing is lost, ask again, or
 *  when woken. Also after tracking went off. Threads: any. */
VIOMMU_API viommu_result viommu_dirty_fetch(viommu_engine* engine, struct viommu_range* runs, uint32_t capacity,
                                            uint32_t* count);

/* ---- Looking inside --------------------------------------------------------------------------------------------- */

/** viommu_dump_options.sections. */
enum {
  VIOMMU_DUMP_REGISTERS = 1, /* every register by its name, GSTS, FSTS, RTADDR, the queues' and the fault records field
                                by field; all of one instant */
  VIOMMU_DUMP_CONTEXTS = 2,  /* cached contexts by source, and by PASID: domain, interpretation, tables, flags */
  VIOMMU_DUMP_CACHE = 4,     /* what is cached for request.source, or its PASID: its address space, and the pages of it
                                in the IOTLB */
  VIOMMU_DUMP_WORK = 8,     /* what the unit has under way: commands and waits that wait for guards or holds, the queue,
                                regions being removed. {"busy": true} while another thread is at that work */
  VIOMMU_DUMP_HOLDERS = 16, /* readers, and which are inside a guard; open holds */
  VIOMMU_DUMP_EXPLAIN = 32  /* why `request` is translated or blocked: what caches and tables say, word by word */
};

/** What viommu_dump() is to write, and where to. */
struct viommu_dump_options {
  size_t size;
  void* opaque; /* first argument of `write` */
  /** Receives the document in pieces of at most 1,024 bytes, in order, from the calling thread. No lock is held and no
   *  guard is open meanwhile: it may take its time, and call what it likes but viommu_destroy(). */
  void (*write)(void* opaque, const char* text, size_t length);
  uint32_t sections;             /* VIOMMU_DUMP_* together; 0: all that need no request */
  uint32_t most;                 /* lines of a list; default 1,024, at most 65,536. A list that was longer says
                                    "truncated": true */
  struct viommu_request request; /* of VIOMMU_DUMP_CACHE (source, and PASID) and VIOMMU_DUMP_EXPLAIN */
};

/**
 * Writes one JSON document (UTF-8, in fact ASCII) about the engine, while everything runs: nothing is changed, filled,
 * recorded or counted, and no flag is set in a table. Parts are of different instants, and each word of guest memory is
 * read once. What is an address, a word or a handle is a string of hexadecimal digits ("0x1f"); counts are numbers.
 * Field names of registers and tables are those of the specification; members may be added in later versions.
 * Bounds: the stack takes 32 KiB and nothing is allocated. Contexts cost a look at 65,536 sources and at pasid_entries,
 * a cache a look at its domain's part of the IOTLB, holders at `readers` and `holds`, an explanation at most 128 words
 * of guest memory. Locks are held, and guards open, for some microseconds at a time.
 * A recording has the words that an explanation read.
 * @return VIOMMU_OK, VIOMMU_E_ARGUMENT (then nothing is written), VIOMMU_E_BUSY (from a host callback, or while 64
 *         calls without a reader run). Threads: any.
 */
VIOMMU_API viommu_result viommu_dump(viommu_engine* engine, const struct viommu_dump_options* options);

/* ---- Statistics ------------------------------------------------------------------------------------------------- */

/** Counters since creation. Those of readers that run are read without stopping them. */
struct viommu_statistics {
  size_t size;
  uint64_t translations; /* answers given, faults included */
  uint64_t iotlb_hits;
  uint64_t walks;      /* page-table walks */
  uint64_t walk_loads; /* guest loads of those walks, of a word or a line */
  uint64_t identities; /* answers without a walk: translation off, pass-through */
  uint64_t faults;     /* blocked requests, reported or not */
  uint64_t context_hits;
  uint64_t context_walks; /* root and context entries read */
  uint64_t iotlb_fills;   /* entries put into the IOTLB: pages, and blocks of neighbours */
  uint64_t fills_refused; /* not put in: an invalidation, or another filler, came between */
  uint64_t faults_recorded;
  uint64_t faults_overflowed;     /* not recorded for want of a register */
  uint64_t descriptors;           /* invalidation descriptors processed */
  uint64_t context_invalidations; /* of contexts and PASID entries */
  uint64_t iotlb_global;          /* IOTLB invalidations, by granularity asked for; register-based ones included */
  uint64_t iotlb_domain;          /* a whole PASID of one included */
  uint64_t iotlb_page;
  uint64_t device_tlb_invalidations;
  uint64_t interrupt_entry_invalidations;
  uint64_t waits;                 /* wait descriptors completed */
  uint64_t status_writes_dropped; /* status address outside writable memory */
  uint64_t messages;              /* MSIs sent */
  uint64_t holds_open;            /* now */
  uint64_t holds_overdue;         /* reported */
  uint64_t holds_revoked;
  uint64_t address_spaces;   /* now in use */
  uint64_t tag_sweeps;       /* times the IOTLB was swept to make tags free */
  uint64_t cache_bytes;      /* memory of all caches, their tags and address spaces */
  uint64_t process_barriers; /* made to see older guards gone */
  uint64_t interrupts;       /* interrupt requests, whatever became of them; routes that were asked for are none */
  uint64_t interrupts_posted;
  uint64_t interrupts_blocked;
  uint64_t faults_limited;            /* not recorded because of options.fault_limit */
  uint64_t page_responses_dropped;    /* that no request waited for */
  uint64_t device_invalidations_open; /* now */
  uint64_t device_timeouts;           /* invalidations that were not answered in time */
};

/** Faults of this source that options.fault_limit kept from being recorded, since creation. Threads: any; allowed in
 *  callbacks. */
VIOMMU_API viommu_result viommu_faults_limited(viommu_engine* engine, uint16_t source, uint64_t* count);

/** What one device, or one domain, has had of it. */
struct viommu_part_statistics {
  size_t size;
  uint64_t iotlb_hits;
  uint64_t walks;                    /* requests that the IOTLB had no answer for */
  uint64_t identities;               /* pass-through */
  uint64_t faults;                   /* blocked requests, those for interrupts included */
  uint64_t context_invalidations;    /* that name this device, or this domain, or a PASID of it */
  uint64_t iotlb_domain;             /* of this domain; of a device 0 */
  uint64_t iotlb_page;               /* the same */
  uint64_t device_tlb_invalidations; /* of this device; of a domain 0 */
  uint64_t mapped_bytes;             /* now, of all consumers of this device; of a domain 0 */
  uint64_t pinned_bytes;             /* the same; a host address space that several share counts for one of them */
};

/**
 * Counts since creation by device, and by domain since its id came into use: it begins at 0 when it does so again
 * after the guest had invalidated the contexts that named it, by device, domain or PASID. All zero for whoever has not
 * been seen. A device that is gone keeps its counts, and the totals above keep all. Counted by none of them: requests
 * before a context was found or could be cached, and pairs beyond options.accounts. Twice as many devices, and domains,
 * as options.accounts are remembered when they are in use no longer.
 * A domain is known by the id that its guest gives it. Of a virtio-iommu that is one of 32 bits, of a domain that is
 * there now, else all is zero; it begins at 0 with the ATTACH that makes it, and its invalidations are not counted.
 * Exact once the readers have stopped; may be asked for while they run. Threads: any; allowed in callbacks.
 * @return VIOMMU_OK, VIOMMU_E_ARGUMENT, VIOMMU_E_UNSUPPORTED without options.accounts
 */
VIOMMU_API viommu_result viommu_device_statistics_get(viommu_engine* engine, uint16_t source,
                                                      struct viommu_part_statistics* statistics);
VIOMMU_API viommu_result viommu_domain_statistics_get(viommu_engine* engine, uint32_t domain,
                                                      struct viommu_part_statistics* statistics);

/** Whose faults viommu_fault_count() tells. */
enum { VIOMMU_OF_ALL = 0, VIOMMU_OF_DEVICE = 1, VIOMMU_OF_DOMAIN = 2 };

/**
 * How many requests were blocked for one reason, reported or not.
 * @param of      VIOMMU_OF_ALL; the other two need options.accounts
 * @param id      source, or domain id as for viommu_domain_statistics_get()
 * @param reason  VT-d fault reason code; 0: by protected memory, or because the device must not make requests. Of a
 *                virtio-iommu VIOMMU_VIRTIO_FAULT_*
 * @return VIOMMU_OK, VIOMMU_E_ARGUMENT, VIOMMU_E_UNSUPPORTED. Threads: any; allowed in callbacks.
 */
VIOMMU_API viommu_result viommu_fault_count(viommu_engine* engine, uint32_t of, uint32_t id, uint8_t reason,
                                            uint64_t* count);

/** Fills in as many fields as statistics->size says. Threads: any; allowed in callbacks. */
VIOMMU_API viommu_result viommu_statistics_get(viommu_engine* engine, struct viommu_statistics* statistics);

#ifdef __cplusplus
}
#endif

#endif
