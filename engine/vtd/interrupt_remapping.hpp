// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The way of one interrupt request through the unit. Source: VT-d, "Interrupt Remapping"; order of checks:
// engine/docs/conformance.md.
//
//   mode word --off--> unchanged              (one atomic word: a request is judged entirely under one mode)
//      |on
//   format --compatibility--> unchanged | 25h
//      |remappable
//   index -> IRTE -> present, source, reserved -> message | post into a descriptor
//
// There is no interrupt entry cache: an entry is one 16-byte load from one line, which is what a cache of them would
// cost to look into (bench/interrupt_route), and what is never kept is never stale. So an invalidation of entries has
// nothing to drop; it tells the VMM, which does keep routes, and waits for the interrupts under way.
#pragma once

#include <cstdint>

#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/fault_reporter.hpp"
#include "engine/vtd/register_file.hpp"

namespace viommu::vtd {

struct InterruptRequest {
  SourceId source;
  bool any_source = false;    ///< nobody knows the source, and the VMM vouches for it: it is not verified
  std::uint64_t address = 0;  ///< in the interrupt address range
  std::uint32_t data = 0;
};

enum class InterruptKind : std::uint8_t { fault, unchanged, remapped, posted };

struct InterruptAnswer {
  InterruptKind kind = InterruptKind::fault;
  FaultReason reason = FaultReason::none;
  FaultStatus status = FaultStatus::none;
  bool notify = false;        ///< posted: the message below is to be sent
  bool urgent = false;        ///< posted: URG
  std::uint8_t vector = 0;    ///< posted: the virtual vector
  std::uint32_t index = 0;    ///< of the entry; not below 65,536 where the sum of handle and subhandle is not
  std::uint64_t address = 0;  ///< the message to be sent
  std::uint32_t data = 0;
  Gpa descriptor;  ///< posted
};

/// Threads: everything from any thread. route() and request() inside a guard; set_mode() by the unit's worker.
class InterruptRemapping {
 public:
  InterruptRemapping(const Capabilities& capabilities, const GuestMemory& memory, FaultReporter& faults) noexcept
      : capabilities_{capabilities}, memory_{memory}, faults_{faults} {}

  /// What becomes of such a request, without any of its effects: nothing is posted, recorded or written.
  /// @param answer  as it was made, with every field at its default
  void route(const InterruptRequest& request, InterruptAnswer& answer) const noexcept;
  /// The request itself: posts where the entry says so, and reports what blocks it.
  void request(const InterruptRequest& request, InterruptAnswer& answer) noexcept;

  /// What new requests see from now on. Requests that began earlier may still be under the old mode.
  /// @param compatibility  CFIS
  void set_mode(const InterruptTable& table, bool remap, bool compatibility) noexcept;

 private:
  /// What a report has to know besides the answer. Filled in where it is wanted: what is stored in bytes and read as a
  /// word at once waits until the bytes have reached the cache.
  struct Grounds {
    bool has_index = false;
    bool fault_disable = false;  ///< FPD of the entry, once it has been read
    bool extended = false;       ///< EIME
  };

  void decide(const InterruptRequest& request, InterruptAnswer& answer, Grounds& grounds) const noexcept;
  FaultStatus report(const InterruptRequest& request, const InterruptAnswer& answer, const Grounds& grounds) noexcept;

  const Capabilities& capabilities_;
  const GuestMemory& memory_;
  FaultReporter& faults_;
  alignas(shared_line_bytes) Atomic<std::uint64_t> mode_{0};
};

}  // namespace viommu::vtd
