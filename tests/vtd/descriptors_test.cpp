// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/vtd/descriptors.hpp"

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/queue_geometry.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606;
constexpr std::uint64_t ecap_remapping = 0xF0'0F4A;
constexpr std::uint64_t ecap_device_tlb = ecap_remapping | mask_of(ecap::dt);

Capabilities capable(std::uint64_t cap = cap_48, std::uint64_t ecap = ecap_device_tlb) {
  return Capabilities::decode(0x10, cap, ecap, 48);
}
Descriptor decode(std::uint64_t low, std::uint64_t high = 0, const Capabilities& capabilities = capable()) {
  return decode_descriptor({{low, high, 0, 0}}, TableMode::legacy, capabilities);
}
constexpr Descriptor bad_type = QueueErrorCode::invalid_type;
constexpr Descriptor bad_field = QueueErrorCode::reserved_field;

QueueGeometry ring(unsigned size, bool wide) {
  return QueueGeometry::of(with(with(QueueAddress{0x10'0000}, iqa::size, size), iqa::wide, wide));
}

}  // namespace

TEST_CASE("context-cache invalidations", "[vtd][Context-Cache Invalidate Descriptor][normative]") {
  using enum ContextGranularity;
  CHECK(decode(0x11) == Descriptor{ContextInvalidation{global, {}, {}, 0}});
  CHECK(decode(0x0000'0000'0007'0021) == Descriptor{ContextInvalidation{domain, {7}, {}, 0}});
  CHECK(decode(0x0002'0100'0007'0031) == Descriptor{ContextInvalidation{device, {7}, {0x0100}, 2}});
  CHECK(decode(0x01) == bad_field);
  SECTION("the function mask leaves out function bits from the top") {
    CHECK(ContextInvalidation{device, {}, {0x0100}, 0}.source_mask() == 0xFFFF);
    CHECK(ContextInvalidation{device, {}, {0x0100}, 1}.source_mask() == 0xFFFB);
    CHECK(ContextInvalidation{device, {}, {0x0100}, 2}.source_mask() == 0xFFF9);
    CHECK(ContextInvalidation{device, {}, {0x0100}, 3}.source_mask() == 0xFFF8);
    CHECK(ContextInvalidation{device, {}, {0x0103}, 3}.names({0x0106}));
    CHECK_FALSE(ContextInvalidation{device, {}, {0x0103}, 3}.names({0x010B}));
  }
  SECTION("domain id bits above the width of ND do not count") {
    const Capabilities narrow = capable(with(CapabilityRegister{cap_48}, cap::nd, 2).raw);
    CHECK(decode(0xFF07'0021, 0, narrow) == Descriptor{ContextInvalidation{domain, {7}, {}, 0}});
  }
}

TEST_CASE("IOTLB invalidations", "[vtd][IOTLB Invalidate Descriptor][normative]") {
  using enum IotlbGranularity;
  CHECK(decode(0xD2) == Descriptor{IotlbInvalidation{global, {}, all_iovas, false, true, true}});
  CHECK(decode(0x0007'00A2) == Descriptor{IotlbInvalidation{domain, {7}, all_iovas, false, true, false}});
  CHECK(decode(0x0007'0062) == Descriptor{IotlbInvalidation{domain, {7}, all_iovas, false, false, true}});
  CHECK(decode(0x0007'0032, 0x1234'5000) ==
        Descriptor{IotlbInvalidation{page, {7}, {{0x1234'5000}, {0x1234'5FFF}}, false, false, false}});
  SECTION("the address mask names an aligned block and the low address bits do not count") {
    CHECK(decode(0x0007'0032, 0x1234'5049) ==
          Descriptor{IotlbInvalidation{page, {7}, {{0x1220'0000}, {0x123F'FFFF}}, true, false, false}});
    CHECK(decode(0x0007'0032, 0x7FFF'F012) ==
          Descriptor{IotlbInvalidation{page, {7}, {{0x4000'0000}, {0x7FFF'FFFF}}, false, false, false}});
  }
  SECTION("address bits from MGAW on do not count") {
    CHECK(decode(0x0007'0032, 0xABCD'0000'0000'1000) ==
          Descriptor{IotlbInvalidation{page, {7}, {{0x1000}, {0x1FFF}}, false, false, false}});
  }
  SECTION("no granularity, an address mask above MAMV, and pages without PSI are invalid") {
    CHECK(decode(0x0007'0002) == bad_field);
    CHECK(decode(0x0007'0032, 19) == bad_field);
    const Capabilities no_pages = capable(cap_48 & ~mask_of(cap::psi));
    CHECK(decode(0x0007'0032, 0, no_pages) == bad_field);
    CHECK(decode(0x0007'0022, 63, no_pages) ==
          Descriptor{IotlbInvalidation{domain, {7}, all_iovas, false, false, false}});
  }
}

TEST_CASE("a page invalidation is decoded in line as it is in full", "[vtd][IOTLB Invalidate Descriptor][normative]") {
  const Capabilities units[] = {
      capable(),
      capable(cap_48 & ~mask_of(cap::psi)),
      capable(with(CapabilityRegister{cap_48}, cap::nd, 2).raw),
      capable(with(CapabilityRegister{cap_48}, cap::mamv, 63).raw),
  };
  for (const Capabilities& unit : units) {
    CAPTURE(unit.cap);
    unsigned taken = 0;
    const auto check = [&](const RawDescriptor& raw) {
      CAPTURE(raw.words);
      caches::PageScope pages{};
      const bool in_line = decode_pages(raw, unit, pages);
      const Descriptor whole = decode_descriptor(raw, TableMode::legacy, unit);
      const auto* const iotlb = std::get_if<IotlbInvalidation>(&whole);
      REQUIRE(in_line == (iotlb != nullptr && iotlb->granularity == IotlbGranularity::page));
      if (!in_line) return;
      ++taken;
      CHECK(pages.range == iotlb->pages);
      CHECK(pages.domain == iotlb->domain);
      CHECK(pages.keep_structures == iotlb->keep_structures);
    };
    const RawDescriptor good{{0xABCD'0032, 0xABCD'1234'5678'9000, 0, 0}};
    check(good);
    for (std::size_t word = 0; word < good.words.size(); ++word) {
      for (unsigned bit = 0; bit < 64; ++bit) {
        RawDescriptor changed = good;
        changed.words.at(word) ^= std::uint64_t{1} << bit;
        check(changed);
      }
    }
    for (std::uint64_t address_mask = 0; address_mask < 64; ++address_mask)
      check({{0xABCD'0032, 0x1234'5678'9040 | address_mask, 0, 0}});
    CHECK((taken != 0) == unit.page_selective);
  }
}

TEST_CASE("device-TLB invalidations", "[vtd][Device-TLB Invalidate Descriptor][normative]") {
  const auto with_pages = [](std::uint64_t first, std::uint64_t last) {
    return Descriptor{DeviceTlbInvalidation{{0x0100}, {0}, 3, {{first}, {last}}}};
  };
  constexpr std::uint64_t low = 0x0000'0100'0003'0003;
  CHECK(decode(low, 0x5000) == with_pages(0x5000, 0x5FFF));
  SECTION("with S the one bits from bit 12 on give the size") {
    CHECK(decode(low, 0x4001) == with_pages(0x4000, 0x5FFF));
    CHECK(decode(low, 0x5001) == with_pages(0x4000, 0x7FFF));
    CHECK(decode(low, 0x0000'0000'000F'F001) == with_pages(0, 0x1F'FFFF));
    CHECK(decode(low, 0x7FFF'FFFF'FFFF'F001) == with_pages(0, ~std::uint64_t{0}));
    CHECK(decode(low, 0xFFFF'FFFF'FFFF'F001) == with_pages(0, ~std::uint64_t{0}));
    CHECK(decode(low, 0x3FFF'FFFF'FFFF'F001) == with_pages(0, 0x7FFF'FFFF'FFFF'FFFF));
  }
  SECTION("the throttling function is reserved without DIT") {
    constexpr std::uint64_t throttled = low | 0x0120'0000'0000'3000;
    CHECK(decode(throttled, 0x5000) == bad_field);
    const Capabilities throttling = capable(cap_48, ecap_device_tlb | mask_of(ecap::dit));
    CHECK(decode(throttled, 0x5000, throttling) ==
          Descriptor{DeviceTlbInvalidation{{0x0100}, {0x0123}, 3, {{0x5000}, {0x5FFF}}}});
  }
  SECTION("without DT the type does not exist") {
    CHECK(decode(low, 0x5000, capable(cap_48, ecap_remapping)) == bad_type);
  }
}

TEST_CASE("interrupt entry cache invalidations", "[vtd][Interrupt Entry Cache Invalidate Descriptor][normative]") {
  CHECK(decode(0x04) == Descriptor{InterruptEntryInvalidation{true, 0, 0xFFFF}});
  CHECK(decode(0x0000'1235'0000'0014) == Descriptor{InterruptEntryInvalidation{false, 0x1235, 0x1235}});
  CHECK(decode(0x0000'1235'2000'0014) == Descriptor{InterruptEntryInvalidation{false, 0x1230, 0x123F}});
  CHECK(decode(0x0000'FFFF'7800'0014) == Descriptor{InterruptEntryInvalidation{false, 0x8000, 0xFFFF}});
  SECTION("an index mask above MHMV is invalid") {
    CHECK(decode(0x0000'1235'8000'0014) == bad_field);
    CHECK(decode(0x0000'1235'0800'0014, 0, capable(cap_48, ecap_remapping & ~mask_of(ecap::mhmv))) == bad_field);
    // Everything is named by the global form, whose mask does not count.
    CHECK(decode(0x0000'1235'8000'0004) == Descriptor{InterruptEntryInvalidation{true, 0, 0xFFFF}});
  }
  SECTION("without interrupt remapping the type does not exist") {
    CHECK(decode(0x04, 0, capable(cap_48, 0xF42)) == bad_type);
  }
}

TEST_CASE("wait descriptors", "[vtd][Invalidation Wait Descriptor][normative][B69]") {
  CHECK(decode(0x0000'0001'0000'0025, 0x7000) == Descriptor{Wait{false, true, false, false, 1, {0x7000}}});
  CHECK(decode(0xDEAD'BEEF'0000'0075, 0x7004) == Descriptor{Wait{true, true, true, false, 0xDEAD'BEEF, {0x7004}}});
  CHECK(decode(0x15) == Descriptor{Wait{true, false, false, false, 0, {}}});
  CHECK(decode(0x45) == Descriptor{Wait{false, false, true, false, 0, {}}});
  SECTION("one that asks for nothing is no error") { CHECK(decode(0x05) == Descriptor{Wait{}}); }
  SECTION("status address bits from the host address width on do not count") {
    CHECK(decode(0x25, 0xFFFF'0000'0000'7000) == Descriptor{Wait{false, true, false, false, 0, {0x7000}}});
  }
  SECTION("page drain is reserved without PDS") {
    CHECK(decode(0x85) == bad_field);
    const Capabilities drains = capable(cap_48, ecap_device_tlb | mask_of(ecap::pds));
    CHECK(decode(0x85, 0, drains) == Descriptor{Wait{false, false, false, true, 0, {}}});
  }
}

TEST_CASE("the ring is 2^QS pages", "[vtd][Invalidation Queue][normative]") {
  CHECK(ring(0, false).entries() == 256);
  CHECK(ring(0, true).entries() == 128);
  CHECK(ring(1, true).entries() == 256);
  CHECK(ring(7, false).entries() == 32768);
  CHECK(ring(7, false).size_bytes == 0x8'0000);
  CHECK(ring(3, false).base == Gpa{0x10'0000});
  CHECK(ring(3, false).entry_at(0x70) == Gpa{0x10'0070});
}

TEST_CASE("the head moves by one entry and wraps to 0", "[vtd][Invalidation Queue][B71][B80][QAM-1]") {
  const bool wide = GENERATE(false, true);
  const QueueGeometry queue = ring(0, wide);
  CHECK(queue.next(0) == (wide ? 32 : 16));
  std::uint32_t head = 0;
  for (std::uint32_t i = 1; i < queue.entries(); ++i) {
    head = queue.next(head);
    CHECK(head == i * queue.entry_bytes);
  }
  CHECK(queue.next(head) == 0);
}

TEST_CASE("the number of waiting entries is bounded by the ring", "[vtd][Invalidation Queue]") {
  const QueueGeometry queue = ring(0, false);
  CHECK(queue.waiting(0, 0) == 0);
  CHECK(queue.waiting(0, 0x20) == 2);
  CHECK(queue.waiting(0xFF0, 0x10) == 2);
  CHECK(queue.waiting(0x10, 0) == 255);
}

TEST_CASE("a tail outside the ring stops the queue", "[vtd][Invalidation Queue][B79]") {
  const Capabilities c = capable();
  const QueueGeometry queue = ring(0, false);
  CHECK(queue_problem(queue, 0xFF0, TableMode::legacy, c) == std::nullopt);
  CHECK(queue_problem(queue, 0x1000, TableMode::legacy, c) == QueueErrorCode::invalid_tail);
  CHECK(queue_problem(queue, 0x1010, TableMode::legacy, c) == QueueErrorCode::invalid_tail);
  CHECK(queue_problem(queue, 0x7'FFF0, TableMode::legacy, c) == QueueErrorCode::invalid_tail);
  CHECK(queue_problem(ring(7, false), 0x7'FFF0, TableMode::legacy, c) == std::nullopt);
}

TEST_CASE("the width of descriptors goes with table mode and capabilities", "[vtd][Invalidation Queue][B71]") {
  using enum TableMode;
  const Capabilities legacy_only = capable();
  const Capabilities with_scalable = capable(cap_48, ecap_remapping | mask_of(ecap::smts));
  const Capabilities with_abort = capable(cap_48, ecap_remapping | mask_of(ecap::adms));
  const QueueGeometry narrow = ring(0, false);
  const QueueGeometry wide = ring(0, true);
  CHECK(queue_problem(wide, 0x20, legacy, legacy_only) == QueueErrorCode::invalid_width);
  CHECK(queue_problem(wide, 0x20, legacy, with_scalable) == std::nullopt);
  CHECK(queue_problem(wide, 0x20, legacy, with_abort) == std::nullopt);
  CHECK(queue_problem(wide, 0x20, scalable, with_scalable) == std::nullopt);
  CHECK(queue_problem(narrow, 0x20, scalable, with_scalable) == QueueErrorCode::invalid_width);
  CHECK(queue_problem(narrow, 0x20, abort_dma, with_abort) == QueueErrorCode::invalid_width);
  SECTION("a table mode that does not exist comes first") {
    CHECK(queue_problem(narrow, 0x20, reserved, with_scalable) == QueueErrorCode::invalid_table_mode);
    CHECK(queue_problem(wide, 0x1010, reserved, with_scalable) == QueueErrorCode::invalid_table_mode);
    CHECK(queue_problem(narrow, 0x20, scalable, legacy_only) == QueueErrorCode::invalid_table_mode);
    CHECK(queue_problem(narrow, 0x20, abort_dma, with_scalable) == QueueErrorCode::invalid_table_mode);
  }
  SECTION("bit 4 of the tail belongs to no wide entry") {
    CHECK(queue_problem(wide, 0x10, legacy, with_scalable) == QueueErrorCode::misaligned_tail);
    CHECK(queue_problem(wide, 0x1010, legacy, with_scalable) == QueueErrorCode::misaligned_tail);
    CHECK(queue_problem(wide, 0x1000, legacy, with_scalable) == QueueErrorCode::invalid_tail);
  }
}

}  // namespace viommu::vtd
