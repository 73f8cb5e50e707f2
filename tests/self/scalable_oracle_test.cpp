// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The oracle of scalable mode decides what is right, so each of its rules is checked here against a case worked out by
// hand.
#include "tests/support/scalable_oracle.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/paths.hpp"
#include "tests/support/sparse_memory.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;
using oracle::Exchanged;

constexpr std::uint64_t bit(unsigned at) { return std::uint64_t{1} << at; }

// Where everything lies. A first stage of 4 levels maps 0x7000 to 0x50000, a second one of 3 levels 0x50000 to 0x60000
// and the tables of the first one to themselves.
constexpr std::uint64_t root = 0x1000;
constexpr std::uint64_t context = 0x2000 + 32ULL * 0x10;
constexpr std::uint64_t directory = 0x3000;
constexpr std::uint64_t entry = 0x4000;
constexpr std::uint64_t entry_of_5 = entry + 5ULL * 64;
constexpr std::uint64_t first_top = 0x10000;  // and the tables below it in the pages that follow
constexpr std::uint64_t first_leaf = 0x13000 + 8ULL * 7;
constexpr std::uint64_t second_top = 0x20000;
constexpr std::uint64_t second_leaf = 0x22000 + 8ULL * 0x50;
constexpr std::uint64_t second_of_first_top = 0x22000 + 8ULL * 0x10;
constexpr std::uint64_t second_of_first_leaf = 0x22000 + 8ULL * 0x13;
constexpr std::uint64_t hole = 0x4000'0000;

constexpr std::uint64_t accessed = bit(5);
constexpr std::uint64_t dirty = bit(6);
constexpr std::uint64_t second_accessed = bit(8);
constexpr std::uint64_t second_dirty = bit(9);

SparseMemory ram() {
  SparseMemory memory;
  memory.add_ram(0, 0x100000);
  return memory;
}

/// Every feature but SSIRWE, device TLBs and memory types; 46-bit memory addresses.
struct Guest {
  explicit Guest(std::uint64_t kind, std::uint64_t low = 0) {
    unit.cap = bit(60) | bit(56) | 3ULL << 34 | bit(22) | 56ULL << 16 | 0xE00 | 6;
    unit.ecap = bit(6) | bit(26) | bit(31) | bit(34) | 19ULL << 35 | bit(40) | bit(43) | bit(45) | bit(46) | bit(47) |
                bit(48) | bit(49) | bit(52) | bit(53);
    unit.haw = 46;
    unit.translation_enabled = true;
    unit.root_table = root | 1 << 10;
    put(root + 48, 0x2000 | 1);
    put(context, directory | 8 | 1);
    put(directory, entry | 1);
    for (const std::uint64_t at : {entry, entry_of_5}) {
      put(at, second_top | low | kind << 6 | 1 << 2 | 1);
      put(at + 8, bit(23) | 7);
      put(at + 16, first_top | 1);
    }
    for (std::uint64_t table = first_top; table < 0x13000; table += 0x1000) put(table, (table + 0x1000) | 7);
    put(first_leaf, 0x50000 | 7);
    put(second_top, 0x21000 | 3);
    put(0x21000, 0x22000 | 3);
    for (std::uint64_t page = 0x10; page < 0x14; ++page) put(0x22000 + 8 * page, page << 12 | 3);
    put(second_leaf, 0x60000 | 3);
  }

  Answer ask(const oracle::Request& request) {
    return oracle::translate_scalable(
        unit, [this](std::uint64_t gpa) { return memory.load_u64(gpa); },
        [this](std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
          if (losses > 0) return --losses, Exchanged::lost;
          if (memory.load_u64(gpa) != expected) return Exchanged::no_memory;
          memory.store_u64(gpa, desired);
          return Exchanged::done;
        },
        request);
  }
  oracle::Completion complete(const oracle::Request& request) {
    return oracle::translate_for_device(
        unit, [this](std::uint64_t gpa) { return memory.load_u64(gpa); },
        [this](std::uint64_t gpa, std::uint64_t, std::uint64_t desired) {
          memory.store_u64(gpa, desired);
          return Exchanged::done;
        },
        request);
  }
  Answer ask(std::uint64_t iova, bool write = false) {
    return ask({.source_id = 0x310, .iova = iova, .read = !write, .write = write});
  }
  Answer ask_by_pasid(std::uint32_t pasid, bool privileged = false, bool execute = false) {
    return ask({.source_id = 0x310,
                .pasid = pasid,
                .iova = 0x7000,
                .read = true,
                .privileged = privileged,
                .execute = execute});
  }
  [[nodiscard]] std::uint64_t word(std::uint64_t gpa) const { return memory.load_u64(gpa).value_or(0); }
  void put(std::uint64_t gpa, std::uint64_t value) { memory.store_u64(gpa, value); }
  /// The reason that `request` is blocked with while that word is another one.
  unsigned with(std::uint64_t gpa, std::uint64_t value, const oracle::Request& request) {
    const std::uint64_t before = word(gpa);
    put(gpa, value);
    const unsigned reason = ask(request).reason;
    put(gpa, before);
    return reason;
  }

  oracle::Unit unit;
  SparseMemory memory = ram();
  unsigned losses = 0;
};

constexpr oracle::Request read_by_first{.source_id = 0x310, .iova = 0x7000, .read = true};
constexpr oracle::Request write_by_first{.source_id = 0x310, .iova = 0x7000, .write = true};
constexpr oracle::Request read_by_second{.source_id = 0x310, .iova = 0x50000, .read = true};
constexpr oracle::Request write_by_second{.source_id = 0x310, .iova = 0x50000, .write = true};

}  // namespace

TEST_CASE("the oracle of scalable mode shares no header with the library", "[oracle]") {
  for (const char* name : {"scalable_oracle.hpp", "scalable_oracle.cpp"}) {
    std::ifstream file{source_folder() / "tests/support" / name};
    REQUIRE(file);
    for (std::string line; std::getline(file, line);) {
      if (!line.starts_with("#include")) continue;
      CAPTURE(name, line);
      CHECK((line.find('<') != line.npos || line == "#include \"tests/support/oracle.hpp\"" ||
             line == "#include \"tests/support/scalable_oracle.hpp\""));
      CHECK(line.find("viommu/") == line.npos);
    }
  }
}

TEST_CASE("the oracle of scalable mode goes the way of each kind and leaves its flags", "[oracle]") {
  SECTION("first stage") {
    Guest guest{1};
    const Answer read = guest.ask(0x7123);
    CHECK(read.kind == Answer::translated);
    CHECK(read.gpa == 0x50123);
    CHECK(read.page_mask == 0xFFF);
    CHECK((read.read && !read.write));  // D is clear
    for (std::uint64_t table = first_top; table < 0x13000; table += 0x1000)
      CHECK(guest.word(table) == (table + 0x1000 + 7 + accessed));
    CHECK(guest.word(first_leaf) == 0x50007 + accessed);
    CHECK(guest.ask(0x7123, true).write);
    CHECK(guest.word(first_leaf) == 0x50007 + accessed + dirty);
    CHECK(guest.ask(0x7123).write);
    CHECK(guest.ask_by_pasid(5).gpa == 0x50000);
    guest.put(entry + 16, guest.word(entry + 16) | bit(7));  // EAFE
    static_cast<void>(guest.ask(0x7000));
    CHECK(guest.word(first_top) == 0x11007 + accessed + bit(10));
    guest.put(0x12000, 0x40000087 | bit(12));  // 2 MiB, with PAT
    CHECK(guest.ask(0x7123).gpa == 0x40007123);
    CHECK(guest.ask(0x7123).page_mask == 0x1FFFFF);
    guest.put(0x11000, 0x80000087);
    CHECK(guest.ask(0x7123).gpa == 0x80007123);
  }
  SECTION("second stage") {
    Guest guest{2};
    const Answer read = guest.ask(0x50123);
    CHECK(read.gpa == 0x60123);
    CHECK((read.read && read.write));
    CHECK(guest.word(second_leaf) == 0x60003);
    Guest flags{2, bit(9)};
    CHECK_FALSE(flags.ask(0x50123).write);
    CHECK(flags.word(second_top) == 0x21003 + second_accessed);
    CHECK(flags.word(second_leaf) == 0x60003 + second_accessed);
    CHECK(flags.ask(0x50123, true).write);
    CHECK(flags.word(second_leaf) == 0x60003 + second_accessed + second_dirty);
    CHECK(flags.word(second_top) == 0x21003 + second_accessed);
  }
  SECTION("nested") {
    Guest guest{3};
    CHECK(guest.ask(0x7123).gpa == 0x60123);
    CHECK(guest.word(first_leaf) == 0x50007 + accessed);
    CHECK(guest.word(second_leaf) == 0x60003);
    CHECK(guest.ask(0x7123, true).write);
    guest.put(0x21000, 0x83);  // 2 MiB where they are: the smaller page counts
    CHECK(guest.ask(0x7123).gpa == 0x50123);
    CHECK(guest.ask(0x7123).page_mask == 0xFFF);
    Guest flags{3, bit(9)};
    CHECK_FALSE(flags.ask(0x7123).write);
    CHECK(flags.word(second_of_first_top) == 0x10003 + second_accessed + second_dirty);  // as an access to an entry
    CHECK(flags.word(second_leaf) == 0x60003 + second_accessed);
    CHECK(flags.ask(0x7123, true).write);
    CHECK(flags.word(second_leaf) == 0x60003 + second_accessed + second_dirty);
  }
  SECTION("pass-through") {
    Guest guest{4};
    CHECK(guest.ask(0x7123).kind == Answer::identity);
    CHECK(guest.ask(0x7123).gpa == 0x7123);
    CHECK(guest.ask(bit(46) - 1, true).kind == Answer::identity);
    CHECK(guest.ask(bit(46)).reason == 0x83);
    CHECK(guest.ask({.source_id = 0x310, .pasid = 5, .iova = 0xFEE00000, .read = true}).reason == 0x87);
  }
}

TEST_CASE("the oracle of scalable mode gives each fault its reason", "[oracle]") {
  SECTION("mode") {
    Guest guest{1};
    guest.unit.root_table = root | 2 << 10;
    CHECK(guest.ask(0x7000).reason == 0x30);
    guest.unit.root_table = root | 3 << 10;
    CHECK(guest.ask(0x7000).reason == 0x33);
    CHECK(guest.ask(0xFEE00000).reason == 0x29);
    guest.unit.ecap &= ~(bit(52) | bit(43));
    CHECK(guest.ask(0x7000).reason == 0x30);
    guest.unit.root_table = root | 1 << 10;
    CHECK(guest.ask(0x7000).reason == 0x30);
    guest.unit.root_table = root;
    CHECK(guest.ask_by_pasid(5).reason == 0x31);
    CHECK(guest.ask(0x7000).reason == 0x2);  // legacy mode goes another way
    guest.unit.translation_enabled = false;
    CHECK(guest.ask(0x7000).kind == Answer::identity);
  }
  SECTION("root and context") {
    Guest guest{1};
    const auto at_root = [&](std::uint64_t value) { return guest.with(root + 48, value, read_by_first); };
    const auto at_context = [&](std::uint64_t value) { return guest.with(context, value, read_by_first); };
    CHECK(at_root(0x2000) == 0x39);
    CHECK(at_root(0x2003) == 0x3A);
    CHECK(at_root(0x2001 | bit(46)) == 0x3A);
    CHECK(at_root(hole | 1) == 0x40);
    CHECK(guest.with(root + 56, 2, read_by_first) == 0);  // the other half
    CHECK(guest.ask({.source_id = 0x390, .iova = 0x7000, .read = true}).reason == 0x39);
    guest.put(root + 56, 0x2001);
    CHECK(guest.ask({.source_id = 0x390, .iova = 0x7000, .read = true}).reason == 0);
    CHECK(at_context(directory) == 0x41);
    for (const unsigned reserved : {2U, 4U, 5U, 6U, 7U, 8U, 46U, 63U})
      CHECK(at_context(directory | 1 | bit(reserved)) == 0x42);
    for (const unsigned reserved : {21U, 63U}) CHECK(guest.with(context + 8, bit(reserved), read_by_first) == 0x42);
    CHECK(guest.with(context + 16, 1, read_by_first) == 0x42);
    CHECK(guest.with(context + 8, 0x2000, read_by_first) == 0x43);  // beyond PDTS
    CHECK(at_context(hole | 1) == 0x50);
    CHECK(guest.ask_by_pasid(0).reason == 0x48);
    CHECK(guest.ask_by_pasid(0x2000).reason == 0x46);
    guest.unit.ecap -= 4ULL << 35;  // PASIDs of 16 bits
    CHECK(guest.ask_by_pasid(0x10000).reason == 0x89);
    CHECK(guest.with(context, directory | 1, {.source_id = 0x310, .pasid = 5, .read = true}) == 0x45);
    guest.unit.ecap &= ~bit(49);
    CHECK(guest.with(context + 8, 1, read_by_first) == 0x42);  // no RPS
    guest.unit.root_table = hole | 1 << 10;
    CHECK(guest.ask(0x7000).reason == 0x38);
    guest.unit.major_version = 8;
    CHECK(guest.ask_by_pasid(5, false, true).reason == 0x34);
  }
  SECTION("PASID structures") {
    Guest guest{1};
    const auto at_entry = [&](unsigned word, std::uint64_t value) {
      return guest.with(entry + std::uint64_t{8} * word, value, read_by_first);
    };
    CHECK(guest.with(directory, entry, read_by_first) == 0x51);
    CHECK(guest.with(directory, entry | 5, read_by_first) == 0x52);
    CHECK(guest.with(directory, hole | 1, read_by_first) == 0x58);
    CHECK(at_entry(0, 0) == 0x59);
    for (const unsigned reserved : {5U, 10U, 11U}) CHECK(at_entry(0, 1 << 6 | 1 | bit(reserved)) == 0x5A);
    CHECK(at_entry(0, 1 << 6 | 1 | bit(63) | bit(9) | 7 << 2) == 0);  // of a second stage
    CHECK(at_entry(0, 2 << 6 | 1 << 2 | 1 | bit(63)) == 0x5A);
    for (const unsigned reserved : {16U, 22U, 24U, 25U, 27U, 31U, 32U, 63U})
      CHECK(at_entry(1, 7 | bit(reserved)) == 0x5A);
    for (const unsigned reserved : {1U, 8U, 11U, 46U}) CHECK(at_entry(2, first_top | 1 | bit(reserved)) == 0x5A);
    for (unsigned word = 3; word < 8; ++word) CHECK(at_entry(word, 1) == 0x5A);
    for (const std::uint64_t kind : {0U, 5U, 6U, 7U}) CHECK(at_entry(0, kind << 6 | 1) == 0x5B);
    CHECK(at_entry(0, 2 << 6 | 4 << 2 | 1) == 0x5B);  // AW
    CHECK(at_entry(2, first_top | 8) == 0x5B);        // FSPM
    CHECK(at_entry(0, 3 << 6 | 1 << 2 | 1) == 0x79);  // an empty second stage at 0
    guest.put(entry + 16, bit(39) | 1);
    CHECK(at_entry(0, 3 << 6 | 1 << 2 | 1) == 0x5B);  // FSPTPTR beyond it
    CHECK(guest.ask_by_pasid(5, true, true).reason == 0x5C);
    CHECK(guest.with(entry_of_5 + 16, first_top, {.source_id = 0x310, .pasid = 5, .read = true, .privileged = true}) ==
          0x5D);
    guest.unit.cap |= bit(7);
    CHECK(guest.with(entry + 8, 0, read_by_first) == 0x5A);  // domain 0 with caching mode
  }
  SECTION("first stage") {
    Guest guest{1};
    const auto at_leaf = [&](std::uint64_t value, const oracle::Request& request = read_by_first) {
      return guest.with(first_leaf, value, request);
    };
    CHECK(at_leaf(0x50006) == 0x71);
    CHECK(at_leaf(0x50007 | bit(46)) == 0x72);
    CHECK(guest.with(first_top, 0x11087, read_by_first) == 0x72);
    CHECK(guest.with(0x12000, 0x40002087, read_by_first) == 0x72);
    CHECK(guest.with(first_top, hole | 7, read_by_first) == 0x70);
    CHECK(guest.with(entry + 16, hole, read_by_first) == 0x73);
    CHECK(at_leaf(0x50003) == 0x81);
    CHECK(guest.with(first_top, 0x11003, read_by_first) == 0x81);
    CHECK(at_leaf(0x50005, write_by_first) == 0x85);
    CHECK(at_leaf(0xFEE00007) == 0x87);
    CHECK(guest.ask(bit(47)).reason == 0x80);
    CHECK(guest.ask(~bit(47)).reason == 0x80);
    guest.put(entry + 8, 7);  // PWSNP
    guest.put(first_leaf, 0x50007);
    CHECK(guest.ask(0x7000).reason == 0x90);
    CHECK(guest.word(first_leaf) == 0x50007);
  }
  SECTION("second stage") {
    Guest guest{2};
    const auto at_leaf = [&](std::uint64_t value, const oracle::Request& request = read_by_second) {
      return guest.with(second_leaf, value, request);
    };
    CHECK(at_leaf(0x60000) == 0x79);
    CHECK(guest.with(second_top, 0x21001, write_by_second) == 0x85);
    CHECK(guest.with(second_top, 0x21002, read_by_second) == 0x86);
    guest.put(second_top, 0x21001);
    CHECK(at_leaf(0x60002) == 0x79);  // neither right is in both
    guest.put(second_top, 0x21003);
    for (const unsigned reserved : {11U, 46U, 62U}) CHECK(at_leaf(0x60003 | bit(reserved)) == 0x7A);
    CHECK(guest.with(0x21000, 0x1083, read_by_second) == 0x7A);
    CHECK(guest.with(second_top, hole | 3, read_by_second) == 0x78);
    CHECK(guest.with(entry, hole | 2 << 6 | 1 << 2 | 1, read_by_second) == 0x7B);
    CHECK(guest.ask(bit(39)).reason == 0x84);
    CHECK(at_leaf(0xFEEFF003) == 0x87);
    oracle::Request zero_length = read_by_second;
    zero_length.zero_length = true;
    CHECK(at_leaf(0x60002, zero_length) == 0);
    CHECK(at_leaf(0x60002) == 0x86);
    guest.put(entry, guest.word(entry) | bit(9));
    guest.put(entry + 8, 7);
    CHECK(guest.ask(0x50000).reason == 0x7C);
  }
  SECTION("nested") {
    Guest guest{3};
    CHECK(guest.with(first_top, bit(39) | 7, read_by_first) == 0x74);
    CHECK(guest.with(second_of_first_top, 0x10002, read_by_first) == 0x75);
    CHECK(guest.with(second_of_first_leaf, 0x13002, read_by_first) == 0x76);
    CHECK(guest.with(second_of_first_leaf, 0x13000, read_by_first) == 0x79);
    CHECK(guest.with(second_of_first_leaf, hole | 3, read_by_first) == 0x70);
    CHECK(guest.with(second_of_first_top, hole | 3, read_by_first) == 0x73);
    guest.put(first_leaf, 0x50007);
    CHECK(guest.with(second_of_first_leaf, 0x13001, read_by_first) == 0x77);
    CHECK(guest.with(second_leaf, 0x60001, write_by_first) == 0x85);
    CHECK(guest.with(second_leaf, 0x60002, read_by_first) == 0x86);
    Guest flags{3, bit(9)};
    CHECK(flags.with(second_of_first_leaf, 0x13001, read_by_first) == 0x76);  // an access is a write, too
  }
  SECTION("exchanges that are lost") {
    Guest guest{1};
    guest.losses = 7;
    CHECK(guest.ask(0x7000).reason == 0);
    guest.put(first_top, 0x11007);
    guest.losses = 8;
    CHECK(guest.ask(0x7000).reason == 0x91);
    Guest second{2, bit(9)};
    second.losses = 8;
    CHECK(second.ask(0x50000).reason == 0x7D);
  }
}

TEST_CASE("the oracle of scalable mode reports what FPD does not suppress", "[oracle]") {
  Guest guest{1};
  guest.put(first_leaf, 0);
  CHECK(guest.ask(0x7000).reported);
  for (const std::uint64_t gpa : std::vector<std::uint64_t>{context, directory, entry}) {
    const std::uint64_t before = guest.word(gpa);
    guest.put(gpa, before | 2);
    CHECK_FALSE(guest.ask(0x7000).reported);
    guest.put(gpa, (before | 2) - 1);  // honoured in an absent entry too
    CHECK_FALSE(guest.ask(0x7000).reported);
    guest.put(gpa, before);
  }
  guest.put(context, directory | 3);
  CHECK(guest.with(directory, hole | 1, read_by_first) == 0x58);
  guest.put(directory, hole | 1);
  CHECK(guest.ask(0x7000).reported);
  guest.put(context, hole | 3);
  CHECK(guest.ask(0x7000).reported);
}

TEST_CASE("the oracle of scalable mode completes translation requests", "[oracle]") {
  using oracle::Completion;
  constexpr oracle::Request both{.source_id = 0x310, .iova = 0x7000, .read = true, .write = true};
  Guest guest{1};
  guest.put(context, directory | 8 | 4 | 1);
  CHECK(guest.complete(both).reason == 0x42);  // no device TLBs
  CHECK(guest.complete(both).status == Completion::completer_abort);
  guest.unit.ecap |= bit(2);
  guest.put(context, directory | 8 | 1);
  CHECK(guest.complete(both).reason == 0x44);
  CHECK(guest.complete(both).status == Completion::unsupported_request);
  CHECK(guest.complete(both).reported);
  guest.put(context, directory | 8 | 4 | 1);
  CHECK(guest.complete(read_by_first).read);
  CHECK_FALSE(guest.complete(read_by_first).write);
  CHECK(guest.word(first_leaf) == 0x50007 + accessed);
  CHECK(guest.complete(both).write);
  CHECK(guest.complete(both).gpa == 0x50000);
  CHECK(guest.word(first_leaf) == 0x50007 + accessed + dirty);
  guest.put(first_leaf, 0x50005);  // what is there is granted
  CHECK(guest.complete(both).status == Completion::success);
  CHECK((guest.complete(both).read && !guest.complete(both).write));
  CHECK(guest.word(first_leaf) == 0x50005 + accessed);
  guest.put(first_leaf, 0);
  CHECK(guest.complete(both).status == Completion::success);
  CHECK(guest.complete(both).reason == 0x71);
  CHECK_FALSE((guest.complete(both).read || guest.complete(both).write || guest.complete(both).reported));
  oracle::Request window = both;
  window.iova = 0xFEE01000;
  CHECK((guest.complete(window).untranslated_only && guest.complete(window).write && !guest.complete(window).read));
  window.write = false;
  CHECK_FALSE(guest.complete(window).untranslated_only);
  window.pasid = 5;
  guest.put(entry_of_5, 4 << 6 | 1);
  CHECK(guest.complete(window).read);
  guest.unit.translation_enabled = false;
  CHECK(guest.complete(both).status == Completion::unsupported_request);
  CHECK_FALSE(guest.complete(both).reported);
}

}  // namespace viommu::test
