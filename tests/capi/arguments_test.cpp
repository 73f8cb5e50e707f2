// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Each function with what it must refuse: nothing happens, and an output that can be set is set to nothing.
#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/capi/machine.hpp"

namespace viommu::capi {
namespace {

alignas(page_bytes) std::array<std::byte, 2 * page_bytes> buffer;

viommu_request good() { return request(device, base_iova, VIOMMU_READ, 8); }

/// Requests that make no sense for any function.
std::vector<viommu_request> senseless() {
  std::vector<viommu_request> all;
  viommu_request bad = good();
  bad.access = 0;
  all.push_back(bad);
  bad.access = 4;
  all.push_back(bad);
  bad.access = 0xFF;
  all.push_back(bad);
  bad = good();
  bad.flags = 8;
  all.push_back(bad);
  bad.flags = 0x80;
  all.push_back(bad);
  bad.flags = VIOMMU_HAS_PASID;
  bad.pasid = 1U << 20;
  all.push_back(bad);
  bad = good();
  bad.flags = VIOMMU_ZERO_LENGTH;
  bad.access = VIOMMU_WRITE;
  all.push_back(bad);
  bad.access = VIOMMU_READ | VIOMMU_WRITE;
  all.push_back(bad);
  return all;
}

}  // namespace

TEST_CASE("each result has a text, and whatever else has one too", "[capi]") {
  for (const viommu_result result :
       {VIOMMU_OK, VIOMMU_E_REFUSED, VIOMMU_E_NOT_FOUND, VIOMMU_E_MEMORY, VIOMMU_E_FAULT, VIOMMU_E_BUSY,
        VIOMMU_E_EXISTS, VIOMMU_E_ARGUMENT, VIOMMU_E_LIMIT, VIOMMU_E_RANGE, VIOMMU_E_UNSUPPORTED}) {
    CHECK(std::string{viommu_result_text(result)} != "unknown result");
    CHECK_FALSE(std::string{viommu_result_text(result)}.empty());
  }
  for (const viommu_result result : {1, -3, -1000, INT32_MIN, INT32_MAX})
    CHECK(std::string{viommu_result_text(result)} == "unknown result");
  CHECK(std::count(viommu_version(), viommu_version() + std::strlen(viommu_version()), '.') == 2);
}

TEST_CASE("creation refuses null pointers and half an allocator", "[capi][create]") {
  const viommu_vtd_options options = default_options();
  viommu_host host = empty_host();
  viommu_engine* engine = nullptr;
  CHECK(viommu_create_vtd(nullptr, &host, nullptr, 0, &engine) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_create_vtd(&options, nullptr, nullptr, 0, &engine) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_create_vtd(&options, &host, nullptr, 0, nullptr) == VIOMMU_E_ARGUMENT);
  host.allocate = [](void*, std::size_t, std::size_t) -> void* { return nullptr; };
  CHECK(viommu_create_vtd(&options, &host, nullptr, 0, &engine) == VIOMMU_E_ARGUMENT);
  host.deallocate = [](void*, void*, std::size_t, std::size_t) {};
  CHECK(viommu_create_vtd(&options, &host, nullptr, 0, &engine) == VIOMMU_E_MEMORY);
  CHECK(engine == nullptr);
}

TEST_CASE("without an engine every function refuses, and destroying nothing is fine", "[capi]") {
  const viommu_region region{0, page_bytes, buffer.data(), 0};
  const viommu_request asked = good();
  viommu_translation translation{};
  viommu_progress progress{};
  viommu_statistics statistics{};
  statistics.size = sizeof statistics;
  viommu_reader* reader = nullptr;
  std::uint64_t value = 0;
  CHECK(viommu_destroy(nullptr) == VIOMMU_OK);
  CHECK(viommu_region_add(nullptr, &region) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_region_remove(nullptr, 0, 0) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_mmio_size(nullptr) == 0);
  CHECK(viommu_mmio_read(nullptr, 0, 4, &value) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_mmio_write(nullptr, 0, 4, 0) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_process(nullptr, 0, &progress) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_reset(nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_drop_caches(nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_reader_create(nullptr, &reader) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_once(nullptr, &asked, &translation) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_release(nullptr, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold_revoke(nullptr, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_statistics_get(nullptr, &statistics) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_faults_limited(nullptr, 0, &value) == VIOMMU_E_ARGUMENT);
  const viommu_page_request page{};
  std::uint32_t code = 0;
  CHECK(viommu_request_page(nullptr, &page, &code) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_quiesce(nullptr, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_dirty_tracking(nullptr, VIOMMU_DIRTY_ON) == VIOMMU_E_ARGUMENT);
  viommu_device described{};
  described.size = sizeof described;
  const viommu_veto veto{nullptr, [](void*, const viommu_device*, char*, std::size_t) -> std::int32_t { return 0; }};
  char text[8];
  CHECK(viommu_device_add(nullptr, &described, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_device_remove(nullptr, 0) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_host_facts_unset(nullptr, 0) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_bus_renumber(nullptr, 0, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_veto_add(nullptr, &veto) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ready(nullptr, nullptr, 0, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_capabilities_get(nullptr, &value, &value, &code) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_migration_blocker(nullptr, 0, text, sizeof text) == VIOMMU_E_ARGUMENT);
}

TEST_CASE("without a reader every function refuses, and destroying or closing nothing is fine", "[capi]") {
  const viommu_request asked = good();
  viommu_translation translation{};
  viommu_piece piece{};
  viommu_range_end end{};
  std::uint64_t hold = 0;
  CHECK(viommu_reader_destroy(nullptr) == VIOMMU_OK);
  viommu_enter(nullptr);
  viommu_leave(nullptr);
  CHECK(viommu_translate(nullptr, &asked, &translation) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_range(nullptr, &asked, &piece, 1, &end) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_batch(nullptr, &asked, &translation, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold(nullptr, &asked, 0, &translation, &hold) == VIOMMU_E_ARGUMENT);
  viommu_ats_completion completion{};
  CHECK(viommu_ats_translate(nullptr, &asked, &completion) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ats_check(nullptr, &asked, &translation) == VIOMMU_E_ARGUMENT);
}

TEST_CASE("a missing request or answer is refused", "[capi]") {
  Machine machine;
  viommu_engine* const engine = machine.engine.get();
  viommu_reader* const reader = machine.reader.get();
  const viommu_request asked = good();
  viommu_translation translation{};
  viommu_piece piece{};
  viommu_range_end end{};
  std::uint64_t hold = 7;
  CHECK(viommu_translate(reader, nullptr, &translation) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate(reader, &asked, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_once(engine, nullptr, &translation) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_once(engine, &asked, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_range(reader, nullptr, &piece, 1, &end) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_range(reader, &asked, nullptr, 1, &end) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_range(reader, &asked, &piece, 0, &end) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_range(reader, &asked, &piece, 1, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_batch(reader, nullptr, &translation, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_translate_batch(reader, &asked, nullptr, 1) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold(reader, nullptr, 0, &translation, &hold) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold(reader, &asked, 0, nullptr, &hold) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_hold(reader, &asked, 0, &translation, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_mmio_read(engine, 0, 4, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_process(engine, 0, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_reader_create(engine, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_region_add(engine, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_statistics_get(engine, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_faults_limited(engine, 0, nullptr) == VIOMMU_E_ARGUMENT);
  const viommu_page_request page{};
  std::uint32_t code = 0;
  CHECK(viommu_request_page(engine, nullptr, &code) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_request_page(engine, &page, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_request_page(engine, &page, &code) == VIOMMU_E_UNSUPPORTED);
  viommu_ats_completion completion{};
  CHECK(viommu_ats_translate(reader, nullptr, &completion) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ats_translate(reader, &asked, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ats_check(reader, nullptr, &translation) == VIOMMU_E_ARGUMENT);
  CHECK(viommu_ats_check(reader, &asked, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(machine.engine.statistics().translations == 0);
}

TEST_CASE("a request that makes no sense is refused by each function, and asks nothing", "[capi][request]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  viommu_translation translation{};
  viommu_piece piece{};
  viommu_range_end end{};
  std::uint64_t hold = 7;
  for (const viommu_request& bad : senseless()) {
    CAPTURE(+bad.access, +bad.flags);
    CHECK(viommu_translate(machine.reader.get(), &bad, &translation) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_translate_once(machine.engine.get(), &bad, &translation) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_translate_range(machine.reader.get(), &bad, &piece, 1, &end) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_translate_batch(machine.reader.get(), &bad, &translation, 1) == VIOMMU_E_ARGUMENT);
    CHECK(viommu_hold(machine.reader.get(), &bad, 0, &translation, &hold) == VIOMMU_E_ARGUMENT);
  }
  CHECK(machine.engine.statistics().translations == 0);
  CHECK(machine.engine.statistics().holds_open == 0);
  viommu_request fine = good();
  fine.pasid = 0xFFFFFFFF;  // not valid without its flag, so not looked at
  CHECK(viommu_translate(machine.reader.get(), &fine, &translation) == VIOMMU_OK);
}

TEST_CASE("regions are whole pages of real memory within the address space", "[capi][regions]") {
  const Engine engine = create();
  const auto add = [&engine](std::uint64_t gpa, std::uint64_t length, void* hva = buffer.data(),
                             std::uint64_t flags = 0) {
    const viommu_region region{gpa, length, hva, flags};
    return viommu_region_add(engine.get(), &region);
  };
  CHECK(add(0, 0) == VIOMMU_E_ARGUMENT);
  CHECK(add(0, page_bytes, nullptr) == VIOMMU_E_ARGUMENT);
  CHECK(add(1, page_bytes) == VIOMMU_E_ARGUMENT);
  CHECK(add(0, page_bytes - 1) == VIOMMU_E_ARGUMENT);
  CHECK(add(0, page_bytes, buffer.data() + 8) == VIOMMU_E_ARGUMENT);
  CHECK(add(0, page_bytes, buffer.data(), 2) == VIOMMU_E_ARGUMENT);
  CHECK(add(0, page_bytes, buffer.data(), ~std::uint64_t{0}) == VIOMMU_E_ARGUMENT);
  CHECK(add(~std::uint64_t{0} - 0xFFF, 2 * page_bytes) == VIOMMU_E_ARGUMENT);
  CHECK(add(2 * page_bytes, ~std::uint64_t{0} - 0xFFF) == VIOMMU_E_ARGUMENT);
  CHECK(add(~std::uint64_t{0} - 0xFFF, page_bytes) == VIOMMU_OK);
  CHECK(add(~std::uint64_t{0} - 0x1FFF, 2 * page_bytes) == VIOMMU_E_EXISTS);
  CHECK(add(0, page_bytes, buffer.data(), VIOMMU_REGION_READ_ONLY) == VIOMMU_OK);
  CHECK(add(0, page_bytes) == VIOMMU_E_EXISTS);
  CHECK(viommu_region_remove(engine.get(), page_bytes, 0) == VIOMMU_E_NOT_FOUND);
  CHECK(viommu_region_remove(engine.get(), 1, 0) == VIOMMU_E_NOT_FOUND);
  CHECK(viommu_region_remove(engine.get(), 0, 0) == VIOMMU_OK);
  CHECK(viommu_region_remove(engine.get(), 0, 0) == VIOMMU_E_NOT_FOUND);
}

TEST_CASE("regions have a quota", "[capi][regions][P6]") {
  viommu_vtd_options options = default_options();
  options.regions = 2;
  const Engine engine = create(options);
  const auto add = [&engine](std::uint64_t gpa) {
    const viommu_region region{gpa, page_bytes, buffer.data(), 0};
    return viommu_region_add(engine.get(), &region);
  };
  CHECK(add(0) == VIOMMU_OK);
  CHECK(add(page_bytes) == VIOMMU_OK);
  CHECK(add(2 * page_bytes) == VIOMMU_E_LIMIT);
  CHECK(viommu_region_remove(engine.get(), 0, 0) == VIOMMU_OK);
  CHECK(add(2 * page_bytes) == VIOMMU_OK);
  SECTION("of 256 unless it is told") {
    const Engine usual = create();
    for (std::uint64_t i = 0; i <= 256; ++i) {
      const viommu_region region{i * page_bytes, page_bytes, buffer.data(), 0};
      CHECK(viommu_region_add(usual.get(), &region) == (i < 256 ? VIOMMU_OK : VIOMMU_E_LIMIT));
    }
  }
}

TEST_CASE("register accesses have 1, 2, 4 or 8 bytes and end in the window", "[capi][mmio][QVT-19]") {
  const Engine engine = create();
  const std::uint64_t window = viommu_mmio_size(engine.get());
  CHECK(window % page_bytes == 0);
  CHECK(window != 0);
  for (std::uint32_t size = 0; size < 20; ++size) {
    std::uint64_t value = 99;
    const bool good_size = size == 1 || size == 2 || size == 4 || size == 8;
    CHECK(viommu_mmio_read(engine.get(), 8, size, &value) == (good_size ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    if (!good_size) CHECK(value == 0);
    CHECK(viommu_mmio_write(engine.get(), 8, size, 0) == (good_size ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    if (!good_size) continue;
    const std::uint64_t top = ~std::uint64_t{0};
    for (const std::uint64_t offset : {window, window + 8, top - size + 1, top & ~std::uint64_t{size - 1U}}) {
      value = 99;
      CHECK(viommu_mmio_read(engine.get(), offset, size, &value) == VIOMMU_E_RANGE);
      CHECK(value == 0);
      CHECK(viommu_mmio_write(engine.get(), offset, size, top) == VIOMMU_E_RANGE);
    }
    CHECK(viommu_mmio_read(engine.get(), window - size, size, &value) == VIOMMU_OK);
  }
}

TEST_CASE("readers have a quota and are not destroyed inside their guard", "[capi][readers][P6]") {
  viommu_vtd_options options = default_options();
  options.readers = 2;
  const Engine engine = create(options);
  viommu_reader* first = nullptr;
  viommu_reader* second = nullptr;
  viommu_reader* third = first;
  REQUIRE(viommu_reader_create(engine.get(), &first) == VIOMMU_OK);
  REQUIRE(viommu_reader_create(engine.get(), &second) == VIOMMU_OK);
  CHECK(viommu_reader_create(engine.get(), &third) == VIOMMU_E_LIMIT);
  CHECK(third == nullptr);
  viommu_enter(first);
  viommu_enter(first);
  CHECK(viommu_reader_destroy(first) == VIOMMU_E_BUSY);
  viommu_leave(first);
  CHECK(viommu_reader_destroy(first) == VIOMMU_E_BUSY);
  viommu_leave(first);
  viommu_leave(first);  // one too many does nothing
  CHECK(viommu_destroy(engine.get()) == VIOMMU_E_BUSY);
  CHECK(viommu_reader_destroy(first) == VIOMMU_OK);
  CHECK(viommu_destroy(engine.get()) == VIOMMU_E_BUSY);
  CHECK(viommu_reader_destroy(second) == VIOMMU_OK);
}

TEST_CASE("an engine with an open hold is not destroyed", "[capi][hold][IFD-2]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  viommu_engine* const engine = machine.engine.get();
  viommu_translation translation{};
  std::uint64_t hold = 0;
  const viommu_request asked = good();
  REQUIRE(viommu_hold(machine.reader.get(), &asked, 0, &translation, &hold) == VIOMMU_OK);
  machine.reader = Reader{nullptr, nullptr};
  CHECK(viommu_destroy(engine) == VIOMMU_E_BUSY);
  CHECK(viommu_release(engine, hold) == VIOMMU_OK);
}

TEST_CASE("a handle that is not open is not found", "[capi][hold]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  for (const std::uint64_t handle : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    CHECK(viommu_release(machine.engine.get(), handle) == VIOMMU_E_NOT_FOUND);
    CHECK(viommu_hold_revoke(machine.engine.get(), handle) == VIOMMU_E_NOT_FOUND);
  }
  viommu_translation translation{};
  std::uint64_t hold = 0;
  const viommu_request asked = good();
  REQUIRE(viommu_hold(machine.reader.get(), &asked, 0, &translation, &hold) == VIOMMU_OK);
  CHECK(translation.gpa == 0x5000);
  CHECK(viommu_hold_revoke(machine.engine.get(), hold) == VIOMMU_OK);
  CHECK(viommu_release(machine.engine.get(), hold) == VIOMMU_E_NOT_FOUND);
}

TEST_CASE("what is blocked, an interrupt, or past the last address is not held", "[capi][hold]") {
  Machine machine;
  viommu_translation translation{};
  std::uint64_t hold = 7;
  viommu_request asked = good();
  CHECK(viommu_hold(machine.reader.get(), &asked, 0, &translation, &hold) == VIOMMU_E_FAULT);
  CHECK(hold == 0);
  CHECK(translation.kind == VIOMMU_FAULT);
  CHECK(translation.reason == 6);
  asked.iova = 0xFEE00000;
  asked.access = VIOMMU_WRITE;
  asked.length = 4;
  CHECK(viommu_hold(machine.reader.get(), &asked, 0, &translation, &hold) == VIOMMU_E_ARGUMENT);
  CHECK(translation.kind == VIOMMU_INTERRUPT);
  CHECK(hold == 0);
  asked.iova = ~std::uint64_t{0};
  asked.length = 2;
  CHECK(viommu_hold(machine.reader.get(), &asked, 0, &translation, &hold) == VIOMMU_E_ARGUMENT);
  CHECK(machine.engine.statistics().holds_open == 0);
}

TEST_CASE("holds have a quota", "[capi][hold][P6]") {
  viommu_vtd_options options = default_options();
  options.holds = 2;
  Machine machine{options};
  machine.map(base_iova, 0x5000);
  viommu_translation answer{};
  const Hold first = machine.reader.hold(good(), 0, answer);
  Hold second = machine.reader.hold(good(), 0, answer);
  CHECK(first);
  CHECK(second);
  std::uint64_t hold = 7;
  const viommu_request asked = good();
  CHECK(viommu_hold(machine.reader.get(), &asked, 0, &answer, &hold) == VIOMMU_E_LIMIT);
  CHECK(hold == 0);
  CHECK(answer.kind == VIOMMU_TRANSLATED);
  second.release();
  CHECK(viommu_hold(machine.reader.get(), &asked, 0, &answer, &hold) == VIOMMU_OK);
  CHECK(viommu_release(machine.engine.get(), hold) == VIOMMU_OK);
}

}  // namespace viommu::capi
