// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/dmar_reader.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>

namespace viommu::test {
namespace {

/// Takes fields off the front. Past the end it gives zeros and remembers.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_{bytes} {}

  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::uint64_t{take()} << 8 * i;
    return value;
  }
  unsigned small(std::size_t size) { return static_cast<unsigned>(number(size)); }
  std::string text(std::size_t size) {
    std::string characters;
    for (std::size_t i = 0; i < size; ++i) characters += static_cast<char>(take());
    return characters;
  }
  void reserved(std::size_t size) { dirty_ = number(size) != 0 || dirty_; }
  Cursor part(std::size_t size) {
    short_ = short_ || size > left();
    const std::size_t taken = std::min(size, left());
    at_ += taken;
    return Cursor{bytes_.subspan(at_ - taken, taken)};
  }
  [[nodiscard]] std::size_t left() const { return bytes_.size() - at_; }
  [[nodiscard]] bool sound() const { return !short_ && !dirty_; }

 private:
  unsigned char take() {
    if (at_ == bytes_.size()) {
      short_ = true;
      return 0;
    }
    return std::to_integer<unsigned char>(bytes_[at_++]);
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
  bool short_ = false;
  bool dirty_ = false;
};

bool read_scope(Cursor& from, std::vector<DmarScope>& scopes) {
  DmarScope scope;
  scope.type = from.small(1);
  const unsigned length = from.small(1);
  if (length < 8 || length % 2 != 0) return false;
  Cursor rest = from.part(length - 2);
  rest.reserved(2);
  scope.id = rest.small(1);
  scope.start_bus = rest.small(1);
  while (rest.left() != 0) {
    const unsigned device = rest.small(1);
    scope.path.emplace_back(device, rest.small(1));
  }
  scopes.push_back(scope);
  return rest.sound() && from.sound();
}

bool read_structure(DmarStructure& read, Cursor& body) {
  switch (read.type) {
    case 0:
      read.flags = body.small(1);
      read.size = body.small(1);
      read.segment = body.small(2);
      read.base = body.number(8);
      break;
    case 1:
      body.reserved(2);
      read.segment = body.small(2);
      read.base = body.number(8);
      read.limit = body.number(8);
      break;
    case 2:
    case 5:
      read.flags = body.small(1);
      body.reserved(1);
      read.segment = body.small(2);
      break;
    case 3:
      body.reserved(4);
      read.base = body.number(8);
      read.domain = body.small(4);
      return body.sound() && body.left() == 0;
    case 4:
      body.reserved(3);
      read.number = body.small(1);
      read.name = body.text(body.left());
      if (read.name.find('\0') != read.name.size() - 1) return false;
      read.name.pop_back();
      return body.sound();
    default: return false;
  }
  while (body.left() != 0)
    if (!read_scope(body, read.scopes)) return false;
  return body.sound() && read.flags <= 1 && read.size <= 15;
}

}  // namespace

std::vector<DmarStructure> DmarTable::of_type(unsigned type) const {
  std::vector<DmarStructure> found;
  std::ranges::copy_if(structures, std::back_inserter(found),
                       [type](const DmarStructure& one) { return one.type == type; });
  return found;
}

DmarRead read_dmar(std::span<const std::byte> bytes) {
  DmarRead read;
  DmarTable& table = read.table;
  Cursor from{bytes};
  unsigned sum = 0;
  for (const std::byte one : bytes) sum += std::to_integer<unsigned>(one);
  if (sum % 256 != 0) read.problem = "checksum";
  if (from.text(4) != "DMAR") read.problem = "signature";
  if (from.number(4) != bytes.size()) read.problem = "length";
  table.revision = from.small(1);
  from.small(1);
  table.oem_id = from.text(6);
  table.oem_table_id = from.text(8);
  table.oem_revision = from.small(4);
  table.creator_id = from.text(4);
  table.creator_revision = from.small(4);
  table.width_byte = from.small(1);
  table.flags = from.small(1);
  from.reserved(8);
  from.reserved(2);
  if (!from.sound()) read.problem = "header";
  while (read.problem.empty() && from.left() != 0) {
    DmarStructure one;
    one.type = from.small(2);
    const unsigned length = from.small(2);
    if (length < 4 || length - 4 > from.left()) {
      read.problem = "length of a structure";
      break;
    }
    Cursor body = from.part(length - 4);
    if (!read_structure(one, body)) read.problem = "structure of type " + std::to_string(one.type);
    if (!table.structures.empty() && table.structures.back().type > one.type) read.problem = "order of types";
    table.structures.push_back(one);
  }
  if (table.structures.empty() || table.structures.front().type != 0) read.problem = "no unit";
  return read;
}

DmarRouting::DmarRouting(const DmarTable& table, const std::map<unsigned, PciBridges>& segments) {
  static const PciBridges none;
  for (const DmarStructure& drhd : table.of_type(0)) {
    Unit unit{drhd.segment, drhd.flags == 1, {}};
    const auto segment = segments.find(drhd.segment);
    const PciBridges& bridges = segment != segments.end() ? segment->second : none;
    for (const DmarScope& scope : drhd.scopes) {
      unsigned bus = scope.start_bus;
      bool found = true;
      Device device{scope.type, 0, 1, 0};
      for (std::size_t hop = 0; hop < scope.path.size(); ++hop) {
        device.source = bus << 8 | scope.path[hop].first << 3 | scope.path[hop].second;
        if (hop + 1 == scope.path.size()) break;
        const auto bridge = bridges.find(device.source);
        found = found && bridge != bridges.end();
        if (found) bus = bridge->second.first;
      }
      if (scope.type == 2) {
        const auto bridge = bridges.find(device.source);
        found = found && bridge != bridges.end();
        if (found) std::tie(device.first_bus, device.last_bus) = bridge->second;
      }
      if (found)
        unit.devices.push_back(device);
      else
        ++lost_;
    }
    units_.push_back(unit);
  }
}

DmarRouting::Answer DmarRouting::unit_of(unsigned segment, unsigned source, unsigned type) const {
  Answer answer;
  std::optional<std::size_t> rest;
  for (std::size_t index = 0; index < units_.size(); ++index) {
    const Unit& unit = units_[index];
    if (unit.segment != segment) continue;
    const bool listed = std::ranges::any_of(unit.devices, [&](const Device& device) {
      const bool is_asked_for = type == 1 ? device.type <= 2 : device.type == type;
      const bool is_behind = device.type == 2 && device.first_bus <= source >> 8 && source >> 8 <= device.last_bus;
      return is_asked_for && (device.source == source || is_behind);
    });
    if (listed && answer.unit) answer.ambiguous = true;
    if (listed && !answer.unit) answer.unit = index;
    if (unit.includes_all && type == 1) rest = index;
  }
  if (!answer.unit) answer.unit = rest;
  return answer;
}

}  // namespace viommu::test
