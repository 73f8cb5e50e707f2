// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu's engine as its VMM has it: what it plugs and maps, who keeps mappings of it, and what it is told.
#pragma once

#include <viommu/viommu_virtio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "fuzz/models/consumer_view.hpp"
#include "fuzz/support/require.hpp"
#include "fuzz/support/state_bytes.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::fuzz {

/// What a host's IOMMU says of a device.
struct HostFacts {
  std::uint64_t page_sizes = 0;
  std::vector<viommu_range> ranges;
  bool tells_ranges = true;

  [[nodiscard]] viommu_host_facts functions() {
    viommu_host_facts made{};
    made.size = sizeof made;
    made.opaque = this;
    made.backend = VIOMMU_BACKEND_IOMMUFD;
    made.page_sizes = [](void* self, std::uint64_t* mask) -> std::int32_t {
      *mask = static_cast<HostFacts*>(self)->page_sizes;
      return 0;
    };
    if (!tells_ranges) return made;
    made.iova_ranges = [](void* self, viommu_range* into, std::uint32_t capacity,
                          std::uint32_t* count) -> std::int32_t {
      const auto& known = static_cast<HostFacts*>(self)->ranges;
      *count = static_cast<std::uint32_t>(known.size());
      std::copy_n(known.begin(), std::min<std::size_t>(capacity, known.size()), into);
      return 0;
    };
    return made;
  }
};

/// A device as it is plugged.
struct PluggedDevice {
  std::uint16_t source = 0;
  std::uint16_t requester = 0;  ///< its alias, where that is another
  std::uint32_t endpoint = 0;   ///< by which the guest knows it
  bool bypassed = false;
  std::optional<HostFacts> facts;
  std::vector<viommu_range> reserved;
};

/// Whoever keeps mappings of one endpoint, or answers that he has got until he is told that they went.
class Keeper {
 public:
  Keeper(std::uint16_t of, std::uint32_t declares, std::uint64_t first, std::uint64_t last, bool maps)
      : source{of}, model{declares, first, last} {
    if (!maps) model.consumer.notify = VIOMMU_EVENT_UNMAP;
    model.fails = [this](const viommu_event& event) { return sees(event); };
  }
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  std::uint16_t source;
  test::MirrorModel model;
  /// The event of this kind that fails: after so many, and once.
  std::uint32_t fails_of = 0;
  std::uint32_t fails_after = 0;
  bool failed = false;

  [[nodiscard]] bool maps() const { return (model.consumer.notify & VIOMMU_EVENT_MAP) != 0; }

  struct Answer {
    std::uint64_t iova = 0;
    std::uint64_t gpa = 0;
  };
  /// Of one that does not hear of what comes.
  std::vector<Answer> answers;

 private:
  bool sees(const viommu_event& event) {
    if (event.kind == fails_of && !failed && fails_after-- == 0) {
      failed = true;
      return true;
    }
    if (event.kind == VIOMMU_EVENT_UNMAP)
      std::erase_if(answers, [&](const Answer& one) { return one.iova >= event.iova && one.iova <= event.last; });
    return false;
  }
};

class VirtioSide {
 public:
  explicit VirtioSide(const viommu_virtio_options& options) {
    viommu_host host{};
    host.size = sizeof host;
    host.opaque = this;
    host.wake = [](void* self) { ++of(self).wakes; };
    host.region_gone = [](void* self, std::uint64_t) { ++of(self).regions_gone; };
    host.log = [](void* self, std::int32_t, const char* text) {
      require(std::strlen(text) < 4096, "a line of the log");
      ++of(self).lines;
    };
    host.virtio_notify = [](void* self, std::uint32_t queue) {
      require(queue < 2, "a notification of a queue that there is not");
      ++of(self).notified.at(queue);
    };
    host.virtio_needs_reset = [](void* self) { ++of(self).needs_reset; };
    host.virtio_event = [](void* self, const void* event, std::uint32_t size) -> std::int32_t {
      if (of(self).event_room == 0) return -1;
      --of(self).event_room;
      const auto* const bytes = static_cast<const std::uint8_t*>(event);
      of(self).events.emplace_back(bytes, bytes + size);
      return 0;
    };
    std::array<char, 160> text{};
    if (viommu_create_virtio(&options, &host, text.data(), text.size(), &engine) != VIOMMU_OK) fail(text.data());
    require(viommu_reader_create(engine, &reader) == VIOMMU_OK, "a reader that is not made");
  }
  VirtioSide(const VirtioSide&) = delete;
  VirtioSide& operator=(const VirtioSide&) = delete;
  ~VirtioSide() {
    require(viommu_reader_destroy(reader) == VIOMMU_OK, "a reader that cannot go");
    require(viommu_destroy(engine) == VIOMMU_OK, "an engine that nobody uses cannot go");
  }

  viommu_engine* engine = nullptr;
  viommu_reader* reader = nullptr;
  // What it was told.
  std::uint64_t wakes = 0;
  std::uint64_t regions_gone = 0;
  std::uint64_t lines = 0;
  std::array<std::uint64_t, 2> notified{};
  std::uint64_t needs_reset = 0;
  unsigned event_room = 0;
  std::vector<std::vector<std::uint8_t>> events;

  test::SpaceHost spaces;
  std::vector<std::unique_ptr<Keeper>> keepers;

  // ---- The machine ----
  viommu_result add_region(std::uint64_t gpa, std::uint64_t length, void* hva, std::uint64_t flags) const {
    const viommu_region region{gpa, length, hva, flags};
    return viommu_region_add(engine, &region);
  }
  viommu_result plug(PluggedDevice& what, viommu_refusal& refusal) const {
    viommu_device device{};
    device.size = sizeof device;
    device.source = what.source;
    if (what.requester != what.source) {
      device.flags |= VIOMMU_DEVICE_HAS_ALIAS;
      device.alias = what.requester;
    }
    if (what.endpoint != what.requester) {
      device.flags |= VIOMMU_DEVICE_ENDPOINT;
      device.endpoint = what.endpoint;
    }
    if (what.bypassed) device.flags |= VIOMMU_DEVICE_BYPASSED;
    viommu_host_facts functions{};
    if (what.facts) {
      functions = what.facts->functions();
      device.kind = VIOMMU_DEVICE_HOST;
      device.facts = &functions;
    }
    device.reserved_count = static_cast<std::uint32_t>(what.reserved.size());
    device.reserved_memory = what.reserved.data();
    refusal = {};
    refusal.size = sizeof refusal;
    return viommu_device_add(engine, &device, &refusal);
  }
  /// @param by  the id that the subscription is asked for by
  /// @return whether it was taken
  bool subscribe(std::unique_ptr<Keeper> keeper, std::uint16_t by, bool shares) {
    if (shares && keeper->maps()) keeper->model.share(spaces);
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    const viommu_result result = viommu_subscribe(engine, by, &keeper->model.consumer, &refusal, &keeper->model.id);
    require(result == VIOMMU_OK || result == VIOMMU_E_LIMIT || result == VIOMMU_E_REFUSED,
            "what becomes of a consumer");
    if (result != VIOMMU_OK) return false;
    require(viommu_replay(engine, keeper->model.id) == VIOMMU_OK, "a replay");
    keepers.push_back(std::move(keeper));
    return true;
  }
  void unsubscribe(std::size_t number) {
    require(viommu_unsubscribe(engine, keepers[number]->model.id) == VIOMMU_OK, "the end of a subscription");
    keepers.erase(keepers.begin() + static_cast<std::ptrdiff_t>(number));
  }
  void forget_keepers_of(std::uint16_t source) {
    std::erase_if(keepers, [&](const auto& keeper) { return keeper->source == source; });
  }

  /// Until there is nothing to do. @return whether something waits
  bool work() const {
    viommu_progress progress{};
    for (unsigned turn = 0; turn < 10'000; ++turn) {
      require(viommu_process(engine, 0, &progress) == VIOMMU_OK, "work that is refused");
      if (progress.state != VIOMMU_PROCESS_MORE) return progress.state == VIOMMU_PROCESS_WAIT;
    }
    fail("work that does not end");
  }

  // ---- Questions ----
  [[nodiscard]] std::uint64_t config(std::uint64_t offset, std::uint32_t size) const {
    std::uint64_t value = 0;
    require(viommu_virtio_config_read(engine, offset, size, &value) == VIOMMU_OK, "a read of the configuration");
    return value;
  }
  [[nodiscard]] bool broken() const {
    std::uint32_t is = 0;
    require(viommu_virtio_broken(engine, &is) == VIOMMU_OK, "whether the device is broken");
    return is != 0;
  }

  // ---- Migration ----
  /// Empty where something is in the way.
  [[nodiscard]] State save() const {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    std::size_t length = 0;
    const viommu_result asked = viommu_save(engine, nullptr, 0, &length, &refusal);
    if (asked == VIOMMU_E_REFUSED) {
      require(refusal.code == VIOMMU_REFUSED_BUSY && refusal.field[0] != 0, "why a device is not saved");
      return {};
    }
    require(asked == VIOMMU_E_RANGE, "the length of a state");
    State state(length);
    require(viommu_save(engine, state.data(), length, &length, &refusal) == VIOMMU_OK && length == state.size(),
            "a quiet device that is not saved");
    return state;
  }
  /// @return whether it was taken
  bool load(const State& state, bool may_fail) const {
    viommu_refusal refusal{};
    refusal.size = sizeof refusal;
    const viommu_result result = viommu_load(engine, state.data(), state.size(), &refusal);
    require(result == VIOMMU_OK || result == VIOMMU_E_REFUSED, "what becomes of a state");
    require((result == VIOMMU_OK) == (refusal.code == VIOMMU_REFUSED_NOTHING), "a refusal without a reason");
    if (may_fail || result == VIOMMU_OK) return result == VIOMMU_OK;
    std::fprintf(stderr, "%s: %s\n", refusal.field, refusal.text);
    fail("a saved state that is refused");
  }

 private:
  static VirtioSide& of(void* self) { return *static_cast<VirtioSide*>(self); }
};

}  // namespace viommu::fuzz
