// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// IOTLB messages as bytes: the kernel's, written out by hand, and what must not be believed.
#include <viommu/viommu_vhost.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/vhost/layouts.hpp"
#include "tests/support/message_iotlb.hpp"
#include "tests/support/random.hpp"

// The header of rings that it includes has functions that are no C++, and this leaves them out.
#define VIRTIO_RING_NO_LEGACY
#if __has_include(<linux/vhost_types.h>)
#include <linux/vhost_types.h>
#endif

namespace viommu::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t plain_bytes = 32;
constexpr std::size_t long_bytes = 72;

/// The inner struct as the kernel's header has it.
struct Raw {
  std::uint64_t iova = 0x1000;
  std::uint64_t size = 0x2000;
  std::uint64_t uaddr = 0x7F00'0000'0000;
  std::uint8_t perm = 3;
  std::uint8_t type = VIOMMU_VHOST_UPDATE;
};

void put(Bytes& bytes, std::size_t at, std::uint64_t value, std::size_t size = 8) {
  for (std::size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));  // little-endian
}
Bytes bytes_of(const Raw& raw, std::uint32_t form = VIOMMU_VHOST_PLAIN, std::uint32_t asid = 0) {
  Bytes bytes(form == VIOMMU_VHOST_PLAIN ? plain_bytes : long_bytes);
  const std::size_t inner = form == VIOMMU_VHOST_PLAIN ? 0 : 8;
  if (inner != 0) {
    put(bytes, 0, form, 4);
    put(bytes, 4, asid, 4);
  }
  put(bytes, inner, raw.iova);
  put(bytes, inner + 8, raw.size);
  put(bytes, inner + 16, raw.uaddr);
  bytes[inner + 24] = raw.perm;
  bytes[inner + 25] = raw.type;
  return bytes;
}
viommu_result read(const Bytes& bytes, viommu_vhost_message& message, std::uint32_t form = VIOMMU_VHOST_PLAIN) {
  return viommu_vhost_message_read(form, bytes.data(), bytes.size(), &message);
}
viommu_result read(const Raw& raw) {
  viommu_vhost_message message{};
  return read(bytes_of(raw), message);
}
Bytes written(const viommu_vhost_message& message, std::uint32_t form = VIOMMU_VHOST_PLAIN) {
  Bytes bytes(VIOMMU_VHOST_MESSAGE_BYTES, 0xEE);
  std::size_t length = 0;
  REQUIRE(viommu_vhost_message_write(form, &message, bytes.data(), bytes.size(), &length) == VIOMMU_OK);
  bytes.resize(length);
  return bytes;
}

}  // namespace

TEST_CASE("IOTLB messages lie where the kernel's header has them", "[vhost][messages]") {
#ifdef VHOST_IOTLB_BATCH_END
  CHECK(sizeof(vhost::IotlbMessage) == sizeof(vhost_iotlb_msg));
  CHECK(offsetof(vhost::IotlbMessage, iova) == offsetof(vhost_iotlb_msg, iova));
  CHECK(offsetof(vhost::IotlbMessage, size) == offsetof(vhost_iotlb_msg, size));
  CHECK(offsetof(vhost::IotlbMessage, uaddr) == offsetof(vhost_iotlb_msg, uaddr));
  CHECK(offsetof(vhost::IotlbMessage, perm) == offsetof(vhost_iotlb_msg, perm));
  CHECK(offsetof(vhost::IotlbMessage, type) == offsetof(vhost_iotlb_msg, type));
  CHECK(sizeof(vhost::Envelope) == sizeof(vhost_msg));
  CHECK(sizeof(vhost::Envelope) == sizeof(vhost_msg_v2));
  CHECK(offsetof(vhost::Envelope, form) == offsetof(vhost_msg_v2, type));
  CHECK(offsetof(vhost::Envelope, iotlb) == offsetof(vhost_msg, iotlb));
  CHECK(offsetof(vhost::Envelope, iotlb) == offsetof(vhost_msg_v2, iotlb));
  CHECK(VIOMMU_VHOST_V1 == VHOST_IOTLB_MSG);
  CHECK(VIOMMU_VHOST_V2 == VHOST_IOTLB_MSG_V2);
  CHECK(VIOMMU_VHOST_MISS == VHOST_IOTLB_MISS);
  CHECK(VIOMMU_VHOST_UPDATE == VHOST_IOTLB_UPDATE);
  CHECK(VIOMMU_VHOST_INVALIDATE == VHOST_IOTLB_INVALIDATE);
  CHECK(VIOMMU_VHOST_ACCESS_FAIL == VHOST_IOTLB_ACCESS_FAIL);
  CHECK(VIOMMU_VHOST_BATCH_BEGIN == VHOST_IOTLB_BATCH_BEGIN);
  CHECK(VIOMMU_VHOST_BATCH_END == VHOST_IOTLB_BATCH_END);
  CHECK(VIOMMU_READ == VHOST_ACCESS_RO);
  CHECK(VIOMMU_WRITE == VHOST_ACCESS_WO);
#else
  WARN("no <linux/vhost_types.h> here that knows them");
#endif
}

TEST_CASE("a message goes into bytes and comes out as it was, in each form", "[vhost][messages]") {
  const auto form = static_cast<std::uint32_t>(GENERATE(0, 1, 2));
  CAPTURE(form);
  const std::uint32_t asid = form == VIOMMU_VHOST_V2 ? 7 : 0;
  viommu_vhost_message message{0x1000, 0x2FFF, 0x7F00'0000'0000, asid, 3, VIOMMU_VHOST_UPDATE, 0};
  CHECK(written(message, form) == bytes_of({}, form, asid));
  message = {0x1000, 0x2FFF, 0, asid, 2, VIOMMU_VHOST_ACCESS_FAIL, 0};
  CHECK(written(message, form) == bytes_of({0x1000, 0x2000, 0, 2, VIOMMU_VHOST_ACCESS_FAIL}, form, asid));
  message = {top_address, top_address, 0, asid, 0, VIOMMU_VHOST_INVALIDATE, 0};
  CHECK(written(message, form) == bytes_of({top_address, 1, 0, 0, VIOMMU_VHOST_INVALIDATE}, form, asid));
  Random random{form + 1};
  for (int i = 0; i < 1000; ++i) {
    message = {};
    message.type = static_cast<std::uint8_t>(1 + random.below(4));
    message.iova = random.next() >> random.below(64);
    message.last = message.iova + random.below(top_address - message.iova);
    if (message.type == VIOMMU_VHOST_UPDATE) message.uaddr = random.below(~(message.last - message.iova));
    if (message.type != VIOMMU_VHOST_INVALIDATE) message.access = static_cast<std::uint8_t>(1 + random.below(3));
    message.asid = asid;
    viommu_vhost_message again{};
    REQUIRE(read(written(message, form), again, form) == VIOMMU_OK);
    REQUIRE(std::memcmp(&message, &again, sizeof message) == 0);
  }
}

TEST_CASE("bytes that make no sense are refused, and nothing comes out of them",
          "[vhost][messages][B107][B112][SEC-1]") {
  viommu_vhost_message untouched{};
  std::memset(&untouched, 0xAB, sizeof untouched);
  viommu_vhost_message message = untouched;
  SECTION("another length") {
    for (std::size_t length = 0; length < 80; ++length) {
      const Bytes bytes(length);
      for (std::uint32_t form = 0; form < 4; ++form) {
        const bool right = (form == 0 && length == plain_bytes) || ((form == 1 || form == 2) && length == long_bytes);
        CHECK((read(bytes, message, form) == VIOMMU_E_ARGUMENT) == !right);
      }
    }
    CHECK(viommu_vhost_message_read(0, nullptr, plain_bytes, &message) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_vhost_message_read(0, &untouched, plain_bytes, nullptr) == VIOMMU_E_ARGUMENT);
  }
  SECTION("another form's number, and unknown types") {
    CHECK(read(bytes_of({}, VIOMMU_VHOST_V1), message, VIOMMU_VHOST_V2) == VIOMMU_E_UNSUPPORTED);
    CHECK(read(bytes_of({}, VIOMMU_VHOST_V2), message, VIOMMU_VHOST_V1) == VIOMMU_E_UNSUPPORTED);
    for (unsigned type = 0; type < 256; ++type)
      for (const std::uint32_t form : {0U, 1U, 2U}) {
        Raw raw;
        raw.type = static_cast<std::uint8_t>(type);
        viommu_vhost_message known{};
        const bool is_known = (type >= 1 && type <= 4) || (form == 2 && type >= 5 && type <= 6);
        CHECK(read(bytes_of(raw, form), known, form) == (is_known ? VIOMMU_OK : VIOMMU_E_UNSUPPORTED));
      }
  }
  SECTION("ranges and user addresses that wrap") {
    CHECK(read({top_address, 2, 0, 3, VIOMMU_VHOST_UPDATE}) == VIOMMU_E_RANGE);
    CHECK(read({top_address, 2, 0, 3, VIOMMU_VHOST_INVALIDATE}) == VIOMMU_E_RANGE);
    CHECK(read({2, top_address, 0, 3, VIOMMU_VHOST_MISS}) == VIOMMU_E_RANGE);
    CHECK(read({top_address - 0xFFF, 0x1000, 0, 3, VIOMMU_VHOST_INVALIDATE}) == VIOMMU_OK);
    CHECK(read({0, 0x1000, top_address - 0xFFE, 3, VIOMMU_VHOST_UPDATE}) == VIOMMU_E_RANGE);
    CHECK(read({0, 0x1000, top_address - 0xFFF, 3, VIOMMU_VHOST_UPDATE}) == VIOMMU_OK);
    CHECK(read({0, 1, top_address, 3, VIOMMU_VHOST_UPDATE}) == VIOMMU_E_RANGE);  // of a failed mmap()
  }
  SECTION("no rights, and more than there are") {
    for (const int type : {VIOMMU_VHOST_MISS, VIOMMU_VHOST_UPDATE, VIOMMU_VHOST_ACCESS_FAIL})
      for (const int perm : {0, 4, 7, 255})
        CHECK(read({0, 1, 0, static_cast<std::uint8_t>(perm), static_cast<std::uint8_t>(type)}) == VIOMMU_E_ARGUMENT);
    CHECK(read({0, 1, 0, 255, VIOMMU_VHOST_INVALIDATE}) == VIOMMU_OK);  // has none
  }
  CHECK(std::memcmp(&message, &untouched, sizeof message) == 0);
}

TEST_CASE("a size of 0 is one byte of a miss, all of an invalidation from 0, and else an error",
          "[vhost][messages][B108]") {
  viommu_vhost_message message{};
  REQUIRE(read(bytes_of({0x1234, 0, 0, 1, VIOMMU_VHOST_MISS}), message) == VIOMMU_OK);
  CHECK((message.iova == 0x1234 && message.last == 0x1234));
  REQUIRE(read(bytes_of({0x1234, 0, 0, 1, VIOMMU_VHOST_ACCESS_FAIL}), message) == VIOMMU_OK);
  CHECK(message.last == 0x1234);
  REQUIRE(read(bytes_of({0, 0, 0, 0, VIOMMU_VHOST_INVALIDATE}), message) == VIOMMU_OK);
  CHECK((message.iova == 0 && message.last == top_address));
  CHECK(read({0x1000, 0, 0, 0, VIOMMU_VHOST_INVALIDATE}) == VIOMMU_E_ARGUMENT);
  CHECK(read({0, 0, 0, 3, VIOMMU_VHOST_UPDATE}) == VIOMMU_E_ARGUMENT);
}

TEST_CASE("a message that a form cannot say is not written", "[vhost][messages][B108]") {
  Bytes bytes(VIOMMU_VHOST_MESSAGE_BYTES, 0xEE);
  std::size_t length = 99;
  const auto write = [&](const viommu_vhost_message& message, std::uint32_t form = VIOMMU_VHOST_PLAIN,
                         std::size_t capacity = VIOMMU_VHOST_MESSAGE_BYTES) {
    return viommu_vhost_message_write(form, &message, bytes.data(), capacity, &length);
  };
  CHECK(write({0, top_address, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}) == VIOMMU_E_RANGE);  // two of them can
  CHECK(write({2, 1, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}) == VIOMMU_E_RANGE);
  CHECK(write({0, 0xFFF, top_address, 0, 3, VIOMMU_VHOST_UPDATE, 0}) == VIOMMU_E_RANGE);
  CHECK(write({0, 0xFFF, 0, 0, 0, VIOMMU_VHOST_UPDATE, 0}) == VIOMMU_E_ARGUMENT);
  CHECK(write({0, 0xFFF, 0, 1, 3, VIOMMU_VHOST_UPDATE, 0}) == VIOMMU_E_UNSUPPORTED);
  CHECK(write({0, 0, 0, 0, 0, VIOMMU_VHOST_BATCH_BEGIN, 0}, VIOMMU_VHOST_V1) == VIOMMU_E_UNSUPPORTED);
  CHECK(write({0, 0, 0, 0, 0, 7, 0}, VIOMMU_VHOST_V2) == VIOMMU_E_UNSUPPORTED);
  CHECK(write({0, 0, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 1}) == VIOMMU_E_ARGUMENT);
  CHECK(write({0, 0, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}, 3) == VIOMMU_E_ARGUMENT);
  CHECK(write({0, 0, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}, 0, plain_bytes - 1) == VIOMMU_E_RANGE);
  CHECK(write({0, 0, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}, 2, long_bytes - 1) == VIOMMU_E_RANGE);
  CHECK(length == 99);
  CHECK(bytes == Bytes(VIOMMU_VHOST_MESSAGE_BYTES, 0xEE));
  CHECK(write({5, 6, 7, 8, 0, VIOMMU_VHOST_BATCH_END, 0}, VIOMMU_VHOST_V2) == VIOMMU_OK);
  CHECK(bytes == bytes_of({0, 0, 0, 0, VIOMMU_VHOST_BATCH_END}, VIOMMU_VHOST_V2, 8));
}

TEST_CASE("messages do to a back end what they say", "[vhost][messages][VMM-2]") {
  MessageIotlb iotlb;
  const auto apply = [&](const viommu_vhost_message& message, std::uint64_t* ticket = nullptr) {
    return viommu_vhost_apply(iotlb.iotlb, &message, ticket);
  };
  std::uint64_t ticket = 5;
  CHECK(apply({0x1000, 0x4FFF, 0x81000, 0, 1, VIOMMU_VHOST_UPDATE, 0}, &ticket) == VIOMMU_OK);
  CHECK(ticket == 0);
  CHECK(iotlb.parts(0x1000, 0x4000) == std::vector<Part>{{0x1000, 0x81000, 0x4000, reads}});
  CHECK(apply({0x2000, 0x2FFF, 0, 0, 0, VIOMMU_VHOST_INVALIDATE, 0}, &ticket) == VIOMMU_OK);
  CHECK(ticket != 0);
  CHECK(iotlb.drained(ticket));
  CHECK(iotlb.target(0x2000) == top_address);
  CHECK(iotlb.target(0x3000) == 0x83000);
  iotlb.take_asked();
  CHECK(apply({0x2000, 0x2000, 0, 0, 1, VIOMMU_VHOST_ACCESS_FAIL, 0}) == VIOMMU_OK);
  CHECK(iotlb.target(0x2000) == top_address);
  CHECK(iotlb.take_asked().size() == 1);  // told again
  CHECK(apply({0, 0, 0, 0, 0, VIOMMU_VHOST_BATCH_BEGIN, 0}) == VIOMMU_OK);
  CHECK(apply({0, 0, 0, 0, 1, VIOMMU_VHOST_MISS, 0}) == VIOMMU_E_ARGUMENT);
  CHECK(apply({1, 0, 0, 0, 1, VIOMMU_VHOST_UPDATE, 0}) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_vhost_apply(nullptr, nullptr, nullptr) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::test
