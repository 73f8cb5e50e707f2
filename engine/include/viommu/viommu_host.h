/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/*
 * viommu_host: the calls of Linux that keep a real device's IOMMU equal to what the guest maps, by VFIO (type1v2) or by
 * iommufd. A library of its own: libviommu makes no such call, and a VMM that has its own code for them needs none of
 * this. The rules at the top of viommu.h hold here too.
 *
 *   VFIO      viommu_vfio_container_create()   a container's file, and the groups that are to use it
 *   iommufd   viommu_iommufd_create()          the file of /dev/iommu
 *             viommu_iommufd_device_create()   a device's file (/dev/vfio/devices/vfioN), bound to it
 *             viommu_iommufd_device_attach()   the address space it uses, made when it is first named
 *   both      viommu_*_facts()                 what viommu_device_add() asks about the host
 *             viommu_host_consumer_init()      fills a viommu_consumer for viommu_subscribe()
 *             viommu_*_dirty(), _dirty_fetch() which guest pages the device wrote
 *
 * Files are opened and closed by the VMM, and stay open while an object here uses them. All system calls are ioctl(2),
 * made on the calling thread; a filter of system calls needs these numbers:
 *   container 0x3B64 0x3B65 0x3B66 0x3B70 0x3B71 0x3B72 0x3B75, of its groups 0x3B68 0x3B69
 *   iommufd   0x3B80 0x3B81 0x3B84 0x3B85 0x3B86 0x3B89 0x3B8A 0x3B8B 0x3B8C, of its devices 0x3B76 0x3B77 0x3B78
 *
 * What is mapped here is remembered, each mapping as it was given: it goes as a whole or not at all. Whatever call
 * fails, what is remembered is what the kernel holds. Calls for one container, or one address space, wait for each
 * other; nothing else does.
 */
#ifndef VIOMMU_VIOMMU_HOST_H
#define VIOMMU_VIOMMU_HOST_H

#include <viommu/viommu.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- The kernel ------------------------------------------------------------------------------------------------- */

/**
 * The boundary to the kernel. Results of it come out as the VIOMMU_E_* of the same number where there is one (ENOENT,
 * ENOMEM, EFAULT, EBUSY, EEXIST, EINVAL, ENOSPC, ERANGE, EOPNOTSUPP); ENOTTY as _E_UNSUPPORTED, EOVERFLOW and EMSGSIZE
 * as _E_RANGE, any other as _E_REFUSED. viommu_host_figures.last_error keeps the number itself.
 */
struct viommu_host_kernel {
  size_t size;
  void* opaque; /* first argument of the function */
  /** As ioctl(2): `argument` is the address of a struct, or a number. Not negative, or a negative errno. */
  int32_t (*ioctl)(void* opaque, int32_t fd, uint32_t request, uintptr_t argument);
};

/** What an object here holds, and has asked of the kernel. */
struct viommu_host_figures {
  size_t size;
  uint64_t mappings;     /* now */
  uint64_t mapped_bytes; /* now: all of it is pinned, and counts against RLIMIT_MEMLOCK */
  uint64_t calls;        /* to map, to unmap and about dirty pages */
  uint64_t failures;     /* of these */
  uint64_t last_error;   /* errno of the last one that failed */
};

/* ---- Dirty pages ------------------------------------------------------------------------------------------------ */

/** Pages that a device has written, or may have. */
struct viommu_dirty_run {
  uint64_t iova;
  uint64_t last; /* last address */
  uint64_t gpa;  /* of `iova`, by the mapping that was there; VIOMMU_NO_GPA when its MAP named none */
};

/** Where they are told: runs[0, count), each contiguous in iova and gpa. From the call that asks for them, from the
 *  UNMAP of a mapping that was written, and when a device leaves its space, until logging has ended. Nothing of the
 *  same object may be called from here. */
struct viommu_dirty_sink {
  size_t size;
  void* opaque;
  void (*runs)(void* opaque, const struct viommu_dirty_run* runs, uint32_t count);
};

/* ---- VFIO ------------------------------------------------------------------------------------------------------- */

typedef struct viommu_vfio_container viommu_vfio_container;

/**
 * @param kernel       NULL: this process' ioctl(2)
 * @param fd           of /dev/vfio/vfio
 * @param groups       `group_count` files of /dev/vfio/N, put into the container here, which is then given its type
 *                     (TYPE1v2). None: the container has both already
 * @return VIOMMU_OK, or what the kernel said (the groups are out of the container again), _E_UNSUPPORTED (no TYPE1v2),
 *         _E_ARGUMENT, _E_MEMORY. Threads: any.
 */
VIOMMU_API viommu_result viommu_vfio_container_create(const struct viommu_host_kernel* kernel, int32_t fd,
                                                      const int32_t* groups, uint32_t group_count,
                                                      viommu_vfio_container** container);
/** Unmaps what it mapped. Its groups stay in the container until the VMM closes them. NULL is allowed. */
VIOMMU_API void viommu_vfio_container_destroy(viommu_vfio_container* container);

/** What the kernel says about a container now. It changes when groups come and go. */
struct viommu_vfio_information {
  size_t size;
  uint64_t page_sizes;         /* a bit for each */
  uint64_t dirty_page_sizes;   /* of bitmaps; 0: writes cannot be logged */
  uint64_t dirty_bitmap_bytes; /* longest bitmap of a call */
  uint32_t mappings_left;      /* all ones when the kernel does not say */
  uint32_t range_count;        /* usable ranges of input addresses; 0 when the kernel does not say */
};
/** @param ranges  receives as many ranges as `capacity` has room for (may be NULL when 0). Threads: any. */
VIOMMU_API viommu_result viommu_vfio_container_information(viommu_vfio_container* container,
                                                           struct viommu_vfio_information* information,
                                                           struct viommu_range* ranges, uint32_t capacity);
/**
 * As viommu_consumer.events: events[0, count) in order, and the status of each. MAP: _E_EXISTS over what is mapped,
 * _E_LIMIT when the kernel has no entry left, _E_ARGUMENT (no hva, no rights, not aligned, outside the usable ranges),
 * _E_MEMORY (pinning). UNMAP: what is wholly in the range goes, and what is not mapped does not matter; _E_ARGUMENT
 * when the range begins or ends inside a mapping, and then all of it stays. An UNMAP of all addresses takes whatever is
 * in the container. UNMAPs that follow each other without a gap are one, and may together cover a mapping.
 */
VIOMMU_API void viommu_vfio_container_events(viommu_vfio_container* container, struct viommu_event* events,
                                             uint32_t count);
/** Logs writes and tells them to `sink`, which is copied; NULL ends it. On twice, or off twice, is once.
 *  _E_UNSUPPORTED, or what the kernel said. Threads: any. */
VIOMMU_API viommu_result viommu_vfio_container_dirty(viommu_vfio_container* container,
                                                     const struct viommu_dirty_sink* sink);
/** Tells what was written since the last call, and clears it. What the kernel does not tell counts as written.
 *  _E_ARGUMENT while writes are not logged. Threads: any. */
VIOMMU_API viommu_result viommu_vfio_container_dirty_fetch(viommu_vfio_container* container);
/** Facts for viommu_device_add(); `container` has to be there during that call. `width`: bits of the highest usable
 *  address, 64 when the kernel does not say. Neither kind nor capabilities. */
VIOMMU_API viommu_result viommu_vfio_container_facts(viommu_vfio_container* container, struct viommu_host_facts* facts);
VIOMMU_API viommu_result viommu_vfio_container_figures(viommu_vfio_container* container,
                                                       struct viommu_host_figures* figures);

/* ---- iommufd ---------------------------------------------------------------------------------------------------- */

typedef struct viommu_iommufd viommu_iommufd;
typedef struct viommu_iommufd_device viommu_iommufd_device;

/** @param kernel  NULL: this process' ioctl(2).  @param fd  of /dev/iommu.  VIOMMU_OK, _E_ARGUMENT, _E_MEMORY. */
VIOMMU_API viommu_result viommu_iommufd_create(const struct viommu_host_kernel* kernel, int32_t fd,
                                               viommu_iommufd** iommufd);
/** All address spaces go, with what is in them. Its devices have to be destroyed before. NULL is allowed. */
VIOMMU_API void viommu_iommufd_destroy(viommu_iommufd* iommufd);

/** Binds a device's file to the iommufd. It may not do DMA before it is attached. VIOMMU_OK, or what the kernel said,
 *  _E_ARGUMENT, _E_MEMORY. Threads: any. */
VIOMMU_API viommu_result viommu_iommufd_device_create(viommu_iommufd* iommufd, int32_t fd,
                                                      viommu_iommufd_device** device);
/** Detaches it. It stays bound until the VMM closes its file. NULL is allowed. */
VIOMMU_API void viommu_iommufd_device_destroy(viommu_iommufd_device* device);

/** What the kernel says about the IOMMU in front of a device. */
struct viommu_iommufd_information {
  size_t size;
  uint32_t kind;       /* VIOMMU_HOST_KIND_*; 0: not told */
  uint32_t logs;       /* 1: it can log writes */
  uint64_t capability; /* CAP_REG and ECAP_REG of a VT-d host; else 0 */
  uint64_t extended_capability;
};
VIOMMU_API viommu_result viommu_iommufd_device_information(viommu_iommufd_device* device,
                                                           struct viommu_iommufd_information* information);

/**
 * The device uses address space `space` from now on, in one step, instead of the one before. A number that was not
 * named before makes an empty one. One call at a time for a device, its consumer's calls included.
 * @return VIOMMU_OK, or what the kernel said (all as before), _E_MEMORY
 */
VIOMMU_API viommu_result viommu_iommufd_device_attach(viommu_iommufd_device* device, uint64_t space);
/** It uses none: its DMA is blocked. */
VIOMMU_API viommu_result viommu_iommufd_device_detach(viommu_iommufd_device* device);
/** As viommu_consumer.events, of the address space that the device was attached to last: see
 *  viommu_vfio_container_events(). There is no limit of entries. _E_NOT_FOUND when there is no such space. */
VIOMMU_API void viommu_iommufd_device_events(viommu_iommufd_device* device, struct viommu_event* events,
                                             uint32_t count);
/** As viommu_consumer.space_events: the same of any space. A number that was not named before makes an empty one. */
VIOMMU_API void viommu_iommufd_space_events(viommu_iommufd* iommufd, uint64_t space, struct viommu_event* events,
                                            uint32_t count);
/** The space goes, with all that is in it. _E_NOT_FOUND, _E_BUSY (a device uses it), or what the kernel said: then what
 *  is left of it stays, and can be tried again. Threads: any. */
VIOMMU_API viommu_result viommu_iommufd_space_destroy(viommu_iommufd* iommufd, uint64_t space);
/** Logs writes in all spaces and tells them to `sink`, as viommu_vfio_container_dirty(). _E_UNSUPPORTED when a device
 *  that is attached cannot; one that is attached later, and cannot, counts as writing all that it may. */
VIOMMU_API viommu_result viommu_iommufd_dirty(viommu_iommufd* iommufd, const struct viommu_dirty_sink* sink);
/** As viommu_vfio_container_dirty_fetch(), of one space, or of that of each device in turn: addresses of different
 *  spaces have nothing to do with each other. _E_NOT_FOUND. */
VIOMMU_API viommu_result viommu_iommufd_dirty_fetch(viommu_iommufd* iommufd, uint64_t space);
/** Facts for viommu_device_add(); `device` has to be there during that call, and attached: before, the kernel does not
 *  know which addresses are usable, and those facts cannot be had. */
VIOMMU_API viommu_result viommu_iommufd_device_facts(viommu_iommufd_device* device, struct viommu_host_facts* facts);
/** Of one space. _E_NOT_FOUND. */
VIOMMU_API viommu_result viommu_iommufd_figures(viommu_iommufd* iommufd, uint64_t space,
                                                struct viommu_host_figures* figures);

/* ---- A consumer ------------------------------------------------------------------------------------------------- */

/** What viommu_host_consumer_init() makes a consumer of. It is the VMM's, is not copied, and stays where it is and as
 *  it is until viommu_unsubscribe(). */
struct viommu_host_consumer {
  size_t size;
  viommu_vfio_container* container; /* one of these two */
  viommu_iommufd_device* device;
  uint32_t declares; /* VIOMMU_CONSUMER_* that the VMM chooses: LEAF, NO_BLINK, POW2, SNOOPS, MMIO, PRIVATE, and SHARES
                        of an iommufd. UNMAP_ALL, LOGS and a container's SNOOPS are found out here */
  uint32_t reserved; /* 0 */
  uint64_t first;    /* the part of the address space that events are wanted of; both 0: all of it */
  uint64_t last;
  void* opaque; /* first argument of the functions */
  /** As viommu_consumer.report (may be NULL). */
  void (*report)(void* opaque, const struct viommu_consumer_report* report);
  /** The device could not be attached to `space` (may be NULL). `blocked` 1: it is detached, and does no DMA until
   *  viommu_iommufd_device_attach() works. 0: not even that could be done, and it uses the space before. */
  void (*attach_failed)(void* opaque, uint64_t space, viommu_result result, uint32_t blocked);
};

/**
 * Fills `consumer` for viommu_subscribe(): its functions, notify, declares, range, and as its quota the mappings that
 * the container has left, so that a guest that maps more is blocked before it runs with holes.
 * With VIOMMU_CONSUMER_SHARES the spaces of viommu_iommufd_device_attach() are those of viommu_consumer.attach, which
 * have numbers of 2^32 and above. One that is given up while its last device still uses it goes with the device.
 * @return VIOMMU_OK, _E_ARGUMENT, or what the kernel said
 */
VIOMMU_API viommu_result viommu_host_consumer_init(struct viommu_host_consumer* settings,
                                                   struct viommu_consumer* consumer);

/** Whether `fd` (of /dev/vfio/vfio or /dev/iommu, VIOMMU_BACKEND_*) can be used at all, asked without a device.
 *  VIOMMU_OK, _E_UNSUPPORTED, or what the kernel said. */
VIOMMU_API viommu_result viommu_host_probe(const struct viommu_host_kernel* kernel, uint32_t backend, int32_t fd);

#ifdef __cplusplus
}
#endif

#endif
