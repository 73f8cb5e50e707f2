// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The N, P and S lines of replay.hpp: what the recorded emulator told a listener of each device, and which view its
// devices had. They stand behind the W that caused them and before words that it made the unit read, so they are looked
// at when that W has acted.
//
// Events are not compared one by one: where several lead to the same mappings any of them is right.
#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/address.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {
namespace {

/// Takes a range out of what a listener holds; the rest of a map that is cut stays.
void withdraw(Holdings& held, Range range) {
  auto at = held.upper_bound(range.first);
  if (at != held.begin() && std::prev(at)->second.last >= range.first) --at;
  while (at != held.end() && at->first <= range.last) {
    const std::uint64_t first = at->first;
    const Held map = at->second;
    at = held.erase(at);
    if (first < range.first) held[first] = {range.first - 1, map.gpa, map.rights};
    if (map.last > range.last)
      at = held.insert_or_assign(range.last + 1, Held{map.last, map.gpa + (range.last + 1 - first), map.rights}).first;
  }
}

std::string text_of(const std::vector<Extent>& extents, std::size_t from) {
  if (from >= extents.size()) return "no more";
  return cli::text_of(extents[from]) + ", the last of " + std::to_string(from + 1) + " of " +
         std::to_string(extents.size());
}

}  // namespace

void Replayer::on(const trace::Notify& n) {
  if (n.kind == trace::NotifyKind::device_unmap) return skip("N");
  Listener& listener = listeners_[static_cast<std::uint16_t>(n.source_id)];
  if (virtio_ && !listener.consumer) {  // it was there from the start, and what it hears of is still to come
    know_endpoint(n.source_id);
    listen(static_cast<std::uint16_t>(n.source_id), listener);
    if (report_.error) return;
  }
  listener.told = true;
  const Range range{n.iova, n.iova + n.mask};
  withdraw(listener.held, range);
  if (n.kind == trace::NotifyKind::map) listener.held[range.first] = {range.last, n.gpa, rights_of(n.perm)};
}

void Replayer::on(const trace::ReplayAsked& p) { listeners_[static_cast<std::uint16_t>(p.source_id)].asked = true; }

void Replayer::on(const trace::ViewSwitch& s) {
  if (s.pasid != trace::no_pasid) return skip("S");
  know_endpoint(s.source_id);
  switches_[static_cast<std::uint16_t>(s.source_id)] = s;
}

void Replayer::check_recorded() {
  if (configuration_.scenario || !unit_.engine) return;
  for (const auto& [source, s] : std::exchange(switches_, {})) {
    std::uint32_t view = 0;
    const viommu_result result = viommu_view(unit_.engine->get(), source, &view);
    const bool translated = view != VIOMMU_VIEW_SYSTEM;
    if (result == VIOMMU_OK && translated == s.on)
      ++report_.matches;
    else
      mismatch(cli::text_of(trace::Event{s}), s.on ? "not memory as it is" : "memory as it is",
               result != VIOMMU_OK ? viommu_result_text(result)
               : translated        ? "translated or blocked"
                                   : "system");
  }
  for (auto& [source, listener] : listeners_) {
    if (std::exchange(listener.asked, false) && !listener.consumer) listen(source, listener);
    if (!listener.consumer || !(std::exchange(listener.told, false) || listener.consumer->in_line())) continue;
    listener.consumer->end_line();
    const std::vector<Extent> expected = extents_of(listener.held);
    std::vector<Extent> found = listener.consumer->extents();
    // The emulator's listener hears of tables alone; ours is also told of memory as it is.
    std::uint32_t view = 0;
    if (viommu_view(unit_.engine->get(), source, &view) == VIOMMU_OK && view == VIOMMU_VIEW_SYSTEM &&
        found == std::vector<Extent>{{{0, low_bits(host_address_width_)}, 0, VIOMMU_READ | VIOMMU_WRITE}})
      found.clear();
    if (expected == found) {
      ++report_.matches;
      continue;
    }
    const auto differ = std::mismatch(expected.begin(), expected.end(), found.begin(), found.end());
    const auto at = static_cast<std::size_t>(differ.first - expected.begin());
    mismatch("N " + hex(source), text_of(expected, at), text_of(found, at));
  }
  for (Complaint& complaint : std::exchange(host_.around.complaints, {}))
    mismatch("consumer", std::move(complaint.expected), std::move(complaint.event));
}

/// From the first replay on a listener holds what is mapped.
void Replayer::listen(std::uint16_t source, Listener& listener) {
  const std::string id = hex(source);
  if (host_.around.regions.regions().empty()) {
    // A recording does not say where there is memory; the guest maps nothing else.
    const Range everything{0, low_bits(host_address_width_)};
    host_.around.regions.add(everything, false);
    if (std::string wrong = add_region({everything, false}); !wrong.empty()) return fail(std::move(wrong));
  }
  trace::Subscribe line;
  line.id = id;
  line.source_id = source;
  line.flags.map = true;
  line.flags.unmap = true;
  line.flags.split = true;
  line.last = low_bits(host_address_width_);
  unit_.consumers.push_back(std::make_unique<Consumer>(line, false, host_.around));
  listener.consumer = unit_.consumers.back().get();
  if (const std::string result = subscribe(*listener.consumer); result != "ok")
    mismatch("P " + id, "ok", result);
  else
    succeed("P", viommu_replay(unit_.engine->get(), listener.consumer->subscription));
  while (unit_.engine->process().state == VIOMMU_PROCESS_MORE) {
  }  // ends: a replay is as long as the tables
}

}  // namespace viommu::cli
