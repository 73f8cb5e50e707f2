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
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <viommu/viommu_virtio.h>

#include "engine/cli/messages.hpp"
#include "engine/cli/replay.hpp"
#include "engine/trace/hex_bytes.hpp"
#include "engine/virtio_iommu/layouts.hpp"
#include "engine/virtio_iommu/request.hpp"

namespace viommu::cli {
namespace {

constexpr unsigned tries_of_recording = 1000;  // its requests wait for nothing
constexpr unsigned tries_of_scenario = 2;      // one before the unit has worked, one behind that
constexpr std::size_t most_writable_bytes = std::size_t{1} << 20;

using virtio_iommu::AttachLayout;
using virtio_iommu::ProbeLayout;
using virtio_iommu::RequestTail;
using virtio_iommu::RequestType;
using virtio_iommu::Status;

[[nodiscard]] std::uint8_t digit(char c) noexcept {
  return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10);
}
[[nodiscard]] std::vector<std::uint8_t> bytes_of(std::string_view digits) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes.push_back(static_cast<std::uint8_t>(digit(digits[i]) << 4 | digit(digits[i + 1])));
  return bytes;
}
[[nodiscard]] std::string digits_of(const std::vector<std::uint8_t>& bytes) {
  if (bytes.empty()) return "-";
  std::string text(2 * bytes.size(), '\0');
  trace::HexBytes{text}.append(std::as_bytes(std::span{bytes}));
  return text;
}
template <class Layout>
[[nodiscard]] Layout laid_over(const std::vector<std::uint8_t>& bytes) noexcept {
  Layout layout;
  std::memcpy(&layout, bytes.data(), std::min(sizeof layout, bytes.size()));
  return layout;
}
[[nodiscard]] RequestType type_of(const std::vector<std::uint8_t>& request) noexcept {
  return request.empty() ? RequestType{} : static_cast<RequestType>(request[0]);
}
/// Nothing where nothing was written.
[[nodiscard]] std::optional<Status> status_of(const std::vector<std::uint8_t>& written) noexcept {
  if (written.size() < sizeof(RequestTail)) return std::nullopt;
  return static_cast<Status>(written[written.size() - sizeof(RequestTail)]);
}

/// Where the emulator lets through what the specification does not, or answers what it should leave (U13 to U17).
[[nodiscard]] bool is_deviation(RequestType type, const std::vector<std::uint8_t>& recorded,
                                const std::vector<std::uint8_t>& found) noexcept {
  if (recorded.size() != sizeof(RequestTail)) return false;
  if (found.empty()) return status_of(recorded) == Status::unsupported;
  if (found.size() != sizeof(RequestTail) || type < RequestType::attach || type > RequestType::unmap) return false;
  const std::optional now = status_of(found);
  return status_of(recorded) == Status::ok && (now == Status::invalid || now == Status::range);
}

}  // namespace

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
  const std::uint32_t writable =
      virtio_iommu::usual_writable_bytes(type_of(request), virtio_->configuration.probe_size);
  if (configuration_.scenario) return ask({request, bytes_of(q.written), writable, line_, text_of(trace::Event{q})});
  answer_recorded({request, bytes_of(q.written), writable, line_, text_of(trace::Event{q})});
}

void Replayer::answer_recorded(const AskedRequest& asked) {
  const RequestType type = type_of(asked.readable);
  const std::vector<std::uint8_t>& recorded = asked.written;
  if (status_of(recorded) != Status::no_entry) {
    if (type == RequestType::attach) know_endpoint(laid_over<AttachLayout>(asked.readable).endpoint);
    if (type == RequestType::probe) know_endpoint(laid_over<ProbeLayout>(asked.readable).endpoint);
  }
  viommu_result result = VIOMMU_OK;
  const std::optional<std::vector<std::uint8_t>> reply = answer_to(asked, tries_of_recording, result);
  check_recorded();
  if (!reply) return mismatch(asked.text, "an answer", viommu_result_text(result));
  if (*reply == recorded) {
    ++report_.matches;
  } else if (!virtio_->configuration.plugs && is_deviation(type, recorded, *reply)) {
    const std::string found = reply->empty() ? "none" : hex(reply->front());
    ++report_.deviations["status " + hex(recorded[0]) + " -> " + found];
  } else {
    mismatch(asked.text, digits_of(recorded), digits_of(*reply));
  }
}

void Replayer::on(const trace::SizedRequest& q) {
  if (!virtio_) return fail("only a virtio-iommu has requests");
  if (!machine_is_ready("a request")) return;
  if (q.writable_bytes > most_writable_bytes) return fail("no request has so many writable bytes");
  AskedRequest asked{bytes_of(q.readable), bytes_of(q.written), q.writable_bytes, line_, text_of(trace::Event{q})};
  if (!configuration_.scenario) return answer_recorded(asked);
  ask(std::move(asked));
}

void Replayer::ask(AskedRequest asked) {
  virtio_->asked.push_back(std::move(asked));
  if (!manual_) answer_requests();
}

void Replayer::on(const trace::WaitingCheck& check) {
  if (!virtio_) return fail("only a virtio-iommu has requests");
  compare(trace::Event{check}, std::to_string(check.count), std::to_string(virtio_->asked.size()));
}

void Replayer::answer_requests() {
  while (virtio_ && !virtio_->asked.empty()) {
    const AskedRequest& asked = virtio_->asked.front();
    viommu_result result = VIOMMU_OK;
    const std::optional<std::vector<std::uint8_t>> reply = answer_to(asked, tries_of_scenario, result);
    if (result == VIOMMU_E_BUSY) return;
    if (reply && *reply == asked.written)
      ++report_.matches;
    else
      report_.mismatch({asked.line, asked.text, digits_of(asked.written),
                        reply ? digits_of(*reply) : std::string{viommu_result_text(result)}});
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
  // The flags stand in the high half of the record's first word.
  static_assert(offsetof(virtio_iommu::FaultLayout, flags) == sizeof(std::uint32_t));
  constexpr std::uint64_t access_flags =
      std::uint64_t{mask_of(virtio_iommu::fault_flags::read, virtio_iommu::fault_flags::write)} << 32;
  if (recorded.kind != Effect::Kind::event || found.kind != Effect::Kind::event) return false;
  Effect alike = found;
  alike.value = (found.value & ~access_flags) | (recorded.value & access_flags);
  if (!recorded.same_as(alike)) return false;
  if (configuration_.scenario)
    ++report_.matches;
  else if (virtio_->configuration.plugs)
    return false;  // this library's own
  else
    ++report_.deviations["flags of E"];
  return true;
}

}  // namespace viommu::cli
