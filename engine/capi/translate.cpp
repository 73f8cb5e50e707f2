// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Readers, guards, translating, holds.
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <optional>

#include "engine/capi/call_guard.hpp"
#include "engine/capi/engine.hpp"
#include "engine/capi/requests.hpp"
#include "engine/core/range.hpp"

using viommu::AddressType;
using viommu::Rights;
using viommu::caches::AddressSpace;
using viommu::caches::ContextEntry;
using viommu::capi::all_access;
using viommu::capi::AnswerSource;
using viommu::capi::CallGuard;
using viommu::capi::dma_request;
using viommu::capi::engine_of;
using viommu::capi::makes_sense;
using viommu::capi::reader_of;
using viommu::capi::RecordedCall;
using viommu::core::Count;
using viommu::core::DmaAnswer;
using viommu::core::DmaKind;
using viommu::core::DmaRequest;
using viommu::core::Reader;
using viommu::core::Waist;
using Few = viommu::caches::Iotlb::Few;

namespace {

[[nodiscard]] std::uint8_t rights_of(Rights rights) noexcept { return static_cast<std::uint8_t>(rights.bits()); }

[[nodiscard]] constexpr std::uint8_t kind_of(DmaKind kind) noexcept { return static_cast<std::uint8_t>(kind); }
static_assert(kind_of(DmaKind::fault) == VIOMMU_FAULT && kind_of(DmaKind::translated) == VIOMMU_TRANSLATED &&
              kind_of(DmaKind::identity) == VIOMMU_IDENTITY && kind_of(DmaKind::interrupt) == VIOMMU_INTERRUPT);

/// The last eight bytes in one store, because who reads the answer next reads it in words: single bytes would have to
/// reach the cache first.
[[gnu::always_inline]] inline void write(viommu_translation& translation, std::uint64_t gpa, std::uint64_t mask,
                                         std::uint64_t kind, std::uint64_t rights, std::uint64_t reason = 0,
                                         std::uint64_t status = 0) noexcept {
  const std::uint64_t tail = kind | rights << 8 | reason << 16 | status << 24;
  static_assert(std::endian::native == std::endian::little);
  static_assert(offsetof(viommu_translation, rights) == offsetof(viommu_translation, kind) + 1 &&
                offsetof(viommu_translation, reason) == offsetof(viommu_translation, kind) + 2 &&
                offsetof(viommu_translation, status) == offsetof(viommu_translation, kind) + 3 &&
                sizeof(viommu_translation) == offsetof(viommu_translation, kind) + sizeof tail);
  translation.gpa = gpa;
  translation.mask = mask;
  std::memcpy(&translation.kind, &tail, sizeof tail);
}
static_assert(VIOMMU_READ == viommu::read_only.bits() && VIOMMU_WRITE == viommu::write_only.bits() &&
              VIOMMU_MMIO == viommu::mmio_bit);

[[gnu::always_inline]] inline void write(viommu_translation& translation, const Waist::Hit& hit) noexcept {
  write(translation, hit.gpa.value, hit.mask, VIOMMU_TRANSLATED, hit.rights);
}
void write(viommu_translation& translation, const DmaAnswer& answer) noexcept {
  write(translation, answer.gpa.value, answer.mask, kind_of(answer.kind),
        answer.rights.bits() | (answer.mmio ? viommu::mmio_bit : 0), static_cast<std::uint64_t>(answer.reason),
        static_cast<std::uint64_t>(answer.status));
}

[[nodiscard]] viommu_translation translation_of(const DmaAnswer& answer) noexcept {
  viommu_translation translation;
  write(translation, answer);
  return translation;
}

[[nodiscard]] viommu_ats_completion completion_of(const viommu::vtd::TranslationCompletion& from) noexcept {
  viommu_ats_completion completion{};
  completion.gpa = from.gpa.value;
  completion.mask = from.mask;
  completion.status = static_cast<std::uint8_t>(from.status);
  completion.rights = rights_of(from.rights);
  unsigned flags = 0;
  if (from.privileged) flags |= VIOMMU_ATS_PRIVILEGED;
  if (from.untranslated_only) flags |= VIOMMU_ATS_UNTRANSLATED_ONLY;
  if (from.must_snoop) flags |= VIOMMU_ATS_MUST_SNOOP;
  completion.flags = static_cast<std::uint8_t>(flags);
  completion.reason = static_cast<std::uint8_t>(from.reason);
  completion.recorded = static_cast<std::uint8_t>(from.fault);
  return completion;
}

/// As a trace has it: a success without rights is an answer of nothing, anything but a success a fault.
[[nodiscard]] viommu_translation recorded_form(const viommu_ats_completion& completion) noexcept {
  viommu_translation form{};
  if (completion.status != VIOMMU_ATS_SUCCESS) {
    form.reason = completion.reason;
    form.status = completion.recorded;
    return form;
  }
  form.kind = VIOMMU_TRANSLATED;
  form.rights = completion.rights;
  if (completion.rights == 0) return form;
  form.gpa = completion.gpa;
  form.mask = completion.mask;
  return form;
}

[[nodiscard]] viommu_result result_of(const DmaAnswer& answer) noexcept {
  return answer.kind == DmaKind::fault ? VIOMMU_E_FAULT : VIOMMU_OK;
}

[[nodiscard]] AnswerSource source_since(const Reader& reader, const viommu::core::Counters& before) noexcept {
  const auto counted = [&](Count which) { return reader.counters.get(which) != before.get(which); };
  if (counted(Count::walks)) return AnswerSource::walk;
  if (counted(Count::iotlb_hits)) return AnswerSource::iotlb;
  return counted(Count::pass_throughs) ? AnswerSource::pass_through : AnswerSource::off;
}

[[nodiscard]] DmaAnswer ask_recorded(viommu_engine& engine, Reader& reader, const viommu_request& request) noexcept {
  const RecordedCall call{engine.recorder.get()};
  const viommu::core::Counters before = reader.counters;
  const DmaAnswer answer = engine.front.translate(reader, dma_request(request));
  if (!engine.recorder->follows_device())
    engine.recorder->translated(request, translation_of(answer), source_since(reader, before));
  else if (engine.ways.of({request.source}) == viommu::machine::Way::unit)  // others do not pass the device
    engine.recorder->device_translated(request, translation_of(answer));
  return answer;
}

/// What the DMA of a hold may write; nothing for one that reads. A request that does not say how long it is writes in
/// its page.
[[nodiscard]] std::optional<viommu::GpaRange> written_by(const viommu_request& request,
                                                         const DmaAnswer& answer) noexcept {
  if ((request.access & VIOMMU_WRITE) == 0) return std::nullopt;
  const std::uint64_t gpa = answer.gpa.value;
  const std::uint64_t asked = request.length == 0 ? ~gpa & viommu::low_bits(viommu::page_shift) : request.length - 1;
  const std::uint64_t in_block = answer.mask - (gpa & answer.mask);
  return viommu::GpaRange{{gpa}, {gpa + std::min(asked, in_block)}};
}

/// The one place from which requests go to the unit.
[[nodiscard]] DmaAnswer ask(viommu_engine& engine, Reader& reader, const viommu_request& request) noexcept {
  if (engine.recorder != nullptr) [[unlikely]]
    return ask_recorded(engine, reader, request);
  return engine.front.translate(reader, dma_request(request));
}

[[nodiscard]] viommu_result translate_one(viommu_engine& engine, Reader& reader, const viommu_request& request,
                                          viommu_translation& translation) noexcept {
  const CallGuard guard{engine.waist, reader};
  const DmaAnswer answer = ask(engine, reader, request);
  translation = translation_of(answer);
  return result_of(answer);
}

/// Nothing about it needs a second look before the caches are asked.
[[nodiscard, gnu::always_inline]] inline bool is_plain(const viommu_request& request) noexcept {
  static_assert(offsetof(viommu_request, flags) == offsetof(viommu_request, access) + 1);
  std::uint16_t both = 0;
  std::memcpy(&both, &request.access, sizeof both);
  return (both & ~(unsigned{VIOMMU_NO_REPORT} << 8)) - 1U < all_access;
}

[[nodiscard, gnu::noinline]] viommu_result translate_slowly(viommu_engine& engine, Reader& reader,
                                                            const viommu_request& request,
                                                            viommu_translation& translation) noexcept {
  return makes_sense(request) ? translate_one(engine, reader, request, translation) : VIOMMU_E_ARGUMENT;
}

[[nodiscard, gnu::noinline]] viommu_result wake(viommu_engine& engine) noexcept {
  engine.waist.wake();
  return VIOMMU_OK;
}

/// Closes the guard that the call has opened, if it has.
[[nodiscard, gnu::always_inline]] inline viommu_result leave(viommu_engine& engine, Reader& reader) noexcept {
  if (engine.waist.leave_outermost(reader)) [[unlikely]]
    return wake(engine);
  return VIOMMU_OK;
}

/// A hit that is counted by device and domain, which the hot path leaves to the slow one.
[[nodiscard]] Waist::Hit look_up_charged(Reader& reader, const DmaRequest& asked, const AddressSpace& space) noexcept {
  Waist& waist = engine_of(reader).waist;
  if (!waist.counts_apart() || waist.uncached()) return {};
  waist.charge(reader, asked.source);
  return waist.look_up(reader, space, asked.iova, asked.asked.bits());
}

// The ways on from the hot path, inside the guard that it opened or another. They begin with what the call was given
// and find out the rest again, so that the hot path has to keep nothing for them.

[[nodiscard, gnu::noinline]] viommu_result miss(Reader& reader, const viommu_request& request,
                                                viommu_translation& translation) noexcept {
  viommu_engine& engine = engine_of(reader);
  const DmaRequest asked = dma_request(request);
  const ContextEntry context =
      engine.waist.mode().uncounted().plain() ? engine.waist.find_context(asked.source) : ContextEntry{};
  if (context) {
    if (const Waist::Hit hit = look_up_charged(reader, asked, context.space()); hit.found()) [[unlikely]] {
      write(translation, hit);
      return leave(engine, reader);
    }
  }
  const DmaAnswer answer = context && asked.iova < context.space().paged
                               ? engine.front.translate_missed(reader, asked, context)
                               : engine.front.translate(reader, asked);
  write(translation, answer);
  static_cast<void>(leave(engine, reader));
  return result_of(answer);
}

/// After the small pages, which are looked up in line.
[[nodiscard, gnu::noinline]] viommu_result translate_more(Reader& reader, const viommu_request& request,
                                                          viommu_translation& translation) noexcept {
  viommu_engine& engine = engine_of(reader);
  const ContextEntry context = engine.waist.find_context(viommu::SourceId{request.source});
  if (!context || request.iova >= context.space().paged.value) return miss(reader, request, translation);
  const Waist::Hit hit = engine.waist.look_up_more(reader, context.space(), {request.iova}, request.access);
  if (!hit.found()) return miss(reader, request, translation);
  write(translation, hit);
  return leave(engine, reader);
}

/// After a hit in a small page that is to be remembered.
[[nodiscard, gnu::noinline]] viommu_result remember(Reader& reader, const viommu_request& request) noexcept {
  viommu_engine& engine = engine_of(reader);
  if (const ContextEntry context = engine.waist.find_context(viommu::SourceId{request.source}); context)
    Waist::remember(reader, context.space().place(), {request.iova}, viommu::low_bits(viommu::page_shift));
  return leave(engine, reader);
}

/// The look at the small pages of an address space, and what comes of it.
template <Few which>
[[nodiscard, gnu::always_inline]] inline viommu_result translate_small(Reader& reader, const viommu_request& request,
                                                                       viommu_translation& translation,
                                                                       const AddressSpace& space) noexcept {
  viommu_engine& engine = engine_of(reader);
  const Waist::Hit hit = engine.waist.look_up_small<which>(space.place(), {request.iova}, request.access);
  if (!hit.found()) [[unlikely]]
    return Waist::has_more(space, which) ? translate_more(reader, request, translation)
                                         : miss(reader, request, translation);
  write(translation, hit);
  if (Waist::count_hit(reader)) [[unlikely]]
    return remember(reader, request);
  return leave(engine, reader);
}

/// Of its own, because it wants more registers than the hot path has to spare.
[[nodiscard, gnu::noinline]] viommu_result translate_small_or_block(Reader& reader, const viommu_request& request,
                                                                    viommu_translation& translation,
                                                                    const AddressSpace& space) noexcept {
  return translate_small<Few::small>(reader, request, translation, space);
}

/// A plain request, inside the guard that was opened for it or another.
[[nodiscard, gnu::always_inline]] inline viommu_result translate_plain(Reader& reader, const viommu_request& request,
                                                                       viommu_translation& translation) noexcept {
  viommu_engine& engine = engine_of(reader);
  if (!engine.waist.mode().plain()) [[unlikely]]
    return miss(reader, request, translation);
  const ContextEntry context = engine.waist.find_context(viommu::SourceId{request.source});
  if (!context || request.iova >= context.space().paged.value) [[unlikely]]
    return miss(reader, request, translation);
  const AddressSpace& space = context.space();
  switch (engine.waist.few(space)) {
    case Few::page:  return translate_small<Few::page>(reader, request, translation, space);
    case Few::small: return translate_small_or_block(reader, request, translation, space);
    case Few::any:   break;
  }
  return translate_more(reader, request, translation);
}

[[nodiscard, gnu::noinline]] viommu_result translate_behind_fence(Reader& reader, const viommu_request& request,
                                                                  viommu_translation& translation) noexcept {
  engine_of(reader).waist.finish_entry(reader);
  return translate_plain(reader, request, translation);
}

// The records of caches/batch_lookup.hpp.
namespace request_layout = viommu::caches::request_layout;
static_assert(sizeof(viommu_request) == viommu::caches::record_bytes && offsetof(viommu_request, iova) == 0 &&
              offsetof(viommu_request, source) == 16 + request_layout::source_at / 8 &&
              offsetof(viommu_request, access) == 16 + request_layout::access_at / 8 &&
              offsetof(viommu_request, flags) == 16 + request_layout::flags_at / 8 &&
              request_layout::no_report == VIOMMU_NO_REPORT);
static_assert(sizeof(viommu_translation) == viommu::caches::record_bytes && offsetof(viommu_translation, gpa) == 0 &&
              offsetof(viommu_translation, mask) == 8 && offsetof(viommu_translation, kind) == 16 &&
              offsetof(viommu_translation, rights) == 16 + viommu::caches::answer_layout::rights_at / 8);

[[nodiscard]] bool all_make_sense(const viommu_engine& engine, const viommu_request* requests,
                                  std::size_t count) noexcept {
  const viommu::caches::BatchLookup* const kernel = engine.waist.batch_lookup();
  if (kernel != nullptr && kernel->all_plain(reinterpret_cast<const std::byte*>(requests), count)) return true;
  return std::all_of(requests, requests + count, makes_sense);
}

/// The caller's arrays as the unit asks for them (Dma::translate_batch).
class CallersBatch {
 public:
  CallersBatch(const viommu_request* requests, viommu_translation* translations) noexcept
      : requests_{requests}, translations_{translations} {}

  [[nodiscard]] bool plain(std::size_t i) const noexcept { return is_plain(requests_[i]); }
  [[nodiscard]] viommu::SourceId source(std::size_t i) const noexcept { return {requests_[i].source}; }
  [[nodiscard]] viommu::Iova iova(std::size_t i) const noexcept { return {requests_[i].iova}; }
  [[nodiscard]] viommu::RightBits asked(std::size_t i) const noexcept { return requests_[i].access; }
  [[nodiscard]] DmaRequest request(std::size_t i) const noexcept { return dma_request(requests_[i]); }
  [[gnu::always_inline]] void hit(std::size_t i, const Waist::Hit& hit) const noexcept { write(translations_[i], hit); }
  void answer(std::size_t i, const DmaAnswer& answer) const noexcept { write(translations_[i], answer); }
  [[nodiscard]] const std::byte* request_record(std::size_t i) const noexcept {
    return reinterpret_cast<const std::byte*>(requests_ + i);
  }
  [[nodiscard]] std::byte* answer_record(std::size_t i) const noexcept {
    return reinterpret_cast<std::byte*>(translations_ + i);
  }

 private:
  const viommu_request* requests_;
  viommu_translation* translations_;
};

}  // namespace

extern "C" {

viommu_result viommu_reader_create(viommu_engine* engine, viommu_reader** reader) {
  if (engine == nullptr || reader == nullptr) return VIOMMU_E_ARGUMENT;
  *reader = nullptr;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  Reader* const taken = engine->waist.take_reader();
  if (taken == nullptr) return VIOMMU_E_LIMIT;
  taken->owner = engine;
  *reader = reinterpret_cast<viommu_reader*>(taken);
  return VIOMMU_OK;
}

viommu_result viommu_reader_destroy(viommu_reader* handle) {
  if (handle == nullptr) return VIOMMU_OK;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  if (reader.depth != 0 || engine.host.calling()) return VIOMMU_E_BUSY;
  engine.waist.put_reader(reader);
  return VIOMMU_OK;
}

void viommu_enter(viommu_reader* handle) {
  if (handle == nullptr) return;
  Reader& reader = reader_of(handle);
  engine_of(reader).waist.enter(reader);
}

void viommu_leave(viommu_reader* handle) {
  if (handle == nullptr) return;
  Reader& reader = reader_of(handle);
  engine_of(reader).waist.leave(reader);
}

viommu_result viommu_translate(viommu_reader* handle, const viommu_request* request, viommu_translation* translation) {
  // The hot path: nothing here but loads, compares and stores; whatever takes a call is done by the last one.
  if (handle == nullptr || request == nullptr || translation == nullptr) [[unlikely]]
    return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  if (engine.recorder != nullptr || !is_plain(*request)) [[unlikely]]
    return translate_slowly(engine, reader, *request, *translation);
  if (!engine.waist.enter_cheaply(reader)) [[unlikely]]
    return translate_behind_fence(reader, *request, *translation);
  return translate_plain(reader, *request, *translation);
}

viommu_result viommu_ats_translate(viommu_reader* handle, const viommu_request* request,
                                   viommu_ats_completion* completion) {
  if (handle == nullptr || request == nullptr || completion == nullptr || !makes_sense(*request) ||
      (request->access & VIOMMU_READ) == 0 || (request->flags & VIOMMU_ZERO_LENGTH) != 0)
    return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  viommu::vtd::Unit* const unit = engine.front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  const CallGuard guard{engine.waist, reader};
  DmaRequest asked = dma_request(*request);
  asked.type = AddressType::translation_request;
  if (!unit->capabilities().no_write_flag) asked.asked = viommu::read_write;
  const RecordedCall call{engine.recorder.get()};
  const viommu::core::Counters before = reader.counters;
  *completion = completion_of(unit->dma().complete_translation_request(reader, asked));
  if (engine.recorder != nullptr)
    engine.recorder->translated(*request, recorded_form(*completion), source_since(reader, before), asked.type);
  return VIOMMU_OK;
}

viommu_result viommu_ats_check(viommu_reader* handle, const viommu_request* request, viommu_translation* translation) {
  if (handle == nullptr || request == nullptr || translation == nullptr || !makes_sense(*request))
    return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  viommu::vtd::Unit* const unit = engine.front.vtd();
  if (unit == nullptr) return VIOMMU_E_UNSUPPORTED;
  const CallGuard guard{engine.waist, reader};
  DmaRequest asked = dma_request(*request);
  asked.type = AddressType::translated;
  const RecordedCall call{engine.recorder.get()};
  const DmaAnswer answer = unit->dma().check_translated(reader, asked);
  *translation = translation_of(answer);
  if (engine.recorder != nullptr)
    engine.recorder->translated(*request, *translation, AnswerSource::pass_through, asked.type);
  return result_of(answer);
}

viommu_result viommu_translate_once(viommu_engine* engine, const viommu_request* request,
                                    viommu_translation* translation) {
  if (engine == nullptr || request == nullptr || translation == nullptr || !makes_sense(*request))
    return VIOMMU_E_ARGUMENT;
  Reader* const reader = engine->waist.take_transient_reader();
  if (reader == nullptr) return VIOMMU_E_BUSY;
  const viommu_result result = translate_one(*engine, *reader, *request, *translation);
  engine->waist.put_reader(*reader);
  return result;
}

viommu_result viommu_translate_range(viommu_reader* handle, const viommu_request* request, viommu_piece* pieces,
                                     uint32_t capacity, viommu_range_end* end) {
  if (handle == nullptr || request == nullptr || pieces == nullptr || end == nullptr || capacity == 0 ||
      !makes_sense(*request) || (request->flags & VIOMMU_ZERO_LENGTH) != 0)
    return VIOMMU_E_ARGUMENT;
  if (request->length == 0 || request->iova + (request->length - 1) < request->iova) return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  const CallGuard guard{engine.waist, reader};
  *end = {};
  DmaRequest rest = dma_request(*request);
  const auto translate = [&](const DmaRequest& block) {
    viommu_request asked = *request;
    asked.iova = block.iova.value;
    asked.length = block.length;
    return ask(engine, reader, asked);
  };
  // A few pieces at a time on the stack, so that the C structs need not look like the engine's.
  std::array<viommu::core::Piece, 32> some;
  viommu::core::RangeEnd part;
  do {
    const std::size_t room = std::min<std::size_t>(some.size(), capacity - end->pieces);
    part = viommu::core::translate_range(rest, {some.data(), room}, translate);
    for (std::size_t i = 0; i < part.pieces; ++i) {
      const viommu::core::Piece& piece = some[i];
      const auto rights = static_cast<std::uint8_t>(piece.rights.bits() | (piece.mmio ? viommu::mmio_bit : 0));
      viommu_piece* const last = end->pieces == 0 ? nullptr : &pieces[end->pieces - 1];
      if (last != nullptr && last->kind == kind_of(piece.kind) && last->rights == rights &&
          last->gpa + last->length == piece.gpa.value) {
        last->length += piece.length;
      } else {
        pieces[end->pieces++] = {piece.iova.value, piece.gpa.value, piece.length, kind_of(piece.kind), rights, {}};
      }
    }
    end->translated += part.translated;
    rest.iova = {request->iova + end->translated};
    rest.length = request->length - end->translated;
  } while (!part.complete && !part.stopped && part.pieces == some.size() && end->pieces < capacity);
  end->complete = part.complete ? 1 : 0;
  if (!part.stopped) return VIOMMU_OK;
  end->reason = static_cast<std::uint8_t>(part.fault.reason);
  end->status = static_cast<std::uint8_t>(part.fault.status);
  return VIOMMU_E_FAULT;
}

viommu_result viommu_translate_batch(viommu_reader* handle, const viommu_request* requests,
                                     viommu_translation* translations, uint32_t count) {
  constexpr std::uint32_t most_requests = 65535;
  if (handle == nullptr || count > most_requests) return VIOMMU_E_ARGUMENT;
  if (count == 0) return VIOMMU_OK;
  if (requests == nullptr || translations == nullptr) return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  if (!all_make_sense(engine, requests, count)) return VIOMMU_E_ARGUMENT;
  const CallGuard guard{engine.waist, reader};
  if (engine.recorder != nullptr) [[unlikely]] {
    for (std::uint32_t i = 0; i < count; ++i) translations[i] = translation_of(ask(engine, reader, requests[i]));
    return VIOMMU_OK;
  }
  engine.front.translate_batch(reader, count, CallersBatch{requests, translations});
  return VIOMMU_OK;
}

viommu_result viommu_hold(viommu_reader* handle, const viommu_request* request, uint64_t cookie,
                          viommu_translation* translation, uint64_t* hold) {
  if (handle == nullptr || request == nullptr || translation == nullptr || hold == nullptr || !makes_sense(*request))
    return VIOMMU_E_ARGUMENT;
  *hold = 0;
  const std::uint64_t length = request->length == 0 ? 1 : request->length;
  if (request->iova + (length - 1) < request->iova) return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  if (engine.host.calling()) return VIOMMU_E_BUSY;
  const CallGuard guard{engine.waist, reader};
  const std::uint64_t since = engine.waist.hold_since();
  const DmaAnswer answer = ask(engine, reader, *request);
  *translation = translation_of(answer);
  if (answer.kind == DmaKind::fault) return VIOMMU_E_FAULT;
  if (answer.kind == DmaKind::interrupt) return VIOMMU_E_ARGUMENT;
  // The DMA may use the whole block the answer stands for, so that is what is held.
  const viommu::IovaRange held{{request->iova & ~answer.mask}, {(request->iova + (length - 1)) | answer.mask}};
  *hold = engine.waist.hold(since, {{request->source}, answer.domain, held, answer.pasid, answer.first_stage}, cookie,
                            written_by(*request, answer));
  return *hold == 0 ? VIOMMU_E_LIMIT : VIOMMU_OK;
}

viommu_result viommu_release(viommu_engine* engine, uint64_t hold) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  return engine->waist.release(hold, false) ? VIOMMU_OK : VIOMMU_E_NOT_FOUND;
}

viommu_result viommu_hold_revoke(viommu_engine* engine, uint64_t hold) {
  if (engine == nullptr) return VIOMMU_E_ARGUMENT;
  if (engine->host.calling()) return VIOMMU_E_BUSY;
  return engine->waist.release(hold, true) ? VIOMMU_OK : VIOMMU_E_NOT_FOUND;
}

}  // extern "C"
