// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Requests in scalable mode, end to end: what leads them where, what is cached, what each invalidation takes away, and
// what a fault record says.
#include <catch2/catch.hpp>
#include <cstdint>
#include <vector>

#include "tests/behaviour/scalable_machine.hpp"

namespace viommu::test {
namespace {

using namespace scalable;
using Machine = ScalableMachine;

constexpr std::uint8_t read = VIOMMU_READ;
constexpr std::uint8_t write = VIOMMU_WRITE;
constexpr std::uint64_t sre = 1;
constexpr std::uint64_t wpe = 1 << 4;

/// Flags may be set (PWSNP), as most want it.
PasidEntry snooped(std::uint64_t third = 0) {
  PasidEntry fields;
  fields.high = bit(23);
  fields.third = third;
  return fields;
}

/// `device` by RID_PASID 0 and by PASID 5, each with a stage of its own that maps `iova` to page_a.
struct Stage {
  explicit Stage(Machine& machine, std::uint64_t type, unsigned levels = 4, PasidEntry fields = snooped())
      : tree{machine.tables.create_tree(levels)} {
    fields.type = type;
    fields.tree = tree;
    machine.attach(Machine::device);
    machine.set_pasid(0, fields);
    machine.set_pasid(5, fields);
    machine.map(tree, Machine::iova, Machine::page_a);
  }
  Tree tree;
};

std::uint64_t leaf(Machine& machine, const Stage& stage, std::uint64_t at = Machine::iova) {
  return machine.word(machine.tables.slot(stage.tree, at, 1));
}

}  // namespace

TEST_CASE("a pass-through PASID entry leaves addresses as they are", "[scalable][QVT-3]") {
  Machine machine;
  machine.attach(Machine::device);
  machine.set_pasid(0, {pass_through});
  CHECK(machine.ask(0x12345678).gpa == 0x12345678);
  CHECK(machine.ask(0x12345678).kind == VIOMMU_IDENTITY);
  CHECK(machine.ask(bit(46) - 1, write).kind == VIOMMU_IDENTITY);
  CHECK(machine.ask(bit(46), write).reason == 0x83);  // beyond HAW
}

TEST_CASE("a PASID entry leads a request through the stage that it names", "[scalable][QVT-4][QVT-5][B25]") {
  const auto [type, levels] = GENERATE(table<std::uint64_t, unsigned>(
      {{second_stage, 3U}, {second_stage, 4U}, {second_stage, 5U}, {first_stage, 4U}, {first_stage, 5U}}));
  Machine machine;
  const Stage stage{machine, type, levels};
  for (int pass = 0; pass < 3; ++pass) {
    CHECK(machine.ask(Machine::iova + 0x567, write).gpa == Machine::page_a + 0x567);
    CHECK(machine.ask_by_pasid(5, Machine::iova + 0x123).gpa == Machine::page_a + 0x123);
  }
  CHECK(machine.ask(Machine::iova).kind == VIOMMU_TRANSLATED);
  CHECK(machine.engine.statistics().iotlb_hits > 0);
}

TEST_CASE("each half of a root entry leads to its own context table", "[scalable]") {
  Machine machine;
  machine.attach(Machine::upper_device);
  machine.set_pasid(0, {pass_through});
  CHECK(machine.ask(0x5000, read, Machine::upper_device).kind == VIOMMU_IDENTITY);
  CHECK(machine.ask(0x5000, read, Machine::device).reason == 0x39);
}

TEST_CASE("requests without a PASID go by RID_PASID, which nobody may name", "[scalable]") {
  Machine machine;
  machine.attach(Machine::device, 8, 77);
  machine.set_pasid(77, {pass_through});
  CHECK(machine.ask(0x5000).kind == VIOMMU_IDENTITY);
  CHECK(machine.ask_by_pasid(77).reason == 0x48);
  machine.attach(Machine::device, 0, 77);  // PASIDE clear
  machine.invalidate_all();
  CHECK(machine.ask(0x5000).kind == VIOMMU_IDENTITY);
  CHECK(machine.ask_by_pasid(5).reason == 0x45);
}

TEST_CASE("a stage's fault has its own code", "[scalable][Fault Reason Encodings][normative]") {
  struct Row {
    std::uint64_t type;
    unsigned level;       // of the entry to damage; 0: the root pointer leads nowhere
    std::uint64_t entry;  // what it becomes
    std::uint64_t at;
    std::uint8_t access;
    unsigned reason;
  };
  constexpr std::uint64_t nowhere = 0x3000'0000;
  constexpr std::uint64_t in = Machine::iova;
  const Row row =
      GENERATE(Row{second_stage, 1, 0, in, read, 0x79}, Row{second_stage, 1, Machine::page_a | 1, in, write, 0x85},
               Row{second_stage, 1, Machine::page_a | 2, in, read, 0x86},
               Row{second_stage, 1, Machine::page_a | 1 | bit(62), in, read, 0x7A},
               Row{second_stage, 2, nowhere | 3, in, read, 0x78}, Row{second_stage, 0, nowhere, in, read, 0x7B},
               Row{second_stage, 1, 0xFEE00000 | 3, in, read, 0x87}, Row{second_stage, 1, 0, bit(48), read, 0x84},
               Row{first_stage, 1, 0, in, read, 0x71}, Row{first_stage, 1, Machine::page_a | 5, in, write, 0x85},
               Row{first_stage, 1, Machine::page_a | 3, in, read, 0x81},
               Row{first_stage, 1, Machine::page_a | 7 | bit(46), in, read, 0x72},
               Row{first_stage, 2, nowhere | 7, in, read, 0x70}, Row{first_stage, 0, nowhere, in, read, 0x73},
               Row{first_stage, 1, 0xFEE00000 | 7, in, read, 0x87}, Row{first_stage, 1, 0, bit(47), read, 0x80},
               Row{first_stage, 1, 0, ~bit(47), read, 0x80});
  const bool by_pasid = GENERATE(false, true);
  const bool suppressed = GENERATE(false, true);
  Machine machine;
  PasidEntry fields = snooped();
  fields.fault_disable = suppressed;
  const Stage stage{machine, row.type, 4, fields};
  if (row.level != 0) {
    machine.put(machine.tables.slot(stage.tree, in, row.level), row.entry);
  } else {
    fields.type = row.type;
    fields.tree = {row.entry, 4};
    machine.set_pasid(0, fields);
    machine.set_pasid(5, fields);
  }
  CAPTURE(row.type, row.level, row.entry, row.at);
  const viommu_translation found =
      by_pasid ? machine.ask_by_pasid(5, row.at, row.access) : machine.ask(row.at, row.access);
  CHECK(found.kind == VIOMMU_FAULT);
  CHECK(found.reason == row.reason);
  CHECK(found.status == (suppressed ? VIOMMU_FAULT_DISABLED : VIOMMU_FAULT_RECORDED));
  const auto [high, low] = machine.take_fault();
  if (suppressed) {
    CHECK(high == 0);
  } else {
    // F, T1, PV, FR, PP, SID: PASID 0 of RID_PASID is not the request's
    const std::uint64_t pasid_bits = by_pasid ? 5ULL << 40 | bit(31) : 0;
    const std::uint64_t type_bit = row.access == read ? bit(62) : 0;
    CHECK(high == (bit(63) | type_bit | pasid_bits | std::uint64_t{row.reason} << 32 | Machine::device));
    CHECK(low == (row.at & ~std::uint64_t{0xFFF} & (bit(57) - 1)));
  }
  CHECK(machine.engine.statistics().iotlb_hits == 0);
  static_cast<void>(machine.ask(row.at, row.access));
  CHECK(machine.engine.statistics().iotlb_hits == 0);  // a fault is not cached
}

TEST_CASE("both halves of canonical addresses are translated and cached", "[scalable][First-Stage Translation]") {
  const unsigned levels = GENERATE(4U, 5U);
  Machine machine;
  const Stage stage{machine, first_stage, levels};
  const std::uint64_t sign = bit(12 + 9 * levels - 1);
  const std::uint64_t upper = ~(sign - 1) | 0x1234'5000;
  machine.map(stage.tree, upper & (2 * sign - 1), Machine::page_b);
  for (int pass = 0; pass < 3; ++pass) {
    CHECK(machine.ask(upper + 7).gpa == Machine::page_b + 7);
    CHECK(machine.ask_by_pasid(5, upper).gpa == Machine::page_b);
    CHECK(machine.ask(Machine::iova).gpa == Machine::page_a);
  }
  CHECK(machine.walks() == 3);  // each page once for a PASID that asked for it
  CHECK(machine.ask(upper ^ bit(63)).reason == 0x80);
  CHECK(machine.ask(sign).reason == 0x80);
  // The page of that PASID goes, by the address that the guest knows it by, and the other one stays.
  const std::uint64_t before = machine.walks();
  machine.add(0x36 | 1ULL << 16, upper);
  machine.submit();
  CHECK(machine.ask(Machine::iova).gpa == Machine::page_a);
  CHECK(machine.walks() == before);
  CHECK(machine.ask(upper).gpa == Machine::page_b);
  CHECK(machine.walks() == before + 1);
}

TEST_CASE("what was cached serves until the invalidation that names it, and no longer",
          "[scalable][QVT-9][QVT-10][QVT-11][QVT-12][QVT-13][QVT-14][RVM-8]") {
  struct Row {
    std::uint64_t type;
    std::uint64_t low;  // of a descriptor
    std::uint64_t high;
    bool drops;
  };
  constexpr std::uint64_t domain = 1ULL << 16;
  constexpr std::uint64_t other_domain = 2ULL << 16;
  constexpr std::uint64_t pasid5 = 5ULL << 32;
  const Row row = GENERATE(
      Row{second_stage, 0x12, 0, true}, Row{second_stage, 0x22 | domain, 0, true},
      Row{second_stage, 0x32 | domain, Machine::iova, true},
      Row{second_stage, 0x32 | domain, Machine::iova + 0x1000, false}, Row{second_stage, 0x22 | other_domain, 0, false},
      Row{second_stage, 0x26 | domain | pasid5, 0, true},
      Row{second_stage, 0x36 | domain | pasid5, Machine::iova, false},  // of a first stage only
      Row{first_stage, 0x12, 0, true}, Row{first_stage, 0x22 | domain, 0, true},
      Row{first_stage, 0x32 | domain, Machine::iova + 0x1000, true},  // by page: the whole domain
      Row{first_stage, 0x26 | domain | pasid5, 0, true}, Row{first_stage, 0x26 | domain, 0, false},
      Row{first_stage, 0x36 | domain | pasid5, Machine::iova, true},
      Row{first_stage, 0x36 | domain | pasid5, Machine::iova + 0x1000, false},
      Row{first_stage, 0x36 | domain, Machine::iova, false}, Row{first_stage, 0x36 | domain | pasid5, 63, true},
      Row{first_stage, 0x11, 0, false}, Row{first_stage, 0x37, 0, false});
  Machine machine;
  const Stage stage{machine, row.type};
  CAPTURE(row.type, row.low, row.high);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  machine.map(stage.tree, Machine::iova, Machine::page_b);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  machine.add(row.low, row.high);
  machine.submit();
  const bool contexts_only = row.low == 0x11 || row.low == 0x37;
  if (!contexts_only) CHECK(machine.ask_by_pasid(5).gpa == (row.drops ? Machine::page_b : Machine::page_a));
  machine.invalidate_all();
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_b);
}

TEST_CASE("of two cached pages the one that is named goes", "[scalable][QVT-16][QVT-17]") {
  const std::uint64_t type = GENERATE(second_stage, first_stage);
  Machine machine;
  const Stage stage{machine, type};
  machine.map(stage.tree, Machine::iova + 0x10000, Machine::page_a);
  static_cast<void>(machine.ask_by_pasid(5));
  static_cast<void>(machine.ask_by_pasid(5, Machine::iova + 0x10000));
  machine.map(stage.tree, Machine::iova, Machine::page_b);
  machine.map(stage.tree, Machine::iova + 0x10000, Machine::page_b);
  machine.add((type == first_stage ? 0x36 | 5ULL << 32 : 0x32) | 1U << 16, Machine::iova);
  machine.submit();
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_b);
  CHECK(machine.ask_by_pasid(5, Machine::iova + 0x10000).gpa == Machine::page_a);
}

TEST_CASE("a cached context serves until contexts or PASIDs are invalidated", "[scalable][RVM-5]") {
  struct Row {
    std::uint64_t low;
    bool by_source;  // what it drops of requests without a PASID
    bool by_pasid;
  };
  const Row row = GENERATE(Row{0x11, true, true},             // all contexts
                           Row{0x21 | 9U << 16, true, true},  // scalable ones name no domain
                           Row{0x31 | std::uint64_t{Machine::device} << 32, true, true},  // that source
                           Row{0x31 | std::uint64_t{Machine::upper_device} << 32, false, false}, Row{0x37, true, true},
                           Row{0x07 | 1U << 16, true, true}, Row{0x07 | 2U << 16, false, false},
                           Row{0x17 | 1U << 16 | 5ULL << 32, false, true},  // RID_PASID is 0
                           Row{0x17 | 1U << 16, true, false}, Row{0x17 | 2U << 16, false, false});
  Machine machine;
  const Stage stage{machine, second_stage};
  const Tree other = machine.tables.create_tree(4);
  machine.map(other, Machine::iova, Machine::page_b);
  static_cast<void>(machine.ask());
  static_cast<void>(machine.ask_by_pasid(5));
  PasidEntry changed;
  changed.tree = other;
  machine.set_pasid(0, changed);
  machine.set_pasid(5, changed);
  CAPTURE(row.low);
  CHECK(machine.ask().gpa == Machine::page_a);
  CHECK(machine.ask_by_pasid(5).gpa == Machine::page_a);
  machine.add(row.low);
  machine.submit();
  CHECK(machine.ask().gpa == (row.by_source ? Machine::page_b : Machine::page_a));
  CHECK(machine.ask_by_pasid(5).gpa == (row.by_pasid ? Machine::page_b : Machine::page_a));
}

TEST_CASE("the right to write is cached once the dirty flag is set, and not before",
          "[scalable][Accessed and Dirty Bits][normative]") {
  Machine machine;
  const Stage stage{machine, first_stage};
  CHECK(machine.ask().rights == VIOMMU_READ);
  CHECK((leaf(machine, stage) & (accessed | dirty)) == accessed);
  for (unsigned level = 2; level <= 4; ++level)
    CHECK((machine.word(machine.tables.slot(stage.tree, Machine::iova, level)) & accessed) != 0);
  CHECK(machine.ask().rights == VIOMMU_READ);
  CHECK(machine.walks() == 1);
  CHECK(machine.ask(Machine::iova, write).rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK((leaf(machine, stage) & (accessed | dirty)) == (accessed | dirty));
  CHECK(machine.walks() == 2);
  CHECK(machine.ask(Machine::iova, read | write).rights == (VIOMMU_READ | VIOMMU_WRITE));
  CHECK(machine.walks() == 2);
}

TEST_CASE("flags that may not be set block what needs them", "[scalable][Accessed and Dirty Bits][normative]") {
  Machine machine;
  const Stage stage{machine, first_stage, 4, PasidEntry{}};  // PWSNP is clear
  CHECK(machine.ask().reason == 0x90);
  for (unsigned level = 1; level <= 4; ++level) {
    const std::uint64_t slot = machine.tables.slot(stage.tree, Machine::iova, level);
    machine.put(slot, machine.word(slot) | accessed);
  }
  CHECK(machine.ask().gpa == Machine::page_a);
  CHECK(machine.ask(Machine::iova, write).reason == 0x90);
  CHECK(machine.ask().kind == VIOMMU_TRANSLATED);
}

TEST_CASE("privileged requests have rights and entries of their own", "[scalable][RVM-7]") {
  Machine machine;
  const bool protect = GENERATE(false, true);
  const Stage stage{machine, first_stage, 4, snooped(protect ? sre | wpe : sre)};
  machine.map(stage.tree, Machine::iova, Machine::page_a, 1);  // a supervisor's, read only
  for (int pass = 0; pass < 2; ++pass) {
    CHECK(machine.ask_by_pasid(5).reason == 0x81);
    CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_PRIVILEGED).gpa == Machine::page_a);
    CHECK(machine.ask_by_pasid(5, Machine::iova, write, VIOMMU_PRIVILEGED).reason == (protect ? 0x85 : 0));
  }
  static_cast<void>(machine.take_fault());
  CHECK(machine.ask().reason == 0x81);
}

TEST_CASE("a record tells a privileged or an execute request", "[scalable][Fault Recording Registers][normative]") {
  Machine machine;
  const Stage stage{machine, first_stage};
  CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_PRIVILEGED).reason == 0x5D);
  CHECK(machine.take_fault()[0] ==
        (bit(63) | bit(62) | 5ULL << 40 | 0x5DULL << 32 | bit(31) | bit(29) | Machine::device));
  CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_EXECUTE).reason == 0x5C);
  CHECK(machine.take_fault()[0] ==
        (bit(63) | bit(62) | 5ULL << 40 | 0x5CULL << 32 | bit(31) | bit(30) | Machine::device));
  machine.put(machine.tables.slot(stage.tree, Machine::iova, 1), Machine::page_a | 7 | accessed);
  for (unsigned level = 2; level <= 4; ++level) {
    const std::uint64_t slot = machine.tables.slot(stage.tree, Machine::iova, level);
    machine.put(slot, machine.word(slot) | accessed);
  }
  CHECK(machine.ask_by_pasid(5).kind == VIOMMU_TRANSLATED);  // the context is cached now
  CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_EXECUTE).reason == 0x5C);
  CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_EXECUTE | VIOMMU_PRIVILEGED).reason == 0x5C);
}

TEST_CASE("from major version 8 on an execute request ends before any table", "[scalable]") {
  Machine machine{capability & ~std::uint64_t{0xE00}, everything & ~(ssts | nest), 0x80};
  CHECK(machine.ask_by_pasid(5, Machine::iova, read, VIOMMU_EXECUTE).reason == 0x34);
  CHECK(machine.ask_by_pasid(5).reason == 0x39);
}

TEST_CASE("RID_PRIV makes requests without a PASID privileged", "[scalable]") {
  Machine machine;
  const Stage stage{machine, first_stage, 4, snooped(sre)};
  machine.map(stage.tree, Machine::iova, Machine::page_a, 1);
  CHECK(machine.ask().reason == 0x81);
  machine.attach(Machine::device, 8, bit(20));
  machine.invalidate_all();
  CHECK(machine.ask().gpa == Machine::page_a);
  CHECK(machine.ask_by_pasid(5).reason == 0x81);
}

TEST_CASE("the interrupt range is for requests without a PASID alone",
          "[scalable][Interrupt Address Range][normative][S1.22]") {
  Machine machine;
  const Stage stage{machine, second_stage};
  constexpr std::uint64_t window = 0xFEE00000;
  machine.map(stage.tree, window, Machine::page_a);
  for (int pass = 0; pass < 3; ++pass) {
    CHECK(machine.ask_by_pasid(5, window + 0x10).gpa == Machine::page_a + 0x10);
    CHECK(machine.ask(window, write).kind == VIOMMU_INTERRUPT);
    CHECK(machine.ask(window, read).reason == 0x29);
  }
  std::vector<viommu_request> requests(9, request(Machine::device, window, write));
  std::vector<viommu_translation> answers(requests.size());
  REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
  for (const viommu_translation& answer : answers) CHECK(answer.kind == VIOMMU_INTERRUPT);
  machine.set_pasid(5, {pass_through});
  machine.invalidate_all();
  CHECK(machine.ask_by_pasid(5, window).reason == 0x87);
  CHECK(machine.ask_by_pasid(5, window - 1).kind == VIOMMU_IDENTITY);
}

TEST_CASE("abort-DMA mode blocks every request, and a mode that is not there is a fault of its own",
          "[scalable][Root Table Address Register][normative]") {
  Machine machine;
  machine.attach(Machine::device);
  machine.set_pasid(0, {pass_through});
  CHECK(machine.ask().kind == VIOMMU_IDENTITY);
  machine.set_mode(3);
  CHECK(machine.ask().reason == 0x33);
  CHECK(machine.ask_by_pasid(5).reason == 0x33);
  machine.set_mode(2);
  CHECK(machine.ask().reason == 0x30);
  machine.set_mode(0);
  CHECK(machine.ask_by_pasid(5).reason == 0x31);
  CHECK(machine.ask().reason != 0);  // the tables are not those of legacy mode
  machine.set_mode(1);
  CHECK(machine.ask().kind == VIOMMU_IDENTITY);
  Machine without{capability, everything & ~adms};
  without.set_mode(3);
  CHECK(without.ask().reason == 0x30);
}

TEST_CASE("turning translation off drops what scalable mode has cached", "[scalable]") {
  Machine machine;
  const Stage stage{machine, first_stage};
  static_cast<void>(machine.ask());
  machine.map(stage.tree, Machine::iova, Machine::page_b);
  CHECK(machine.ask().gpa == Machine::page_a);
  machine.enable_translation(false);
  CHECK(machine.ask().kind == VIOMMU_IDENTITY);
  CHECK(machine.ask_by_pasid(5).kind == VIOMMU_IDENTITY);
  machine.enable_translation(true);
  CHECK(machine.ask().gpa == Machine::page_b);
}

TEST_CASE("a batch answers in scalable mode as one call after another", "[scalable][batch]") {
  Machine machine;
  const Stage stage{machine, first_stage};
  machine.attach(Machine::upper_device);  // goes by PASID 0 too
  std::vector<viommu_request> requests;
  for (unsigned i = 0; i < 300; ++i) {
    const std::uint64_t at = Machine::iova + std::uint64_t{i % 7} * 0x1000 + i;
    if (i < 5) machine.map(stage.tree, Machine::iova + std::uint64_t{i} * 0x1000, Machine::page_a + i * 0x1000ULL);
    requests.push_back(request(i % 3 == 0 ? Machine::upper_device : Machine::device, at, i % 2 == 0 ? read : write));
    requests.back().flags = VIOMMU_NO_REPORT;
    if (i % 5 == 0) {
      requests.back().flags |= VIOMMU_HAS_PASID;
      requests.back().pasid = i % 2 == 0 ? 5 : 6;
    }
  }
  std::vector<viommu_translation> answers(requests.size());
  for (int pass = 0; pass < 3; ++pass) {
    REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const viommu_translation alone = machine.reader.translate(requests[i]);
      CAPTURE(i, requests[i].iova);
      CHECK(answers[i].kind == alone.kind);
      CHECK(answers[i].gpa == alone.gpa);
      CHECK(answers[i].reason == alone.reason);
    }
  }
}

TEST_CASE("a hold by a PASID delays the completions that name it", "[scalable][Draining of Requests to Memory][P2]") {
  Machine machine;
  const Stage stage{machine, first_stage};
  viommu_request asked = request(Machine::device, Machine::iova, read);
  asked.flags = VIOMMU_HAS_PASID;
  asked.pasid = 5;
  viommu_translation translation{};
  std::uint64_t hold = 0;
  REQUIRE(viommu_hold(machine.reader.get(), &asked, 1, &translation, &hold) == VIOMMU_OK);
  const auto head_stays = [&](std::uint64_t low, std::uint64_t high) {
    machine.add(low, high);
    machine.add(0x25, Machine::status_page + 64);
    const std::uint64_t tail = machine.tail();
    static_cast<void>(machine.engine.mmio_write(0x88, 8, tail));
    static_cast<void>(machine.engine.process());
    return machine.engine.mmio_read(0x80, 8) != tail;
  };
  CHECK_FALSE(head_stays(0x36 | 1U << 16 | 6ULL << 32, Machine::iova));            // another PASID
  CHECK_FALSE(head_stays(0x36 | 1U << 16 | 5ULL << 32, Machine::iova + 0x10000));  // another page
  CHECK(head_stays(0x32 | 1U << 16, Machine::iova + 0x10000));                     // by page: the whole domain
  REQUIRE(viommu_release(machine.engine.get(), hold) == VIOMMU_OK);
  static_cast<void>(machine.engine.process());
  CHECK(machine.engine.mmio_read(0x80, 8) == machine.tail());
}

}  // namespace viommu::test
