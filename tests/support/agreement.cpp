// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/agreement.hpp"

#include <sstream>

namespace viommu::test {
namespace {

using oracle::Answer;

std::uint8_t engine_kind(Answer::Kind kind) {
  switch (kind) {
    case Answer::translated: return VIOMMU_TRANSLATED;
    case Answer::identity:   return VIOMMU_IDENTITY;
    case Answer::interrupt:  return VIOMMU_INTERRUPT;
    case Answer::fault:      break;
  }
  return VIOMMU_FAULT;
}

std::uint8_t rights(bool read, bool write) {
  return static_cast<std::uint8_t>((read ? VIOMMU_READ : 0) | (write ? VIOMMU_WRITE : 0));
}

}  // namespace

viommu_request engine_request(const oracle::Request& request, std::uint8_t flags) {
  viommu_request asked{};
  asked.iova = request.iova;
  asked.length = request.length;
  asked.source = request.source_id;
  asked.access = rights(request.read, request.write);
  asked.flags = flags;
  if (request.pasid) {
    asked.pasid = *request.pasid;
    asked.flags |= VIOMMU_HAS_PASID;
  }
  if (request.zero_length) asked.flags |= VIOMMU_ZERO_LENGTH;
  if (request.privileged) asked.flags |= VIOMMU_PRIVILEGED;
  if (request.execute) asked.flags |= VIOMMU_EXECUTE;
  return asked;
}

std::string difference(const viommu_translation& engine, const Answer& oracle, const oracle::Request& request) {
  if (engine.kind != engine_kind(oracle.kind)) return "kind";
  if (oracle.kind == Answer::fault) return engine.reason != oracle.reason ? "reason" : "";
  if (engine.reason != 0) return "a reason without a fault";
  if (engine.gpa != oracle.gpa) return "address";
  if (oracle.kind == Answer::interrupt) return "";
  if (engine.rights != rights(oracle.read, oracle.write)) return "rights";
  if ((engine.mask & (engine.mask + 1)) != 0) return "mask is not a size minus one";
  if ((engine.gpa & engine.mask) != (request.iova & engine.mask)) return "page is not aligned";
  return "";
}

std::optional<FaultRecord> expected_record(const oracle::Unit& unit, const oracle::Request& request,
                                           const Answer& answer) {
  if (answer.kind != Answer::fault || !answer.reported) return std::nullopt;
  const std::uint64_t widths = unit.cap >> 9 & 7;
  const auto guest_width = static_cast<unsigned>(unit.cap >> 16 & 0x3F) + 1;
  const unsigned largest = widths >= 4 ? 57 : widths >= 2 ? 48 : widths >= 1 ? 39 : guest_width;
  const bool pasids = (unit.ecap >> 40 & 1) != 0;  // without them what belongs to a PASID is reserved
  FaultRecord record;
  record.low = request.iova & ((std::uint64_t{1} << largest) - 1) & ~std::uint64_t{0xFFF};
  record.high = std::uint64_t{1} << 63 | std::uint64_t{request.read} << 62 | std::uint64_t{answer.reason} << 32 |
                request.source_id;
  if (request.read && request.write) record.high |= std::uint64_t{1} << 28;
  if (request.pasid && pasids) {
    record.high |= std::uint64_t{*request.pasid} << 40 | std::uint64_t{1} << 31 | std::uint64_t{request.execute} << 30 |
                   std::uint64_t{request.privileged} << 29;
  }
  return record;
}

std::string describe(const oracle::Unit& unit, const oracle::Request& request, const Answer& answer,
                     const viommu_translation& engine) {
  std::ostringstream text;
  text << "version " << unit.major_version << std::hex << " cap " << unit.cap << " ecap " << unit.ecap << " haw "
       << std::dec << unit.haw << std::hex << " root " << unit.root_table << " | source " << request.source_id
       << " iova " << request.iova << ' ' << (request.read ? "r" : "") << (request.write ? "w" : "")
       << (request.zero_length ? " zero-length" : "") << " pasid " << request.pasid.value_or(~0U)
       << (request.privileged ? " privileged" : "") << (request.execute ? " execute" : "") << " length "
       << request.length << " | oracle kind " << unsigned{engine_kind(answer.kind)} << " gpa " << answer.gpa << " mask "
       << answer.page_mask << " rights " << unsigned{rights(answer.read, answer.write)} << " reason "
       << unsigned{answer.reason} << " | engine kind " << unsigned{engine.kind} << " gpa " << engine.gpa << " mask "
       << engine.mask << " rights " << unsigned{engine.rights} << " reason " << unsigned{engine.reason} << " status "
       << unsigned{engine.status};
  return text.str();
}

}  // namespace viommu::test
