// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The queue of messages on its own: what does not fit waits, and nothing is lost or changes its order.
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/vhost/outbox.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t threads = 8;
constexpr std::uint64_t rounds = 20;
constexpr std::uint64_t batch = vhost::Outbox::most_at_once;

struct Received {
  std::vector<viommu_vhost_message> messages;
  std::atomic<std::uint64_t> posting{0};  ///< threads that have come to their first post()
};

/// Messages that say whose they are, and which.
std::array<viommu_vhost_message, batch> messages_of(std::uint64_t thread, std::uint64_t round) {
  std::array<viommu_vhost_message, batch> messages{};
  for (std::uint64_t i = 0; i < batch; ++i) {
    messages[i].iova = thread;
    messages[i].last = round * batch + i;
  }
  return messages;
}

}  // namespace

TEST_CASE("a queue that is full makes those wait who post, and loses nothing", "[vhost][outbox][B103]") {
  Received received;
  vhost::Outbox outbox{[](void* opaque, const viommu_vhost_message& message) {
                         auto& self = *static_cast<Received*>(opaque);
                         // While the first is out the others come, more than there is room for.
                         while (self.posting.load(std::memory_order_acquire) != threads) std::this_thread::yield();
                         if (self.messages.size() % batch == 0)
                           for (int i = 0; i < 50; ++i) std::this_thread::yield();
                         self.messages.push_back(message);
                       },
                       &received};
  std::vector<std::thread> posters;
  posters.reserve(threads);
  for (std::uint64_t thread = 0; thread < threads; ++thread)
    posters.emplace_back([&, thread] {
      received.posting.fetch_add(1, std::memory_order_release);
      for (std::uint64_t round = 0; round < rounds; ++round) {
        const auto messages = messages_of(thread, round);
        if (round % 2 == 0)
          static_cast<void>(outbox.post(outbox.stamp(), {}, messages));
        else
          outbox.withdraw({thread, thread}, messages);
      }
    });
  for (std::thread& poster : posters) poster.join();
  REQUIRE(received.messages.size() == threads * rounds * batch);
  std::array<std::uint64_t, threads> next{};
  std::uint64_t parted = 0;
  for (std::size_t i = 0; i < received.messages.size(); ++i) {
    const viommu_vhost_message& message = received.messages[i];
    REQUIRE(message.iova < threads);
    REQUIRE(message.last == next[message.iova]++);
    // What is posted together stays together.
    if (message.last % batch != 0 && received.messages[i - 1].iova != message.iova) ++parted;
  }
  CHECK(parted == 0);
}

}  // namespace viommu::test
