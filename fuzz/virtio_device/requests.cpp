// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests through the ring and as bytes, and what happens while they wait.
#include "fuzz/virtio_device/world.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/support/require.hpp"
#include "tests/virtqueue/ring_buffer.hpp"

namespace viommu::fuzz::virtio_device {

bool World::is_change_of_mappings(const VirtioRequest& request) {
  return request.bytes.size() >= 4 && (request.bytes[0] == 3 || request.bytes[0] == 4);
}

Keeper* World::arm(std::uint8_t how, std::uint8_t which) {
  if ((how & 4) == 0 || side_->keepers.empty()) return nullptr;
  Keeper& keeper = *side_->keepers[which % side_->keepers.size()];
  keeper.fails_of = (which & 0x80) != 0 ? VIOMMU_EVENT_UNMAP : VIOMMU_EVENT_MAP;
  keeper.fails_after = which >> 4 & 3;
  keeper.failed = false;
  return &keeper;
}

bool World::disarm(Keeper* keeper) {
  if (keeper == nullptr) return false;
  keeper->fails_of = 0;
  return std::exchange(keeper->failed, false);
}

void World::request(unsigned operation, std::uint8_t endpoint, Input& record) {
  const std::uint32_t id = endpoint_ids[endpoint % endpoint_ids.size()];
  const std::uint32_t probe_size = model_.setting().probe_size;
  VirtioRequest made = take_virtio_request(operation, id, probe_size, record);
  Input after = record;  // behind the cuts
  static_cast<void>(after.take<std::uint32_t>());
  const auto how = after.take<std::uint8_t>();
  const auto which = after.take<std::uint8_t>();
  const auto source = after.take<std::uint8_t>();
  near_ = {made.first, made.last};
  if ((how & 1) != 0 || !serves()) {
    finish_burst();
    return ask(made, how, which, source);
  }
  const std::uint64_t at = buffers_at + buffer_bytes * burst_.size();
  const VirtioPlace place{at, at + 0x2000 + margin, at + 0x1000};
  const test::RingBuffer buffer = cut_virtio_request(made, place, requests_.may_indirect(), record);
  if (buffer.slots() == 0) return;
  if (requests_.room() < buffer.slots()) {
    finish_burst();
    return;
  }
  lay_out(made, at);
  const std::uint32_t ring_id = requests_.add(buffer);
  burst_.push_back({std::move(made), at, ring_id});
  if ((how & 2) != 0 && burst_.size() < most_in_a_burst) return;
  send_burst(how, which, source);
}

void World::lay_out(const VirtioRequest& made, std::uint64_t at) {
  const auto writable = guest_.requests.span(at + 0x2000, made.writable + 2 * margin);
  std::ranges::fill(writable, std::byte{untouched});
  if (!made.bytes.empty())
    std::memcpy(guest_.requests.span(at, made.bytes.size()).data(), made.bytes.data(), made.bytes.size());
}

void World::finish_burst() {
  if (!burst_.empty()) send_burst(0, 0, 0);
}

void World::send_burst(std::uint8_t how, std::uint8_t which, std::uint8_t source) {
  const bool alone = burst_.size() == 1;
  Keeper* const keeper = alone && is_change_of_mappings(burst_[0].request) ? arm(how, which) : nullptr;
  const Model before = model_;
  begin_guard(how, source);
  requests_.publish();
  notify(VIOMMU_VIRTIO_REQUESTS);
  side_->work();
  // While some wait for whoever uses what goes, the VMM does something else.
  std::size_t done = 0;
  collect(done, keeper, before);
  if (done < burst_.size()) {
    require(!uses_.empty(), "a request that nobody is in the way of is not answered");
    if (meanwhile(how, source)) return;
    const std::uint64_t wakes = side_->wakes;
    end_uses();
    require(side_->wakes != wakes, "a request waits, and nobody was woken when it could go on");
    side_->work();
    collect(done, keeper, before);
  }
  require_equal(done, burst_.size(), "requests that came back");
  burst_.clear();
  end_guard();
  static_cast<void>(disarm(keeper));
}

void World::collect(std::size_t& done, Keeper* keeper, const Model& before) {
  bool due = false;
  const std::uint64_t notified = side_->notified[VIOMMU_VIRTIO_REQUESTS];
  const std::vector<test::UsedBuffer> used = requests_.collect(due);
  if (due) require(notified != notified_, "a notification that the driver did not get");
  notified_ = notified;
  for (const test::UsedBuffer& one : used) {
    require(done < burst_.size(), "a buffer that was not sent");
    const Sent& sent = burst_[done++];
    require_equal(one.id, sent.id, "the buffer that came back");
    const Bytes right = serve(sent.request, keeper, before);
    require_equal(one.length, right.size(), "used length");
    const std::span<std::byte> all = guest_.requests.span(sent.at + 0x2000, sent.request.writable + 2 * margin);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t at = i - margin;
      const std::uint8_t expected = i >= margin && at < right.size() ? right[at] : untouched;
      require_equal(std::to_integer<std::uint8_t>(all[i]), expected, "a byte of a reply");
    }
  }
}

Bytes World::serve(const VirtioRequest& request, Keeper* keeper, const Model& before) {
  Bytes right = model_.request(request.bytes, request.writable);
  if (keeper != nullptr && keeper->failed && right.size() == 4 && right[0] == 0) {
    model_ = before;
    right[0] = 3;
  }
  check_uses();
  return right;
}

void World::ask(const VirtioRequest& made, std::uint8_t how, std::uint8_t which, std::uint8_t source) {
  Keeper* const keeper = is_change_of_mappings(made) ? arm(how, which) : nullptr;
  const Model before = model_;
  begin_guard(how, source);
  Bytes reply(made.writable, untouched);
  std::uint32_t used = 0;
  const auto try_once = [&] {
    const viommu_result result =
        viommu_virtio_request(side_->engine, made.bytes.data(), made.bytes.size(), reply.data(), reply.size(), &used);
    require(result == VIOMMU_OK || result == VIOMMU_E_BUSY, "what becomes of a request");
    return result == VIOMMU_OK;
  };
  bool done = false;
  for (unsigned turn = 0; turn < 100 && !done; ++turn) {
    done = try_once();
    if (!done) side_->work();
  }
  if (!done) {
    require(!uses_.empty(), "a request that nobody is in the way of is not answered");
    require_equal(used, 0, "used length of a request that waits");
    for (const std::uint8_t byte : reply) require_equal(byte, untouched, "the reply to a request that waits");
    if (meanwhile(how, source)) return static_cast<void>(disarm(keeper));
    const std::uint64_t wakes = side_->wakes;
    end_uses();
    require(side_->wakes != wakes, "a request waits, and nobody was woken when it could go on");
    for (unsigned turn = 0; turn < 100 && !done; ++turn) {
      done = try_once();
      if (!done) side_->work();
    }
    require(done, "a request that is never answered");
  }
  const Bytes right = serve(made, keeper, before);
  require_equal(used, right.size(), "used length");
  for (std::size_t i = 0; i < reply.size(); ++i)
    require_equal(reply[i], i < right.size() ? right[i] : untouched, "a byte of a reply");
  end_guard();
  static_cast<void>(disarm(keeper));
}

bool World::meanwhile(std::uint8_t how, std::uint8_t source) {
  switch (how >> 4 & 7) {
    case 1: require(side_->save().empty(), "a device is saved whose request is not answered"); return false;
    case 2: {  // another one has to wait
      const Bytes other{3, 0, 0, 0};
      Bytes reply(4);
      std::uint32_t used = 0;
      require(viommu_virtio_request(side_->engine, other.data(), other.size(), reply.data(), reply.size(), &used) ==
                  (model_.setting().map_unmap ? VIOMMU_E_BUSY : VIOMMU_OK),
              "a request beside one that waits");
      return false;
    }
    case 3:
      static_cast<void>(viommu_drop_caches(side_->engine));
      notify(source & 1);
      return false;
    case 4:  // all of it goes
      forget_waiting();
      reset((source & 1) != 0);
      return true;
    default: return false;
  }
}

void World::forget_waiting() {
  burst_.clear();
  for (const auto& keeper : side_->keepers) static_cast<void>(disarm(keeper.get()));
  end_uses();
}

}  // namespace viommu::fuzz::virtio_device
