/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * libviommu: a virtio-iommu device (Virtio, "IOMMU device", device id 23).
 *
 * The same engine, memory, devices, translating, consumers and migration as in viommu.h; only what the guest programs
 * is another thing. The VMM keeps the transport (PCI or MMIO) and passes on what the driver does through it:
 *
 *   create       viommu_create_virtio()
 *   transport    viommu_virtio_features(), viommu_virtio_config_read(), _write(), viommu_virtio_negotiate(),
 *                viommu_virtio_queue_set(), viommu_virtio_start(), viommu_virtio_notify(), _reset()
 *                and host.virtio_notify, host.virtio_needs_reset
 *   or, for a VMM that works the queues itself: viommu_virtio_request() and host.virtio_event
 *   endpoints    viommu_device_add(), viommu_device_remove(): an endpoint is there while its device is
 *
 * An endpoint is known to the guest by an id of 32 bits (viommu_device.endpoint), and to the engine by its requester id
 * (viommu_request.source). While it is in no domain it reaches memory untranslated, if the byte `bypass` of the
 * configuration says so, or is blocked.
 *
 * Faults: viommu_translation.reason is 0 (no such endpoint), 1 (in no domain) or 2 (no mapping that grants it).
 * The driver hears of one that has status VIOMMU_FAULT_RECORDED.
 *
 * Migration: viommu_save() writes features, queues, domains, mappings, attachments, `bypass`, and whether the device
 * runs or is broken. viommu_load() needs the endpoints that are attached, and is refused (FieldMismatch) by the first
 * feature bit or field of the configuration that differs, or with `field` "endpoint" and an id in `found` where one is
 * not there. With VIOMMU_E_MEMORY it has changed nothing, or, where mappings found no room, left the device as
 * viommu_reset() does. In the way of a save is, beside what viommu_quiesce() names, "request" (not answered) or "event"
 * (not in the guest's queue). More than 150 million mappings are not saved (VIOMMU_E_UNSUPPORTED).
 *
 * Recording (host.record): requests of the driver, each with its answer and where it takes effect, what the driver does
 * to the configuration, translations, reports, and endpoints as they come and go; nothing before the guest acts.
 * Replayed, all is answered the same. A trace has no word for consumers, so a request that one refuses replays as done;
 * nor for reserved memory of one endpoint alone (hosts' ranges, viommu_device.reserved_memory) and for
 * options.mapping_bytes.
 *
 * Not here, and answered VIOMMU_E_UNSUPPORTED: registers, page requests, address translation services.
 * Interrupts are not remapped: viommu_interrupt() and viommu_route() give the message as it is.
 */
#ifndef VIOMMU_VIOMMU_VIRTIO_H
#define VIOMMU_VIOMMU_VIRTIO_H

#include <viommu/viommu.h>

#ifdef __cplusplus
extern "C" {
#endif

/** viommu_translation.reason of a fault. */
enum { VIOMMU_VIRTIO_FAULT_UNKNOWN = 0, VIOMMU_VIRTIO_FAULT_DOMAIN = 1, VIOMMU_VIRTIO_FAULT_MAPPING = 2 };

/** viommu_virtio_region.kind, with the numbers of PROBE. */
enum {
  VIOMMU_VIRTIO_RESERVED = 0, /* the guest must not map it, and accesses are blocked */
  VIOMMU_VIRTIO_MSI = 1       /* the doorbell of message-signalled interrupts: writes go there untranslated */
};

/** Memory that no endpoint may map. */
struct viommu_virtio_region {
  uint64_t first;
  uint64_t last;     /* inside */
  uint32_t kind;     /* VIOMMU_VIRTIO_* */
  uint32_t reserved; /* 0 */
};

/** viommu_virtio_options.flags. */
enum {
  VIOMMU_VIRTIO_BLOCKED_AT_BOOT = 1, /* `bypass` is 0 at a system reset, not 1 */
  VIOMMU_VIRTIO_STRICT_DETACH = 2,   /* a DETACH that comes after its endpoint has gone is NOENT, as the specification
                                        says; default: OK, once, if it names the last domain, because a driver that
                                        releases a device that was unplugged sends it in good faith */
  VIOMMU_VIRTIO_UNCACHED = 4,        /* as VIOMMU_UNCACHED */
  VIOMMU_VIRTIO_MIGRATABLE_ONLY = 8, /* as VIOMMU_MIGRATABLE_ONLY */
  VIOMMU_VIRTIO_SHARE_SPACES = 16    /* as VIOMMU_SHARE_SPACES */
};

/** A virtio-iommu. Zero in any field but `size` means the default named there. Fields without a text are those of
 *  viommu_vtd_options. */
struct viommu_virtio_options {
  size_t size;
  uint64_t
      page_size_mask;    /* sizes of mappings, the lowest is the granule (may be 1 byte); default: 4 KiB and all above.
                              Hosts of devices that are added before viommu_ready() leave of it what they can */
  uint64_t first_input;  /* addresses that can be mapped: the first, */
  uint64_t last_input;   /* and the last; default 2^64 - 1 */
  uint32_t first_domain; /* domain ids, */
  uint32_t last_domain;  /* and the last; default 2^32 - 1 */
  uint32_t probe_size;   /* bytes for the properties of an endpoint: 24 for each region; default 512, at most 65,536 */
  uint32_t flags;        /* VIOMMU_VIRTIO_BLOCKED_AT_BOOT ... */
  uint64_t without;      /* feature bits that are not offered, of PROBE (4), MMIO (5), BYPASS_CONFIG (6),
                              INDIRECT_DESC (28), EVENT_IDX (29) and RING_PACKED (34) */
  /** `region_count` regions, at most 256; copied. None overlaps another. */
  const struct viommu_virtio_region* regions;
  uint32_t region_count;
  uint32_t domains;   /* at a time; default 4,096, at most 32,767. More: NOMEM */
  uint32_t endpoints; /* at a time, those included that have gone and whose DETACH may come; default 4,096, at most
                         65,536 */
  uint32_t drain;
  uint64_t mappings;      /* of all domains, at a time; default 2^22. More: NOMEM */
  uint64_t mapping_bytes; /* of the engine's memory for them; default 64 for each and 16 MiB */
  uint64_t hold_report_ns;
  uint64_t hash_seed;
  const char* kernel; /* of looking up many at once, as for VT-d */
  uint32_t fill;
  uint32_t iotlb_pages;
  uint32_t context_entries;
  uint32_t address_spaces; /* default: twice `domains` */
  uint32_t tag_bits;
  uint32_t readers;
  uint32_t holds;
  uint32_t regions_of_memory; /* viommu_vtd_options.regions */
  uint32_t shards;
  uint32_t fault_limit; /* reports a second of one device; default: all. Needs host.now_ns */
  uint32_t accounts;
  uint32_t subscriptions;
  uint64_t mapping_quota;
};

/**
 * Creates a virtio-iommu: not negotiated, without queues, without endpoints. Memory it gets as any engine.
 * @param error       where a text goes that says what is wrong with the options (may be NULL); always terminated
 * @param error_size  bytes at `error`
 * @return VIOMMU_OK, _E_ARGUMENT, _E_UNSUPPORTED, _E_MEMORY. Threads: any.
 */
VIOMMU_API viommu_result viommu_create_virtio(const struct viommu_virtio_options* options,
                                              const struct viommu_host* host, char* error, size_t error_size,
                                              viommu_engine** engine);

/* ---- Transport -------------------------------------------------------------------------------------------------- */

/** The feature bits that the device offers. The transport may offer its own beside them. Threads: any. */
VIOMMU_API viommu_result viommu_virtio_features(viommu_engine* engine, uint64_t* offered);

/**
 * The driver's accesses to the configuration space of 40 bytes, little endian. `size` is 1, 2, 4 or 8; what lies behind
 * the end reads 0. A driver may write one byte, `bypass` (at 36), and all endpoints in no domain follow at once: when
 * the call returns, or, while another thread is at the device's work, when that does.
 * @return VIOMMU_OK; VIOMMU_E_REFUSED: a value other than 0 and 1, or BYPASS_CONFIG was not negotiated (nothing is
 *         changed; the driver is wrong); _E_ARGUMENT, _E_BUSY (from a callback), _E_UNSUPPORTED. Threads: any.
 */
VIOMMU_API viommu_result viommu_virtio_config_read(viommu_engine* engine, uint64_t offset, uint32_t size,
                                                   uint64_t* value);
VIOMMU_API viommu_result viommu_virtio_config_write(viommu_engine* engine, uint64_t offset, uint32_t size,
                                                    uint64_t value);

/**
 * FEATURES_OK: the driver has accepted these, bits of the transport left out.
 * @return VIOMMU_OK; VIOMMU_E_REFUSED: not offered, VERSION_1 left out, or the device runs: FEATURES_OK does not stay
 *         set; _E_BUSY (from a callback, or another thread is at the device's work: ask again). Threads: any.
 */
VIOMMU_API viommu_result viommu_virtio_negotiate(viommu_engine* engine, uint64_t features);

/** Queues. */
enum { VIOMMU_VIRTIO_REQUESTS = 0, VIOMMU_VIRTIO_EVENTS = 1 };

/** Where a queue is, in guest-physical addresses. The names are those of Virtio, "Virtqueues". */
struct viommu_virtio_queue {
  uint64_t descriptor_area; /* split: descriptor table; packed: descriptor ring */
  uint64_t driver_area;     /* split: available ring; packed: the driver's event suppression */
  uint64_t device_area;     /* split: used ring; packed: the device's event suppression */
  uint32_t size;            /* entries, at most 32,768, of a split queue a power of two */
  uint32_t reserved;        /* 0 */
};

/**
 * The driver has set up a queue, after viommu_virtio_negotiate(), whose features it goes by.
 * @param queue  NULL: it is not there any more
 * @return VIOMMU_OK; VIOMMU_E_REFUSED: a size or an alignment that cannot be; _E_ARGUMENT, _E_BUSY as above. Threads:
 *         any.
 */
VIOMMU_API viommu_result viommu_virtio_queue_set(viommu_engine* engine, uint32_t index,
                                                 const struct viommu_virtio_queue* queue);
/** DRIVER_OK: queues are served now. VIOMMU_E_REFUSED before features were negotiated; _E_BUSY. Threads: any. */
VIOMMU_API viommu_result viommu_virtio_start(viommu_engine* engine);
/** The driver has notified of a queue. Works one slice of it, or leaves it to a thread that is at it; the rest is
 *  viommu_process()'s, which host.wake asks for. Threads: any. */
VIOMMU_API viommu_result viommu_virtio_notify(viommu_engine* engine, uint32_t index);
/** Whether the device works its queues no more until it is reset (DEVICE_NEEDS_RESET): the driver, or memory that has
 *  gone, broke one. Threads: any, callbacks included. */
VIOMMU_API viommu_result viommu_virtio_broken(viommu_engine* engine, uint32_t* broken);
/** The driver resets the device: queues and features are gone, nobody is attached; `bypass` stays. viommu_reset() is
 *  that of the system, which also gives `bypass` its first value. VIOMMU_E_BUSY, and nothing done, while another thread
 *  is at the device's work. Threads: any. */
VIOMMU_API viommu_result viommu_virtio_reset(viommu_engine* engine);

/* ---- One request ------------------------------------------------------------------------------------------------ */

/**
 * One request as its bytes, for a VMM that works the request queue itself.
 * @param request   the device-readable part, `request_size` bytes
 * @param reply     the device-writable part, room for `reply_size` bytes
 * @param used      receives the used length: as many bytes of `reply` are written; 0: it goes back as it is
 * @return VIOMMU_OK; VIOMMU_E_BUSY, and nothing written: the answer has to wait for guards or holds, for consumers, or
 *         for another request that does, or another thread is at work. To be called again with the same bytes: when
 *         host.wake says so, or at once; requests are answered in the order in which they were asked first.
 *         VIOMMU_E_ARGUMENT, _E_UNSUPPORTED. Threads: any, one request at a time.
 */
VIOMMU_API viommu_result viommu_virtio_request(viommu_engine* engine, const void* request, size_t request_size,
                                               void* reply, size_t reply_size, uint32_t* used);

/* ---- Questions -------------------------------------------------------------------------------------------------- */

/** Counters since creation. */
struct viommu_virtio_statistics {
  size_t size;
  uint64_t attaches; /* requests of each kind, whatever became of them */
  uint64_t detaches;
  uint64_t maps;
  uint64_t unmaps;
  uint64_t probes;
  uint64_t refused;    /* of their form: a length, reserved bits, flags */
  uint64_t unanswered; /* given back as they were */
  uint64_t events_recorded;
  uint64_t events_dropped; /* no buffer */
  uint64_t events_limited;
  uint64_t domains;  /* now */
  uint64_t mappings; /* now */
  uint64_t mapping_bytes;
};

/** As viommu_statistics_get(). VIOMMU_E_BUSY while another thread is at the device's work. Threads: any. */
VIOMMU_API viommu_result viommu_virtio_statistics_get(viommu_engine* engine,
                                                      struct viommu_virtio_statistics* statistics);

#ifdef __cplusplus
}
#endif

#endif
