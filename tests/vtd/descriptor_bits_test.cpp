// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which descriptors exist where, and which of their bits and granularities are reserved: every type, both widths, every
// bit against tables as the specification prints them.
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/base/bits.hpp"
#include "engine/vtd/capability_layouts.hpp"
#include "engine/vtd/descriptors.hpp"
#include "engine/vtd/queue_geometry.hpp"

namespace viommu::vtd {
namespace {

constexpr std::uint64_t cap_48 = 0x80D2'008C'222F'0606 | mask_of(cap::mamv);  // any AM
constexpr std::uint64_t ecap_legacy = 0xF0'0F4A;                              // QI, IR, PT
constexpr std::uint64_t ecap_all =
    ecap_legacy | mask_of(ecap::dt, ecap::smts, ecap::adms, ecap::pasid, ecap::prs, ecap::hpts);

Capabilities capable(std::uint64_t ecap = ecap_all, std::uint64_t cap = cap_48) {
  return Capabilities::decode(0x30, cap, ecap, 48);
}
constexpr Descriptor bad_type = QueueErrorCode::invalid_type;
constexpr Descriptor bad_field = QueueErrorCode::reserved_field;

constexpr unsigned types = 0x80;
constexpr unsigned last_type = 0xA;

/// A well-formed descriptor of each type, page-selective where there are pages, and what is reserved in it.
struct Form {
  std::uint64_t low;
  std::uint64_t granularity;  ///< the bits of G
  std::uint64_t low_reserved;
  std::uint64_t high_reserved;
};
constexpr std::uint64_t all = ~std::uint64_t{0};
constexpr std::uint64_t type_bits = 0xE0F;
constexpr std::array<Form, last_type> forms{{
    {0x11, 0x30, 0xFFFC'0000'0000'F1C0, all},
    {0x32, 0x30, 0xFFFF'FFFF'0000'F100, 0xF80},
    {0x03, 0, 0xFFFF'0000'FFE0'F1F0, 0xFFE},  // PFSID without DIT
    {0x04, 0, 0xFFFF'0000'07FF'F1E0, all},
    {0x25, 0, 0x0000'0000'FFFF'F180, 0x3},  // PD without PDS
    {0x36, 0x30, 0xFFF0'0000'0000'F1C0, 0xF80},
    {0x17, 0x30, 0xFFF0'0000'0000'F1C0, all},
    {0x08, 0, 0xFFF0'0000'0000'F000, 0x7FE},  // PFSID without DIT
    {0x09, 0, 0xFFF0'0000'0000'01E0, 0xFFFF'FFFF'FFFF'F003},
    {0x3A, 0x30, 0xFFFF'FFFF'0000'F1C0, 0xF00},
}};
const Form& form_of(unsigned type) { return forms[type - 1]; }
std::uint64_t typed(unsigned type) {
  if (type >= 1 && type <= last_type) return form_of(type).low;
  return std::uint64_t{type % 16} | (std::uint64_t{type / 16} << 9);
}

/// Flips each bit of a form of `type`, but for those that make it another type or granularity.
void check_each_bit(unsigned type, const Form& form, TableMode mode, const Capabilities& capabilities) {
  const RawDescriptor good{{form.low, 0, 0, 0}};
  CHECK(decode_descriptor(good, mode, capabilities).index() != 0);
  const std::array<std::uint64_t, 4> reserved{form.low_reserved, form.high_reserved, all, all};
  for (unsigned word = 0; word < reserved.size(); ++word) {
    for (unsigned bit = 0; bit < 64; ++bit) {
      const std::uint64_t one = std::uint64_t{1} << bit;
      if (word == 0 && ((type_bits | form.granularity) & one) != 0) continue;
      RawDescriptor flipped = good;
      flipped.words[word] ^= one;
      const Descriptor decoded = decode_descriptor(flipped, mode, capabilities);
      CAPTURE(type, word, bit);
      CHECK((decoded == bad_field) == ((reserved[word] & one) != 0));
      CHECK(decoded != bad_type);
    }
  }
}

std::vector<unsigned> types_of(const Capabilities& capabilities, TableMode mode) {
  std::vector<unsigned> found;
  for (unsigned type = 0; type < types; ++type)
    if (decode_descriptor({{typed(type), 0, 0, 0}}, mode, capabilities) != bad_type) found.push_back(type);
  return found;
}

}  // namespace

TEST_CASE("the type is bits 11:9 over bits 3:0", "[vtd][Invalidation Descriptors][normative][B73]") {
  const TableMode mode = GENERATE(TableMode::legacy, TableMode::scalable, TableMode::abort_dma);
  const unsigned last = mode == TableMode::legacy ? 5 : last_type;
  for (unsigned type = 0; type < types; ++type) {
    const Descriptor decoded = decode_descriptor({{typed(type), 0, 0, 0}}, mode, capable());
    CAPTURE(type);
    CHECK((decoded != bad_type) == (type >= 1 && type <= last));
    CHECK(decoded != bad_field);
  }
}

TEST_CASE("which types there are goes by table mode and width of the queue",
          "[vtd][Invalidation Descriptors][normative][B71][B73]") {
  struct Answer {
    unsigned code;  ///< IQEI, 0 for none
    unsigned last_type;
  };
  struct Row {
    TableMode mode;
    std::array<Answer, 2> by_width;  ///< DW
  };
  constexpr std::array<Row, 4> table{{
      {TableMode::legacy, {{{0, 5}, {0, 5}}}},
      {TableMode::scalable, {{{5, 0}, {0, 10}}}},
      {TableMode::reserved, {{{7, 0}, {7, 0}}}},
      {TableMode::abort_dma, {{{5, 0}, {0, 10}}}},
  }};
  for (const Row& row : table) {
    for (const bool wide : {false, true}) {
      const QueueGeometry queue = QueueGeometry::of(with(QueueAddress{0x10'0000}, iqa::wide, wide));
      const Answer answer = row.by_width[wide ? 1 : 0];
      const std::optional problem = queue_problem(queue, 0x20, row.mode, capable());
      CAPTURE(static_cast<unsigned>(row.mode), wide);
      CHECK(static_cast<unsigned>(problem.value_or(QueueErrorCode::no_information)) == answer.code);
      if (problem) continue;
      const std::vector<unsigned> found = types_of(capable(), row.mode);
      CHECK(found.size() == answer.last_type);
      CHECK(found.back() == answer.last_type);
    }
  }
}

TEST_CASE("a type whose feature is not offered does not exist", "[vtd][Invalidation Descriptors][normative][B73]") {
  using Types = std::vector<unsigned>;
  using enum TableMode;
  CHECK(types_of(capable(ecap_all & ~mask_of(ecap::dt)), scalable) == Types{1, 2, 4, 5, 6, 7, 9, 10});
  CHECK(types_of(capable(ecap_all & ~mask_of(ecap::ir)), scalable) == Types{1, 2, 3, 5, 6, 7, 8, 9, 10});
  CHECK(types_of(capable(ecap_all & ~mask_of(ecap::prs)), scalable) == Types{1, 2, 3, 4, 5, 6, 7, 8, 10});
  CHECK(types_of(capable(ecap_all & ~mask_of(ecap::hpts)), scalable) == Types{1, 2, 3, 4, 5, 6, 7, 8, 9});
  // Requests without a PASID go by RID_PASID, so the caches of PASID entries are there without requests that name one.
  CHECK(types_of(capable(ecap_all & ~mask_of(ecap::pasid)), scalable) == Types{1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  CHECK(types_of(capable(ecap_legacy), legacy) == Types{1, 2, 4, 5});
  CHECK(types_of(capable(0xF42), legacy) == Types{1, 2, 5});
}

TEST_CASE("every reserved bit stops the queue by itself", "[vtd][Invalidation Descriptors][normative]") {
  const TableMode mode = GENERATE(TableMode::legacy, TableMode::scalable);
  const unsigned last = mode == TableMode::legacy ? 5 : last_type;
  for (unsigned type = 1; type <= last; ++type) check_each_bit(type, form_of(type), mode, capable());
  SECTION("with DIT the throttling function is a value") {
    const Capabilities throttling = capable(ecap_all | mask_of(ecap::dit));
    Form device_tlb = form_of(3);
    device_tlb.low_reserved = 0x000F'0000'FFE0'01F0;
    check_each_bit(3, device_tlb, mode, throttling);
    Form pasid_device_tlb = form_of(8);
    pasid_device_tlb.low_reserved = 0;
    if (last == last_type) check_each_bit(8, pasid_device_tlb, mode, throttling);
  }
  SECTION("with PDS page drain is a value") {
    Form wait = form_of(5);
    wait.low_reserved = 0xFFFF'F100;
    check_each_bit(5, wait, mode, capable(ecap_all | mask_of(ecap::pds)));
  }
}

TEST_CASE("a type that does not exist is said to be that, whatever else is wrong",
          "[vtd][Invalidation Descriptors][normative]") {
  CHECK(decode_descriptor({{0x06, 0, 1, 0}}, TableMode::legacy, capable()) == bad_type);
  CHECK(decode_descriptor({{0x03, 0, 1, 0}}, TableMode::legacy, capable(ecap_legacy)) == bad_type);
  CHECK(decode_descriptor({{0x0B, 0, 0, 1}}, TableMode::scalable, capable()) == bad_type);
  CHECK(decode_descriptor({{all, all, all, all}}, TableMode::scalable, capable()) == bad_type);
  CHECK(decode_descriptor({}, TableMode::legacy, capable()) == bad_type);
}

TEST_CASE("granularities that mean nothing stop the queue", "[vtd][Invalidation Descriptors][normative]") {
  struct Row {
    unsigned type;
    std::array<bool, 4> exists;  ///< by G
  };
  constexpr std::array<Row, 5> table{{
      {1, {false, true, true, true}},
      {2, {false, true, true, true}},
      {6, {false, false, true, true}},
      {7, {true, true, false, true}},
      {10, {false, true, true, true}},
  }};
  for (const Row& row : table) {
    for (std::uint64_t granularity = 0; granularity < 4; ++granularity) {
      const RawDescriptor raw{{row.type | (granularity << 4), 0, 0, 0}};
      const Descriptor decoded = decode_descriptor(raw, TableMode::scalable, capable());
      CAPTURE(row.type, granularity);
      CHECK((decoded != bad_field) == row.exists[granularity]);
      CHECK(decoded != bad_type);
    }
  }
  SECTION("pages of a domain need PSI, those of a PASID do not") {
    const Capabilities no_pages = capable(ecap_all, cap_48 & ~mask_of(cap::psi));
    CHECK(decode_descriptor({{0x32, 0, 0, 0}}, TableMode::scalable, no_pages) == bad_field);
    CHECK(decode_descriptor({{0x36, 0, 0, 0}}, TableMode::scalable, no_pages) != bad_field);
  }
}

}  // namespace viommu::vtd
