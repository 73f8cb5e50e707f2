// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The miss path of the peers that are only a lookup structure: contexts read once, tables read through a plain pointer.
// It checks no reserved bit and no right, so it costs less than any walk that is correct.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <vector>

namespace viommu::bench {

/// What a page translates to. `size_code` 0: 4 KiB, 1: 2 MiB, 2: 1 GiB.
struct PeerLeaf {
  std::uint64_t page = 0;
  std::uint64_t mask = 0;
  std::uint8_t rights = 0;
  std::uint8_t size_code = 0;
};

struct PeerContext {
  std::uint64_t table = 0;  // 0: no such device
  std::uint16_t domain = 0;
};

[[nodiscard]] constexpr unsigned size_shift(unsigned size_code) noexcept { return 12 + 9 * size_code; }

class TableWalk {
 public:
  static constexpr unsigned size_codes = 3;

  /// Reads the context entries of bus 0; four-level tables.
  TableWalk(std::span<const std::byte> ram, std::uint64_t root_table) : ram_{ram} {
    const std::uint64_t contexts = load(root_table) & frame_bits;
    for (std::size_t source = 0; source < contexts_.size(); ++source) {
      const std::uint64_t low = load(contexts + 16 * source);
      if ((low & 1) == 0) continue;
      const auto domain = static_cast<std::uint16_t>(load(contexts + 16 * source + 8) >> 8);
      contexts_[source] = {low & frame_bits, domain};
      sources_of_domain_[domain].push_back(static_cast<std::uint16_t>(source));
    }
  }

  [[nodiscard]] const PeerContext& context(std::uint16_t source) const noexcept { return contexts_[source & 0xff]; }
  [[nodiscard]] const std::array<PeerContext, 256>& contexts() const noexcept { return contexts_; }

  [[nodiscard]] const std::vector<std::uint16_t>& sources(std::uint16_t domain) const {
    return sources_of_domain_.at(domain);
  }

  [[nodiscard]] std::optional<PeerLeaf> walk(std::uint64_t table, std::uint64_t iova) const noexcept {
    for (unsigned level = 4;; --level) {  // ends: level 1 holds leaves only
      const std::uint64_t entry = load(table + 8 * (iova >> (12 + 9 * (level - 1)) & 0x1ff));
      if ((entry & 3) == 0) return std::nullopt;
      if (level == 1 || (level <= 3 && (entry & 0x80) != 0)) {
        const std::uint64_t mask = (std::uint64_t{1} << size_shift(level - 1)) - 1;
        return PeerLeaf{entry & frame_bits & ~mask, mask, static_cast<std::uint8_t>(entry & 3),
                        static_cast<std::uint8_t>(level - 1)};
      }
      table = entry & frame_bits;
    }
  }

 private:
  static constexpr std::uint64_t frame_bits = 0x000ffffffffff000;

  [[nodiscard]] std::uint64_t load(std::uint64_t gpa) const noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, &ram_[gpa], sizeof value);
    return value;
  }

  std::span<const std::byte> ram_;
  std::array<PeerContext, 256> contexts_{};
  std::map<std::uint16_t, std::vector<std::uint16_t>> sources_of_domain_;
};

}  // namespace viommu::bench
