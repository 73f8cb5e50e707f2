// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Groups of page requests whose last was queued and not answered yet.
#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include "engine/base/ids.hpp"

namespace viommu::vtd {

struct PageGroup {
  SourceId source;
  std::optional<Pasid> pasid;
  unsigned number = 0;  ///< PRGI
};

/// In no order.
struct PageGroups {
  static constexpr std::size_t most = 512;

  std::size_t count = 0;
  std::array<PageGroup, most> groups{};  ///< the first `count`
};

}  // namespace viommu::vtd
