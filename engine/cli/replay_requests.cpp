// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The lines of replay.hpp that are about what the driver of a virtio-iommu asks, and about the faults it hears of.
//
//   recording: N and S lines that a request caused stand before its Q, so what they say is looked at when the request
//              was made
//   scenario:  a request is made where its line stands. Its answer may have to wait, for a hold, or for a request that
//              does; it is compared when it comes, behind whichever line
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <viommu/viommu_virtio.h>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned tries_of_recording = 1000;  // its requests wait for nothing
constexpr unsigned tries_of_scenario = 2;      // one before the unit has worked, one behind that
constexpr std::size_t most_writable_bytes = std::size_t{1} << 20;

// Requests: types, and where they name an endpoint.
constexpr std::uint8_t attach = 1;
constexpr std::uint8_t unmap = 4;
constexpr std::uint8_t probe = 5;
constexpr std::size_t endpoint_of_attach = 8;
constexpr std::size_t endpoint_of_probe = 4;

constexpr std::size_t tail_bytes = 4;
enum Status : std::uint8_t { ok = 0, unsupported = 2, invalid = 4, out_of_range = 5, no_entry = 6 };

[[nodiscard]] std::uint8_t digit(char c) noexcept {
  return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10);
}
[[nodiscard]] std::vector<std::uint8_t> bytes_of(std::string_view digits) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(digit(digits[i]) << 4 | digit(digits[i + 1])));
  return bytes;
}
[[nodiscard]] std::string digits_of(const std::uint8_t* bytes, std::size_t count) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 0xF];
  }
  return text.empty() ? "-" : text;
}
[[nodiscard]] std::uint32_t word_at(const std::vector<std::uint8_t>& bytes, std::size_t at) noexcept {
  std::uint32_t word = 0;
  if (at + sizeof word <= bytes.size()) std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

/// Where the emulator lets through what the specification does not, or answers what it should leave (U13 to U17).
[[nodiscard]] bool is_deviation(std::uint8_t type, const std::vector<std::uint8_t>& recorded,
                                const std::vector<std::uint8_t>& found) noexcept {
  if (recorded.size() != tail_bytes) return false;
  if (found.empty()) return recorded[0] == unsupported;
  if (found.size() != tail_bytes || type < attach || type > unmap || recorded[0] != ok) return false;
  return found[0] == invalid || found[0] == out_of_range;
}

}  // namespace

std::size_t Replayer::writable_bytes_of(std::uint8_t type) const {
  return type == probe ? virtio_->configuration.probe_size + tail_bytes : tail_bytes;
}

std::optional<std::vector<std::uint8_t>> Replayer::answer_to(const AskedRequest& asked, unsigned tries,
                                                             viommu_result& result) {
  std::vector<std::uint8_t> reply(asked.writable_bytes);
  std::uint32_t used = 0;
  result = VIOMMU_E_BUSY;
  for (unsigned i = 0; i < tries && result == VIOMMU_E_BUSY; ++i) {
    result = viommu_virtio_request(unit_.engine->get(), asked.readable.data(), asked.readable.size(), reply.data(),
                                   reply.size(), &used);
    settle_unit(line_);
  }
  if (result != VIOMMU_OK) return std::nullopt;
  reply.resize(used);
  return reply;
}

void Replayer::on(const trace::Request& q) {
  if (!machine_is_ready("a request")) return;
  const std::vector<std::uint8_t> request = bytes_of(q.readable);
  const std::uint8_t type = request.empty() ? std::uint8_t{0} : request[0];
  if (configuration_.scenario) return ask(q.readable, q.written, writable_bytes_of(type), trace::Event{q});
  const std::vector<std::uint8_t> recorded = bytes_of(q.written);
  const bool is_known = recorded.size() < tail_bytes || recorded[recorded.size() - tail_bytes] != no_entry;
  if (is_known && type == attach) know_endpoint(word_at(request, endpoint_of_attach));
  if (is_known && type == probe) know_endpoint(word_at(request, endpoint_of_probe));
  viommu_result result = VIOMMU_OK;
  const std::optional<std::vector<std::uint8_t>> reply =
      answer_to({request, recorded, writable_bytes_of(type), line_, {}}, tries_of_recording, result);
  check_recorded();
  if (!reply) return mismatch(text_of(trace::Event{q}), "an answer", viommu_result_text(result));
  if (*reply == recorded) {
    ++report_.matches;
  } else if (is_deviation(type, recorded, *reply)) {
    const std::string found = reply->empty() ? "none" : hex(reply->front());
    ++report_.deviations["status " + hex(recorded[0]) + " -> " + found];
  } else {
    mismatch(text_of(trace::Event{q}), digits_of(recorded.data(), recorded.size()),
             digits_of(reply->data(), reply->size()));
  }
}

void Replayer::on(const trace::SizedRequest& q) {
  if (!virtio_) return fail("only a virtio-iommu has requests");
  if (!machine_is_ready("a request")) return;
  if (q.writable_bytes > most_writable_bytes) return fail("no request has so many writable bytes");
  ask(q.readable, q.written, q.writable_bytes, trace::Event{q});
}

void Replayer::ask(std::string_view readable, std::string_view written, std::size_t writable_bytes,
                   const trace::Event& event) {
  virtio_->asked.push_back({bytes_of(readable), bytes_of(written), writable_bytes, line_, text_of(event)});
  if (!manual_) answer_requests();
}

void Replayer::answer_requests() {
  while (virtio_ && !virtio_->asked.empty()) {
    const AskedRequest& asked = virtio_->asked.front();
    viommu_result result = VIOMMU_OK;
    const std::optional<std::vector<std::uint8_t>> reply = answer_to(asked, tries_of_scenario, result);
    if (result == VIOMMU_E_BUSY) return;
    const auto told = [](const std::vector<std::uint8_t>& bytes) { return digits_of(bytes.data(), bytes.size()); };
    if (reply && *reply == asked.written)
      ++report_.matches;
    else
      report_.mismatch({asked.line, asked.text, told(asked.written),
                        reply ? told(*reply) : std::string{viommu_result_text(result)}});
    virtio_->asked.pop_front();
  }
}

void Replayer::on(const trace::FaultReported& report) {
  const std::vector<std::uint8_t> record = bytes_of(report.record);
  Effect effect = event_effect(record.data(), record.size());
  effect.line = line_;
  expect(effect);
}

/// READ and WRITE the emulator sets in some reports only, and the format leaves them open.
bool Replayer::is_report_deviation(const Effect& recorded, const Effect& found) {
  constexpr std::uint64_t access_flags = std::uint64_t{3} << 32;
  if (recorded.kind != Effect::Kind::event || found.kind != Effect::Kind::event) return false;
  Effect alike = found;
  alike.value = (found.value & ~access_flags) | (recorded.value & access_flags);
  if (!recorded.same_as(alike)) return false;
  if (configuration_.scenario)
    ++report_.matches;
  else
    ++report_.deviations["flags of E"];
  return true;
}

}  // namespace viommu::cli
