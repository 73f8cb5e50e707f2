// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about DMA in flight, saved state and dirty pages.
#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {

// ---- DMA in flight ----

void Replayer::on(const trace::HoldOpened& hold) {
  if (!machine_is_ready("a hold")) return;
  if (unit_.holds.contains(hold.id)) return fail("there is a hold of this name");
  trace::Translate asked;
  asked.source_id = hold.source_id;
  asked.pasid = hold.pasid;
  asked.iova = hold.iova;
  asked.access = hold.access;
  std::optional<viommu_request> request = request_of(asked, true);
  if (!request) return fail("this build cannot send this kind of request (ACC)");
  // One answer may be for less than all of it: a page, or while dirty pages are logged a part of one.
  std::vector<std::uint64_t> pieces;
  viommu_translation found{};
  viommu_result result = VIOMMU_OK;
  for (std::uint64_t left = hold.length; left != 0 && result == VIOMMU_OK;) {
    request->length = left;
    std::uint64_t handle = 0;
    result = viommu_hold(unit_.reader->get(), &*request, line_, &found, &handle);
    if (result != VIOMMU_OK) break;
    pieces.push_back(handle);
    const std::uint64_t rest = found.mask - (request->iova & found.mask);  // of the block, behind the first byte
    if (rest >= left - 1) break;
    left -= rest + 1;
    request->iova += rest + 1;
  }
  if (result != VIOMMU_OK) settle_unit(line_);  // a fault may send its event
  close_effects(false);
  if (result != VIOMMU_OK)
    for (const std::uint64_t handle : std::exchange(pieces, {}))
      static_cast<void>(viommu_release(unit_.engine->get(), handle));
  unit_.holds.emplace(hold.id, std::move(pieces));
  const std::string expected = hold.ok ? "ok" : "fault " + hex(hold.reason);
  std::string got = result == VIOMMU_OK ? "ok" : viommu_result_text(result);
  if (result == VIOMMU_E_FAULT) got = "fault " + hex(found.reason);
  compare(trace::Event{hold}, expected, got);
}

void Replayer::on(const trace::HoldReleased& release) {
  const auto hold = unit_.holds.find(release.id);
  if (hold == unit_.holds.end()) return fail("there is no hold of this name");
  for (const std::uint64_t handle : hold->second) succeed("release", viommu_release(unit_.engine->get(), handle));
  unit_.holds.erase(hold);
}

// ---- Saved state ----

void Replayer::on(const trace::StateStep& step) {
  if (!machine_is_ready("a saved state")) return;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  std::string found;
  switch (step.action) {
    case trace::StateAction::quiesce:
      found = result_text(viommu_quiesce(unit_.engine->get(), &refusal), refusal);
      break;
    case trace::StateAction::save: {
      std::size_t length = 0;
      viommu_result result = viommu_save(unit_.engine->get(), nullptr, 0, &length, &refusal);
      if (result == VIOMMU_E_RANGE) {
        std::string state(length, '\0');
        result = viommu_save(unit_.engine->get(), state.data(), state.size(), &length, &refusal);
        if (result == VIOMMU_OK) state_ = std::move(state);
      }
      found = result_text(result, refusal);
      break;
    }
    case trace::StateAction::load:
      if (state_.empty()) return fail("nothing was saved");
      found = load();
      break;
  }
  if (report_.error) return;
  if (same_result(step.result, found))
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{step}), std::string{step.result}, found);
}

/// The fresh unit takes the place of the old one, or goes when it does not take the state.
std::string Replayer::load() {
  Unit old = std::exchange(unit_, {});
  const std::size_t effects = host_.effects.size();
  const std::map<std::uint16_t, std::uint32_t> views = std::exchange(host_.around.views, {});
  const auto spaces = std::exchange(host_.around.spaces, {});
  for (const auto& consumer : old.consumers)
    if (!consumer->ended()) unit_.consumers.push_back(consumer->fresh());
  if (!engine_exists() || !furnish_again()) {
    drop(old);
    return {};
  }
  host_.effects.resize(effects);  // what made the unit what it is, is nothing that the machine did
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  const viommu_result result = viommu_load(unit_.engine->get(), state_.data(), state_.size(), &refusal);
  if (result != VIOMMU_OK) {
    drop(unit_);
    unit_ = std::move(old);
    host_.around.views = views;
    host_.around.spaces = spaces;
    host_.effects.resize(effects);
    return result_text(result, refusal);
  }
  for (const auto& consumer : old.consumers) consumer->end();
  drop(old);
  for (const auto& consumer : unit_.consumers)
    if (consumer->subscription != 0) succeed("replay", viommu_replay(unit_.engine->get(), consumer->subscription));
  return "ok";
}

bool Replayer::furnish_again() {
  // Parts of regions that are not as they were added.
  for (const Regions::Part& part : host_.around.regions.parts()) {
    if (part.state == Regions::State::there) continue;
    const std::uint32_t as = part.state == Regions::State::private_memory ? VIOMMU_PART_PRIVATE : VIOMMU_PART_DISCARDED;
    succeed("load", viommu_region_part(unit_.engine->get(), part.range.first, part.range.last - part.range.first + 1,
                                       as, new_cookie(part.range)));
  }
  for (const PluggedDevice& device : devices_) {
    viommu_refusal refusal{};
    const viommu_result result = add_device(unit_.engine->get(), device, refusal);
    if (result != VIOMMU_OK) {
      fail("the fresh unit does not take a device: " + result_text(result, refusal));
      return false;
    }
    // What a driver has chosen is in the state of its device, and not of the unit.
    if (device.driver)
      static_cast<void>(viommu_driver_features(unit_.engine->get(), device.source, *device.driver ? 1 : 0, nullptr));
    if (!device.has_facts) succeed("load", viommu_host_facts_unset(unit_.engine->get(), device.source));
  }
  std::uint32_t count = 0;
  succeed("load", viommu_ready(unit_.engine->get(), nullptr, 0, &count));
  for (const auto& consumer : unit_.consumers) {
    if (const std::string result = subscribe(*consumer); result != "ok") {
      mismatch("subscribe " + consumer->id(), "ok, as before the load", result);
      consumer->end();
    }
  }
  return true;
}

// ---- Dirty pages ----

void Replayer::on(const trace::DirtySwitch& dirty) {
  if (!engine_exists()) return;
  const std::uint32_t on = dirty.on ? VIOMMU_DIRTY_ON : VIOMMU_DIRTY_OFF;
  succeed("dirty", viommu_dirty_tracking(unit_.engine->get(), on));
  settle_unit(line_);
  std::uint32_t now = VIOMMU_DIRTY_OFF;
  const viommu_result result = viommu_dirty_tracking_is(unit_.engine->get(), &now);
  host_.around.dirty_tracking = result == VIOMMU_OK && now == VIOMMU_DIRTY_ON;
}

void Replayer::on(const trace::BitmapCheck& check) {
  if (!engine_exists()) return;
  Ranges dirty;
  std::array<viommu_range, 64> runs{};
  std::uint32_t count = runs.size();
  while (count == runs.size()) {  // ends: what was fetched is dirty no longer
    count = 0;
    const viommu_result result = viommu_dirty_fetch(unit_.engine->get(), runs.data(), runs.size(), &count);
    if (result != VIOMMU_OK) {
      succeed("bitmap", result);
      break;
    }
    for (const viommu_range& run : std::span{runs}.first(count)) dirty.push_back({run.first, run.last});
  }
  list_.clear();
  for (const Range& run : set_of(std::move(dirty)))
    list_.push_back(text_of(trace::Event{trace::DirtyRun{run.first, run.last}}));
  begin_list(trace::Event{check}, check.count, false);
}

}  // namespace viommu::cli
