// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The tables of scalable mode, against a second reading of the figures: bit arithmetic of its own, no layout shared.
#include "engine/vtd/pasid_walk.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "tests/support/random.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::vtd {
namespace {

using test::Random;
using test::SparseMemory;

constexpr std::uint64_t root_at = 0x1000;
constexpr std::uint64_t context_at = 0x2000;
constexpr std::uint64_t directory_at = 0x4000;  // up to 128 KiB
constexpr std::uint64_t table_at = 0x3'0000;    // behind the largest directory
constexpr unsigned haw = 46;

constexpr std::uint64_t bit(unsigned at) { return std::uint64_t{1} << at; }
constexpr std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) {
  return word >> low & ((high - low == 63) ? ~std::uint64_t{0} : bit(high - low + 1) - 1);
}

/// A unit by its registers: 48-bit and 57-bit second stage, MGAW 57, 16-bit domain ids.
struct Unit {
  std::uint64_t cap = 0xC000'0000'0000'0000 | (std::uint64_t{56} << 16) | (0xCU << 8) | 6;
  std::uint64_t ecap = bit(1) | bit(43);
  [[nodiscard]] Capabilities capabilities() const { return Capabilities::decode(0x60, cap, ecap, haw); }
};
// ECAP bits by name.
constexpr std::uint64_t dt = bit(2);
constexpr std::uint64_t pt = bit(6);
constexpr std::uint64_t sc = bit(7);
constexpr std::uint64_t mts = bit(25);
constexpr std::uint64_t nest = bit(26);
constexpr std::uint64_t prs = bit(29);
constexpr std::uint64_t srs = bit(31);
constexpr std::uint64_t eafs = bit(34);
constexpr std::uint64_t pss_15 = std::uint64_t{15} << 35;
constexpr std::uint64_t pasid_support = bit(40);
constexpr std::uint64_t ssads = bit(45);
constexpr std::uint64_t ssts = bit(46);
constexpr std::uint64_t fsts = bit(47);
constexpr std::uint64_t smpwcs = bit(48);
constexpr std::uint64_t rps = bit(49);
constexpr std::uint64_t rprivs = bit(53);
constexpr std::uint64_t ptrs = bit(56);
constexpr std::uint64_t fs5lp = bit(60);  // CAP
constexpr std::uint64_t caching_mode = bit(7);

Unit rich() {
  Unit unit;
  unit.cap |= fs5lp;
  unit.ecap |= dt | pt | sc | mts | nest | prs | srs | eafs | pss_15 | pasid_support | ssads | ssts | fsts | smpwcs |
               rps | rprivs | ptrs;
  return unit;
}
Unit poor() {
  Unit unit;
  unit.ecap |= pt | ssts | fsts | pss_15;
  return unit;
}

/// What the tables hold: the entries of one source and one PASID.
struct Tables {
  std::array<std::uint64_t, 2> root{};
  std::array<std::uint64_t, 4> context{};
  std::uint64_t directory = 0;
  std::array<std::uint64_t, 8> entry{};
};

struct Request {
  std::uint16_t source = 0x0310;
  std::optional<std::uint32_t> pasid;
  bool privileged = false;
};

/// Tables that lead `request` to an entry of that kind.
Tables good(std::uint64_t kind) {
  Tables tables;
  tables.root = {context_at | 1, (context_at + 0x1000) | 1};
  tables.context = {directory_at | 1, 0, 0, 0};
  tables.directory = table_at | 1;
  tables.entry[0] = 1 | 2U << 2 | kind << 6 | 0x11'1000;
  tables.entry[1] = 7;
  tables.entry[2] = 0x22'2000;
  return tables;
}

/// The sheet, read once more: fault code and FPD. Every structure is readable.
struct Expected {
  unsigned code = 0;
  bool fault_disable = false;
  bool elsewhere = false;  ///< a pointer leads to tables that were not filled in
};
constexpr std::uint64_t pointer = 0x3FFF'FFFF'F000;
Expected expect(const Unit& unit, const Tables& tables, const Request& request) {
  const auto has = [&](std::uint64_t feature) { return (unit.ecap & feature) != 0; };
  const std::uint64_t beyond = ~(bit(haw) - 1);
  const std::uint64_t root = tables.root[(request.source & 0x80) != 0 ? 1 : 0];
  if ((root & 1) == 0) return {0x39};
  if ((root & (0xFFE | beyond)) != 0) return {0x3A};
  if ((root & pointer) != ((request.source & 0x80) != 0 ? context_at + 0x1000 : context_at)) return {0, false, true};

  Expected expected;
  const std::uint64_t c0 = tables.context[0];
  const std::uint64_t c1 = tables.context[1];
  const auto fault = [&](unsigned code) {
    expected.code = code;
    return expected;
  };
  expected.fault_disable = (c0 & 2) != 0;
  if ((c0 & 1) == 0) return fault(0x41);
  std::uint64_t reserved = 0x1A0 | beyond;  // HPTE is never offered
  if (!has(dt)) reserved |= bit(2);
  if (!has(pasid_support)) reserved |= bit(3);
  if (!has(prs)) reserved |= bit(4);
  if (!has(ptrs)) reserved |= bit(6);
  std::uint64_t reserved_high = ~(bit(21) - 1);
  if (!has(rps)) reserved_high |= bit(20) - 1;
  if (!has(rprivs)) reserved_high |= bit(20);
  if ((c0 & reserved) != 0 || (c1 & reserved_high) != 0 || tables.context[2] != 0 || tables.context[3] != 0)
    return fault(0x42);
  const std::uint64_t rid_pasid = bits(c1, 19, 0);
  const std::uint64_t last = bit(static_cast<unsigned>(bits(c0, 11, 9)) + 13) - 1;
  if ((c0 & bit(4)) != 0 && (c0 & bit(2)) == 0) return fault(0x43);
  if (rid_pasid > last) return fault(0x43);
  if ((c0 & bit(6)) != 0 && (c0 & bit(3)) == 0 && !request.pasid) return fault(0x43);
  if (request.pasid) {
    if (*request.pasid >= bit(static_cast<unsigned>(bits(unit.ecap, 39, 35)) + 1)) return fault(0x89);
    if ((c0 & bit(3)) == 0) return fault(0x45);
    if (*request.pasid > last) return fault(0x46);
    if (*request.pasid == rid_pasid) return fault(0x48);
  }
  const bool privileged = request.pasid ? request.privileged : (c1 & bit(20)) != 0;

  expected.elsewhere = (c0 & pointer) != directory_at;
  if ((tables.directory & 2) != 0) expected.fault_disable = true;
  if ((tables.directory & 1) == 0) return fault(0x51);
  if ((tables.directory & (0xFFC | beyond)) != 0) return fault(0x52);

  if ((tables.directory & pointer) != table_at) expected.elsewhere = true;
  const auto& e = tables.entry;
  if ((e[0] & 2) != 0) expected.fault_disable = true;
  if ((e[0] & 1) == 0) return fault(0x59);
  const std::uint64_t kind = bits(e[0], 8, 6);
  const bool first = kind == 1 || kind == 3;
  const bool second = kind == 2 || kind == 3;
  std::uint64_t r0 = bit(5) | bit(10) | bit(11);
  if (second) r0 |= beyond | (has(ssads) ? 0 : bit(9)) | (has(ssts) ? 0 : 0x1C | bit(9) | ~std::uint64_t{0xFFF});
  std::uint64_t r1 = 0x007F'0000 | 0xF800'0000;
  if (!has(smpwcs)) r1 |= bit(23);
  if (!has(sc)) r1 |= bit(24);
  if (!has(mts)) r1 |= bit(25) | 0xFFFF'FFFF'0000'0000 | (second ? bit(26) : 0);
  std::uint64_t r2 = 2 | 0xF00;
  if (!has(srs)) r2 |= 1;
  if (!has(fsts)) r2 |= 0xC | (first ? bit(4) | ~std::uint64_t{0xFFF} : 0);
  if (first) r2 |= beyond | (has(eafs) ? 0 : bit(7));
  bool bad = (e[0] & r0) != 0 || (e[1] & r1) != 0 || (e[2] & r2) != 0;
  for (unsigned i = 3; i < 8; ++i) bad = bad || e[i] != 0;
  if ((unit.cap & caching_mode) != 0 && bits(e[1], 15, 0) == 0) bad = true;
  if (bad) return fault(0x5A);
  const bool offered =
      (kind == 1 && has(fsts)) || (kind == 2 && has(ssts)) || (kind == 3 && has(nest)) || (kind == 4 && has(pt));
  if (!offered) return fault(0x5B);
  const std::uint64_t width = bits(e[0], 4, 2);
  if (second && width != 2 && width != 3) return fault(0x5B);
  const std::uint64_t mode = bits(e[2], 3, 2);
  if (first && (mode > 1 || (mode == 1 && (unit.cap & fs5lp) == 0))) return fault(0x5B);
  if (kind == 3 && (e[2] & ~std::uint64_t{0xFFF}) >= bit(width == 2 ? 48 : 57)) return fault(0x5B);
  if (privileged && (e[2] & 1) == 0) return fault(0x5D);
  return fault(0);
}

/// Puts the entries where `request` will look for them.
class Machine {
 public:
  Machine() { ram_.add_ram(0, 0x400000); }
  SparseMemory& ram() { return ram_; }

  void put(const Unit& unit, const Tables& tables, const Request& request) {
    const std::uint64_t source = request.source;
    store(root_at + 16 * (source >> 8), tables.root);
    store(context_at + ((source & 0x80) != 0 ? 0x1000 : 0) + 32 * (source & 0x7F), tables.context);
    const std::uint64_t rid_pasid = (unit.ecap & rps) != 0 ? bits(tables.context[1], 19, 0) : 0;
    const std::uint64_t pasid = request.pasid.value_or(static_cast<std::uint32_t>(rid_pasid));
    // Only what stands where the right bits of the PASID say is there.
    REQUIRE(ram_.store_u64(last_directory_entry_, 0));
    last_directory_entry_ = directory_at + 8 * (pasid >> 6);
    REQUIRE(ram_.store_u64(last_directory_entry_, tables.directory));
    store(table_at + 64 * (pasid & 0x3F), tables.entry);
  }
  PasidWalk look(const Unit& unit, const Request& request) {
    const Capabilities capabilities = unit.capabilities();
    PasidRequest asked{{request.source}, std::nullopt, request.privileged};
    if (request.pasid) asked.pasid = Pasid{*request.pasid};
    return walk_pasid(memory_, capabilities, {root_at}, asked);
  }
  PasidWalk walk(const Unit& unit, const Tables& tables, const Request& request) {
    put(unit, tables, request);
    return look(unit, request);
  }
  void check(const Unit& unit, const Tables& tables, const Request& request) {
    const PasidWalk walked = walk(unit, tables, request);
    const Expected expected = expect(unit, tables, request);
    if (expected.elsewhere) return;
    if (static_cast<unsigned>(walked.fault) == expected.code && walked.fault_disable == expected.fault_disable) return;
    CAPTURE(unit.ecap, tables.context, tables.directory, tables.entry, request.pasid.value_or(0xFFFFFFFF),
            request.privileged);
    CHECK(static_cast<unsigned>(walked.fault) == expected.code);
    CHECK(walked.fault_disable == expected.fault_disable);
  }

 private:
  template <std::size_t count>
  void store(std::uint64_t at, const std::array<std::uint64_t, count>& words) {
    for (std::size_t i = 0; i < count; ++i) REQUIRE(ram_.store_u64(at + 8 * i, words[i]));
  }
  static std::int32_t read(void* self, std::uint64_t gpa, void* data, std::uint64_t size) {
    return static_cast<Machine*>(self)->ram_.read(gpa, {static_cast<std::byte*>(data), size}) ? 0 : -1;
  }

  SparseMemory ram_;
  std::uint64_t last_directory_entry_ = directory_at;
  GuestMemory memory_{MemoryCallbacks{this, &read}};
};

constexpr std::array<std::uint64_t, 4> kinds{1, 2, 3, 4};

}  // namespace

TEST_CASE("a PASID table entry of each kind says what translates", "[vtd][pasid][Scalable-Mode PASID Table Entry]") {
  Machine machine;
  Tables tables = good(3);
  tables.entry[0] |= bit(9);
  tables.entry[1] |= bit(23) | bit(24);
  tables.entry[2] |= 1 | bit(4) | bit(7) | bit(2);
  tables.context[0] |= bit(3);
  const Request request{0x0390, 0x1234, true};
  PasidWalk walked = machine.walk(rich(), tables, request);
  REQUIRE(walked.fault == FaultReason::none);
  CHECK(walked.context.pasid == Pasid{0x1234});
  CHECK(walked.context.privileged);
  CHECK(walked.context.translation == PasidTranslation::nested);
  CHECK(walked.context.domain == DomainId{7});
  CHECK(walked.context.width == 2);
  CHECK(walked.context.second_root == Gpa{0x11'1000});
  CHECK(walked.context.first_root == Gpa{0x22'2000});
  CHECK(walked.context.five_levels);
  CHECK(walked.context.second_dirty);
  CHECK(walked.context.walk_snooped);
  CHECK(walked.context.page_snooped);
  CHECK(walked.context.write_protect);
  CHECK(walked.context.extended_accessed);

  tables = good(2);
  tables.context[1] = 0x42 | bit(20);  // requests without PASID
  tables.entry[2] = 1;
  walked = machine.walk(rich(), tables, {});
  REQUIRE(walked.fault == FaultReason::none);
  CHECK(walked.context.pasid == Pasid{0x42});
  CHECK(walked.context.privileged);
  CHECK(walked.context.translation == PasidTranslation::second_stage);
  CHECK_FALSE(walked.context.second_dirty);

  tables.context[1] = 0;
  for (const std::uint64_t kind : std::array<std::uint64_t, 2>{1, 4}) {
    tables.entry[0] = 1 | kind << 6;
    walked = machine.walk(rich(), tables, {});
    REQUIRE(walked.fault == FaultReason::none);
    CHECK(static_cast<std::uint64_t>(walked.context.translation) == kind);
    CHECK(walked.context.pasid == Pasid{0});
  }
}

TEST_CASE("what a request has no use for does not tell its address space from another one", "[vtd][pasid]") {
  const Capabilities capabilities = rich().capabilities();
  const auto same = [&](const PasidContext& one, const PasidContext& other) {
    return key_of(one, capabilities) == key_of(other, capabilities);
  };
  PasidContext plain;
  plain.width = 2;
  const auto with = [&](PasidTranslation translation, auto change) {
    PasidContext context = plain;
    context.translation = translation;
    change(context);
    return context;
  };
  const auto nothing = [](PasidContext&) {};
  const auto protect = [](PasidContext& context) { context.write_protect = true; };
  const auto snoop = [](PasidContext& context) { context.walk_snooped = true; };
  using enum PasidTranslation;
  for (const PasidTranslation kind : {first_stage, second_stage, nested, pass_through}) {
    CAPTURE(static_cast<unsigned>(kind));
    CHECK(same(with(kind, nothing), with(kind, protect)));  // of a user
    CHECK(same(with(kind, nothing), with(kind, snoop)) == (kind == second_stage || kind == pass_through));
  }
  plain.privileged = true;
  CHECK_FALSE(same(with(first_stage, nothing), with(first_stage, protect)));
  CHECK(same(with(second_stage, nothing), with(second_stage, protect)));
  plain.second_dirty = true;
  CHECK_FALSE(same(with(second_stage, nothing), with(second_stage, snoop)));
}

TEST_CASE("each bit of the scalable tables is checked as the figures say",
          "[vtd][pasid][Scalable-Mode Context Entry][Scalable-Mode PASID Table Entry][normative][B26][B27][RVM-9]") {
  Machine machine;
  for (const Unit& unit : {rich(), poor()}) {
    for (const std::uint64_t kind : kinds) {
      for (const auto pasid : {std::optional<std::uint32_t>{}, std::optional<std::uint32_t>{0x81}}) {
        const Request request{0x0310, pasid};
        Tables tables = good(kind);
        if (pasid) tables.context[0] |= bit(3);
        machine.check(unit, tables, request);
        const auto flip_each = [&](std::span<std::uint64_t> words) {
          for (std::uint64_t& word : words) {
            for (unsigned at = 0; at < 64; ++at) {
              word ^= bit(at);
              machine.check(unit, tables, request);
              word ^= bit(at);
            }
          }
        };
        flip_each(std::span{tables.root}.first(1));
        flip_each(tables.context);
        flip_each({&tables.directory, 1});
        flip_each(tables.entry);
      }
    }
  }
}

TEST_CASE("random scalable tables end as a second reading of the figures says", "[vtd][pasid][property]") {
  Machine machine;
  Random random{31};
  std::array<unsigned, 256> seen{};
  for (unsigned round = 0; round < 60'000; ++round) {
    Unit unit = random.chance(3, 4) ? rich() : poor();
    for (std::uint64_t i = random.below(3); i > 0; --i)
      unit.ecap ^= random.pick(std::array{dt, pt, sc, mts, nest, prs, srs, eafs, pasid_support, ssads, ssts, fsts,
                                          smpwcs, rps, rprivs, ptrs});
    if (random.chance(1, 4)) unit.cap ^= fs5lp;
    if (random.chance(1, 4)) unit.cap |= caching_mode;
    Tables tables = good(random.below(6));
    tables.context[0] |= random.below(8) << 9 | (random.chance(1, 2) ? bit(3) : 0);
    if (random.chance(1, 2)) tables.context[1] |= random.below(1 << 14);
    for (std::uint64_t i = random.below(5); i > 0; --i) {
      const std::uint64_t change = bit(static_cast<unsigned>(random.below(64)));
      switch (random.below(6)) {
        case 0:  tables.context[0] ^= bit(static_cast<unsigned>(random.below(12))); break;
        case 1:  tables.context[random.below(2)] ^= change; break;
        case 2:  tables.directory ^= bit(static_cast<unsigned>(random.below(4))); break;
        case 3:  tables.entry[2] ^= bit(static_cast<unsigned>(random.below(12))); break;
        case 4:  tables.entry[random.below(3)] ^= change; break;
        default: tables.entry[0] ^= bit(static_cast<unsigned>(random.below(12))); break;
      }
    }
    Request request{random.pick(std::array<std::uint16_t, 3>{0x0310, 0x0390, 0xFFFF}), {}, random.chance(1, 4)};
    if (random.chance(1, 2))
      request.pasid = static_cast<std::uint32_t>(random.below(random.chance(1, 2) ? 1 << 20 : 1 << 13));
    if (request.pasid && random.chance(1, 16))
      request.pasid = static_cast<std::uint32_t>(bits(tables.context[1], 19, 0));
    machine.check(unit, tables, request);
    ++seen[expect(unit, tables, request).code];
  }
  for (const unsigned code :
       {0x00U, 0x41U, 0x42U, 0x43U, 0x45U, 0x46U, 0x48U, 0x51U, 0x52U, 0x59U, 0x5AU, 0x5BU, 0x5DU, 0x89U}) {
    CAPTURE(code);
    CHECK(seen[code] > 20);
  }
}

TEST_CASE("what belongs to a stage that is not there is reserved in a PASID entry, before its kind counts",
          "[vtd][pasid][Scalable-Mode PASID Table Entry][normative]") {
  Machine machine;
  const auto fault = [&](const Unit& unit, const Tables& tables) {
    return static_cast<unsigned>(machine.walk(unit, tables, {}).fault);
  };
  Unit one_stage = poor();
  one_stage.ecap &= ~fsts;
  Tables tables = good(2);
  CHECK(fault(one_stage, tables) == 0);  // FSPTPTR is ignored
  tables.entry[2] |= bit(2);             // FSPM is not
  CHECK(fault(one_stage, tables) == 0x5A);
  tables = good(1);
  CHECK(fault(one_stage, tables) == 0x5A);
  tables.entry[2] = bit(4);  // WPE
  CHECK(fault(one_stage, tables) == 0x5A);
  tables.entry[2] = 0;
  CHECK(fault(one_stage, tables) == 0x5B);

  one_stage = poor();
  one_stage.ecap &= ~ssts;
  tables = good(1);
  CHECK(fault(one_stage, tables) == 0);  // AW and SSPTPTR are ignored
  tables = good(2);
  CHECK(fault(one_stage, tables) == 0x5A);
  for (const std::uint64_t field : std::array<std::uint64_t, 3>{bit(2), bit(9), bit(12)}) {  // AW, SSADE, SSPTPTR
    one_stage.ecap |= ssads;
    tables.entry[0] = 1 | 2U << 6 | field;
    CHECK(fault(one_stage, tables) == 0x5A);
  }
  tables.entry[0] = 1 | 2U << 6;
  CHECK(fault(one_stage, tables) == 0x5B);
}

TEST_CASE("what of the scalable tables cannot be read faults at its place", "[vtd][pasid]") {
  const auto without = [](std::uint64_t at, std::uint64_t length) {
    Machine machine;
    machine.put(rich(), good(2), {});
    machine.ram().remove_ram(at, length);
    return machine.look(rich(), {}).fault;
  };
  const std::uint64_t context = context_at + std::uint64_t{32} * 0x10;
  CHECK(without(0, 8) == FaultReason::none);
  CHECK(without(root_at, 0x1000) == FaultReason::scalable_root_unreadable);
  CHECK(without(context, 16) == FaultReason::scalable_context_unreadable);
  CHECK(without(context + 16, 16) == FaultReason::scalable_context_unreadable);
  CHECK(without(directory_at, 8) == FaultReason::pasid_directory_unreadable);
  for (std::uint64_t at = table_at; at < table_at + 64; at += 16)
    CHECK(without(at, 16) == FaultReason::pasid_entry_unreadable);
}

}  // namespace viommu::vtd
