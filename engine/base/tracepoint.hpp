// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Static tracepoints of provider `viommu`, for bpftrace, perf, SystemTap and gdb: a nop each, and a note in the library
// that says where it is and where its arguments are. engine/docs/tracepoints.md says what they mean.
//
// The system's macros stay in here. Where they are not built in (no <sys/sdt.h>, or VIOMMU_TRACEPOINTS off) nothing is
// left of a call. Never called where the IOTLB answers. In line always: each place is a probe of its own, with the
// arguments where they are anyway, so a name may stand at several places.
#pragma once

#include <cstdint>

#if defined(VIOMMU_TRACEPOINTS)
#include <sys/sdt.h>
#endif

namespace viommu::tracepoint {

#if defined(VIOMMU_TRACEPOINTS)

// NOLINTBEGIN: what the system's macros are made of
[[gnu::always_inline]] inline void translate_miss(std::uint32_t domain, std::uint64_t iova,
                                                  std::uint64_t asked) noexcept {
  STAP_PROBE3(viommu, translate_miss, domain, iova, asked);
}
[[gnu::always_inline]] inline void walk_end(std::uint64_t iova, std::uint32_t outcome, std::uint64_t gpa,
                                            std::uint32_t loads) noexcept {
  STAP_PROBE4(viommu, walk_end, iova, outcome, gpa, loads);
}
[[gnu::always_inline]] inline void context_walked(std::uint32_t source, std::uint32_t pasid,
                                                  std::uint32_t reason) noexcept {
  STAP_PROBE3(viommu, context_walked, source, pasid, reason);
}
[[gnu::always_inline]] inline void fault(std::uint32_t source, std::uint32_t pasid, std::uint64_t iova,
                                         std::uint32_t reason, std::uint32_t status) noexcept {
  STAP_PROBE5(viommu, fault, source, pasid, iova, reason, status);
}
[[gnu::always_inline]] inline void interrupt_remapped(std::uint32_t source, std::uint32_t index, std::uint64_t address,
                                                      std::uint32_t data) noexcept {
  STAP_PROBE4(viommu, interrupt_remapped, source, index, address, data);
}
[[gnu::always_inline]] inline void interrupt_blocked(std::uint32_t source, std::uint32_t index,
                                                     std::uint32_t reason) noexcept {
  STAP_PROBE3(viommu, interrupt_blocked, source, index, reason);
}
[[gnu::always_inline]] inline void descriptor(std::uint32_t head, std::uint64_t low, std::uint64_t high) noexcept {
  STAP_PROBE3(viommu, descriptor, head, low, high);
}
[[gnu::always_inline]] inline void queue_stopped(std::uint32_t head, std::uint32_t code) noexcept {
  STAP_PROBE2(viommu, queue_stopped, head, code);
}
[[gnu::always_inline]] inline void drop(std::uint32_t kind, std::uint32_t domain, std::uint64_t first,
                                        std::uint64_t last) noexcept {
  STAP_PROBE4(viommu, drop, kind, domain, first, last);
}
[[gnu::always_inline]] inline void drain_begun(std::uint64_t ticket) noexcept {
  STAP_PROBE1(viommu, drain_begun, ticket);
}
[[gnu::always_inline]] inline void drain_ended(std::uint64_t ticket) noexcept {
  STAP_PROBE1(viommu, drain_ended, ticket);
}
[[gnu::always_inline]] inline void wait_begun(std::uint32_t head, std::uint64_t ticket) noexcept {
  STAP_PROBE2(viommu, wait_begun, head, ticket);
}
[[gnu::always_inline]] inline void wait_completed(std::uint32_t next_head, std::uint64_t ticket) noexcept {
  STAP_PROBE2(viommu, wait_completed, next_head, ticket);
}
[[gnu::always_inline]] inline void message_sent(std::uint64_t address, std::uint32_t data) noexcept {
  STAP_PROBE2(viommu, message_sent, address, data);
}
[[gnu::always_inline]] inline void hold_opened(std::uint64_t handle, std::uint64_t cookie, std::uint32_t source,
                                               std::uint64_t first, std::uint64_t last) noexcept {
  STAP_PROBE5(viommu, hold_opened, handle, cookie, source, first, last);
}
[[gnu::always_inline]] inline void hold_overdue(std::uint64_t handle, std::uint64_t cookie,
                                                std::uint64_t age_ns) noexcept {
  STAP_PROBE3(viommu, hold_overdue, handle, cookie, age_ns);
}
[[gnu::always_inline]] inline void hold_closed(std::uint64_t handle, std::uint32_t revoked) noexcept {
  STAP_PROBE2(viommu, hold_closed, handle, revoked);
}
[[gnu::always_inline]] inline void region_gone(std::uint64_t cookie) noexcept {
  STAP_PROBE1(viommu, region_gone, cookie);
}
// NOLINTEND

#else

inline void translate_miss(std::uint32_t, std::uint64_t, std::uint64_t) noexcept {}
inline void walk_end(std::uint64_t, std::uint32_t, std::uint64_t, std::uint32_t) noexcept {}
inline void context_walked(std::uint32_t, std::uint32_t, std::uint32_t) noexcept {}
inline void fault(std::uint32_t, std::uint32_t, std::uint64_t, std::uint32_t, std::uint32_t) noexcept {}
inline void interrupt_remapped(std::uint32_t, std::uint32_t, std::uint64_t, std::uint32_t) noexcept {}
inline void interrupt_blocked(std::uint32_t, std::uint32_t, std::uint32_t) noexcept {}
inline void descriptor(std::uint32_t, std::uint64_t, std::uint64_t) noexcept {}
inline void queue_stopped(std::uint32_t, std::uint32_t) noexcept {}
inline void drop(std::uint32_t, std::uint32_t, std::uint64_t, std::uint64_t) noexcept {}
inline void drain_begun(std::uint64_t) noexcept {}
inline void drain_ended(std::uint64_t) noexcept {}
inline void wait_begun(std::uint32_t, std::uint64_t) noexcept {}
inline void wait_completed(std::uint32_t, std::uint64_t) noexcept {}
inline void message_sent(std::uint64_t, std::uint32_t) noexcept {}
inline void hold_opened(std::uint64_t, std::uint64_t, std::uint32_t, std::uint64_t, std::uint64_t) noexcept {}
inline void hold_overdue(std::uint64_t, std::uint64_t, std::uint64_t) noexcept {}
inline void hold_closed(std::uint64_t, std::uint32_t) noexcept {}
inline void region_gone(std::uint64_t) noexcept {}

#endif

}  // namespace viommu::tracepoint
