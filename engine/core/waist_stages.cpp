// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Misses of address spaces whose walks set accessed and dirty flags. Source: VT-d, "First-Stage Translation" and
// "Accessed and Dirty Bits".
//
// What may be cached: an entry whose accessed flag is set, which the walk itself sees to; with the right to write only
// if the dirty flag is set. So the first write after a read walks again, and sets it. A request is answered with the
// same rights, because who asks may keep the answer. No neighbours: their flags are another request's to set.
#include "engine/base/tracepoint.hpp"
#include "engine/core/stage_walk.hpp"
#include "engine/core/waist.hpp"

namespace viommu::core {

bool Waist::walk_stages(Reader& reader, const caches::AddressSpaceKey& key, Iova iova, Rights asked, Translation& found,
                        caches::CachedPage& page) const noexcept {
  if (key.interpretation == caches::Interpretation::mappings)
    return look_in_store(reader, key.domain, iova, asked, found, page);
  const StageWalk walked = core::walk_stages({format_, first_stage_}, memory_.view(), key, iova, asked);
  return conclude_stages(reader, iova, walked, found, page);
}

bool Waist::conclude_stages(Reader& reader, Iova iova, const StageWalk& walked, Translation& found,
                            caches::CachedPage& page) const noexcept {
  reader.count(Count::walks, caches::Use::walks);
  reader.counters.add(Count::walk_loads, walked.loads);
  const bool cacheable = core::conclude(iova, walked, found, page);
  if (found.outcome == Outcome::translated) mark_device(found);
  tracepoint::walk_end(iova.value, static_cast<std::uint32_t>(found.outcome), found.gpa.value, walked.loads);
  if (found.outcome == Outcome::translated) reader.counters.add(Count::answers_with_walk);
  return cacheable && !interrupt_window.contains(iova.value);
}

void Waist::sample_stages(const caches::AddressSpace& space, Iova iova, Start& start) const noexcept {
  start.place = space.place();
  start.fillable = space.fillable.load(std::memory_order_acquire);
  if (!options_.uncached) iotlb_.sample(start.place, {space.key.folded(iova.value)}, start.fillable, start.pages);
}

void Waist::fill_staged(Reader& reader, caches::AddressSpace& space, const Start& start, Iova iova,
                        const caches::CachedPage& page) noexcept {
  if (options_.uncached || space.tag() != start.place.tag()) return;
  fill_page(reader, space, start, {space.key.folded(iova.value)}, page);
}

void Waist::walk_stages_and_fill(Reader& reader, std::span<Miss> misses, MissNumbers& numbers,
                                 std::size_t count) noexcept {
  while (count != 0) {  // ends: at least the first one goes each time
    caches::AddressSpace& space = misses[numbers[0]].space();
    MissNumbers together;
    std::size_t of_space = 0;
    std::size_t others = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint8_t number = numbers[i];
      if (&misses[number].space() == &space)
        together.put(of_space++, number);
      else
        numbers.put(others++, number);
    }
    count = others;
    if (of_space > 1 && space.key.interpretation != caches::Interpretation::mappings) {
      walk_space_and_fill(reader, misses, together, of_space);
      continue;
    }
    for (std::size_t i = 0; i < of_space; ++i) {
      Miss& miss = misses[together[i]];
      reader.account = miss.account;
      walk_stages_and_fill(reader, space, miss.iova, miss.asked, miss.found);
    }
  }
}

void Waist::walk_space_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers,
                                std::size_t count) noexcept {
  const caches::AddressSpaceKey& key = misses[numbers[0]].space().key;
  const MemoryView memory = memory_.view();
  const auto request = [&key](const Miss& miss) { return request_of(key, miss.iova, miss.asked); };
  if (key.interpretation == caches::Interpretation::nested) {
    const walkers::NestedStages stages = stages_of({format_, first_stage_}, key);
    walk_together_and_fill<walkers::FirstStageRequest, walkers::NestedAnswer>(
        reader, misses, numbers, count, request,
        [&](const auto* requests, auto* walks) { kernels_->walk_nested(stages, memory, requests, walks, count); });
  } else if (key.interpretation == caches::Interpretation::first_stage) {
    const walkers::FirstStage format = first_stage_of(key, first_stage_);
    walk_together_and_fill<walkers::FirstStageRequest, walkers::FirstStageAnswer>(
        reader, misses, numbers, count, request,
        [&](const auto* requests, auto* walks) { kernels_->walk_first_stage(format, memory, requests, walks, count); });
  } else {
    walk_together_and_fill<walkers::SecondStageRequest, walkers::SecondStageAnswer>(
        reader, misses, numbers, count,
        [&key](const Miss& miss) { return second_stage_request_of(key, miss.iova, miss.asked); },
        [&](const auto* requests, auto* walks) {
          kernels_->walk_second_stage(format_, second_controls_of(key), memory, requests, walks, count);
        });
  }
}

template <class Request, class Answer, class Ask, class Walk>
void Waist::walk_together_and_fill(Reader& reader, std::span<Miss> misses, const MissNumbers& numbers,
                                   std::size_t count, const Ask& request, const Walk& walk) noexcept {
  caches::AddressSpace& space = misses[numbers[0]].space();
  Scratch<Start, batch_width> starts;
  Scratch<Request, batch_width> requests;
  Scratch<Answer, batch_width> walks;
  for (std::size_t i = 0; i < count; ++i) {
    const Miss& miss = misses[numbers[i]];
    tracepoint::translate_miss(space.key.domain.value, miss.iova.value, miss.asked.bits());
    sample_stages(space, miss.iova, starts.emplace(i));  // all before the first guest load
    requests.put(i, request(miss));
    walks.put(i, {});
  }
  walk(requests.data(), walks.data());
  for (std::size_t i = 0; i < count; ++i) {
    Miss& miss = misses[numbers[i]];
    reader.account = miss.account;
    caches::CachedPage page;
    if (conclude_stages(reader, miss.iova, StageWalk::of(walks[i]), miss.found, page))
      fill_staged(reader, space, starts[i], miss.iova, page);
  }
}

void Waist::walk_stages_and_fill(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                 Translation& found) noexcept {
  tracepoint::translate_miss(space.key.domain.value, iova.value, asked.bits());
  Start start;  // before the first guest load
  sample_stages(space, iova, start);
  caches::CachedPage page;
  if (walk_stages(reader, space.key, iova, asked, found, page)) fill_staged(reader, space, start, iova, page);
}

void Waist::translate_beyond_last(Reader& reader, caches::AddressSpace& space, Iova iova, Rights asked,
                                  Translation& found) noexcept {
  if (!space.key.is_upper(iova)) return beyond_width(reader, space.key, found);
  const Hit hit = look_up_folded(reader, space, {space.key.folded(iova.value)}, asked.bits());
  if (hit.found()) return hit.write(found);
  walk_stages_and_fill(reader, space, iova, asked, found);
}

}  // namespace viommu::core
