// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What becomes of an interrupt request, read from the specification a second time: plain bits, plain numbers, one step
// after another, nothing shared with the library.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace viommu::test::interrupt_oracle {

/// The unit as far as interrupts are concerned.
struct Unit {
  unsigned haw = 48;
  bool posting = false;            ///< CAP.PI
  bool extended_required = false;  ///< ECAP.EIMER
  bool required = false;           ///< ECAP.IRREQ
  std::uint64_t table = 0;         ///< IRTA_REG as SIRTP took it
  bool remapping = false;          ///< GSTS.IRES
  bool compatibility = false;      ///< GSTS.CFIS
};

struct Request {
  std::uint16_t source = 0;
  bool any_source = false;
  std::uint64_t address = 0;
  std::uint32_t data = 0;
};

struct Answer {
  enum Kind : std::uint8_t { fault, unchanged, remapped, posted };
  Kind kind = fault;
  unsigned reason = 0;
  bool suppressed = false;  ///< the fault, by FPD
  std::uint32_t index = 0;
  std::uint64_t address = 0;
  std::uint32_t data = 0;
  std::uint64_t descriptor = 0;
  unsigned vector = 0;
  bool urgent = false;

  friend bool operator==(const Answer&, const Answer&) = default;
};

using Load = std::function<std::optional<std::uint64_t>(std::uint64_t gpa)>;

[[nodiscard]] Answer judge(const Unit& unit, const Load& load, const Request& request);

}  // namespace viommu::test::interrupt_oracle
