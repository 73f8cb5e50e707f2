// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/messages.hpp"

#include <cstddef>

#include "engine/base/fault.hpp"
#include "engine/trace/format.hpp"
#include "engine/vtd/fault_texts.hpp"

namespace viommu::cli {
namespace {

/// What stands in a damaged line, safe to print and not longer than a message should be.
std::string shown(std::string_view text) {
  constexpr std::size_t longest = 40;
  std::string out;
  for (const char c : text.substr(0, longest)) {
    const auto code = static_cast<unsigned char>(c);
    if (code >= 0x20 && code < 0x7f)
      out += c;
    else
      out += "\\x" + hex(code, 2);
  }
  if (text.size() > longest) out += "...";
  return out;
}

std::string_view perm_text(std::uint8_t rights) {
  return trace::spelling(trace::Perm{(rights & VIOMMU_READ) != 0, (rights & VIOMMU_WRITE) != 0});
}

std::string_view status_text(std::uint8_t status) noexcept {
  switch (status) {
    case VIOMMU_FAULT_RECORDED:     return "rec";
    case VIOMMU_FAULT_COMPRESSED:   return "coll";
    case VIOMMU_FAULT_OVERFLOW_SET: return "pfo";
    case VIOMMU_FAULT_OVERFLOWED:   return "ovf";
    case VIOMMU_FAULT_DISABLED:     return "fpd";
    default:                        return "none";
  }
}

std::string fault_text(std::uint8_t reason, std::string_view status) {
  return "fault " + hex(reason) + " " + std::string{status} + " (" + std::string{reason_text(reason)} + ")";
}

}  // namespace

std::string hex(std::uint64_t value) {
  std::string text;
  do {
    text.insert(text.begin(), "0123456789abcdef"[value % 16]);
    value /= 16;
  } while (value != 0);
  return text;
}

std::string hex(std::uint64_t value, unsigned digits) {
  std::string text = hex(value);
  if (text.size() < digits) text.insert(0, digits - text.size(), '0');
  return text;
}

std::string text_of(const trace::ParseError& error) {
  std::string text;
  if (error.field != 0 || !error.name.empty()) {
    text += "field " + std::to_string(error.field + 1);
    if (!error.name.empty()) text += " (" + std::string{error.name} + ")";
    text += ": ";
  }
  text += trace::phrase(error.problem);
  if (!error.text.empty()) text += ": '" + shown(error.text) + "'";
  return text;
}

std::string text_of(const trace::Event& event) {
  std::string buffer(4096, '\0');
  std::string_view line = trace::format(event, buffer);
  if (line.ends_with('\n')) line.remove_suffix(1);
  return std::string{line};
}

std::string answer_text(const trace::Translate& t) {
  if (!t.ok) return fault_text(t.reason, trace::spelling(t.status));
  return "ok " + hex(t.gpa | (t.iova & t.mask)) + " mask " + hex(t.mask) + " " + std::string{trace::spelling(t.perm)} +
         " (source " + std::string{trace::spelling(t.source)} + ")";
}

std::string answer_text(const viommu_translation& found) {
  if (found.kind == VIOMMU_FAULT) return fault_text(found.reason, status_text(found.status));
  std::string text = "ok " + hex(found.gpa) + " mask " + hex(found.mask) + " " + std::string{perm_text(found.rights)};
  if (found.kind == VIOMMU_IDENTITY) text += " (identity)";
  if (found.kind == VIOMMU_INTERRUPT) text += " (interrupt request)";
  return text;
}

std::string answer_text(const trace::Interrupt& v) {
  if (!v.ok) return fault_text(v.reason, trace::spelling(v.status));
  return "ok " + hex(v.out_address) + " " + hex(v.out_data);
}

std::string answer_text(const viommu_routed& found) {
  if (found.kind == VIOMMU_ROUTE_FAULT) return fault_text(found.reason, status_text(found.status));
  std::string text = "ok " + hex(found.address) + " " + hex(found.data);
  if (found.kind == VIOMMU_ROUTE_UNCHANGED) text += " (unchanged)";
  if (found.kind == VIOMMU_ROUTE_POSTED) text += " (posted to " + hex(found.descriptor) + ")";
  return text;
}

std::string deviation_text(std::uint8_t recorded, std::uint8_t ours) { return hex(recorded) + " -> " + hex(ours); }

std::string_view reason_text(std::uint8_t reason) noexcept { return vtd::text_of(static_cast<FaultReason>(reason)); }

std::string result_text(viommu_result result, const viommu_refusal& refusal) {
  if (result == VIOMMU_OK) return "ok";
  if (result != VIOMMU_E_REFUSED) return viommu_result_text(result);
  std::string text = viommu_refusal_name(refusal.code);
  if (refusal.field[0] != '\0') text += ":" + std::string{refusal.field};
  return text;
}

bool same_result(std::string_view expected, std::string_view found) noexcept {
  if (expected == found) return true;
  return expected.find(':') == std::string_view::npos && expected == found.substr(0, found.find(':'));
}

bool results_are_well_formed(std::string_view results) noexcept {
  if (results == "ok") return true;
  while (!results.empty()) {
    const std::size_t space = results.find(' ');
    const std::string_view item = results.substr(0, space);
    const std::size_t colon = item.find(':');
    if (colon == std::string_view::npos || colon == 0 || colon > 4 || colon + 1 == item.size()) return false;
    if (item.substr(0, colon).find_first_not_of("0123456789abcdef") != std::string_view::npos) return false;
    if (space == std::string_view::npos) return true;
    results.remove_prefix(space + 1);
  }
  return false;
}

}  // namespace viommu::cli
