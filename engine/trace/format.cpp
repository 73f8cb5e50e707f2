// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/format.hpp"

#include "engine/trace/format_words.hpp"
#include "engine/trace/line_out.hpp"

namespace viommu::trace {
namespace {

struct Writer {
  std::span<char> out;
  std::string_view first;

  [[nodiscard]] LineOut line() const noexcept { return {out, first}; }

  std::string_view operator()(const Nothing&) const noexcept { return {}; }
  std::string_view operator()(const Unknown&) const noexcept { return {}; }
  std::string_view operator()(const Configuration& e) const noexcept {
    return line().word(e.family == Family::virtio ? "virtio" : "vtd").word(e.pairs).end();
  }
  std::string_view operator()(const ReservedRegion& e) const noexcept {
    return line().word("resv").hex(e.subtype).hex(e.first).hex(e.last).end();
  }
  std::string_view operator()(const GuestWord& e) const noexcept { return line().hex(e.gpa).hex(e.value).end(); }
  std::string_view operator()(const FailedRead& e) const noexcept { return line().hex(e.gpa).hex(e.length).end(); }
  std::string_view operator()(const FailedWrite& e) const noexcept { return line().hex(e.gpa).hex(e.length).end(); }
  std::string_view operator()(const MemoryWrite& e) const noexcept {
    return line().hex(e.gpa).hex(e.size).hex(e.value).end();
  }
  std::string_view operator()(const RegisterWrite& e) const noexcept {
    return line().hex(e.offset).hex(e.size).hex(e.value).end();
  }
  std::string_view operator()(const RegisterRead& e) const noexcept {
    return line().hex(e.offset).hex(e.size).hex(e.value).end();
  }
  std::string_view operator()(const Translate& e) const noexcept {
    LineOut out_line = line();
    out_line.hex(e.source_id).pasid(e.pasid).hex(e.iova).access(e.access);
    if (e.ok)
      out_line.word("ok").hex(e.gpa).hex(e.mask).word(spelling(e.perm)).word(spelling(e.source));
    else
      out_line.word("fault").hex(e.reason).word(spelling(e.status));
    return out_line.end();
  }
  std::string_view operator()(const Message& e) const noexcept { return line().hex(e.address).hex(e.data).end(); }
  std::string_view operator()(const ViewSwitch& e) const noexcept {
    return line().hex(e.source_id).hex(e.pasid).word(e.on ? "1" : "0").end();
  }
  std::string_view operator()(const CachesDropped&) const noexcept { return line().end(); }
  std::string_view operator()(const Reset&) const noexcept { return line().end(); }
  std::string_view operator()(const Notify& e) const noexcept {
    return line()
        .hex(e.source_id)
        .word(spelling(e.kind))
        .hex(e.iova)
        .hex(e.mask)
        .hex(e.gpa)
        .word(spelling(e.perm))
        .end();
  }
  std::string_view operator()(const ReplayAsked& e) const noexcept { return line().hex(e.source_id).end(); }
  std::string_view operator()(const Interrupt& e) const noexcept {
    LineOut out_line = line();
    out_line.word(e.question ? "q" : "w").hex(e.source_id).hex(e.address).hex(e.data);
    if (e.ok)
      out_line.word("ok").hex(e.out_address).hex(e.out_data);
    else
      out_line.word("fault").hex(e.reason).word(spelling(e.status));
    return out_line.end();
  }
  std::string_view operator()(const Marker& e) const noexcept { return line().word(e.text).end(); }
  std::string_view operator()(const DriverReady& e) const noexcept {
    return line().word("features=").append_hex(e.features).word(e.bypass ? "bypass=1" : "bypass=0").end();
  }
  std::string_view operator()(const BypassChanged& e) const noexcept { return line().hex(e.value).end(); }
  std::string_view operator()(const Request& e) const noexcept {
    return line().byte_string(e.readable).byte_string(e.written).end();
  }
  std::string_view operator()(const FaultReported& e) const noexcept { return line().byte_string(e.record).end(); }
  std::string_view operator()(const auto& word) const noexcept {
    LineOut out_line = line();
    write_fields(out_line, word);
    return out_line.end();
  }
};

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): an event of trivial alternatives is never without a value
std::string_view format(const Event& event, std::span<char> out) noexcept {
  return std::visit(Writer{out, first_field(event)}, event);
}

}  // namespace viommu::trace
