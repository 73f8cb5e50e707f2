// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A VIOT table as an operating system reads it, from the figures alone: nothing here is the engine's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace viommu::test {

/// One node, whatever its type: those that its figure does not have are 0.
struct ViotNode {
  unsigned type = 0;
  std::size_t offset = 0;
  std::uint32_t endpoint = 0;
  unsigned first_segment = 0;  ///< of a unit where it is itself
  unsigned last_segment = 0;
  unsigned first = 0;  ///< of a unit its own
  unsigned last = 0;
  std::uint64_t base = 0;
  unsigned output = 0;
};

struct ViotRead {
  std::string oem_id;
  std::string oem_table_id;
  std::string creator_id;
  std::vector<ViotNode> nodes;
  std::string problem;  ///< empty: nothing

  struct Found {
    std::size_t unit = 0;  ///< by its place among the units
    std::uint32_t endpoint = 0;
    friend bool operator==(const Found&, const Found&) = default;
  };
  /// All that claim a PCI function: at most one in a sound table.
  [[nodiscard]] std::vector<Found> find(unsigned segment, unsigned source) const {
    std::map<std::size_t, std::size_t> units;  // by offset
    for (const ViotNode& node : nodes)
      if (node.type == 3 || node.type == 4) units.emplace(node.offset, units.size());
    std::vector<Found> all;
    for (const ViotNode& node : nodes) {
      if (node.type != 1 || segment < node.first_segment || segment > node.last_segment) continue;
      if (source < node.first || source > node.last) continue;
      all.push_back(
          {units.at(node.output), ((segment - node.first_segment) << 16) + source - node.first + node.endpoint});
    }
    return all;
  }
};

[[nodiscard]] inline ViotRead read_viot(std::span<const std::byte> bytes) {
  ViotRead read;
  const auto number = [&](std::size_t at, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(bytes[at + i]) << 8 * i;
    return value;
  };
  const auto text = [&](std::size_t at, std::size_t size) {
    std::string letters;
    for (std::size_t i = 0; i < size; ++i) letters += static_cast<char>(bytes[at + i]);
    return letters;
  };
  const auto wrong = [&](const std::string& what) {
    read.problem = what;
    return read;
  };
  if (bytes.size() < 48) return wrong("shorter than its header");
  if (text(0, 4) != "VIOT") return wrong("another signature");
  if (number(4, 4) != bytes.size()) return wrong("another length");
  unsigned sum = 0;
  for (const std::byte one : bytes) sum += std::to_integer<unsigned>(one);
  if (sum % 256 != 0) return wrong("checksum");
  if (number(8, 1) != 0) return wrong("another revision");
  read.oem_id = text(10, 6);
  read.oem_table_id = text(16, 8);
  read.creator_id = text(28, 4);
  const std::size_t count = number(36, 2);
  std::size_t at = number(38, 2);
  if (at != 48 || number(40, 8) != 0) return wrong("where nodes begin, or a reserved field");
  for (std::size_t i = 0; i < count; ++i) {
    if (at + 4 > bytes.size()) return wrong("fewer nodes than it says");
    ViotNode node;
    node.type = static_cast<unsigned>(number(at, 1));
    node.offset = at;
    const std::size_t length = number(at + 2, 2);
    const bool is_unit = node.type == 3 || node.type == 4;
    if (number(at + 1, 1) != 0 || node.type == 0 || node.type > 4) return wrong("a node's type or reserved byte");
    if (length != (is_unit ? 16U : 24U) || at + length > bytes.size()) return wrong("a node's length");
    std::uint64_t reserved = 0;
    switch (node.type) {
      case 1:
        node.endpoint = static_cast<std::uint32_t>(number(at + 4, 4));
        node.first_segment = static_cast<unsigned>(number(at + 8, 2));
        node.last_segment = static_cast<unsigned>(number(at + 10, 2));
        node.first = static_cast<unsigned>(number(at + 12, 2));
        node.last = static_cast<unsigned>(number(at + 14, 2));
        break;
      case 2:
        node.endpoint = static_cast<std::uint32_t>(number(at + 4, 4));
        node.base = number(at + 8, 8);
        break;
      case 3:
        node.first_segment = node.last_segment = static_cast<unsigned>(number(at + 4, 2));
        node.first = node.last = static_cast<unsigned>(number(at + 6, 2));
        reserved = number(at + 8, 8);
        break;
      default: reserved = number(at + 4, 4); node.base = number(at + 8, 8);
    }
    if (!is_unit) {
      node.output = static_cast<unsigned>(number(at + 16, 2));
      reserved |= number(at + 18, 6);
    }
    if (reserved != 0) return wrong("a reserved field of a node");
    read.nodes.push_back(node);
    at += length;
  }
  if (at != bytes.size()) return wrong("more than its nodes");
  for (const ViotNode& node : read.nodes) {
    if (node.type > 2) continue;
    bool is_there = false;
    for (const ViotNode& unit : read.nodes) is_there = is_there || (unit.type > 2 && unit.offset == node.output);
    if (!is_there) return wrong("an output that is no unit");
  }
  return read;
}

}  // namespace viommu::test
