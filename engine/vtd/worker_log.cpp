// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the worker has to say to the people who run the VMM. Each kind is told the 1st, 2nd, 4th, 8th ... time only
// (core/log_limit.hpp), because a guest can bring it about at will.
#include <array>
#include <cinttypes>
#include <cstdio>

#include "engine/vtd/worker.hpp"

namespace viommu::vtd {
namespace {

[[nodiscard]] const char* cause_of(QueueErrorCode code) noexcept {
  switch (code) {
    case QueueErrorCode::no_information:     return "no information";
    case QueueErrorCode::invalid_tail:       return "tail beyond the ring";
    case QueueErrorCode::fetch_failed:       return "descriptor not readable";
    case QueueErrorCode::invalid_type:       return "descriptor of an unknown type";
    case QueueErrorCode::reserved_field:     return "reserved bits or values in a descriptor";
    case QueueErrorCode::invalid_width:      return "descriptor width does not fit the table mode";
    case QueueErrorCode::misaligned_tail:    return "tail not on a descriptor";
    case QueueErrorCode::invalid_table_mode: return "table mode that does not exist";
  }
  return "unknown cause";
}

}  // namespace

void Worker::log_stop(QueueErrorCode code, const QueueView& queue, const std::optional<RawDescriptor>& raw) noexcept {
  const std::uint64_t times = stops_.happened();
  if (times == 0 || !host_.has_log()) return;
  std::array<char, 96> words{};
  if (raw) {
    const auto& [first, second, third, fourth] = raw->words;
    if (queue.geometry.wide()) {
      std::snprintf(words.data(), words.size(),
                    ", descriptor 0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64 " 0x%016" PRIx64, first, second,
                    third, fourth);
    } else {
      std::snprintf(words.data(), words.size(), ", descriptor 0x%016" PRIx64 " 0x%016" PRIx64, first, second);
    }
  }
  std::array<char, 320> text;
  std::snprintf(text.data(), text.size(),
                "invalidation queue stopped: IQEI %u (%s), head 0x%" PRIx32 ", tail 0x%" PRIx32
                "%s; stops so far: %" PRIu64,
                static_cast<unsigned>(code), cause_of(code), queue.head, queue.tail, words.data(), times);
  host_.log(core::LogLevel::warning, text.data());
}

void Worker::log_dropped_write(const Wait& wait) noexcept {
  const std::uint64_t times = dropped_writes_.happened();
  if (times == 0 || !host_.has_log()) return;
  std::array<char, 192> text;
  std::snprintf(text.data(), text.size(),
                "status write of an invalidation wait dropped: no writable memory at 0x%" PRIx64 ", data 0x%" PRIx32
                "; dropped so far: %" PRIu64,
                wait.status_address.value, wait.status_data, times);
  host_.log(core::LogLevel::warning, text.data());
}

void Worker::log_timeout(SourceId source) noexcept {
  const std::uint64_t times = timeouts_.happened();
  if (times == 0 || !host_.has_log()) return;
  std::array<char, 160> text;
  std::snprintf(
      text.data(), text.size(),
      "device-TLB invalidation timed out: source 0x%04x, the invalidation queue is stopped; time-outs so far: "
      "%" PRIu64,
      unsigned{source.value}, times);
  host_.log(core::LogLevel::warning, text.data());
}

}  // namespace viommu::vtd
