// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Many lookups at once, in vectors: for each request its context, then its place in the IOTLB, then the entry. What is
// not a plain request with a hit is left to whoever asks one by one. A page that grants what is asked answers, whatever
// its size: where a stale smaller one stands before it, single lookups have none and walk.
//
// Requests and answers are records of three words each, as a C caller lays them out, and are read and written once.
//
//   request  iova | length | 31:0 PASID, 47:32 source id, 55:48 access (RightBits), 63:56 flags
//   answer   gpa | mask of the page | 7:0 kind, 15:8 rights, 63:16 zero
#pragma once

#include "caches/context_cache.hpp"
#include "caches/iotlb.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace viommu::caches {

inline constexpr std::size_t record_bytes = 24;
/// Most requests of one call.
inline constexpr std::size_t batch_lookup_width = 128;
/// One bit for each request of a call.
using BatchBits = std::array<std::uint64_t, batch_lookup_width / 64>;

namespace request_layout {
inline constexpr unsigned source_at = 32;
inline constexpr unsigned access_at = 48;
inline constexpr unsigned flags_at = 56;
/// The only flag that a plain request may have: nothing else is special about it.
inline constexpr std::uint64_t no_report = 1;
}  // namespace request_layout
namespace answer_layout {
inline constexpr unsigned rights_at = 8;
}  // namespace answer_layout

/// A request where it lies.
class RecordedRequest {
 public:
  explicit RecordedRequest(const std::byte* record) noexcept : record_{record} {}
  [[nodiscard]] Iova iova() const noexcept { return {word(0)}; }
  [[nodiscard]] SourceId source() const noexcept {
    return {static_cast<std::uint16_t>(word(2) >> request_layout::source_at)};
  }

 private:
  [[nodiscard]] std::uint64_t word(std::size_t index) const noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, record_ + index * sizeof word, sizeof word);
    return word;
  }
  const std::byte* record_;
};

/// What a batch is looked up in. The guard of whoever asks is open.
struct BatchTables {
  const ContextCache* contexts = nullptr;
  const Iotlb* iotlb = nullptr;
  std::uint64_t kind = 0;  ///< of an answer from the IOTLB
};

/// The functions of one instruction set.
struct BatchLookup {
  const char* name;
  /// Whether all of them are plain: access is not 0 and in RightBits, no flag but no_report.
  bool (*all_plain)(const std::byte* requests, std::size_t count) noexcept;
  /// Answers what it has a hit for, and leaves the other answers alone. @param count  at most batch_lookup_width
  /// @return which were answered
  BatchBits (*look_up)(const BatchTables& tables, const std::byte* requests, std::byte* answers,
                       std::size_t count) noexcept;
};

/// For the kernel of walkers/ with that name, which says what the CPU has. Null where there is none, or where 16-byte
/// entries are not read as one value.
[[nodiscard]] const BatchLookup* select_batch_lookup(std::string_view kernel) noexcept;

}  // namespace viommu::caches
