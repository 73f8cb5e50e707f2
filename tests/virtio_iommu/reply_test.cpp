// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests and statuses through a queue: what the guest finds in its buffer, and the used length that it is told.
#include "engine/virtio_iommu/reply.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "engine/virtio_iommu/properties.hpp"
#include "engine/virtqueue/queue.hpp"
#include "tests/support/random.hpp"
#include "tests/virtqueue/split_driver.hpp"

namespace viommu::virtio_iommu {
namespace {

using test::Piece;
using test::Reach;
using test::RingGuest;
using test::SplitDriver;

constexpr std::uint64_t data = RingGuest::first + 0x40000;
constexpr std::uint64_t table = RingGuest::first + 0x30000;
constexpr std::uint32_t probe_size = 512;
constexpr Features all{0x1'0000'0074};
constexpr std::byte untouched{0xEE};

using Bytes = std::vector<std::byte>;

/// A device that answers each request that is well-formed with OK.
class Device {
 public:
  explicit Device(Reach reach = Reach::mapped) : guest{reach}, driver_{guest, 256, false} {
    REQUIRE(queue_.enable(driver_.config()) == virtqueue::ConfigProblem::none);
  }

  struct Answer {
    std::uint32_t used_bytes;
    Bytes bytes;  ///< of the writable part
  };
  /// @param cuts  split at every byte, backwards in memory
  Answer ask(const Bytes& request, std::size_t writable, bool cuts = false) {
    std::vector<Piece> pieces;
    const auto piece = [&](std::uint64_t gpa, std::size_t size, bool written) {
      if (!cuts) return pieces.push_back({gpa, static_cast<std::uint32_t>(size), written});
      for (std::size_t i = 0; i < size; ++i) pieces.push_back({gpa + 2 * (size - i), 1, written});
    };
    piece(data, request.size(), false);
    piece(data + 0x1000, writable, true);
    std::size_t next = 0;
    for (const Piece& p : pieces)
      for (std::uint32_t b = 0; b < p.length; ++b) guest.put(p.gpa + b, p.device_writes ? untouched : request[next++]);
    driver_.add(test::indirect(pieces, table));
    driver_.publish();
    const virtqueue::Memory memory{guest.memory()};
    const auto result =
        queue_.run(memory, chain_, 1, [&](const virtqueue::Chain& chain) { return serve(memory, chain); });
    REQUIRE(result.stop == virtqueue::RunResult::Stop::more);
    const auto used = driver_.collect();
    REQUIRE(used.size() == 1);
    Answer answer{used[0].length, {}};
    for (const Piece& p : pieces)
      for (std::uint32_t b = 0; b < p.length; ++b)
        if (p.device_writes) answer.bytes.push_back(guest.get<std::byte>(p.gpa + b));
    return answer;
  }

  RingGuest guest;
  Request last;
  std::vector<ReservedRegion> regions{{{{0xFEE00000}, {0xFEEFFFFF}}, ReservedMemoryKind::msi}};

 private:
  virtqueue::Served serve(const virtqueue::Memory& memory, const virtqueue::Chain& chain) {
    RequestBytes bytes{};
    const auto decoded = read_request(memory, chain, all, probe_size, bytes);
    REQUIRE(decoded);
    last = decoded->request;
    if (std::holds_alternative<Unanswered>(last)) return {};
    Status status = Status::ok;
    if (const auto* refused = std::get_if<Refused>(&last)) status = refused->status;
    std::array<std::byte, probe_size> properties{};
    std::span<const std::byte> told;
    if (std::holds_alternative<Probe>(last)) {
      if (!encode_properties(regions, properties)) status = Status::invalid;
      told = properties;
    }
    const auto used = write_reply(memory, chain, decoded->tail_offset, status, told);
    REQUIRE(used);
    return {virtqueue::Served::Outcome::done, *used};
  }

  SplitDriver driver_;
  virtqueue::Queue queue_;
  virtqueue::Chain chain_;
};

Bytes request_of(std::uint8_t type, std::size_t size) {
  Bytes bytes(size);
  if (size != 0) bytes[0] = std::byte{type};
  return bytes;
}
Bytes tail(Status status) { return {static_cast<std::byte>(status), std::byte{0}, std::byte{0}, std::byte{0}}; }
Bytes joined(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST_CASE("a status is four bytes with zeros behind it, and all of them are used", "[virtio-iommu][requests][VIO-4]") {
  for (const bool cuts : {false, true})
    for (const Reach reach : {Reach::mapped, Reach::callbacks}) {
      Device device{reach};
      for (const auto& [type, size] : {std::pair<std::uint8_t, std::size_t>{1, 20}, {2, 20}, {3, 36}, {4, 28}}) {
        const auto answer = device.ask(request_of(type, size), 4, cuts);
        CHECK(answer.used_bytes == 4);
        CHECK(answer.bytes == tail(Status::ok));
        CHECK(device.last.index() == type - 1u);
      }
    }
}

TEST_CASE("what was not written of a buffer is as it was", "[virtio-iommu][requests][S3.18][B85][B87][B94]") {
  Device device;
  const auto unwritten = [&](const Bytes& request, std::size_t writable) {
    const auto answer = device.ask(request, writable);
    CHECK(answer.used_bytes == 0);
    CHECK(std::ranges::count(answer.bytes, untouched) == static_cast<std::ptrdiff_t>(writable));
  };
  device.ask(request_of(5, 72), probe_size + 4);
  unwritten(request_of(5, 1), probe_size + 4);  // after a good one
  unwritten(request_of(1, 20), 2);
  unwritten(request_of(0x7F, 72), 516);
  unwritten(request_of(9, 4), 4);
  unwritten({}, 4);
  const auto longer = device.ask(request_of(1, 20), 9);
  CHECK(longer.used_bytes == 4);
  CHECK(longer.bytes == joined(tail(Status::ok), Bytes(5, untouched)));
  const auto short_one = device.ask(request_of(3, 35), 9);
  CHECK(short_one.used_bytes == 4);
  CHECK(short_one.bytes == joined(tail(Status::invalid), Bytes(5, untouched)));
}

TEST_CASE("a PROBE writes its properties, then the status, wherever the driver cut the buffer",
          "[virtio-iommu][PROBE][A26]") {
  Device device;
  Bytes properties(probe_size);
  REQUIRE(encode_properties(device.regions, properties));
  for (const bool cuts : {false, true}) {
    const auto answer = device.ask(request_of(5, 72), probe_size + 4, cuts);
    CHECK(answer.used_bytes == probe_size + 4);
    CHECK(answer.bytes == joined(properties, tail(Status::ok)));
  }
}

TEST_CASE("a PROBE that fails is 512 zeros and its status", "[virtio-iommu][PROBE][A26][S2.16]") {
  Device device;
  device.regions.assign(22, {{{0}, {1}}, ReservedMemoryKind::reserved});
  const auto too_many = device.ask(request_of(5, 72), probe_size + 4);
  CHECK(too_many.used_bytes == probe_size + 4);
  CHECK(too_many.bytes == joined(Bytes(probe_size), tail(Status::invalid)));
  for (const std::size_t room : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{511}}) {
    const auto small = device.ask(request_of(5, 72), room + 4);
    CHECK(small.used_bytes == room + 4);
    CHECK(small.bytes == joined(Bytes(room), tail(Status::invalid)));
  }
  const auto large = device.ask(request_of(5, 40), probe_size + 6);
  CHECK(large.used_bytes == probe_size + 4);
  CHECK(large.bytes == joined(joined(Bytes(probe_size), tail(Status::invalid)), Bytes(2, untouched)));
}

TEST_CASE("requests of any bytes and sizes are answered or left, and no byte beside them is written",
          "[virtio-iommu][requests][property][B98]") {
  test::Random random{11};
  Device device;
  device.ask(request_of(1, 20), 4);  // its ring, and where a cut request would be, are written now
  for (int round = 0; round < 2000; ++round) {
    Bytes request(random.below(80));
    for (std::byte& byte : request) byte = static_cast<std::byte>(random.chance(1, 2) ? 0 : random.next() & 0xFF);
    if (!request.empty()) request[0] = static_cast<std::byte>(random.below(8));
    const std::size_t writable = random.chance(1, 4) ? random.below(600) : random.below(9);
    device.guest.put(data + 0x1000 + writable, std::uint64_t{0x5A5A5A5A5A5A5A5A});
    const auto answer = device.ask(request, writable);
    REQUIRE(device.guest.get<std::uint64_t>(data + 0x1000 + writable) == 0x5A5A5A5A5A5A5A5A);
    REQUIRE(answer.used_bytes <= writable);
    REQUIRE((answer.used_bytes == 0) == std::holds_alternative<Unanswered>(device.last));
    for (std::size_t i = 0; i < writable; ++i) REQUIRE((answer.bytes[i] == untouched) == (i >= answer.used_bytes));
  }
}

TEST_CASE("memory that has gone since a request was taken is told", "[virtio-iommu][requests][B98]") {
  RingGuest guest{Reach::mapped};
  virtqueue::Chain chain;
  const virtqueue::Memory before{guest.memory()};
  REQUIRE(chain.add(before, {{data}, 20, false, false, false, 0}) == virtqueue::Problem::none);
  REQUIRE(chain.add(before, {{data + 0x100}, 4, false, true, false, 0}) == virtqueue::Problem::none);
  guest.remove();
  const virtqueue::Memory memory{guest.memory()};
  RequestBytes bytes{};
  CHECK_FALSE(read_request(memory, chain, all, probe_size, bytes).has_value());
  CHECK_FALSE(write_reply(memory, chain, 0, Status::ok).has_value());
}

}  // namespace
}  // namespace viommu::virtio_iommu
