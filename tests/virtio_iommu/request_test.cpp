// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests as bytes, written here as the specification prints them.
#include "engine/virtio_iommu/request.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace viommu::virtio_iommu {
namespace {

constexpr std::uint32_t probe_size = 512;
constexpr std::uint64_t map_unmap = 1 << 2;
constexpr std::uint64_t probe = 1 << 4;
constexpr std::uint64_t mmio = 1 << 5;
constexpr std::uint64_t bypass_config = 1 << 6;
constexpr Features all{map_unmap | probe | mmio | bypass_config};

/// The readable part of a request, little endian.
class Bytes {
 public:
  explicit Bytes(std::uint8_t type) { add(type, 1), add(0, 3); }
  Bytes& add(std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) bytes_.push_back(static_cast<std::byte>(i < 8 ? value >> 8 * i & 0xFF : 0));
    return *this;
  }
  Bytes& set(std::size_t offset, std::uint8_t value) {
    bytes_.at(offset) = std::byte{value};
    return *this;
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  [[nodiscard]] Decoded decoded(std::uint64_t writable, Features negotiated = all,
                                std::optional<std::uint64_t> readable = {}) const {
    RequestBytes head{};
    const std::uint64_t size = readable.value_or(bytes_.size());
    // Bytes behind the readable part are not the request's: nonsense.
    head.fill(std::byte{0xA5});
    std::copy_n(bytes_.begin(), std::min({bytes_.size(), head.size(), std::size_t{size}}), head.begin());
    return decode(head, {size, writable}, negotiated, probe_size);
  }
  [[nodiscard]] Request request(std::uint64_t writable = 4, Features negotiated = all) const {
    return decoded(writable, negotiated).request;
  }

 private:
  std::vector<std::byte> bytes_;
};

Bytes attach(std::uint32_t flags = 0) { return Bytes{1}.add(0x11223344, 4).add(0x55667788, 4).add(flags, 4).add(0, 4); }
Bytes detach() { return Bytes{2}.add(0x11223344, 4).add(0x55667788, 4).add(0, 8); }
Bytes map(std::uint32_t flags = 3) {
  return Bytes{3}.add(0x11223344, 4).add(0x1000, 8).add(0xFEDCBA9876543210, 8).add(0x1122334455667788, 8).add(flags, 4);
}
Bytes unmap() { return Bytes{4}.add(0x11223344, 4).add(0x1000, 8).add(~std::uint64_t{0}, 8).add(0, 4); }
Bytes probe_of() { return Bytes{5}.add(0x55667788, 4).add(0, 32).add(0, 32); }

const Request invalid{Refused{Status::invalid}};
const Request unanswered{Unanswered{}};

/// One well-formed request of each type, with what the driver has to give room for.
struct Form {
  std::string name;
  Bytes bytes;
  std::uint32_t writable;
};
std::vector<Form> forms() {
  return {{"ATTACH", attach(), 4},
          {"DETACH", detach(), 4},
          {"MAP", map(), 4},
          {"UNMAP", unmap(), 4},
          {"PROBE", probe_of(), probe_size + 4}};
}
bool is_decided(const Request& request) {
  return std::holds_alternative<Refused>(request) || std::holds_alternative<Unanswered>(request);
}

TEST_CASE("each request is decoded field by field", "[virtio-iommu][requests]") {
  CHECK(attach().request() == Request{Attach{{0x11223344}, {0x55667788}, false}});
  CHECK(attach(1).request() == Request{Attach{{0x11223344}, {0x55667788}, true}});
  CHECK(detach().request() == Request{Detach{{0x11223344}, {0x55667788}}});
  CHECK(map().request() ==
        Request{Map{{0x11223344}, {0x1000}, {0xFEDCBA9876543210}, {0x1122334455667788}, read_write, false}});
  CHECK(unmap().request() == Request{Unmap{{0x11223344}, {0x1000}, {~std::uint64_t{0}}}});
  CHECK(probe_of().request(probe_size + 4) == Request{Probe{{0x55667788}}});
  for (std::uint32_t flags = 0; flags < 8; ++flags) {
    const auto request = std::get<Map>(map(flags).request());
    CHECK(request.rights == Rights{(flags & 1) != 0, (flags & 2) != 0});
    CHECK(request.mmio == ((flags & 4) != 0));
  }
}

TEST_CASE("an unknown type goes back untouched", "[virtio-iommu][requests][S3.18][B94]") {
  for (unsigned type = 0; type < 256; ++type) {
    if (type >= 1 && type <= 5) continue;
    for (const std::uint64_t readable : {4u, 20u, 36u, 72u, 1000u})
      for (const std::uint64_t writable : {4u, 8u, 516u})
        CHECK(Bytes{static_cast<std::uint8_t>(type)}.decoded(writable, all, readable).request == unanswered);
  }
}

TEST_CASE("without a type or room for a status a buffer goes back untouched",
          "[virtio-iommu][requests][S3.18][B85][B87]") {
  for (const Form& form : forms()) {
    INFO(form.name);
    for (std::uint64_t readable = 0; readable < 4; ++readable)
      CHECK(form.bytes.decoded(form.writable, all, readable).request == unanswered);
    for (std::uint64_t writable = 0; writable < 4; ++writable) CHECK(form.bytes.request(writable) == unanswered);
  }
}

TEST_CASE("a request too short for its type is invalid, and its status stands where it would",
          "[virtio-iommu][requests][S3.18][B85]") {
  for (const Form& form : forms()) {
    INFO(form.name);
    for (std::uint64_t readable = 4; readable < form.bytes.size(); ++readable) {
      const Decoded decoded = form.bytes.decoded(form.writable, all, readable);
      CHECK(decoded.request == invalid);
      CHECK(decoded.tail_offset == form.writable - 4);
    }
    CHECK_FALSE(is_decided(form.bytes.decoded(form.writable).request));
  }
}

TEST_CASE("what a driver sends, or gives room for, beyond a request is ignored", "[virtio-iommu][requests][S3.18]") {
  for (const Form& form : forms()) {
    INFO(form.name);
    const Decoded exact = form.bytes.decoded(form.writable);
    CHECK(exact.tail_offset == form.writable - 4);
    for (const std::uint64_t more : {std::uint64_t{1}, std::uint64_t{1} << 33}) {
      const Decoded longer = form.bytes.decoded(form.writable + more, all, form.bytes.size() + more);
      CHECK(longer.request == exact.request);
      CHECK(longer.tail_offset == exact.tail_offset);
    }
  }
}

TEST_CASE("a PROBE whose properties have too little room is invalid, with its status at the end",
          "[virtio-iommu][PROBE][S3.18]") {
  for (std::uint32_t writable = 4; writable < probe_size + 4; ++writable)
    for (const std::uint64_t readable : {8u, 72u, 100u}) {
      const Decoded decoded = probe_of().decoded(writable, all, readable);
      CHECK(decoded.request == invalid);
      CHECK(decoded.tail_offset == writable - 4);
    }
}

TEST_CASE("a request of a feature that was not negotiated goes back untouched", "[virtio-iommu][requests][S3.18]") {
  const Features no_probe{all.raw & ~probe};
  const Features no_map{all.raw & ~map_unmap};
  CHECK(probe_of().request(probe_size + 4, no_probe) == unanswered);
  CHECK(probe_of().request(4, no_probe) == unanswered);
  CHECK(probe_of().decoded(probe_size + 4, no_probe, 8).request == unanswered);
  CHECK(map().request(4, no_map) == unanswered);
  CHECK(unmap().request(4, no_map) == unanswered);
  CHECK_FALSE(is_decided(attach().request(4, no_map)));
  CHECK_FALSE(is_decided(detach().request(4, {})));
}

TEST_CASE("reserved bytes are checked in ATTACH alone", "[virtio-iommu][requests][S3.12][B95]") {
  for (const Form& form : forms()) {
    INFO(form.name);
    const Request good = form.bytes.request(form.writable);
    const std::size_t after_fields = form.name == "ATTACH"   ? 16
                                     : form.name == "DETACH" ? 12
                                     : form.name == "UNMAP"  ? 24
                                     : form.name == "PROBE"  ? 8
                                                             : form.bytes.size();
    for (std::size_t offset = 1; offset < form.bytes.size(); ++offset) {
      if (offset >= 4 && offset < after_fields) continue;
      const Request request = Bytes{form.bytes}.set(offset, 0x80).request(form.writable);
      CHECK(request == (form.name == "ATTACH" && offset >= after_fields ? invalid : good));
    }
  }
}

TEST_CASE("an unknown flag is invalid, and a known one without its feature is unknown",
          "[virtio-iommu][requests][S3.12][S4.10][B95]") {
  for (unsigned bit = 0; bit < 32; ++bit) {
    const std::uint32_t flag = 1u << bit;
    CHECK((attach(flag).request() == invalid) == (bit != 0));
    CHECK(attach(flag).request(4, {all.raw & ~bypass_config}) == invalid);
    CHECK((map(flag).request() == invalid) == (bit > 2));
    CHECK((map(flag).request(4, {all.raw & ~mmio}) == invalid) == (bit > 1));
  }
  CHECK_FALSE(is_decided(attach(0).request(4, {})));
}

}  // namespace
}  // namespace viommu::virtio_iommu
