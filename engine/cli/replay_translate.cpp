// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The T lines of replay.hpp: asking the engine, and comparing what it says with what is written.
#include <algorithm>
#include <cstdint>
#include <optional>

#include "engine/base/address.hpp"
#include "engine/cli/artefacts.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {
namespace {

/// The rights an answer must grant. A zero-length read is allowed where nothing can be read.
std::uint8_t rights_needed(const trace::Translate& t) noexcept {
  return t.access.zero_length || t.access.translation_request ? std::uint8_t{0} : rights_of(t.access.rights);
}

/// A fault is remembered for the 4 KiB around its address.
std::uint64_t page_mask(const trace::Translate& t) noexcept { return t.ok ? t.mask : page_size_bytes - 1; }

}  // namespace

/// A virtio-iommu's line has the address itself.
std::uint64_t Replayer::place_of(const trace::Translate& t) const noexcept {
  return virtio_ ? t.gpa : t.gpa | (t.iova & t.mask);
}

viommu_translation Replayer::translate(const trace::Translate& t, bool report) const {
  const std::optional<viommu_request> request = request_of(t, report);
  if (!request) return {};
  if (t.access.translated) return unit_.reader->ats_check(*request);
  if (!t.access.translation_request) return unit_.reader->translate(*request);
  const viommu_ats_completion completion = unit_.reader->ats_translate(*request);
  viommu_translation answer{};
  answer.reason = completion.reason;
  answer.status = completion.recorded;
  if (completion.status != VIOMMU_ATS_SUCCESS) return answer;
  answer.kind = VIOMMU_TRANSLATED;
  answer.reason = 0;
  answer.rights = completion.rights;
  answer.gpa = completion.gpa;
  answer.mask = completion.mask;
  return answer;
}

bool Replayer::same_answer(const trace::Translate& t, const viommu_translation& found) {
  if (!t.ok) return !allowed(found) && found.reason == t.reason;
  const std::uint8_t asked = rights_needed(t);
  if (!allowed(found)) return false;
  if (t.access.translation_request) {
    if (found.rights != rights_of(t.perm)) return false;
    if (found.rights == 0) return true;
  } else if ((found.rights & asked) != asked) {
    return false;
  }
  return found.gpa == place_of(t) && whole_block_alike(t, found);
}

bool Replayer::whole_block_alike(const trace::Translate& t, const viommu_translation& found) {
  if (found.kind != VIOMMU_TRANSLATED || found.mask <= t.mask) return true;
  // A larger page than recorded is right when its ends, walked afresh, translate like the address asked for.
  static_cast<void>(unit_.engine->drop_caches());
  for (const std::uint64_t at : {t.iova & ~found.mask, t.iova | found.mask}) {
    trace::Translate end = t;
    end.iova = at;
    const viommu_translation answer = translate(end, false);
    if (!allowed(answer) || answer.gpa - at != found.gpa - t.iova || answer.rights != found.rights) return false;
  }
  return true;
}

bool Replayer::is_earlier(const trace::Translate& t, const viommu_translation& found) {
  return std::any_of(earlier_.begin(), earlier_.end(), [&](const trace::Translate& earlier) {
    const bool same_page = earlier.source_id == t.source_id && earlier.pasid == t.pasid &&
                           (earlier.iova & ~page_mask(earlier)) == (t.iova & ~page_mask(earlier));
    trace::Translate again = earlier;
    if (virtio_) again.gpa += t.iova - earlier.iova;
    again.iova = t.iova;
    again.access = t.access;
    return same_page && same_answer(again, found);
  });
}

bool Replayer::is_fresh(const trace::Translate& t, const viommu_translation& found) {
  static_cast<void>(unit_.engine->drop_caches());
  const viommu_translation fresh = translate(t, false);
  return fresh.kind == found.kind && fresh.gpa == found.gpa && fresh.rights == found.rights &&
         fresh.reason == found.reason;
}

void Replayer::on(const trace::Translate& t) {
  if (!machine_is_ready("a translation")) return;
  if (!request_of(t, false)) return fail("this build cannot send this kind of request (ACC)");
  ++report_.translations;
  const bool cached = t.ok && t.source == trace::Source::iotlb;
  if (virtio_) know_endpoint(t.source_id);
  const bool unreported = !t.ok && t.status == trace::Status::none && !configuration_.scenario;
  const bool without_buffer = !t.ok && t.status == trace::Status::no_buffer && !configuration_.scenario;
  const std::uint8_t asked = rights_needed(t);
  const bool own = virtio_ && virtio_->configuration.plugs;  // where 0 is a reason like any other
  const bool dropped = (cached && (rights_of(t.perm) & asked) != asked) || (unreported && t.reason == 0 && !own);

  // A recorded answer from a cache left no record, whatever the tables say by now: such a line is a probe.
  const viommu_translation found = translate(t, !cached && !unreported && !without_buffer);
  if (!allowed(found)) settle_unit(line_);  // a fault may send its event
  close_effects(false);

  const bool same_place = !t.ok || found.gpa == place_of(t);
  const bool lacks_right = allowed(found) ? (found.rights & asked) != asked && same_place : is_denial(found.reason);
  if (dropped && lacks_right) {
    ++report_.dropped_access;
  } else if (!dropped && same_answer(t, found)) {
    ++report_.matches;
  } else if (!t.ok && found.kind == VIOMMU_FAULT && !configuration_.scenario && in_scalable_mode() &&
             is_deviation(t.reason, found.reason)) {
    ++report_.deviations[deviation_text(t.reason, found.reason)];
  } else if ((cached || dropped) && (configuration_.scenario ? is_earlier(t, found) : is_fresh(t, found))) {
    ++report_.stale;
  } else {
    mismatch(text_of(trace::Event{t}), answer_text(t), answer_text(found));
  }
  if (configuration_.scenario) earlier_.push_back(t);
}

}  // namespace viommu::cli
