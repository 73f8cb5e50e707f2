// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about memory, phases and time.
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {

// ---- Memory ----

std::string Replayer::add_region(const Regions::Region& region) const {
  // The length of all of 2^64 is no number: two halves are the same memory.
  constexpr std::uint64_t half = std::uint64_t{1} << 63;
  const Range whole = region.range;
  const bool is_everything = whole.first == 0 && whole.last == ~std::uint64_t{0};
  const std::vector<Range> pieces =
      is_everything ? std::vector<Range>{{0, half - 1}, {half, whole.last}} : std::vector<Range>{whole};
  for (const Range& piece : pieces) {
    viommu_region added{};
    added.gpa = piece.first;
    added.length = piece.last - piece.first + 1;
    added.flags = region.mmio ? VIOMMU_REGION_MMIO : VIOMMU_REGION_UNMAPPED;
    const viommu_result result = viommu_region_add(unit_.engine->get(), &added);
    if (result != VIOMMU_OK) return "the engine does not take this region: " + std::string{viommu_result_text(result)};
  }
  return {};
}

std::uint64_t Replayer::new_cookie(Range range) {
  host_.removals.push_back({range, false});
  return host_.removals.size() - 1;
}

void Replayer::succeed(const char* what, viommu_result result) {
  if (result != VIOMMU_OK) mismatch(what, "ok", viommu_result_text(result));
}

void Replayer::on(const trace::RamAdded& ram) {
  Regions& regions = host_.around.regions;
  const Range range{ram.first, ram.last};
  if (!ram.mmio && !host_.memory.add_ram(ram.first, ram.last)) return fail("some of this is RAM already");
  // A part that was removed from a region comes back.
  if (const Regions::Region* around = regions.around(range); around != nullptr && around->mmio == ram.mmio) {
    regions.set(range, Regions::State::there);
    if (unit_.engine)
      succeed("ram", viommu_region_part(unit_.engine->get(), ram.first, ram.last - ram.first + 1, VIOMMU_PART_SHARED,
                                        new_cookie(range)));
    return;
  }
  if (regions.overlaps(range)) return fail("some of this is there already");
  regions.add(range, ram.mmio);
  if (!unit_.engine) return;
  if (std::string wrong = add_region({range, ram.mmio}); !wrong.empty()) fail(std::move(wrong));
}

void Replayer::on(const trace::RamRemoved& ram) {
  if (!engine_exists()) return;
  Regions& regions = host_.around.regions;
  const Range range{ram.first, ram.last};
  const Regions::Region* around = regions.around(range);
  if (around == nullptr) return fail("some of this is not there");
  const Regions::Region region = *around;
  if (!region.mmio && !host_.memory.remove_ram(ram.first, ram.last)) return fail("some of this is no RAM");
  const std::uint64_t cookie = new_cookie(range);
  if (region.range == range) {
    regions.remove(region);
    return succeed("noram", viommu_region_remove(unit_.engine->get(), ram.first, cookie));
  }
  // Part of a region goes like one without memory behind it.
  regions.set(range, Regions::State::removed);
  succeed("noram",
          viommu_region_part(unit_.engine->get(), ram.first, ram.last - ram.first + 1, VIOMMU_PART_DISCARDED, cookie));
}

void Replayer::on(const trace::PartChanged& part) {
  if (!engine_exists()) return;
  const Range range{part.first, part.last};
  if (host_.around.regions.around(range) == nullptr) return fail("this is not inside one region");
  std::uint32_t as = VIOMMU_PART_SHARED;
  Regions::State state = Regions::State::there;
  if (part.part == trace::Part::discarded) {
    as = VIOMMU_PART_DISCARDED;
    state = Regions::State::discarded;
    // What was there is lost.
    if (host_.memory.remove_ram(part.first, part.last)) static_cast<void>(host_.memory.add_ram(part.first, part.last));
  } else if (part.part == trace::Part::made_private) {
    as = VIOMMU_PART_PRIVATE;
    state = Regions::State::private_memory;
  }
  host_.around.regions.set(range, state);
  succeed("part",
          viommu_region_part(unit_.engine->get(), part.first, part.last - part.first + 1, as, new_cookie(range)));
}

void Replayer::on(const trace::RegionGone& gone) {
  const Range range{gone.first, gone.last};
  const auto removal =
      std::find_if(host_.removals.rbegin(), host_.removals.rend(), [&](const Removal& r) { return r.range == range; });
  if (removal == host_.removals.rend()) return fail("this was never removed");
  compare(trace::Event{gone}, gone.gone ? "1" : "0", removal->gone ? "1" : "0");
}

void Replayer::on(const trace::MemoryCheck& mem) {
  const std::optional<std::uint64_t> found = host_.memory.load(mem.gpa);
  compare(trace::Event{mem}, hex(mem.value), found ? hex(*found) : "no memory there");
}

// ---- Phases and time ----

void Replayer::on(const trace::Ready& ready) {
  if (ready_asked_) return fail("a second ready line");
  if (!results_are_well_formed(ready.results)) return fail("the result must be ok, or SID:Error for each device");
  if (!engine_exists()) return;
  ready_asked_ = true;
  constexpr std::size_t most = 256;
  std::vector<viommu_refusal> refusals(most);
  for (viommu_refusal& refusal : refusals) refusal.size = sizeof refusal;
  std::uint32_t count = 0;
  const viommu_result result = viommu_ready(unit_.engine->get(), refusals.data(), most, &count);
  ready_ = result == VIOMMU_OK;
  std::string found = result == VIOMMU_E_REFUSED ? "" : viommu_result_text(result);
  if (ready_) found = "ok";
  bool same = found == ready.results;
  if (result == VIOMMU_E_REFUSED) {
    // Item by item: one that names no field takes any.
    std::string_view rest = ready.results;
    same = true;
    for (std::size_t i = 0; i < std::min<std::size_t>(count, most); ++i) {
      const std::string item = hex(refusals[i].source) + ":" + result_text(result, refusals[i]);
      const std::string_view expected = rest.substr(0, rest.find(' '));
      const std::size_t name = expected.find(':') + 1;
      same = same && name != 0 && item.starts_with(expected.substr(0, name)) &&
             same_result(expected.substr(name), std::string_view{item}.substr(name));
      rest.remove_prefix(std::min(rest.size(), expected.size() + 1));
      found += (i == 0 ? "" : " ") + item;
    }
    same = same && rest.empty() && count <= most;
  }
  if (same)
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{ready}), std::string{ready.results}, found);
}

void Replayer::on(const trace::MachineReset& reset) {
  if (reset.device && !virtio_) return fail("only a virtio-iommu has a device reset");
  if (!machine_is_ready("a reset")) return;
  reset_unit(!reset.device);
  if (reset.device) return;
  for (PluggedDevice& device : devices_) {
    if (!std::exchange(device.driver, std::nullopt)) continue;
    succeed("reset", viommu_driver_reset(unit_.engine->get(), device.source));
  }
}

void Replayer::on(const trace::Process& process) {
  if (!engine_exists()) return;
  if (process.mode != trace::ProcessMode::once) {
    manual_ = process.mode == trace::ProcessMode::manual;
    return;
  }
  const bool manual = std::exchange(manual_, false);
  settle_unit(line_);
  answer_requests();
  manual_ = manual;
}

void Replayer::on(const trace::ClockForward& clock) {
  constexpr std::uint64_t ns_of_ms = 1'000'000;
  host_.now_ns += clock.milliseconds * ns_of_ms;
}

}  // namespace viommu::cli
