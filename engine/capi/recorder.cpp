// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/capi/recorder.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "engine/base/address.hpp"
#include "engine/core/callback.hpp"
#include "engine/trace/config.hpp"
#include "engine/trace/format.hpp"

namespace viommu::capi {
namespace {

[[nodiscard]] trace::Source source_of(AnswerSource source) noexcept {
  switch (source) {
    case AnswerSource::iotlb:        return trace::Source::iotlb;
    case AnswerSource::walk:         return trace::Source::walk;
    case AnswerSource::pass_through: return trace::Source::pass_through;
    case AnswerSource::off:          return trace::Source::disabled;
  }
  return trace::Source::disabled;
}

[[nodiscard]] trace::Status status_of(std::uint8_t status) noexcept {
  switch (status) {
    case VIOMMU_FAULT_RECORDED:     return trace::Status::recorded;
    case VIOMMU_FAULT_COMPRESSED:   return trace::Status::compressed;
    case VIOMMU_FAULT_OVERFLOW_SET: return trace::Status::overflow_set;
    case VIOMMU_FAULT_OVERFLOWED:   return trace::Status::overflowed;
    case VIOMMU_FAULT_DISABLED:     return trace::Status::disabled;
    case VIOMMU_FAULT_NO_BUFFER:    return trace::Status::no_buffer;
    default:                        return trace::Status::none;
  }
}

/// What the format has no word for, a posted interrupt, is its notification, or a message of zeros where there is none.
[[nodiscard]] trace::Interrupt line_of(const viommu_message& message, const viommu_routed& routed) noexcept {
  constexpr std::uint32_t unknown_source = 0xFFFF;
  trace::Interrupt line;
  line.address = message.address;
  line.data = message.data;
  line.source_id = (message.flags & VIOMMU_MESSAGE_ANY_SOURCE) != 0 ? unknown_source : message.source;
  line.ok = routed.kind != VIOMMU_ROUTE_FAULT;
  line.out_address = routed.address;
  line.out_data = routed.data;
  line.reason = routed.reason;
  line.status = status_of(routed.status);
  return line;
}

[[nodiscard]] trace::Perm perm_of(std::uint8_t rights) noexcept {
  return {(rights & VIOMMU_READ) != 0, (rights & VIOMMU_WRITE) != 0};
}

}  // namespace

void Recorder::attach(core::HostFunctions& functions) noexcept {
  MemoryTap tap;
  tap.opaque = this;
  tap.loaded = [](void* self, std::uint64_t gpa, const std::uint64_t* words, std::size_t count) {
    static_cast<Recorder*>(self)->loaded(gpa, words, count);
  };
  tap.load_failed = [](void* self, std::uint64_t gpa, std::uint64_t size_bytes) {
    static_cast<Recorder*>(self)->load_failed(gpa, size_bytes);
  };
  tap.stored = [](void* self, std::uint64_t gpa, std::uint64_t value, std::uint64_t size_bytes) {
    static_cast<Recorder*>(self)->stored(gpa, value, size_bytes);
  };
  tap.store_failed = [](void* self, std::uint64_t gpa, std::uint64_t size_bytes) {
    static_cast<Recorder*>(self)->write(trace::FailedWrite{gpa, size_bytes});
  };
  functions.memory_tap = tap;
  functions.message_tap = [](void* self, std::uint64_t address, std::uint32_t data) {
    static_cast<Recorder*>(self)->write(trace::Message{address, data});
  };
}

void Recorder::started(const vtd::Capabilities& capabilities, bool compress_faults) noexcept {
  const RecordedCall call{this};
  trace::VtdConfiguration configuration;
  configuration.capability = capabilities.cap;
  configuration.extended_capability = capabilities.ecap;
  configuration.version = capabilities.version;
  configuration.address_width = capabilities.host_address_width;
  configuration.host_address_width = capabilities.host_address_width;
  configuration.compress = compress_faults;
  configuration.caching_mode = capabilities.caching_mode;
  constexpr std::size_t longest_configuration = 320;
  std::array<char, longest_configuration> pairs;
  std::array<char, longest_configuration + 16> line;
  const std::string_view text = trace::format(
      trace::Configuration{trace::Family::vtd, trace::format_vtd_configuration(configuration, pairs)}, line);
  write_header();
  emit(text.data(), text.size());
  write(trace::Reset{});
}

void Recorder::write_header() noexcept {
  std::array<char, trace::header_line.size() + 1> header;
  header.back() = '\n';
  std::ranges::copy(trace::header_line, header.begin());
  emit(header.data(), header.size());
}

void Recorder::register_written(std::uint64_t offset, std::uint32_t size, std::uint64_t value) noexcept {
  const std::uint64_t written = value & low_bits(8 * size);
  write(trace::RegisterWrite{written, static_cast<std::uint32_t>(offset), static_cast<std::uint8_t>(size)});
}

void Recorder::register_read(std::uint64_t offset, std::uint32_t size, std::uint64_t value) noexcept {
  write(trace::RegisterRead{value, static_cast<std::uint32_t>(offset), static_cast<std::uint8_t>(size)});
}

trace::Translate Recorder::request_line(const viommu_request& request, const viommu_translation& translation) noexcept {
  trace::Translate line;
  line.iova = request.iova;
  line.source_id = request.source;
  line.pasid = (request.flags & VIOMMU_HAS_PASID) != 0 ? request.pasid : trace::no_pasid;
  line.access.rights = perm_of(request.access);
  line.access.supervisor = (request.flags & VIOMMU_PRIVILEGED) != 0;
  line.access.execute = (request.flags & VIOMMU_EXECUTE) != 0;
  line.access.zero_length = (request.flags & VIOMMU_ZERO_LENGTH) != 0;
  line.ok = translation.kind != VIOMMU_FAULT;
  if (line.ok) {
    line.mask = translation.mask;
    line.perm = perm_of(translation.rights);
  } else {
    line.reason = translation.reason;
    line.status = status_of(translation.status);
  }
  return line;
}

void Recorder::translated(const viommu_request& request, const viommu_translation& translation, AnswerSource source,
                          viommu::AddressType type) noexcept {
  trace::Translate line = request_line(request, translation);
  line.access.translation_request = type == viommu::AddressType::translation_request;
  line.access.translated = type == viommu::AddressType::translated;
  if (line.ok) {
    line.gpa = translation.gpa & ~translation.mask;
    line.source = source_of(source);
  }
  write(line);
}

void Recorder::interrupted(const viommu_message& message, const viommu_routed& routed) noexcept {
  write(line_of(message, routed));
}

void Recorder::asked_for_route(const viommu_message& message, const viommu_routed& routed) noexcept {
  trace::Interrupt line = line_of(message, routed);
  line.question = true;
  write(line);
}

void Recorder::reset() noexcept {
  write(trace::Reset{});
  told_features_ = 0;
}

void Recorder::caches_dropped() noexcept { write(trace::CachesDropped{}); }

void Recorder::emit(const char* text, std::size_t length) noexcept {
  const core::CallbackScope scope{host_};
  sink_(opaque_, text, length);
}

void Recorder::write(const trace::Event& event) noexcept {
  const RecordedCall call{this};
  begin_device();
  std::array<char, trace::longest_line> line;
  const std::string_view text = trace::format(event, line);
  emit(text.data(), text.size());
}

void Recorder::loaded(std::uint64_t gpa, const std::uint64_t* words, std::size_t count) noexcept {
  const RecordedCall call{this};
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t at = gpa + i * sizeof *words;
    const auto known = known_.find(at);
    if (known != known_.end() && known->second == words[i]) continue;
    remember(at, words[i]);
    write(trace::GuestWord{at, words[i]});
  }
}

void Recorder::load_failed(std::uint64_t gpa, std::uint64_t size_bytes) noexcept {
  const RecordedCall call{this};
  write(trace::FailedRead{gpa, size_bytes});
  // Should there be memory again, the words are to be written even if they are as before.
  for (std::uint64_t at = gpa; at - gpa < size_bytes; at += sizeof(std::uint64_t)) known_.erase(at);
}

void Recorder::stored(std::uint64_t gpa, std::uint64_t value, std::uint64_t size_bytes) noexcept {
  const RecordedCall call{this};
  write(trace::MemoryWrite{gpa, value, static_cast<std::uint8_t>(size_bytes)});
  const std::uint64_t word = gpa & ~std::uint64_t{7};
  const auto known = known_.find(word);
  if (known == known_.end()) return;
  const unsigned shift = static_cast<unsigned>(gpa - word) * 8;
  const std::uint64_t mask = low_bits(static_cast<unsigned>(8 * size_bytes)) << shift;
  known->second = (known->second & ~mask) | ((value << shift) & mask);
}

void Recorder::remember(std::uint64_t gpa, std::uint64_t value) noexcept {
  constexpr std::size_t most_words = std::size_t{1} << 20;
  try {
    if (known_.size() >= most_words) known_.clear();
    known_[gpa] = value;
  } catch (...) {
    known_.clear();  // no memory: words are written more often than needed, and never wrongly
  }
}

}  // namespace viommu::capi
