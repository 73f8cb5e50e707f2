// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about consumers.
#include <algorithm>
#include <string>
#include <utility>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {
namespace {

std::string bytes_text(trace::Bytes bytes) {
  return bytes.carry == 0 ? hex(bytes.low) : hex(bytes.carry) + hex(bytes.low, 16);
}

}  // namespace

Consumer* Replayer::consumer(std::string_view id) {
  const auto found = std::find_if(unit_.consumers.begin(), unit_.consumers.end(),
                                  [&](const auto& consumer) { return consumer->id() == id; });
  if (found != unit_.consumers.end()) return found->get();
  fail("there is no consumer of this name");
  return nullptr;
}

std::string Replayer::subscribe(Consumer& consumer) {
  const viommu_consumer table = consumer.table();
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  const viommu_result result =
      viommu_subscribe(unit_.engine->get(), consumer.source, &table, &refusal, &consumer.subscription);
  std::uint32_t view = 0;
  if (result == VIOMMU_OK && viommu_view(unit_.engine->get(), consumer.source, &view) == VIOMMU_OK)
    host_.around.views[consumer.source] = view;
  if (result != VIOMMU_OK) consumer.subscription = 0;
  return result_text(result, refusal);
}

void Replayer::on(const trace::Subscribe& line) {
  if (!engine_exists()) return;
  const auto found = std::find_if(unit_.consumers.begin(), unit_.consumers.end(),
                                  [&](const auto& consumer) { return consumer->id() == line.id; });
  if (found != unit_.consumers.end()) {
    if ((*found)->subscription != 0) return fail("there is a consumer of this name");
    unit_.consumers.erase(found);  // it was refused
  }
  Consumer& added = *unit_.consumers.emplace_back(
      std::make_unique<Consumer>(line, configuration_.share && line.flags.map, host_.around));
  const std::string result = subscribe(added);
  if (same_result(line.result, result))
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{line}), std::string{line.result}, result);
  if (added.subscription == 0) return added.end();
  static_cast<void>(added.take_delta());  // from here on it counts
  succeed("replay", viommu_replay(unit_.engine->get(), added.subscription));
}

void Replayer::on(const trace::Unsubscribe& line) {
  Consumer* const ending = consumer(line.id);
  if (ending == nullptr) return;
  const viommu_result result = viommu_unsubscribe(unit_.engine->get(), ending->subscription);
  // That of an unplugged device has ended already, and one that was refused never began.
  if (result != VIOMMU_E_NOT_FOUND) succeed("unsubscribe", result);
  ending->end();
  const auto at = std::find_if(unit_.consumers.begin(), unit_.consumers.end(),
                               [&](const auto& consumer) { return consumer.get() == ending; });
  ended_.push_back(std::move(*at));
  unit_.consumers.erase(at);
}

void Replayer::on(const trace::FailNext& fail) {
  if (Consumer* const failing = consumer(fail.id)) failing->fail_next(fail.unmap, fail.nth);
}

void Replayer::on(const trace::DeltaCheck& check) {
  Consumer* const asked = consumer(check.id);
  if (asked == nullptr) return;
  const Consumer::Delta delta = asked->take_delta();
  compare(trace::Event{check}, bytes_text(check.mapped) + " " + bytes_text(check.unmapped),
          bytes_text(delta.mapped) + " " + bytes_text(delta.unmapped));
}

void Replayer::on(const trace::CountCheck& check) {
  Consumer* const asked = consumer(check.id);
  if (asked == nullptr) return;
  const Consumer::Counts counts = asked->take_counts();
  compare(trace::Event{check}, hex(check.maps) + " " + hex(check.unmaps), hex(counts.maps) + " " + hex(counts.unmaps));
}

void Replayer::on(const trace::ErrorsCheck& check) {
  if (Consumer* const asked = consumer(check.id))
    compare(trace::Event{check}, std::to_string(check.count), std::to_string(asked->take_reports()));
}

// ---- Lists: a check that says how many, and a line for each ----

void Replayer::check_lists(bool is_extent, bool is_run) {
  const bool is_of_list = list_left_ != 0 && (list_is_shadow_ ? is_extent : is_run);
  if (list_left_ != 0 && !is_of_list) fail("lines of the list above are missing");
  if (list_left_ == 0 && (is_extent || is_run)) fail("no list above has this line");
}

void Replayer::on(const trace::ShadowCheck& check) {
  const Consumer* const asked = consumer(check.id);
  if (asked == nullptr) return;
  list_.clear();
  for (const Extent& extent : asked->extents()) list_.push_back(text_of(extent));
  begin_list(trace::Event{check}, check.count, true);
}

void Replayer::begin_list(const trace::Event& event, std::uint64_t count, bool is_shadow) {
  list_at_ = 0;
  list_left_ = count;
  list_is_shadow_ = is_shadow;
  list_compared_ = list_.size() == count;
  std::string found = std::to_string(list_.size());
  // Told once and as a whole: the lines that follow are then of another list.
  if (!list_compared_)
    for (const std::string& line : list_) found += (found.find(':') == std::string::npos ? ": " : ", ") + line;
  if (list_compared_)
    ++report_.matches;
  else
    mismatch(text_of(event), std::to_string(count), found);
}

void Replayer::compare_list_line(const trace::Event& event) {
  --list_left_;
  if (!list_compared_) return;
  compare(event, text_of(event), list_[list_at_++]);
}

void Replayer::on(const trace::ShadowExtent& extent) { compare_list_line(trace::Event{extent}); }
void Replayer::on(const trace::DirtyRun& run) { compare_list_line(trace::Event{run}); }

}  // namespace viommu::cli
