// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What the decoders of tables.hpp share: words into fields, reasons into words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/guest_memory.hpp"
#include "engine/cli/memory.hpp"
#include "engine/cli/messages.hpp"
#include "engine/cli/tables.hpp"

namespace viommu::cli {

/// The fields of a word. Bits of `must_be_zero` that are set make their field wrong.
inline std::vector<ShownField> fields_of(std::uint64_t raw, std::span<const Row> rows, std::uint64_t must_be_zero) {
  std::vector<ShownField> fields;
  for (const Row& row : rows) {
    const std::uint64_t value = row.value_in(raw);
    const bool wrong = (raw & row.mask() & must_be_zero) != 0;
    if (!wrong && (row.rule == Rule::ignored || (row.rule == Rule::reserved && value == 0))) continue;
    fields.push_back({row.name, row.bits, value, wrong});
  }
  return fields;
}

/// The guest's memory as the unit's own walks take it. They only ever ask whether a flag could be set.
[[nodiscard]] inline GuestMemory guest_memory(const Memory& memory) {
  MemoryCallbacks callbacks;
  // Only ever read as the const object it is. NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast)
  callbacks.opaque = const_cast<Memory*>(&memory);
  callbacks.read = [](void* opaque, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
    return static_cast<const Memory*>(opaque)->read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
  };
  callbacks.compare_exchange = [](void*, std::uint64_t, std::uint64_t*, std::uint64_t) -> std::int32_t { return -1; };
  return GuestMemory{callbacks};
}

inline Verdict verdict(FaultReason reason) {
  const auto code = static_cast<std::uint8_t>(reason);
  return {code, "fault " + hex(code) + ": " + std::string{reason_text(code)}};
}

}  // namespace viommu::cli
