// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Messages on their way from the registers to the host.
#include "engine/vtd/registers.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/vtd/register_driver.hpp"

namespace viommu::vtd {
namespace {

/// The host's function for messages; one that keeps the unit busy asks for the next message in each.
struct Host {
  Host() = default;
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  ~Host() = default;

  [[nodiscard]] core::HostFunctions functions() {
    core::HostFunctions functions;
    functions.opaque = this;
    functions.wake = [](void* opaque) { ++static_cast<Host*>(opaque)->wakes; };
    functions.msi = [](void* opaque, std::uint64_t, std::uint32_t message) {
      Host& self = *static_cast<Host*>(opaque);
      self.sent.push_back(message);
      if (message < self.last) self.queue(message + 1);
    };
    return functions;
  }
  void queue(std::uint32_t message) {
    registers.with([&](RegisterFile&) { registers.queue(EventMessage{0xFEE0'0000, message}); });
  }

  std::vector<std::uint32_t> sent;
  unsigned wakes = 0;
  std::uint32_t last = 0;  ///< messages up to this one are followed by another
  core::Host marked{functions()};
  Registers registers{test::capable(), {}, marked};
};

}  // namespace

TEST_CASE("messages are sent in the order in which they were queued", "[vtd][events]") {
  Host host;
  for (std::uint32_t i = 1; i <= 5; ++i) host.queue(i);
  host.registers.deliver();
  CHECK(host.sent == std::vector<std::uint32_t>{1, 2, 3, 4, 5});
  CHECK(host.registers.messages() == 5);
}

TEST_CASE("who sends messages is not kept at it by messages that follow from them", "[vtd][events]") {
  constexpr std::uint32_t most_at_once = 17;  // one, and those of a ring that was filled meanwhile
  Host host;
  host.last = 50;
  host.queue(1);
  host.registers.deliver();
  CHECK(host.sent.size() == most_at_once);
  CHECK(host.wakes == 1);  // the next one's owner has left it to this call
  CHECK(host.registers.with([&](const RegisterFile&) { return host.registers.queued(); }) == 1);
  for (unsigned i = 0; i < 50; ++i) host.registers.deliver();
  REQUIRE(host.sent.size() == 50);  // nor is one lost
  CHECK(host.wakes == 2);
  for (std::uint32_t i = 0; i < 50; ++i) CHECK(host.sent[i] == i + 1);
}

}  // namespace viommu::vtd
