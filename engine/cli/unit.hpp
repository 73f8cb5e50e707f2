// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// From what a trace says to what the engine is asked, and the host that serves guest memory to the engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <viommu/viommu.hpp>

#include "engine/cli/consumer.hpp"
#include "engine/cli/memory.hpp"
#include "engine/trace/config.hpp"
#include "engine/trace/event.hpp"

namespace viommu::cli {

/// Why the engine of this build cannot be what the trace's unit was; empty when it can.
[[nodiscard]] std::string missing_feature(const trace::VtdConfiguration& configuration);

/// Options that make the engine the unit of the trace. Exact fill: a trace vouches only for the words that were read.
[[nodiscard]] viommu_vtd_options options_of(const trace::VtdConfiguration& configuration);

/// The request of a T line; nothing when this build cannot send its kind.
[[nodiscard]] std::optional<viommu_request> request_of(const trace::Translate& asked, bool report);

/// The message of a V line.
[[nodiscard]] viommu_message message_of(const trace::Interrupt& asked);

[[nodiscard]] constexpr std::uint8_t rights_of(trace::Perm perm) noexcept {
  return static_cast<std::uint8_t>((perm.read ? VIOMMU_READ : 0) | (perm.write ? VIOMMU_WRITE : 0));
}

/// Something the unit did to the outside, or a line that says it did.
struct Effect {
  enum class Kind : std::uint8_t { write, failed_write, message, routes, reply, event };
  Kind kind = Kind::write;
  // Of a fault report its words, the last of them in `address`.
  std::uint64_t address = 0;  // of routes: the first; of a reply: the source
  std::uint64_t value = 0;    // of a message: its data; of routes: how many; of a reply: the PASID
  std::uint64_t size = 0;     // bytes of a write; of a reply: the group and, in its low 4 bits, the code
  std::uint64_t line = 0;     // where the trace says it, or the line that made the unit do it

  /// Everything but the line.
  [[nodiscard]] bool same_as(const Effect& other) const noexcept {
    return kind == other.kind && address == other.address && value == other.value && size == other.size;
  }
  [[nodiscard]] std::string text() const;
};

/// The effect of an answer to a page request.
[[nodiscard]] constexpr Effect reply_effect(std::uint16_t source, std::uint32_t pasid, std::uint32_t group,
                                            std::uint32_t code, std::uint64_t line = 0) noexcept {
  return {Effect::Kind::reply, source, pasid, std::uint64_t{group} << 4 | code, line};
}

/// The effect of a fault report of a virtio-iommu. One that is longer, or shorter, than 24 bytes is none that there is.
[[nodiscard]] Effect event_effect(const void* bytes, std::size_t size) noexcept;

/// A part of memory that was removed, and whether the host was told that nothing reaches it any more.
struct Removal {
  Range range;
  bool gone = false;
};

/// The host of a replayed engine: memory from the trace, and a list of what the unit did. Stays where it is, because
/// the engine holds its address.
class Host {
 public:
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  Host(Host&&) = delete;
  Host& operator=(Host&&) = delete;
  ~Host() = default;

  [[nodiscard]] viommu_host table();

  Memory memory;
  Surroundings around;
  std::vector<Removal> removals;  // by their cookie
  std::uint64_t now_ns = 0;
  std::optional<std::uint64_t> event_buffers;  // that the driver of a virtio-iommu has left; nothing: always one
  std::vector<Effect> effects;                 // in the order in which the unit did them
  bool of_recording = true;                    // these have lines for failed writes, scenarios for changed routes
};

}  // namespace viommu::cli
