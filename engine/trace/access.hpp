// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Fields that several kinds of line share: PASID, rights, kinds of request.
#pragma once

#include <cstdint>
#include <string_view>

namespace viommu::trace {

/// What stands for "no PASID": `-` on a T line, ffffffff on an S line.
inline constexpr std::uint32_t no_pasid = 0xffffffff;

/// The rights on a line: `r`, `w`, `rw` or `-`.
struct Perm {
  bool read = false;
  bool write = false;
  friend constexpr bool operator==(Perm, Perm) = default;
};

/// ACC of a T line: rights, and the kinds of request that stand behind a `+`.
struct Access {
  Perm rights{};
  bool translation_request = false;  // t
  bool translated = false;           // x
  bool supervisor = false;           // p
  bool zero_length = false;          // z
  bool execute = false;              // e
  friend constexpr bool operator==(Access, Access) = default;
  [[nodiscard]] constexpr bool plain() const noexcept {
    return !translation_request && !translated && !supervisor && !zero_length && !execute;
  }
};

/// How the format spells it; the parser and the writer share the spelling.
[[nodiscard]] std::string_view spelling(Perm perm) noexcept;

}  // namespace viommu::trace
