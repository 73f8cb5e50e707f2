// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu.hpp: who owns what, after moves too.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/capi/machine.hpp"

namespace viommu::capi {
namespace {

static_assert(!std::is_copy_constructible_v<Engine> && std::is_nothrow_move_constructible_v<Engine>);
static_assert(!std::is_copy_constructible_v<Reader> && std::is_nothrow_move_constructible_v<Reader>);
static_assert(!std::is_copy_constructible_v<Hold> && std::is_nothrow_move_assignable_v<Hold>);
static_assert(!std::is_move_constructible_v<Guard>);

viommu_request good() { return request(device, base_iova, VIOMMU_READ); }
std::uint64_t open_holds(const Machine& machine) { return machine.engine.statistics().holds_open; }

/// Leaves anything but zeros where the next call's variables will be.
[[gnu::noinline]] unsigned dirty_stack() {
  std::array<volatile unsigned char, 4096> bytes;
  for (volatile unsigned char& byte : bytes) byte = 0xA5;
  return bytes[17];
}

}  // namespace

TEST_CASE("an engine that cannot be created is an error with its text", "[capi][wrapper]") {
  viommu_vtd_options options = default_options();
  options.tag_bits = 99;
  const Expected<Engine> engine = Engine::create_vtd(options, empty_host());
  CHECK_FALSE(engine);
  CHECK(engine.error().code == VIOMMU_E_ARGUMENT);
  CHECK(engine.error().text.find("tag_bits") != std::string::npos);
}

TEST_CASE("an engine moves, and the one moved from is nothing", "[capi][wrapper]") {
  Engine first = create();
  viommu_engine* const handle = first.get();
  Engine second{std::move(first)};
  CHECK(first.get() == nullptr);  // NOLINT(bugprone-use-after-move): what is left is the question
  CHECK(second.get() == handle);
  CHECK(first.drop_caches() == VIOMMU_E_ARGUMENT);
  CHECK(first.mmio_read(0, 4) == 0);
  CHECK_FALSE(first.reader());
  CHECK(first.translate_once(good()).kind == VIOMMU_FAULT);
  first = std::move(second);
  CHECK(first.get() == handle);
  CHECK(first.drop_caches() == VIOMMU_OK);
}

TEST_CASE("a reader moves, and is given back once", "[capi][wrapper]") {
  viommu_vtd_options options = default_options();
  options.readers = 2;
  Engine engine = create(options);
  {
    Reader first = *engine.reader();
    Reader second{std::move(first)};
    CHECK(first.get() == nullptr);  // NOLINT(bugprone-use-after-move)
    CHECK(second.get() != nullptr);
    Reader third = *engine.reader();
    viommu_reader* const handle = third.get();
    CHECK_FALSE(engine.reader());
    second = std::move(third);
    CHECK(second.get() == handle);
    std::vector<Reader> several;
    several.push_back(std::move(second));
  }
  CHECK(engine.reader());
  const Expected<Reader> first = engine.reader();
  const Expected<Reader> second = engine.reader();
  CHECK(first);
  CHECK(second);
  const Expected<Reader> third = engine.reader();
  CHECK_FALSE(third);
  CHECK(third.error().code == VIOMMU_E_LIMIT);
  CHECK(third.error().text == viommu_result_text(VIOMMU_E_LIMIT));
}

TEST_CASE("a hold is released at the end of its scope, once, wherever it moved", "[capi][wrapper]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  viommu_translation answer{};
  {
    Hold outer;
    CHECK_FALSE(outer);
    {
      Hold inner = machine.reader.hold(good(), 1, answer);
      CHECK(inner);
      CHECK(answer.gpa == 0x5000);
      CHECK(open_holds(machine) == 1);
      outer = std::move(inner);
      CHECK_FALSE(inner);  // NOLINT(bugprone-use-after-move)
    }
    CHECK(open_holds(machine) == 1);
    outer = machine.reader.hold(good(), 2, answer);  // the old one goes
    CHECK(open_holds(machine) == 1);
    Hold& same = outer;
    outer = std::move(same);
    CHECK(outer);
    CHECK(open_holds(machine) == 1);
    const Hold moved{std::move(outer)};
    CHECK(moved);
  }
  CHECK(open_holds(machine) == 0);
  Hold hold = machine.reader.hold(good(), 3, answer);
  hold.release();
  hold.release();
  CHECK_FALSE(hold);
  CHECK(open_holds(machine) == 0);
}

TEST_CASE("a hold of what is blocked is empty, and says why", "[capi][wrapper]") {
  Machine machine;
  viommu_translation answer{};
  answer.kind = VIOMMU_TRANSLATED;
  CHECK_FALSE(machine.reader.hold(good(), 1, answer));
  CHECK(answer.kind == VIOMMU_FAULT);
  CHECK(answer.reason == 6);
}

TEST_CASE("a guard is open as long as it lives", "[capi][wrapper][P2]") {
  Machine machine;
  std::uint32_t ticket = 0;
  {
    const Guard outer = machine.reader.guard();
    {
      const Guard inner = machine.reader.guard();
      machine.driver.add_global();
      ticket = machine.driver.submit();
    }
    CHECK(machine.engine.process().state == VIOMMU_PROCESS_WAIT);
    CHECK_FALSE(machine.driver.completed(ticket));
  }
  CHECK(machine.engine.process().state == VIOMMU_PROCESS_IDLE);
  CHECK(machine.driver.completed(ticket));
}

TEST_CASE("an answer to what makes no sense, or from no reader, is a fault and nothing else",
          "[capi][wrapper][SEC-12]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  viommu_request senseless = good();
  senseless.access = 0;
  Reader nobody{std::move(machine.reader)};
  machine.reader = Reader{nullptr, nullptr};
  viommu_translation held{};
  std::memset(&held, 0xA5, sizeof held);
  CHECK_FALSE(nobody.hold(senseless, 1, held));
  for (unsigned turn = 0; turn < 3; ++turn) {
    CHECK(dirty_stack() == 0xA5);
    viommu_translation answer = held;
    if (turn == 1) answer = nobody.translate(senseless);
    if (turn == 2) answer = machine.reader.translate(good());
    CHECK_FALSE(allowed(answer));
    CHECK(answer.gpa == 0);
    CHECK(answer.mask == 0);
    CHECK(answer.rights == 0);
  }
  CHECK(machine.engine.translate_once(senseless).kind == VIOMMU_FAULT);
  CHECK(allowed(nobody.translate(good())));
}

TEST_CASE("spans of different or too great length are refused", "[capi][wrapper]") {
  Machine machine;
  std::vector<viommu_request> requests(3, good());
  std::vector<viommu_translation> answers(2);
  CHECK(machine.reader.translate_batch(requests, answers) == VIOMMU_E_ARGUMENT);
  requests.resize(65536, good());
  answers.resize(65536);
  CHECK(machine.reader.translate_batch(requests, answers) == VIOMMU_E_ARGUMENT);
  CHECK(machine.reader.translate_batch({}, {}) == VIOMMU_OK);
  std::array<viommu_piece, 1> pieces{};
  CHECK(machine.reader.translate_range(request(device, base_iova, VIOMMU_READ), pieces).complete == 0);
}

TEST_CASE("devices, the start and capabilities through the wrapper", "[capi][wrapper]") {
  Engine engine = create();  // without caching mode
  const Capabilities capabilities = engine.capabilities();
  CHECK(capabilities.capability == engine.mmio_read(0x8, 8));
  CHECK(capabilities.extended_capability == engine.mmio_read(0x10, 8));
  CHECK(capabilities.host_address_width == 52);

  viommu_host_facts facts{};
  facts.size = sizeof facts;
  facts.backend = VIOMMU_BACKEND_VFIO;
  viommu_device real{};
  real.size = sizeof real;
  real.source = device;
  real.kind = VIOMMU_DEVICE_HOST;
  real.facts = &facts;
  CHECK(engine.add_device(real).code == VIOMMU_OK);
  const Error again = engine.add_device(real);
  CHECK(again.code == VIOMMU_E_REFUSED);
  CHECK(again.text.find("01:02.0") != std::string::npos);
  real.kind = 77;
  CHECK(engine.add_device(real).text == viommu_result_text(VIOMMU_E_ARGUMENT));

  std::array<viommu_refusal, 2> refusals{};
  std::uint32_t count = 0;
  CHECK(engine.ready(refusals, count) == VIOMMU_E_REFUSED);
  CHECK(count == 1);
  CHECK(refusals[0].source == device);
  CHECK(engine.remove_device(device) == VIOMMU_OK);
  CHECK(engine.ready() == VIOMMU_OK);
}

TEST_CASE("a request's fields are where their names say", "[capi][wrapper]") {
  constexpr viommu_request asked = request(0x1234, 0x5678, VIOMMU_WRITE, 4, VIOMMU_NO_REPORT);
  STATIC_REQUIRE(asked.source == 0x1234);
  STATIC_REQUIRE(asked.iova == 0x5678);
  STATIC_REQUIRE(asked.access == VIOMMU_WRITE);
  STATIC_REQUIRE(asked.length == 4);
  STATIC_REQUIRE(asked.flags == VIOMMU_NO_REPORT);
  STATIC_REQUIRE(asked.pasid == 0);
}

}  // namespace viommu::capi
