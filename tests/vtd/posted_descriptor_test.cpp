// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Posting into a descriptor: what is written, who is notified, and what a guest can do about it meanwhile.
#include "engine/vtd/posted_descriptor.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <thread>
#include <vector>

namespace viommu::vtd {
namespace {

constexpr Gpa page_gpa{0x7000};
constexpr Gpa descriptor{page_gpa.value + 64};
constexpr std::size_t first_word = 8;
constexpr std::uint64_t outstanding = 1;
constexpr std::uint64_t suppress = 2;
constexpr std::uint64_t to_vector_f2 = 0xF2 << 16;
constexpr std::uint64_t to_processor_5 = std::uint64_t{5} << 40;  // EIME clear

/// A page of guest memory with a descriptor in it.
class Page {
 public:
  explicit Page(bool read_only = false) {
    RegionMap* const map = RegionMap::create({}, 1);
    map->assign_with(nullptr,
                     {{page_gpa, {page_gpa.value + 0xFFF}}, reinterpret_cast<std::byte*>(words_.data()), read_only});
    memory_.publish(map);
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;
  ~Page() { RegionMap::destroy({}, memory_.publish(nullptr)); }

  [[nodiscard]] std::atomic_ref<std::uint64_t> word(std::size_t index) {
    return std::atomic_ref{words_[first_word + index]};
  }
  [[nodiscard]] std::atomic_ref<std::uint64_t> control() { return word(4); }
  [[nodiscard]] const GuestMemory& memory() const { return memory_; }
  Posted post(std::uint8_t vector, bool urgent = false, bool extended = false) {
    return vtd::post(memory_, {descriptor, vector, urgent, extended});
  }
  [[nodiscard]] std::vector<std::uint64_t> all() const { return {words_.begin(), words_.end()}; }

 private:
  alignas(4096) std::array<std::uint64_t, 512> words_{};
  GuestMemory memory_{{}};
};

/// Memory behind the host's functions: a guest may act before each exchange.
struct Behind {
  std::array<std::uint64_t, 8> words{};
  std::function<void()> before_exchange;
  unsigned exchanges = 0;
  unsigned reads = 0;
  bool writable = true;

  [[nodiscard]] MemoryCallbacks functions() {
    MemoryCallbacks callbacks;
    callbacks.opaque = this;
    callbacks.read = [](void* self, std::uint64_t gpa, void* data, std::uint64_t size) -> std::int32_t {
      auto& host = *static_cast<Behind*>(self);
      ++host.reads;
      std::memcpy(data, &host.words.at((gpa - descriptor.value) / 8), size);
      return 0;
    };
    callbacks.compare_exchange = [](void* self, std::uint64_t gpa, std::uint64_t* expected,
                                    std::uint64_t desired) -> std::int32_t {
      auto& host = *static_cast<Behind*>(self);
      if (!host.writable) return -1;
      ++host.exchanges;
      if (host.before_exchange) host.before_exchange();
      std::uint64_t& word = host.words.at((gpa - descriptor.value) / 8);
      if (word == *expected) {
        word = desired;
        return 0;
      }
      *expected = word;
      return 1;
    };
    return callbacks;
  }
};

}  // namespace

TEST_CASE("a post sets its vector's bit and ON, and nothing else", "[vtd][Posted Interrupt Descriptor][normative]") {
  for (unsigned vector = 0; vector < 256; ++vector) {
    CAPTURE(vector);
    Page page;
    page.control() = to_vector_f2 | to_processor_5;
    std::vector<std::uint64_t> expected = page.all();
    expected[first_word + vector / 64] |= std::uint64_t{1} << vector % 64;
    expected[first_word + 4] |= outstanding;
    const Posted posted = page.post(static_cast<std::uint8_t>(vector));
    CHECK(posted.fault == FaultReason::none);
    CHECK(posted.notify);
    CHECK(posted.vector == 0xF2);
    CHECK(posted.destination == 5);
    CHECK(page.all() == expected);
  }
}

TEST_CASE("ON, SN and URG decide whether a post notifies", "[vtd][Posted Interrupt Descriptor][normative]") {
  struct Row {
    std::uint64_t control;
    bool urgent;
    bool notify;
    std::uint64_t after;
  };
  for (const Row& row :
       {Row{0, false, true, outstanding}, Row{0, true, true, outstanding}, Row{suppress, false, false, suppress},
        Row{suppress, true, true, suppress | outstanding}, Row{outstanding, false, false, outstanding},
        Row{outstanding, true, false, outstanding}, Row{outstanding | suppress, false, false, outstanding | suppress},
        Row{outstanding | suppress, true, false, outstanding | suppress}}) {
    CAPTURE(row.control, row.urgent);
    Page page;
    page.control() = row.control;
    CHECK(page.post(7, row.urgent).notify == row.notify);
    CHECK(page.control() == row.after);
    CHECK(page.word(0) == 1 << 7);
    CHECK_FALSE(page.post(7, row.urgent).notify == (row.notify || !row.urgent || row.control != suppress));
  }
}

TEST_CASE("the notification goes to NDST, 8 bits of it where EIME is clear",
          "[vtd][Posted Interrupt Descriptor][normative]") {
  Page page;
  page.control() = std::uint64_t{0xA5} << 40 | 0x12 << 16;
  CHECK(page.post(1).destination == 0xA5);
  page.control() = std::uint64_t{0x1234'5678} << 32 | 0x12 << 16;
  const Posted posted = page.post(1, false, true);
  CHECK(posted.destination == 0x1234'5678);
  CHECK(posted.vector == 0x12);
}

TEST_CASE("each reserved bit of a posted descriptor is a fault, and nothing is written",
          "[vtd][Posted Interrupt Descriptor][normative]") {
  const bool extended = GENERATE(false, true);
  for (unsigned bit = 0; bit < 512; ++bit) {
    CAPTURE(extended, bit);
    Page page;
    page.word(bit / 64) = std::uint64_t{1} << bit % 64;
    const std::vector<std::uint64_t> before = page.all();
    const bool pir_on_sn_nv = bit < 258 || (bit >= 272 && bit < 280);
    const bool destination = extended ? bit >= 288 && bit < 320 : bit >= 296 && bit < 304;
    const Posted posted = page.post(3, false, extended);
    if (pir_on_sn_nv || destination) {
      CHECK(posted.fault == FaultReason::none);
    } else {
      CHECK(posted.fault == FaultReason::posted_descriptor_reserved);
      CHECK(page.all() == before);
    }
  }
}

TEST_CASE("a posted descriptor that cannot be read or written is a fault", "[vtd][Posted Interrupt Descriptor]") {
  constexpr FaultReason inaccessible = FaultReason::posted_descriptor_unreadable;
  SECTION("no memory") {
    const GuestMemory none{{}};
    CHECK(post(none, {descriptor, 3, false, false}).fault == inaccessible);
  }
  SECTION("read-only memory") {
    Page page{true};
    const std::vector<std::uint64_t> before = page.all();
    CHECK(page.post(3).fault == inaccessible);
    CHECK(page.all() == before);
  }
  SECTION("memory behind functions that refuse") {
    Behind behind;
    behind.writable = false;
    const GuestMemory memory{behind.functions()};
    CHECK(post(memory, {descriptor, 3, false, false}).fault == inaccessible);
    CHECK(behind.words == std::array<std::uint64_t, 8>{});
  }
}

TEST_CASE("a guest that rewrites a posted descriptor all the time costs a bounded number of exchanges",
          "[vtd][Posted Interrupt Descriptor][P5]") {
  Behind behind;
  const GuestMemory memory{behind.functions()};
  SECTION("the vector's word: 64 losses, then the fault") {
    behind.before_exchange = [&] { behind.words[0] += 0x100; };
    CHECK(post(memory, {descriptor, 3, false, false}).fault == FaultReason::posted_descriptor_unreadable);
    CHECK(behind.exchanges == 64);
  }
  SECTION("the control word: then ON is set without a condition, which behind functions is bounded as well") {
    behind.before_exchange = [&] { behind.words[4] += 0x1'0000; };
    CHECK(post(memory, {descriptor, 3, false, false}).fault == FaultReason::posted_descriptor_unreadable);
    CHECK(behind.words[0] == 8);
    CHECK(behind.exchanges == 1 + 4 + 64);
  }
  SECTION("five losses of the control word are made up for, and the last word decides") {
    unsigned losses = 0;
    behind.before_exchange = [&] {
      if (behind.exchanges > 1 && losses++ < 5) behind.words[4] += 0x1'0000;
    };
    const Posted posted = post(memory, {descriptor, 3, false, false});
    CHECK(posted.fault == FaultReason::none);
    CHECK(posted.notify);
    CHECK(posted.vector == 5);
    CHECK(behind.words[4] == (0x5'0000 | outstanding));
  }
  SECTION("another post that sets ON in between has notified") {
    behind.before_exchange = [&] {
      if (behind.exchanges == 2) behind.words[4] |= outstanding;
    };
    CHECK_FALSE(post(memory, {descriptor, 3, false, false}).notify);
    CHECK(behind.exchanges == 2);
  }
  SECTION("a guest that sets SN in between is not notified") {
    behind.before_exchange = [&] {
      if (behind.exchanges == 2) behind.words[4] |= suppress;
    };
    CHECK_FALSE(post(memory, {descriptor, 3, false, false}).notify);
    CHECK(behind.words[4] == suppress);
    CHECK(behind.words[0] == 8);
  }
}

TEST_CASE("beside a guest that takes what was posted no vector is lost and none comes twice",
          "[vtd][Posted Interrupt Descriptor][threads]") {
  constexpr unsigned posters = 3;
  constexpr unsigned rounds = 2000;
  constexpr unsigned patience = 20'000'000;  // rounds of a wait before the test has failed
  Page page;
  std::atomic<unsigned> notifications{0};
  std::array<std::atomic<unsigned>, posters> taken{};
  std::atomic<bool> stuck{false};
  const auto wait_until = [&](auto condition) {
    for (unsigned round = 0; !condition(); ++round) {
      if (round == patience || stuck) {
        stuck = true;
        return;
      }
      std::this_thread::yield();
    }
  };
  const auto vector_of = [](unsigned poster) { return static_cast<std::uint8_t>(60 + 7 * poster); };  // two words
  std::vector<std::thread> threads;
  threads.reserve(posters);
  for (unsigned poster = 0; poster < posters; ++poster) {
    threads.emplace_back([&, poster] {
      for (unsigned round = 0; round < rounds && !stuck; ++round) {
        if (page.post(vector_of(poster)).notify) ++notifications;
        wait_until([&] { return taken[poster] > round; });
      }
    });
  }
  unsigned handled = 0;
  unsigned total = 0;
  while (total < posters * rounds && !stuck) {
    wait_until([&] { return notifications > handled; });  // looks at PIR for nothing but a notification
    if (stuck) break;
    ++handled;
    page.control().fetch_and(~outstanding);
    std::array<std::uint64_t, 4> pending{};
    for (std::size_t i = 0; i < pending.size(); ++i) pending[i] = page.word(i).exchange(0);
    for (unsigned poster = 0; poster < posters; ++poster) {
      const unsigned vector = vector_of(poster);
      if ((pending[vector / 64] >> vector % 64 & 1) == 0) continue;
      ++taken[poster];
      ++total;
    }
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(stuck);
  for (const std::atomic<unsigned>& count : taken) CHECK(count == rounds);
}

}  // namespace viommu::vtd
