// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Root, context and page-table entries as a person wants to see them: each word with its fields, the walk of an address
// with the reason where it ends, and what a source has mapped. Reads memory only; nothing of the engine's caches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "caches/address_spaces.hpp"
#include "engine/base/address.hpp"
#include "engine/base/bits.hpp"
#include "engine/base/ids.hpp"
#include "engine/cli/memory.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::cli {

/// One cell of a word.
struct ShownField {
  std::string_view name;
  BitRange bits;
  std::uint64_t value = 0;
  bool wrong = false;  // must be zero and is not
};

/// A 64-bit word of a table in guest memory.
struct ShownWord {
  std::string title;
  std::uint64_t gpa = 0;
  std::optional<std::uint64_t> raw;  // nothing: it cannot be read
  std::vector<ShownField> fields;
  std::string meaning;  // what the fields come to, in words
};

/// How a lookup ended: reason 0 goes on.
struct Verdict {
  std::uint8_t reason = 0;
  std::string text;
};

/// What decides how the tables are read.
struct TableRules {
  vtd::Capabilities capabilities;
  vtd::RootTableAddress root;  // as latched by SRTP
};

/// The entries that decide about a source.
struct ContextView {
  std::vector<ShownWord> words;
  std::size_t root_words = 2;  // the first of them, before those of the context entry
  Verdict verdict;
  bool present = false;  // the context entry was reached and has P set
  bool fault_disable = false;
  caches::AddressSpaceKey key{};  // with reason 0
};
/// @param pasid  of the request; without one, and in legacy mode, what requests without a PASID go by
[[nodiscard]] ContextView look_up_context(const Memory& memory, const TableRules& rules, SourceId source,
                                          std::optional<Pasid> pasid = {});

/// One entry on the path of an address.
struct WalkStep {
  ShownWord entry;
  bool first_stage = false;
  bool for_table = false;  // of a second stage: on the way to where a first-stage table's entry lies
};
struct WalkView {
  std::vector<WalkStep> steps;
  Verdict verdict;  // what a read, a write and an atomic would get stands in `text`
  bool mapped = false;
  std::uint64_t gpa = 0;
  std::uint64_t mask = 0;
  bool read = false;
  bool write = false;
};
[[nodiscard]] WalkView walk(const Memory& memory, const TableRules& rules, const ContextView& context, Iova iova);

/// A run of addresses mapped to a run of addresses with the same rights.
struct MappedRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t gpa = 0;
  bool read = false;
  bool write = false;
};
struct MappedView {
  std::vector<MappedRange> ranges;  // the first ones, ascending
  std::uint64_t ranges_in_all = 0;
  std::uint64_t bytes = 0;
  std::uint64_t pages = 0;      // leaves, of any size
  std::uint64_t malformed = 0;  // entries with reserved bits
  bool complete = true;         // false: the tables were too many, the rest was not looked at
};
/// @param most  ranges to keep
[[nodiscard]] MappedView mapped_ranges(const Memory& memory, const TableRules& rules, const ContextView& context,
                                       std::size_t most);

/// A source with a present context entry.
struct SourceLine {
  SourceId source;
  ContextView context;
};
/// Every one under the root table, ascending.
[[nodiscard]] std::vector<SourceLine> present_sources(const Memory& memory, const TableRules& rules);

}  // namespace viommu::cli
