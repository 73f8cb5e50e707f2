// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The difference between the sections of guest memory that a consumer holds and those that it is to hold.
#pragma once

#include <span>

#include "engine/consumer/backing.hpp"
#include "engine/consumer/delivery.hpp"
#include "engine/consumer/mirror.hpp"

namespace viommu::consumer {

class SectionSync {
 public:
  SectionSync(Mirror& mirror, const Tables& tables, Delivery& delivery) noexcept
      : mirror_{mirror}, delivery_{delivery}, backing_{tables.memory.map(), mirror.declared()} {}

  /// All of them: there are as many as there are regions. Nothing else waits to be told. @return false when the host
  /// has no memory, which is only where something is wanted: then nothing has changed
  [[nodiscard]] bool run() noexcept;

 private:
  [[nodiscard]] std::span<const Region> wanted() const noexcept;
  [[nodiscard]] bool collect(std::span<const Region> regions, Sections& now) const noexcept;
  void withdraw() noexcept;
  void apply_failures(Sections& now) noexcept;
  /// @param room  for so many more, at least two for a cut
  static void cut(Sections& now, IovaRange range, std::size_t& room) noexcept;
  static void put_back(Sections& now, const Event& event, std::size_t& room) noexcept;

  Mirror& mirror_;
  Delivery& delivery_;
  Backing backing_;
};

}  // namespace viommu::consumer
