// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A clock of guards with its readers, scanned when the test says so.
#pragma once

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <span>

#include "caches/epoch.hpp"

namespace viommu::test {

/// Every reader is in use from the beginning.
template <std::size_t readers>
class TestEpochs {
 public:
  explicit TestEpochs(caches::Drain drain = caches::Drain::automatic) {
    REQUIRE(epochs.reset({}, {words, {}}, drain));
    epochs.use(words.back());
  }
  caches::Epochs* operator->() { return &epochs; }
  void enter(std::size_t reader) { epochs.enter(words[reader]); }
  void leave(std::size_t reader) { epochs.leave(words[reader]); }
  /// As the worker does: what was retired so far, has it passed?
  bool scan() { return epochs.scan(epochs.issued()); }

  std::array<caches::GuardWord, readers> words;
  caches::Epochs epochs;
};

}  // namespace viommu::test
