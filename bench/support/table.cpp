// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/table.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string_view>

namespace viommu::bench {
namespace {

constexpr std::size_t columns = 7;
using Cells = std::array<std::string, columns>;

[[nodiscard]] std::string grouped(std::uint64_t value) {
  std::string text = std::to_string(value);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ',');
  return text;
}

[[nodiscard]] std::string rounded(double value, int digits) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

[[nodiscard]] Cells cells_of(const Row& row) {
  return {row.name,
          grouped(row.checked.events),
          grouped(row.checked.translations),
          grouped(row.mismatches()),
          row.timed ? rounded(row.times.library, 1) : "-",
          row.timed ? rounded(row.times.peer, 1) : "-",
          row.times.library > 0 ? rounded(row.times.peer / row.times.library, 2) : "-"};
}

using Counts = std::map<std::string, std::uint64_t>;

void print_counts(std::ostream& out, std::string_view title, const Counts& counts) {
  out << title;
  if (counts.empty()) out << " none";
  std::string_view separator = " ";
  for (const auto& [kind, count] : counts) {
    out << separator << kind << ' ' << grouped(count);
    separator = ", ";
  }
  out << '\n';
}

void add(Counts& sum, const Counts& counts) {
  for (const auto& [kind, count] : counts) sum[kind] += count;
}

void print_notes(std::ostream& out, const std::vector<Row>& rows) {
  Counts deviations;
  Counts artefacts;
  Counts skipped;
  Counts emulator;
  for (const Row& row : rows) {
    add(deviations, row.checked.deviations);
    add(artefacts, row.checked.artefacts);
    add(skipped, row.checked.skipped);
    if (row.checked.stale != 0) emulator["answered from its stale cache"] += row.checked.stale;
    if (row.checked.dropped_access != 0) emulator["said ok and dropped the access"] += row.checked.dropped_access;
  }
  print_counts(out, "The recorded emulator:", emulator);
  print_counts(out, "Deviations, recorded -> ours:", deviations);
  print_counts(out, "Recording artefacts:", artefacts);
  print_counts(out, "Skipped lines, by letter:", skipped);
}

void print_failures(std::ostream& out, const Row& row) {
  if (row.times.peer_wrong != 0) out << row.name << ": the peer gave " << row.times.peer_wrong << " wrong answers\n";
  if (row.times.library_wrong != 0) {
    out << row.name << ": " << row.times.library_wrong << " wrong answers in the timed passes\n";
  }
  for (const cli::Mismatch& mismatch : row.checked.first_mismatches) {
    out << row.name << ':' << mismatch.line << ": " << mismatch.event << "\n  expected " << mismatch.expected
        << "\n  found    " << mismatch.found << '\n';
  }
}

}  // namespace

void print_table(std::ostream& out, const std::vector<Row>& rows, int rounds) {
  std::vector<Cells> lines{
      {"recording", "events", "translations", "mismatches", "ns per translation", "the peer's ns", "ratio"}};
  for (const Row& row : rows) lines.push_back(cells_of(row));
  std::array<std::size_t, columns> widths{};
  for (const Cells& cells : lines) {
    for (std::size_t column = 0; column < columns; ++column) {
      widths[column] = std::max(widths[column], cells[column].size());
    }
  }
  for (const Cells& cells : lines) {
    out << cells[0] << std::string(widths[0] - cells[0].size(), ' ');
    for (std::size_t column = 1; column < columns; ++column) {
      out << "  " << std::string(widths[column] - cells[column].size(), ' ') << cells[column];
    }
    out << '\n';
  }

  if (!std::ranges::all_of(rows, &Row::timed))
    out << "\nOf a unit in scalable mode, which the peer does not know, the answers are checked and not timed.\n";
  out << "\nns per translation: the time of the whole stream - translations, fault records, and the register writes "
         "with\n"
         "the invalidations they start - for each translation in it; without the guest's own stores and the reading "
         "of\n"
         "the events. Median of "
      << rounds << " rounds on one pinned core, both sides in each round, every answer compared afterwards.\n"
      << "The peer is QEMU's shape, fed the same events.\n\n";
  print_notes(out, rows);
  for (const Row& row : rows) print_failures(out, row);
}

}  // namespace viommu::bench
