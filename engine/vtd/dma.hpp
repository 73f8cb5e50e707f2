// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The way of one device request through the unit: mode, interrupt window, context, address space; then an answer, or a
// fault and its record. Source: VT-d, "DMA Remapping"; order of checks: engine/docs/conformance.md.
//
//   mode word --off--> identity          (one atomic word: a request is translated entirely under one mode)
//      |on
//   context cache --miss--> root and context tables --> insert
//      |hit
//   core::Waist::translate
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"
#include "engine/core/waist.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/context_walk.hpp"
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

/// One untranslated request.
struct DmaRequest {
  SourceId source;
  Iova iova;
  Rights asked;              ///< both for an atomic
  std::uint64_t length = 0;  ///< bytes, 0 when not told; matters in the interrupt window only
  bool zero_length = false;  ///< a zero-length read
  bool has_pasid = false;
  Pasid pasid{};
  bool report = true;  ///< false: same answer, but no record and no event
};

enum class DmaKind : std::uint8_t { fault, translated, identity, interrupt };

struct DmaAnswer {
  DmaKind kind = DmaKind::fault;
  Rights rights;
  Gpa gpa;
  std::uint64_t mask = 0;
  FaultReason reason = FaultReason::none;
  FaultStatus status = FaultStatus::none;
  DomainId domain{};  ///< of the context that was used, for holds
};

/// Threads: translate() from any thread, inside a guard of its reader; set_mode() by the unit's worker.
class Dma {
 public:
  Dma(const Capabilities& capabilities, core::Waist& waist, Registers& registers) noexcept
      : capabilities_{capabilities}, waist_{waist}, registers_{registers} {}

  [[nodiscard]] DmaAnswer translate(core::Reader& reader, const DmaRequest& request) noexcept {
    const Mode mode{mode_.load(std::memory_order_acquire)};
    if (mode.plain() && !request.has_pasid && !interrupt_window.contains(request.iova.value)) {
      const caches::ContextEntry context = waist_.find_context(request.source);
      if (context) {
        const core::Translation found = waist_.translate(reader, context.space(), request.iova, effective(request));
        if (found.outcome == core::Outcome::translated) return answer(found, context.space().key);
        return fault_in(reader, request, found, context.fault_disable());
      }
      return translate_without_context(reader, request, mode);
    }
    return translate_special(reader, request, mode);
  }

  /// Answers many requests; each is complete or a fault. Hits are answered in the first pass, misses walk together.
  /// @param request_at  DmaRequest(std::size_t)
  /// @param answer_to   void(std::size_t, const DmaAnswer&), once for each, in any order
  template <class RequestAt, class AnswerTo>
  void translate_batch(core::Reader& reader, std::size_t count, const RequestAt& request_at,
                       const AnswerTo& answer_to) noexcept {
    for (std::size_t first = 0; first < count; first += core::batch_width)
      translate_some(reader, first, std::min(core::batch_width, count - first), request_at, answer_to);
  }

  /// What new requests see from now on. Requests that began earlier may still be under the old mode.
  void set_mode(RootPointer root, bool translate, bool protect) noexcept;

  struct FaultFigures {
    std::uint64_t recorded;
    std::uint64_t overflowed;  ///< no record was free
  };
  [[nodiscard]] FaultFigures fault_figures() const noexcept {
    return {recorded_.load(std::memory_order_relaxed), overflowed_.load(std::memory_order_relaxed)};
  }

 private:
  /// RTADDR_REG as latched with, in bits that an aligned table leaves free, TES and PMEN.
  struct Mode {
    std::uint64_t word = 0;
    static constexpr std::uint64_t translating = 1;
    static constexpr std::uint64_t protecting = 2;
    static constexpr std::uint64_t unusual_table = 4;  ///< not legacy mode

    [[nodiscard]] bool plain() const noexcept { return (word & low_bits(page_shift)) == translating; }
    [[nodiscard]] bool has(std::uint64_t bit) const noexcept { return (word & bit) != 0; }
    [[nodiscard]] Gpa root() const noexcept { return {word & ~low_bits(page_shift)}; }
  };

  /// A zero-length read is allowed by either right where CAP.ZLR says so.
  [[nodiscard]] Rights effective(const DmaRequest& request) const noexcept {
    return request.zero_length && capabilities_.zero_length_read ? Rights{} : request.asked;
  }
  [[nodiscard]] static DmaAnswer answer(const core::Translation& found, const caches::AddressSpaceKey& key) noexcept {
    const DmaKind kind =
        key.interpretation == caches::Interpretation::pass_through ? DmaKind::identity : DmaKind::translated;
    return {kind, found.rights, found.gpa, found.mask, FaultReason::none, FaultStatus::none, key.domain};
  }

  /// At most core::batch_width of a batch.
  template <class RequestAt, class AnswerTo>
  void translate_some(core::Reader& reader, std::size_t first, std::size_t count, const RequestAt& request_at,
                      const AnswerTo& answer_to) noexcept {
    const Mode mode{mode_.load(std::memory_order_acquire)};
    std::array<caches::ContextEntry, core::batch_width> contexts;
    for (std::size_t i = 0; i < count; ++i) {
      const DmaRequest request = request_at(first + i);
      contexts[i] = waist_.find_context(request.source);
      if (contexts[i]) waist_.prefetch(contexts[i].space(), request.iova);
    }
    std::array<core::Miss, core::batch_width> misses;
    std::array<std::uint8_t, core::batch_width> missed;
    std::size_t miss_count = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const DmaRequest request = request_at(first + i);
      if (!contexts[i] || !mode.plain() || request.has_pasid || interrupt_window.contains(request.iova.value)) {
        answer_to(first + i, translate(reader, request));
        continue;
      }
      caches::AddressSpace& space = contexts[i].space();
      core::Translation found;
      if (!waist_.look_up(reader, space, request.iova, effective(request), found)) {
        misses[miss_count] = {&space, request.iova, effective(request)};
        missed[miss_count++] = static_cast<std::uint8_t>(i);
      } else if (found.outcome == core::Outcome::translated) {
        answer_to(first + i, answer(found, space.key));
      } else {
        answer_to(first + i, fault_in(reader, request, found, contexts[i].fault_disable()));
      }
    }
    if (miss_count == 0) return;
    waist_.walk_and_fill(reader, {misses.data(), miss_count});
    for (std::size_t m = 0; m < miss_count; ++m) {
      const std::size_t i = missed[m];
      const core::Translation& found = misses[m].found;
      answer_to(first + i, found.outcome == core::Outcome::translated
                               ? answer(found, misses[m].space->key)
                               : fault_in(reader, request_at(first + i), found, contexts[i].fault_disable()));
    }
  }

  [[nodiscard]] DmaAnswer translate_without_context(core::Reader& reader, const DmaRequest& request,
                                                    Mode mode) noexcept;
  [[nodiscard]] DmaAnswer translate_special(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept;
  [[nodiscard]] DmaAnswer access_interrupt_window(core::Reader& reader, const DmaRequest& request) noexcept;
  [[nodiscard]] DmaAnswer unless_protected(core::Reader& reader, DmaAnswer found) noexcept;
  [[nodiscard]] DmaAnswer fault_in(core::Reader& reader, const DmaRequest& request, const core::Translation& found,
                                   bool fault_disable) noexcept;
  [[nodiscard]] DmaAnswer fault(core::Reader& reader, const DmaRequest& request, FaultReason reason,
                                bool suppressed) noexcept;

  const Capabilities& capabilities_;
  core::Waist& waist_;
  Registers& registers_;
  Atomic<std::uint64_t> recorded_{0};
  Atomic<std::uint64_t> overflowed_{0};
  alignas(shared_line_bytes) Atomic<std::uint64_t> mode_{0};
};

}  // namespace viommu::vtd
