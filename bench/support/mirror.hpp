// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a consumer would hold: a word for each page, so that what it was told can be compared with the guest's tables.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/support/replay_guest.hpp"

namespace viommu::bench {

class Mirror {
 public:
  /// @param pages  of the guest's that are told of, from its first address on
  explicit Mirror(std::uint32_t pages) : pages_(pages) {}

  void map(std::uint64_t iova, std::uint64_t last, std::uint64_t gpa, std::uint8_t rights) {
    const std::uint64_t first = index(iova);
    if (iova < ReplayGuest::first_iova || index(last) >= pages_.size()) return complain("a page outside");
    for (std::uint64_t page = first; page <= index(last); ++page) {
      if (pages_[page] != 0) return complain("a page told twice");
      pages_[page] = (gpa + ((page - first) << 12)) | rights;
    }
    ++maps_;
  }
  void unmap(std::uint64_t iova, std::uint64_t last) {
    if (last < ReplayGuest::first_iova) return;
    const std::uint64_t first = index(std::max(iova, ReplayGuest::first_iova));
    for (std::uint64_t page = first; page < pages_.size() && page <= index(last); ++page) pages_[page] = 0;
    ++unmaps_;
  }

  /// What is wrong; empty when all pages are as the domain's tables have them. `told` is set to the number of events
  /// since it was asked before.
  [[nodiscard]] std::string compare(const ReplayGuest& guest, std::uint32_t domain, std::uint64_t& told) {
    constexpr std::uint64_t frame_and_rights = ((std::uint64_t{1} << 52) - 1) & ~std::uint64_t{0xffc};
    told = maps_ + unmaps_;
    maps_ = unmaps_ = 0;
    for (std::uint32_t page = 0; page < pages_.size() && wrong_.empty(); ++page)
      if (pages_[page] != (guest.entry(domain, page) & frame_and_rights)) complain("a page that is mapped otherwise");
    return wrong_;
  }

 private:
  static std::uint64_t index(std::uint64_t iova) noexcept { return (iova - ReplayGuest::first_iova) >> 12; }
  void complain(const char* what) {
    if (wrong_.empty()) wrong_ = what;
  }

  std::vector<std::uint64_t> pages_;
  std::uint64_t maps_ = 0;
  std::uint64_t unmaps_ = 0;
  std::string wrong_;
};

}  // namespace viommu::bench
