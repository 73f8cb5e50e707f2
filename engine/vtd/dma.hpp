// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The way of one device request through the unit: mode, interrupt window, context, address space; then an answer, or a
// fault and its record. Source: VT-d, "DMA Remapping"; order of checks: engine/docs/conformance.md.
//
//   mode word --off--> identity          (one atomic word: a request is translated entirely under one mode)
//      |on
//   context cache --miss--> root and context tables, in scalable mode PASID tables too --> insert
//      |hit
//   core::Waist::translate
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/access.hpp"
#include "engine/base/address.hpp"
#include "engine/base/atomic.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"
#include "engine/base/scratch.hpp"
#include "engine/consumer/consumers.hpp"
#include "engine/core/dma_request.hpp"
#include "engine/core/request_mode.hpp"
#include "engine/core/waist.hpp"
#include "engine/machine/ways.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/context_walk.hpp"
#include "engine/vtd/fault_reporter.hpp"
#include "engine/vtd/pasid_walk.hpp"
#include "engine/vtd/registers.hpp"

namespace viommu::vtd {

using core::DmaAnswer;
using core::DmaKind;
using core::DmaRequest;

/// How a request of address translation services is completed.
enum class AtsStatus : std::uint8_t { success, unsupported_request, completer_abort };

/// The answer to a translation request.
struct TranslationCompletion {
  AtsStatus status = AtsStatus::success;
  Rights rights;                   ///< none: the rest of a success says nothing
  bool privileged = false;         ///< PRIV
  bool untranslated_only = false;  ///< U: the range is to be accessed by untranslated requests
  bool must_snoop = false;         ///< N
  Gpa gpa;
  std::uint64_t mask = 0;
  FaultReason reason = FaultReason::none;
  FaultStatus fault = FaultStatus::none;
};

/// The mode that RTADDR_REG's TTM comes to on this unit; `reserved` for one that it does not have.
[[nodiscard]] TableMode mode_in_force(const Capabilities& capabilities, TableMode latched) noexcept;
/// What stops a request before any table, while translation is on.
[[nodiscard]] FaultReason mode_fault(const Capabilities& capabilities, TableMode in_force,
                                     const DmaRequest& request) noexcept;
/// Of a request without a PASID into the interrupt range: what it may do there; nothing when it is blocked. With the
/// right to write it is a message.
[[nodiscard]] Rights rights_in_interrupt_window(const DmaRequest& request) noexcept;

/// As far as the tables of scalable mode are concerned.
[[nodiscard]] PasidRequest pasid_request_of(const DmaRequest& request) noexcept;

struct DmaExplanation;

/// Threads: translate() from any thread, inside a guard of its reader; set_mode() by the unit's worker.
class Dma {
 public:
  Dma(const Capabilities& capabilities, core::Waist& waist, Registers& registers, FaultReporter& faults) noexcept
      : capabilities_{capabilities}, waist_{waist}, registers_{registers}, faults_{faults} {}

  [[nodiscard]] DmaAnswer translate(core::Reader& reader, const DmaRequest& request) noexcept;

  /// The same, for a plain request with its context, while mode is plain, that the IOTLB has no hit for.
  [[nodiscard]] DmaAnswer translate_missed(core::Reader& reader, const DmaRequest& request,
                                           caches::ContextEntry context) noexcept;

  /// A translation request (AT 01). To be asked with the right to write as well, unless the device said that it needs
  /// none (NW) and ECAP.NWFS is set: the answer is then what is granted, and a page that may be written is dirty.
  [[nodiscard]] TranslationCompletion complete_translation_request(core::Reader& reader,
                                                                   const DmaRequest& request) noexcept;
  /// Whether a translated request (AT 10) may go to the address that it names.
  [[nodiscard]] DmaAnswer check_translated(core::Reader& reader, const DmaRequest& request) noexcept;

  /// What a page request would be translated by; nothing when it is blocked, which is recorded.
  [[nodiscard]] std::optional<caches::AddressSpaceKey> admit_page_request(core::Reader& reader,
                                                                          const DmaRequest& request) noexcept;

  /// Answers many requests; each is complete or a fault. Hits are answered in the first pass, misses walk together.
  /// @param batch  plain(i): report or not, and nothing else is special; source(i), iova(i), asked(i) as bits, and the
  ///               whole request(i); once for each i in [0, count), in any order, hit(i, Hit) or answer(i, DmaAnswer),
  ///               or nothing where a vector kernel has written the record. request_record(i) and answer_record(i) are
  ///               where the records (caches/batch_lookup.hpp) from i on lie
  template <class Batch>
  void translate_batch(core::Reader& reader, std::size_t count, const Batch& batch) noexcept {
    for (std::size_t first = 0; first < count; first += core::batch_width)
      translate_some(reader, first, first + std::min(core::batch_width, count - first), batch);
  }

  /// The context that a request would go by; null when it is not cached. Inside a guard.
  [[nodiscard]] caches::ContextEntry cached_context(const DmaRequest& request) const noexcept {
    return find_context(request);
  }
  /// What translate() would answer, and why; without any of its effects (dma_explain.cpp). Inside a guard.
  void explain(const DmaRequest& request, DmaExplanation& why) noexcept;

  /// A fault that was found elsewhere, for a request that this unit has not seen: recorded as one of its own. Inside a
  /// guard.
  [[nodiscard]] FaultStatus report_host_fault(core::Reader& reader, const DmaRequest& request,
                                              FaultReason reason) noexcept;
  /// What a device sees as its context says now, for who mirrors it: read by whoever has the unit's work, without a
  /// guard.
  [[nodiscard]] consumer::Content content_of(SourceId source) const noexcept;
  /// Told of contexts that were read, where the guest does not announce them.
  void tell_contexts(consumer::Consumers* consumers) noexcept { consumers_ = consumers; }
  /// Whose requests do not pass the unit; without it all do. Before the first request.
  void follow(const machine::Ways& ways) noexcept { ways_ = &ways; }

  /// What new requests see from now on. Requests that began earlier may still be under the old mode.
  void set_mode(RootPointer root, bool translate, bool protect) noexcept;

 private:
  using Mode = core::RequestMode;
  /// What TTM comes to.
  [[nodiscard]] static TableMode tables_of(Mode mode) noexcept {
    if (mode.has(Mode::invalid_table)) return TableMode::reserved;
    if (mode.has(Mode::aborting)) return TableMode::abort_dma;
    return mode.has(Mode::scalable) ? TableMode::scalable : TableMode::legacy;
  }

  /// A zero-length read is allowed by either right where CAP.ZLR says so.
  [[nodiscard]] Rights effective(const DmaRequest& request) const noexcept {
    return request.zero_length && capabilities_.zero_length_read ? Rights{} : request.asked;
  }
  [[nodiscard, gnu::always_inline]] static DmaAnswer answer(const core::Translation& found,
                                                            const caches::AddressSpaceKey& key) noexcept {
    const DmaKind kind =
        key.interpretation == caches::Interpretation::pass_through ? DmaKind::identity : DmaKind::translated;
    return {kind,      found.rights,          found.gpa, found.mask, FaultReason::none, FaultStatus::none, key.domain,
            key.pasid, key.has_first_stage(), found.mmio};
  }

  using Misses = Scratch<core::Miss, core::batch_width>;
  /// A request of a batch that has a PASID or an address in the upper half: a hit is answered, a miss walks with the
  /// others. @return false where it has to be asked by itself
  template <class Batch>
  [[nodiscard, gnu::noinline]] bool look_up_or_gather(core::Reader& reader, const Batch& batch, std::size_t i,
                                                      Mode mode, Misses& misses, std::size_t& missed) noexcept {
    const DmaRequest request = batch.request(i);
    const caches::ContextEntry context = context_for_batch(request, mode);
    if (!context) return false;
    charge(reader, request);
    const caches::AddressSpaceKey& key = context.space().key;
    const Rights asked = effective(request);
    if (!waist_.uncached()) {
      const core::Waist::Hit hit =
          waist_.look_up_folded(reader, context.space(), {key.folded(request.iova.value)}, asked.bits());
      if (hit.found()) {
        batch.hit(i, hit);
        return true;
      }
    }
    core::Miss& miss = misses.emplace(missed++);
    miss.context = context;
    miss.iova = request.iova;
    miss.asked = asked;
    miss.index = static_cast<std::uint32_t>(i);
    miss.account = reader.account;
    return true;
  }
  /// The cached context of such a request, if nothing stops it before its tables; null otherwise.
  [[nodiscard]] caches::ContextEntry context_for_batch(const DmaRequest& request, Mode mode) const noexcept;

  /// Requests [first, end) of a batch, at most core::batch_width.
  template <class Batch>
  void translate_some(core::Reader& reader, std::size_t first, std::size_t end, Batch batch) noexcept {
    const Mode mode = waist_.mode();
    const bool usual = mode.uncounted().plain();
    caches::BatchBits answered{};
    if (usual && waist_.batch_lookup() != nullptr) {
      answered = waist_.look_up_records(reader, static_cast<std::uint64_t>(DmaKind::translated),
                                        batch.request_record(first), batch.answer_record(first), end - first);
    }
    Misses misses;
    std::size_t missed = 0;
    for (std::size_t i = first; i < end; ++i) {
      if ((answered[(i - first) / 64] >> ((i - first) % 64) & 1) != 0) continue;
      const caches::ContextEntry context = usual ? waist_.find_context(batch.source(i)) : caches::ContextEntry{};
      const Iova iova = batch.iova(i);
      if (!context || !batch.plain(i) || iova >= context.space().paged) [[unlikely]] {
        if (!usual || !look_up_or_gather(reader, batch, i, mode, misses, missed))
          batch.answer(i, translate(reader, batch.request(i)));
        continue;
      }
      if (!waist_.uncached()) {
        waist_.charge(reader, batch.source(i));
        if (const core::Waist::Hit hit = waist_.look_up(reader, context.space(), iova, batch.asked(i)); hit.found()) {
          batch.hit(i, hit);
          continue;
        }
      }
      if (interrupt_window.contains(iova.value)) [[unlikely]] {
        batch.answer(i, translate(reader, batch.request(i)));
        continue;
      }
      core::Miss& miss = misses.emplace(missed++);  // field by field (core::Translation)
      miss.context = context;
      miss.iova = iova;
      miss.asked = Rights::in(batch.asked(i));
      miss.index = static_cast<std::uint32_t>(i);
      miss.account = reader.account;
    }
    if (missed == 0) return;
    waist_.walk_and_fill(reader, {misses.data(), missed});
    for (std::size_t m = 0; m < missed; ++m) {
      const core::Miss& miss = misses[m];
      const core::Translation& found = miss.found;
      if (found.outcome == core::Outcome::translated) [[likely]]
        batch.hit(miss.index, core::Waist::Hit::of(found));
      else
        batch.answer(miss.index, fault_in(reader, batch.request(miss.index), found, miss.space().key,
                                          miss.context.fault_disable()));
    }
  }

  /// The context tables' answer to a request; with a fault, the rest says nothing.
  struct Context {
    FaultReason fault = FaultReason::none;
    bool fault_disable = false;
    caches::AddressSpaceKey key{};
    bool device_tlb = false;
  };
  /// Counted, as every walk of the context tables is.
  [[nodiscard]] Context walk_tables(core::Reader& reader, const DmaRequest& request, Mode mode) const noexcept;
  [[nodiscard]] Context read_tables(const DmaRequest& request, Mode mode) const noexcept;
  /// What a cached entry has kept of it.
  [[nodiscard]] static Context kept_in(caches::ContextEntry entry) noexcept {
    return {FaultReason::none, entry.fault_disable(), entry.space().key, entry.device_tlb()};
  }
  [[nodiscard]] caches::ContextEntry find_context(const DmaRequest& request) const noexcept;
  [[nodiscard]] caches::ContextEntry insert_context(std::uint64_t version, const DmaRequest& request,
                                                    const Context& context) noexcept;
  /// By what the context tables say, cached or not.
  [[nodiscard]] DmaAnswer translate_by_context(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept;
  [[nodiscard]] DmaAnswer translate_without_context(core::Reader& reader, const DmaRequest& request,
                                                    Mode mode) noexcept;
  [[nodiscard]] machine::Way way_of(SourceId source) const noexcept {
    return ways_ == nullptr ? machine::Way::unit : ways_->of(source);
  }
  /// Of a request that does not pass the unit: guest memory at its own addresses, or nothing, of which nobody is told.
  [[nodiscard]] DmaAnswer beside_unit(core::Reader& reader, const DmaRequest& request, machine::Way way) noexcept;
  [[nodiscard]] DmaAnswer translate_special(core::Reader& reader, const DmaRequest& request, Mode mode) noexcept;
  /// While translation is off.
  [[nodiscard]] DmaAnswer untranslated(Iova iova) const noexcept;
  [[nodiscard]] DmaAnswer access_interrupt_window(core::Reader& reader, const DmaRequest& request) noexcept;
  [[nodiscard]] DmaAnswer unless_protected(core::Reader& reader, const DmaRequest& request, DmaAnswer found) noexcept;
  [[nodiscard]] DmaAnswer fault_in(core::Reader& reader, const DmaRequest& request, const core::Translation& found,
                                   const caches::AddressSpaceKey& key, bool fault_disable) noexcept;
  /// @param key  of the address space it was to be translated in, where it came so far
  [[nodiscard]] DmaAnswer fault(core::Reader& reader, const DmaRequest& request, FaultReason reason, bool fault_disable,
                                const caches::AddressSpaceKey* key = nullptr) noexcept;
  /// To the account of the context that was just found or inserted.
  void charge(core::Reader& reader, const DmaRequest& request) const noexcept;
  [[nodiscard]] FaultStatus report(const DmaRequest& request, FaultReason reason, bool fault_disable) noexcept;

  [[nodiscard]] FaultReason mode_fault(const DmaRequest& request, Mode mode) const noexcept {
    return vtd::mode_fault(capabilities_, tables_of(mode), request);
  }
  /// Whether an address lies in a protected region that is in force. Takes the registers' lock.
  [[nodiscard]] bool is_protected(Gpa gpa) noexcept;
  // dma_ats.cpp
  [[nodiscard]] TranslationCompletion complete_with(core::Reader& reader, const DmaRequest& request, FaultReason reason,
                                                    bool fault_disable) noexcept;
  [[nodiscard]] core::Translation translate_as_granted(core::Reader& reader, const DmaRequest& request,
                                                       caches::ContextEntry context, const Context& walked) noexcept;

  const Capabilities& capabilities_;
  core::Waist& waist_;
  Registers& registers_;
  FaultReporter& faults_;
  consumer::Consumers* consumers_ = nullptr;
  const machine::Ways* ways_ = nullptr;
};

}  // namespace viommu::vtd
