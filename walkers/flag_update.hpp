// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// How often a walk tries to set accessed and dirty flags against a guest that changes the same entries.
// The specification names no number: VT-d, "Accessed, Extended Accessed, and Dirty Flags".
#pragma once

namespace viommu::walkers {

inline constexpr unsigned exchanges_per_entry = 4;  ///< loads of an entry too: each exchange is based on its own
inline constexpr unsigned walk_passes = 2;  ///< from the top: when all exchanges on an entry were lost, once more

}  // namespace viommu::walkers
