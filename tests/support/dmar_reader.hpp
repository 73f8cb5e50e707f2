// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A DMAR table as an operating system reads it, from the figures of the specification alone: nothing here is the
// engine's. Ways of devices are followed through the bridges of a PCI machine, as its configuration space shows them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace viommu::test {

struct DmarScope {
  unsigned type = 0;
  unsigned id = 0;
  unsigned start_bus = 0;
  std::vector<std::pair<unsigned, unsigned>> path;

  friend bool operator==(const DmarScope&, const DmarScope&) = default;
};

/// One structure, whatever its type: those that its figure does not have are 0.
struct DmarStructure {
  unsigned type = 0;
  unsigned flags = 0;
  unsigned size = 0;
  unsigned segment = 0;
  std::uint64_t base = 0;
  std::uint64_t limit = 0;
  unsigned domain = 0;
  unsigned number = 0;
  std::string name;
  std::vector<DmarScope> scopes;

  friend bool operator==(const DmarStructure&, const DmarStructure&) = default;
};

struct DmarTable {
  unsigned revision = 0;
  std::string oem_id;
  std::string oem_table_id;
  std::uint32_t oem_revision = 0;
  std::string creator_id;
  std::uint32_t creator_revision = 0;
  unsigned width_byte = 0;
  unsigned flags = 0;
  std::vector<DmarStructure> structures;

  [[nodiscard]] std::vector<DmarStructure> of_type(unsigned type) const;
};

/// The table, or what is wrong with its bytes: length, checksum, a reserved byte that is not 0, the order of types ...
struct DmarRead {
  DmarTable table;
  std::string problem;  ///< empty: nothing
};
[[nodiscard]] DmarRead read_dmar(std::span<const std::byte> bytes);

/// The bridges of one segment, by source id, with the buses behind them.
using PciBridges = std::map<unsigned, std::pair<unsigned, unsigned>>;

/// The units of a table with every way followed.
class DmarRouting {
 public:
  DmarRouting(const DmarTable& table, const std::map<unsigned, PciBridges>& segments);

  struct Answer {
    std::optional<std::size_t> unit;  ///< by its place among the units
    bool ambiguous = false;           ///< a later unit claims the same
  };
  /// @param type  1 for a PCI device, else the type of scope that it must be listed by
  [[nodiscard]] Answer unit_of(unsigned segment, unsigned source, unsigned type) const;
  /// Ways that lead nowhere.
  [[nodiscard]] std::size_t lost() const { return lost_; }

 private:
  struct Device {
    unsigned type = 0;
    unsigned source = 0;
    unsigned first_bus = 1;  ///< behind a bridge; first above last: none
    unsigned last_bus = 0;
  };
  struct Unit {
    unsigned segment = 0;
    bool includes_all = false;
    std::vector<Device> devices;
  };
  std::vector<Unit> units_;
  std::size_t lost_ = 0;
};

}  // namespace viommu::test
