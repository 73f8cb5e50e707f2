// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What consumers are told, and what they say of themselves. Laid out as `viommu_event` and its neighbours in viommu.h.
#pragma once

#include "engine/base/address.hpp"
#include "engine/base/ids.hpp"

#include <cstdint>

namespace viommu::consumer {

enum class EventKind : std::uint8_t { map = 1, unmap = 2, device_unmap = 4 };

inline constexpr std::uint64_t no_gpa = ~std::uint64_t{0};

/// One change of what is mapped.
struct Event {
  std::uint64_t iova = 0;
  std::uint64_t last = 0;
  std::uint64_t gpa = no_gpa;
  void* hva = nullptr;
  EventKind kind = EventKind::map;
  std::uint8_t rights = 0;
  std::uint16_t reserved = 0;
  std::int32_t status = 0;
};

/// Beside the two rights.
inline constexpr std::uint8_t mmio_right = 4;

/// Why something is not delivered.
enum class Reported : std::uint32_t { failed, no_memory, mmio, discarded, quota, unsupported };

/// How long a MAP may be, and what becomes of it when part of it changes.
enum class Units : std::uint8_t {
  leaf,   ///< a leaf of the tables
  table,  ///< a run inside one table of leaves; withdrawn as a whole
  split,  ///< as long as it goes on; withdrawn in any parts
};

struct Declared {
  bool map = false;
  bool unmap = false;
  bool device_unmap = false;
  Units units = Units::table;
  bool large = false;  ///< units of up to 1 GiB, with Units::table too
  bool powers_of_two = false;
  bool snoops = false;
  bool mmio = false;
  bool private_memory = false;
  bool logs = false;
  bool shares = false;       ///< and the unit lets it
  bool whole_range = false;  ///< one UNMAP of the whole range may stand for all that is in it

  /// Whether a leaf of 1 GiB is one unit.
  [[nodiscard]] constexpr bool takes_large() const noexcept { return large || units == Units::leaf; }
  /// Whether runs go on from table to table.
  [[nodiscard]] constexpr bool joins() const noexcept { return large && units == Units::table && !powers_of_two; }

  friend constexpr bool operator==(const Declared&, const Declared&) = default;
};

/// A consumer's functions; called by who has the unit's work (or one of its tasks).
struct Sink {
  /// Any function, to be cast back before it is called.
  using Function = void (*)();

  const void* engine = nullptr;  ///< that its calls are from (core::CallbackScope)
  void* opaque = nullptr;
  Function given_events = nullptr;
  Function given_report = nullptr;
  Function given_space_events = nullptr;
  Function given_attach = nullptr;
  Function given_space_gone = nullptr;
  std::uint64_t space = 0;  ///< host address space that events are about, where consumers share
  void (*events)(const Sink& sink, Event* events, std::uint32_t count) = nullptr;
  void (*report)(const Sink& sink, Reported what, SourceId source, const Event& event) = nullptr;
  // Of consumers that share:
  void (*space_events)(const Sink& sink, Event* events, std::uint32_t count) = nullptr;
  void (*attach)(const Sink& sink, std::uint64_t space) = nullptr;
  void (*space_gone)(const Sink& sink, std::uint64_t space) = nullptr;
};

}  // namespace viommu::consumer
