// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Readers, guards, translating, holds.
#include <array>
#include <cstddef>

#include "engine/capi/engine.hpp"
#include "engine/vtd/range.hpp"

using viommu::Rights;
using viommu::capi::AnswerSource;
using viommu::capi::RecordedCall;
using viommu::core::Count;
using viommu::core::Reader;
using viommu::vtd::DmaAnswer;
using viommu::vtd::DmaKind;
using viommu::vtd::DmaRequest;

namespace {

[[nodiscard]] Reader& reader_of(viommu_reader* handle) noexcept { return *reinterpret_cast<Reader*>(handle); }
[[nodiscard]] viommu_engine& engine_of(const Reader& reader) noexcept {
  return *static_cast<viommu_engine*>(reader.owner);
}

/// A guard for the length of one call, inside whatever guard is open.
class CallGuard {
 public:
  CallGuard(viommu::core::Waist& waist, Reader& reader) noexcept : waist_{waist}, reader_{reader} {
    waist_.enter(reader_);
  }
  CallGuard(const CallGuard&) = delete;
  CallGuard& operator=(const CallGuard&) = delete;
  ~CallGuard() { waist_.leave(reader_); }

 private:
  viommu::core::Waist& waist_;
  Reader& reader_;
};

constexpr unsigned all_access = VIOMMU_READ | VIOMMU_WRITE;
constexpr unsigned all_flags = VIOMMU_NO_REPORT | VIOMMU_HAS_PASID | VIOMMU_ZERO_LENGTH;

[[nodiscard]] bool makes_sense(const viommu_request& request) noexcept {
  if (request.access == 0 || (request.access & ~all_access) != 0 || (request.flags & ~all_flags) != 0) return false;
  constexpr std::uint32_t pasid_limit = 1U << 20;
  if ((request.flags & VIOMMU_HAS_PASID) != 0 && request.pasid >= pasid_limit) return false;
  return (request.flags & VIOMMU_ZERO_LENGTH) == 0 || request.access == VIOMMU_READ;
}

[[nodiscard]] DmaRequest dma_request(const viommu_request& request) noexcept {
  DmaRequest dma;
  dma.source = {request.source};
  dma.iova = {request.iova};
  dma.asked = {(request.access & VIOMMU_READ) != 0, (request.access & VIOMMU_WRITE) != 0};
  dma.length = request.length;
  dma.zero_length = (request.flags & VIOMMU_ZERO_LENGTH) != 0;
  dma.has_pasid = (request.flags & VIOMMU_HAS_PASID) != 0;
  dma.pasid = {request.pasid};
  dma.report = (request.flags & VIOMMU_NO_REPORT) == 0;
  return dma;
}

[[nodiscard]] std::uint8_t rights_of(Rights rights) noexcept {
  return static_cast<std::uint8_t>((rights.read ? VIOMMU_READ : 0) | (rights.write ? VIOMMU_WRITE : 0));
}

[[nodiscard]] std::uint8_t kind_of(DmaKind kind) noexcept {
  switch (kind) {
    case DmaKind::fault:      return VIOMMU_FAULT;
    case DmaKind::translated: return VIOMMU_TRANSLATED;
    case DmaKind::identity:   return VIOMMU_IDENTITY;
    case DmaKind::interrupt:  return VIOMMU_INTERRUPT;
  }
  return VIOMMU_FAULT;
}

[[nodiscard]] viommu_translation translation_of(const DmaAnswer& answer) noexcept {
  viommu_translation translation;
  translation.gpa = answer.gpa.value;
  translation.mask = answer.mask;
  translation.kind = kind_of(answer.kind);
  translation.rights = rights_of(answer.rights);
  translation.reason = static_cast<std::uint8_t>(answer.reason);
  translation.status = static_cast<std::uint8_t>(answer.status);
  translation.reserved = 0;
  return translation;
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
  const DmaAnswer answer = engine.unit.dma().translate(reader, dma_request(request));
  engine.recorder->translated(request, translation_of(answer), source_since(reader, before));
  return answer;
}

/// The one place from which requests go to the unit.
[[nodiscard]] DmaAnswer ask(viommu_engine& engine, Reader& reader, const viommu_request& request) noexcept {
  if (engine.recorder != nullptr) [[unlikely]]
    return ask_recorded(engine, reader, request);
  return engine.unit.dma().translate(reader, dma_request(request));
}

[[nodiscard]] viommu_result translate_one(viommu_engine& engine, Reader& reader, const viommu_request& request,
                                          viommu_translation& translation) noexcept {
  const CallGuard guard{engine.waist, reader};
  const DmaAnswer answer = ask(engine, reader, request);
  translation = translation_of(answer);
  return result_of(answer);
}

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
  if (handle == nullptr || request == nullptr || translation == nullptr || !makes_sense(*request))
    return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  return translate_one(engine_of(reader), reader, *request, *translation);
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
  std::array<viommu::vtd::Piece, 32> some;
  viommu::vtd::RangeEnd part;
  do {
    const std::size_t room = std::min<std::size_t>(some.size(), capacity - end->pieces);
    part = viommu::vtd::translate_range(rest, {some.data(), room}, translate);
    for (std::size_t i = 0; i < part.pieces; ++i) {
      const viommu::vtd::Piece& piece = some[i];
      viommu_piece* const last = end->pieces == 0 ? nullptr : &pieces[end->pieces - 1];
      if (last != nullptr && last->kind == kind_of(piece.kind) && last->rights == rights_of(piece.rights) &&
          last->gpa + last->length == piece.gpa.value) {
        last->length += piece.length;
      } else {
        pieces[end->pieces++] = {piece.iova.value,    piece.gpa.value,         piece.length,
                                 kind_of(piece.kind), rights_of(piece.rights), {}};
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
  for (std::uint32_t i = 0; i < count; ++i)
    if (!makes_sense(requests[i])) return VIOMMU_E_ARGUMENT;
  Reader& reader = reader_of(handle);
  viommu_engine& engine = engine_of(reader);
  const CallGuard guard{engine.waist, reader};
  for (std::uint32_t i = 0; i < count; ++i) translations[i] = translation_of(ask(engine, reader, requests[i]));
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
  *hold = engine.waist.hold(since, {{request->source}, answer.domain, held}, cookie);
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
