// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A message that lies in memory shared with the back end, which changes it while it is read: each word counts once.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/vhost/layouts.hpp"
#include "tests/capi/machine.hpp"
#include "tests/vhost/back_end.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t asked = 0x1000;             // bytes that a right message is about
constexpr std::uint64_t wraps = ~std::uint64_t{0};  // and a wrong one

/// A message in a page that two have mapped, each for himself.
class SharedMessage {
 public:
  SharedMessage() {
    const int file = memfd_create("message", 0);
    REQUIRE(file >= 0);
    REQUIRE(ftruncate(file, page_bytes) == 0);
    for (void*& view : views_) {
      view = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      REQUIRE(view != MAP_FAILED);
    }
    close(file);
  }
  SharedMessage(const SharedMessage&) = delete;
  SharedMessage& operator=(const SharedMessage&) = delete;
  ~SharedMessage() {
    for (void* const view : views_) munmap(view, page_bytes);
  }

  [[nodiscard]] const void* bytes() const { return views_[0]; }
  void put(const vhost::IotlbMessage& message) { std::memcpy(views_[1], &message, sizeof message); }
  void put_size(std::uint64_t size) {
    auto* const word = static_cast<std::byte*>(views_[1]) + offsetof(vhost::IotlbMessage, size);
    std::atomic_ref{*reinterpret_cast<std::uint64_t*>(word)}.store(size, std::memory_order_relaxed);
  }

 private:
  static constexpr std::size_t page_bytes = 4096;
  std::array<void*, 2> views_{};
};

/// Says one size and the other in turn, until it goes.
class Changing {
 public:
  Changing(SharedMessage& message, std::uint64_t iova) {
    vhost::IotlbMessage right{};
    right.iova = iova;
    right.size = asked;
    right.perm = VIOMMU_READ;
    right.type = VIOMMU_VHOST_MISS;
    message.put(right);
    thread_ = std::thread{[this, &message] {
      for (std::uint64_t turn = 0; !stop_.load(std::memory_order_relaxed); ++turn)
        message.put_size(turn % 2 == 0 ? wraps : asked);
    }};
  }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;
  ~Changing() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Calls `read()` until it has taken each of the two messages often. @return false where it never does
template <class Read>
[[nodiscard]] bool read_both(unsigned enough, const Read& read) {
  constexpr unsigned most_reads = 50'000'000;
  unsigned right = 0;
  unsigned wrong = 0;
  for (unsigned i = 0; i < most_reads && (right < enough || wrong < enough); ++i) {
    (read() ? right : wrong) += 1;
    if (i % 4096 == 0) std::this_thread::yield();
  }
  return right >= enough && wrong >= enough;
}

}  // namespace

TEST_CASE("a message that changes while it is read is one that was there, whole", "[vhost][messages][B106][P4]") {
  constexpr std::uint64_t iova = 0x7000;
  SharedMessage shared;
  const Changing changing{shared, iova};
  std::uint64_t neither = 0;
  CHECK(read_both(20'000, [&] {
    viommu_vhost_message read{};
    const viommu_result result =
        viommu_vhost_message_read(VIOMMU_VHOST_PLAIN, shared.bytes(), sizeof(vhost::IotlbMessage), &read);
    const bool taken = result == VIOMMU_OK && read.iova == iova && read.last == iova + asked - 1;
    const bool refused = result == VIOMMU_E_RANGE && read.last == 0;
    if (!taken && !refused) ++neither;
    return taken;
  }));
  CHECK(neither == 0);
}

TEST_CASE("a miss that changes while it is answered is answered for what was looked at", "[vhost][feeder][B106][P4]") {
  capi::Machine machine;
  machine.map(capi::base_iova, 0x5000);
  machine.invalidate_all();
  BackEnd back_end{capi::device};
  back_end.options.memory = nullptr;
  back_end.begin(machine.engine.get());
  back_end.take_sent();
  SharedMessage shared;
  const Changing changing{shared, capi::base_iova};
  const Sent answer = updated(capi::base_iova, capi::base_iova + asked - 1, 0x5000);
  std::uint64_t neither = 0;
  CHECK(read_both(20'000, [&] {
    const viommu_result result =
        viommu_vhost_feeder_message(back_end.feeder, shared.bytes(), sizeof(vhost::IotlbMessage));
    const std::vector<Sent> sent = back_end.take_sent();
    const bool answered = result == VIOMMU_OK && sent.size() == 1 && sent[0] == answer;
    const bool refused = result == VIOMMU_E_RANGE && sent.empty();
    if (!answered && !refused) ++neither;
    return answered;
  }));
  CHECK(neither == 0);
}

}  // namespace viommu::test
