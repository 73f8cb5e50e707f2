// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/format.hpp"

#include "engine/trace/text_out.hpp"

namespace viommu::trace {
namespace {

/// A TextOut that puts the one space before each field.
class LineOut {
 public:
  LineOut(std::span<char> out, std::string_view first) noexcept : text_(out) { text_.word(first); }

  LineOut& hex(std::uint64_t value) noexcept {
    text_.word(" ").hex(value);
    return *this;
  }
  LineOut& word(std::string_view word) noexcept {
    text_.word(" ").word(word);
    return *this;
  }
  LineOut& pasid(std::uint32_t pasid) noexcept { return pasid == no_pasid ? word("-") : hex(pasid); }
  /// Nothing stands for 2^64, the one length that a 64-bit number cannot hold.
  LineOut& length(std::uint64_t first, std::uint64_t last) noexcept {
    const std::uint64_t length = last - first + 1;
    return length == 0 ? word("10000000000000000") : hex(length);
  }
  LineOut& access(const Access& access) noexcept {
    text_.word(" ").word(spelling(access.rights));
    if (access.plain()) return *this;
    text_.word("+");
    if (access.translation_request) text_.word("t");
    if (access.translated) text_.word("x");
    if (access.supervisor) text_.word("p");
    if (access.zero_length) text_.word("z");
    if (access.execute) text_.word("e");
    return *this;
  }
  [[nodiscard]] std::string_view end() noexcept {
    text_.word("\n");
    return text_.fits() ? text_.view() : std::string_view{};
  }

 private:
  TextOut text_;
};

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
  std::string_view operator()(const VirtioLine& e) const noexcept { return line().word(e.fields).end(); }
  std::string_view operator()(const RamAdded& e) const noexcept {
    LineOut out_line = line();
    out_line.hex(e.first).length(e.first, e.last);
    if (e.mmio) out_line.word("mmio");
    return out_line.end();
  }
  std::string_view operator()(const RamRemoved& e) const noexcept {
    return line().hex(e.first).length(e.first, e.last).end();
  }
  std::string_view operator()(const MemoryCheck& e) const noexcept { return line().hex(e.gpa).hex(e.value).end(); }
  std::string_view operator()(const Ready& e) const noexcept { return line().word(e.results).end(); }
  std::string_view operator()(const MachineReset& e) const noexcept {
    return line().word(e.device ? "device" : "system").end();
  }
  std::string_view operator()(const RoutesChanged& e) const noexcept { return line().hex(e.first).hex(e.count).end(); }
};

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): an event of trivial alternatives is never without a value
std::string_view format(const Event& event, std::span<char> out) noexcept {
  return std::visit(Writer{out, first_field(event)}, event);
}

}  // namespace viommu::trace
