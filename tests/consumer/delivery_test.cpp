// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which events become one on their way to a consumer, and what one becomes that it does not take as it is.
#include "engine/consumer/delivery.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace viommu::consumer {
namespace {

constexpr std::uint8_t both = 3;
constexpr std::uint8_t read = 1;

/// A consumer that keeps what it is told.
struct Listener {
  std::vector<Event> events;
  Sink sink;
  Told told;

  Listener() {
    sink.opaque = this;
    sink.events = [](const Sink& self, Event* all, std::uint32_t count) {
      auto& kept = static_cast<Listener*>(self.opaque)->events;
      kept.insert(kept.end(), all, all + count);
    };
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() = default;
};

[[nodiscard]] IovaRange pages(std::uint64_t first, std::uint64_t count) {
  return {{first << 12}, {((first + count) << 12) - 1}};
}
[[nodiscard]] Gpa page(std::uint64_t number) { return {number << 12}; }

}  // namespace

TEST_CASE("neighbours that go on alike in all are one event", "[consumer][delivery]") {
  std::array<std::byte, 0x4000> memory{};
  Listener consumer;
  {
    Delivery delivery{consumer.sink, {}, true, false, consumer.told};
    delivery.map(pages(0, 1), page(8), nullptr, both);
    delivery.map(pages(1, 1), page(9), nullptr, both);
    CHECK(delivery.extend_map(pages(2, 2), page(10), nullptr, both));
    // Each differs in one thing from what would go on.
    delivery.unmap(pages(4, 1), page(12).value, both);
    delivery.map(pages(5, 1), page(13), nullptr, both);
    delivery.map(pages(6, 1), page(14), nullptr, read);
    delivery.map(pages(7, 1), page(16), nullptr, read);
    delivery.map(pages(8, 1), page(17), memory.data(), read);
    delivery.map(pages(9, 1), page(18), memory.data() + 0x1000, read);
    delivery.map(pages(10, 1), page(19), memory.data() + 0x3000, read);
    delivery.map(pages(13, 1), page(21), nullptr, read);
    delivery.map(pages(14, 1), page(22), nullptr, read);  // no half of anything
  }
  std::vector<IovaRange> ranges;
  ranges.reserve(consumer.events.size());
  for (const Event& event : consumer.events) ranges.push_back({{event.iova}, {event.last}});
  CHECK(ranges == std::vector{pages(0, 4), pages(4, 1), pages(5, 1), pages(6, 1), pages(7, 1), pages(8, 2),
                              pages(10, 1), pages(13, 2)});
  CHECK(consumer.told.maps == 7);
  CHECK(consumer.told.unmaps == 1);
}

TEST_CASE("pieces of an event lie where they lay in it", "[consumer][delivery]") {
  std::array<std::byte, 0x6000> memory{};
  std::byte* const host = GENERATE(true, false) ? memory.data() : nullptr;
  CAPTURE(host);
  Listener consumer;
  {
    Delivery delivery{consumer.sink, {}, false, true, consumer.told};
    delivery.map(pages(1, 6), page(0x91), host, both);
    delivery.unmap(pages(1, 2), no_gpa);
  }
  struct Part {
    std::uint64_t first;
    std::uint64_t count;
  };
  constexpr std::array<Part, 4> parts{{{1, 1}, {2, 2}, {4, 2}, {6, 1}}};
  REQUIRE(consumer.events.size() == 6);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Event& event = consumer.events[i];
    CHECK(IovaRange{{event.iova}, {event.last}} == pages(parts.at(i).first, parts.at(i).count));
    CHECK(event.gpa == page(0x90 + parts.at(i).first).value);
    CHECK(event.hva == (host == nullptr ? nullptr : host + ((parts.at(i).first - 1) << 12)));
  }
  for (const std::size_t i : {4U, 5U}) {
    CHECK(consumer.events[i].kind == EventKind::unmap);
    CHECK(consumer.events[i].gpa == no_gpa);
    CHECK(consumer.events[i].hva == nullptr);
  }
}

}  // namespace viommu::consumer
