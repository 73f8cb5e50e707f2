// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One mirror and its consumer, with nothing around them.
#pragma once

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>

#include "engine/consumer/mirror.hpp"
#include "tests/consumer/kept_world.hpp"
#include "tests/consumer/model_sink.hpp"
#include "tests/support/mirror_model.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::consumer {

/// Memory that begins as none, and one mirror of it.
class Alone {
 public:
  explicit Alone(std::uint32_t declares = 0)
      : model{declares},
        sink_{sink_of(model)},
        mirror{{}, sink_, {0x0300}, declared_by(declares), {{0}, {~std::uint64_t{0}}}, 1000} {}
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
  ~Alone() {
    if (const RegionMap* const map = memory_.map(); map != nullptr) RegionMap::destroy({}, map);
  }

  void add(std::uint64_t first, std::uint64_t bytes, std::byte* host = nullptr) {
    put(memory_.map(), {{{first}, {first + (bytes - 1)}}, host});
  }
  /// In place of all that was.
  void replace(std::uint64_t first, std::uint64_t bytes) { put(nullptr, {{{first}, {first + (bytes - 1)}}}); }
  void aim(const Content& content) {
    mirror.aim(content);
    finish();
  }

  test::MirrorModel model;
  test::FakeStore store;  ///< of mappings, by domain

 private:
  void put(const RegionMap* beside, const Region& region) {
    RegionMap* const next = RegionMap::create({}, 4);
    REQUIRE(next != nullptr);
    next->assign_with(beside, region);
    if (const RegionMap* const before = memory_.publish(next); before != nullptr) RegionMap::destroy({}, before);
    mirror.regions_changed();
    finish();
  }
  void finish() {
    const core::MappingStore kept = store.functions();
    const Tables tables{memory_, format_, *walkers::select_kernels(), &kept};
    while (mirror.busy()) {  // ends: little is mapped
      Slice slice{16};
      mirror.advance(tables, slice);
    }
  }

  Sink sink_;
  GuestMemory memory_{{}};
  walkers::SecondStage format_{walkers::SecondStageRules{.host_address_width = 48}};

 public:
  Mirror mirror;
};

}  // namespace viommu::consumer
