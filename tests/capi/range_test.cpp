// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One call for a whole buffer: pieces, and where it stops.
#include <viommu/viommu.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <ostream>
#include <vector>

#include "engine/core/range.hpp"
#include "tests/capi/machine.hpp"

namespace viommu::capi {
namespace {

struct Piece {
  std::uint64_t iova;
  std::uint64_t gpa;
  std::uint64_t length;
  unsigned rights = VIOMMU_READ | VIOMMU_WRITE;
  unsigned kind = VIOMMU_TRANSLATED;
  friend bool operator==(const Piece&, const Piece&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Piece& piece) {
    return out << std::hex << piece.iova << "->" << piece.gpa << '+' << piece.length << " r" << piece.rights << " k"
               << piece.kind;
  }
};
using Pieces = std::vector<Piece>;

/// What one call gave.
struct Answer {
  viommu_result result = VIOMMU_OK;
  Pieces pieces;
  viommu_range_end end{};
};

constexpr unsigned read_denied = 6;
constexpr unsigned not_an_interrupt = 0x29;

Answer ask(Machine& machine, std::uint64_t iova, std::uint64_t length, std::uint8_t access = VIOMMU_READ,
           std::uint32_t capacity = 200, std::uint8_t flags = 0) {
  Answer answer;
  std::vector<viommu_piece> pieces(capacity + 1);
  constexpr std::uint64_t untouched = 0xCAFE;
  pieces.back().iova = untouched;
  const viommu_request asked = request(device, iova, access, length, flags);
  answer.result = viommu_translate_range(machine.reader.get(), &asked, pieces.data(), capacity, &answer.end);
  CHECK(pieces.back().iova == untouched);
  REQUIRE(answer.end.pieces <= capacity);
  std::uint64_t covered = 0;
  for (std::uint32_t i = 0; i < answer.end.pieces; ++i) {
    const viommu_piece& piece = pieces[i];
    CHECK(piece.iova == iova + covered);
    CHECK(piece.length != 0);
    covered += piece.length;
    answer.pieces.push_back({piece.iova, piece.gpa, piece.length, piece.rights, piece.kind});
  }
  CHECK(covered == answer.end.translated);
  CHECK((answer.end.complete == 1) == (answer.end.translated == length));
  CHECK(answer.end.reserved == 0);
  return answer;
}

}  // namespace

TEST_CASE("a range inside one mapping is one piece, of each length up to its end", "[capi][range][VIO-18][VIO-20]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  for (const std::uint64_t length : {1U, 2U, 7U, 0x7FFU, 0xEFFU, 0xF00U}) {
    const Answer answer = ask(machine, base_iova + 0x100, length);
    CHECK(answer.result == VIOMMU_OK);
    CHECK(answer.pieces == Pieces{{base_iova + 0x100, 0x5100, length}});
    CHECK(answer.end.complete == 1);
    CHECK(answer.end.reason == 0);
  }
}

TEST_CASE("a buffer whose second page is not mapped gives its first page and where it stopped",
          "[capi][range][VIO-18][B102]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  for (const std::uint64_t beyond : {1U, 0x1000U}) {
    const Answer answer = ask(machine, base_iova + 0x100, 0xF00 + beyond);
    CHECK(answer.result == VIOMMU_E_FAULT);
    CHECK(answer.pieces == Pieces{{base_iova + 0x100, 0x5100, 0xF00}});
    CHECK(answer.end.translated == 0xF00);
    CHECK(answer.end.complete == 0);
    CHECK(answer.end.reason == read_denied);
    const auto record = machine.driver.take_fault();
    REQUIRE(record);
    CHECK(record->low == base_iova + 0x1000);  // the address of the first byte that is blocked, in whole pages
  }
}

TEST_CASE("a range with no report tells the same and records nothing", "[capi][range]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  const Answer quiet = ask(machine, base_iova, 0x2000, VIOMMU_READ, 8, VIOMMU_NO_REPORT);
  CHECK(quiet.result == VIOMMU_E_FAULT);
  CHECK(quiet.end.reason == read_denied);
  CHECK(quiet.end.status == VIOMMU_FAULT_NOT_REPORTED);
  CHECK_FALSE(machine.driver.take_fault());
  CHECK(ask(machine, base_iova, 0x2000).end.status == VIOMMU_FAULT_RECORDED);
}

TEST_CASE("a range that is not mapped at its first byte gives no piece", "[capi][range][VIO-20]") {
  Machine machine;
  const Answer answer = ask(machine, base_iova, 0x1000);
  CHECK(answer.result == VIOMMU_E_FAULT);
  CHECK(answer.pieces.empty());
  CHECK(answer.end.translated == 0);
  CHECK(answer.end.reason == read_denied);
}

TEST_CASE("mappings that go on alike are one piece, whatever their sizes", "[capi][range][VIO-18][VMM-1]") {
  Machine machine;
  for (std::uint64_t i = 0; i < 4; ++i) machine.map(base_iova + i * page_bytes, 0x5000 + i * page_bytes);
  CHECK(ask(machine, base_iova + 0x800, 0x1000).pieces == Pieces{{base_iova + 0x800, 0x5800, 0x1000}});
  CHECK(ask(machine, base_iova, 0x4000).pieces == Pieces{{base_iova, 0x5000, 0x4000}});
  // 4 KiB pages up to a 2 MiB one, which they lead into.
  constexpr std::uint64_t large = 0x80200000;
  machine.map(large, 0x40000000, test::entry_read_write, 2);
  machine.map(large - page_bytes, 0x40000000 - page_bytes);
  machine.map(large + 0x200000, 0x40200000);
  const Answer answer = ask(machine, large - 0x10, 0x200000 + 0x20);
  CHECK(answer.pieces == Pieces{{large - 0x10, 0x3FFFFFF0, 0x200020}});
  CHECK(answer.end.complete == 1);
}

TEST_CASE("a range stops at a gap", "[capi][range][VIO-18][VIO-20]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  machine.map(base_iova + 2 * page_bytes, 0x7000);
  const Answer answer = ask(machine, base_iova, 0x3000);
  CHECK(answer.result == VIOMMU_E_FAULT);
  CHECK(answer.pieces == Pieces{{base_iova, 0x5000, 0x1000}});
}

TEST_CASE("where the memory behind it does not go on, a range is two pieces", "[capi][range][VIO-19][VIO-20]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  machine.map(base_iova + page_bytes, 0x9000);
  machine.map(base_iova + 2 * page_bytes, 0x5000);
  const Answer answer = ask(machine, base_iova, 0x3000);
  CHECK(answer.result == VIOMMU_OK);
  CHECK(answer.pieces == Pieces{{base_iova, 0x5000, 0x1000},
                                {base_iova + 0x1000, 0x9000, 0x1000},
                                {base_iova + 0x2000, 0x5000, 0x1000}});
}

TEST_CASE("where the rights differ, a range is two pieces", "[capi][range][VIO-19][VMM-1]") {
  Machine machine;
  machine.map(base_iova, 0x5000, test::entry_read);
  machine.map(base_iova + page_bytes, 0x6000, test::entry_read_write);
  CHECK(ask(machine, base_iova, 0x2000).pieces ==
        Pieces{{base_iova, 0x5000, 0x1000, VIOMMU_READ}, {base_iova + 0x1000, 0x6000, 0x1000}});
  const Answer writing = ask(machine, base_iova, 0x2000, VIOMMU_WRITE);
  CHECK(writing.result == VIOMMU_E_FAULT);
  CHECK(writing.end.reason == 5);
  CHECK(writing.end.translated == 0);
}

TEST_CASE("when there is no room for more pieces a range says how far it came, and goes on from there",
          "[capi][range][IFD-6]") {
  Machine machine;
  constexpr std::uint32_t count = 100;
  for (std::uint64_t i = 0; i < count; ++i) machine.map(base_iova + i * page_bytes, 0x1000000 - 2 * i * page_bytes);
  for (const std::uint32_t capacity : {1U, 2U, 31U, 32U, 33U, 63U, 64U, 65U, 99U, 100U, 101U}) {
    CAPTURE(capacity);
    std::uint64_t done = 0;
    Pieces all;
    for (unsigned turn = 0; done < count * page_bytes && turn < 200; ++turn) {
      const Answer answer = ask(machine, base_iova + done, count * page_bytes - done, VIOMMU_READ, capacity);
      REQUIRE(answer.result == VIOMMU_OK);
      CHECK(answer.end.reason == 0);
      CHECK(answer.pieces.size() == std::min<std::uint64_t>(capacity, count - done / page_bytes));
      all.insert(all.end(), answer.pieces.begin(), answer.pieces.end());
      done += answer.end.translated;
    }
    REQUIRE(all.size() == count);
    for (std::uint64_t i = 0; i < count; ++i) REQUIRE(all[i].gpa == 0x1000000 - 2 * i * page_bytes);
  }
}

TEST_CASE("the last piece there is room for still grows", "[capi][range]") {
  Machine machine;
  for (std::uint64_t i = 0; i < 64; ++i) {
    const std::uint64_t pair = i / 2;  // pieces of two pages
    machine.map(base_iova + i * page_bytes, 0x1000000 - 4 * pair * page_bytes + (i % 2) * page_bytes);
  }
  for (const std::uint32_t capacity : {1U, 31U, 32U}) {
    const Answer answer = ask(machine, base_iova, 64 * page_bytes, VIOMMU_READ, capacity);
    CHECK(answer.result == VIOMMU_OK);
    CHECK(answer.end.pieces == capacity);
    CHECK(answer.end.translated == std::uint64_t{2} * capacity * page_bytes);
    CHECK(answer.end.complete == (capacity == 32 ? 1 : 0));
  }
}

TEST_CASE("lengths of 0, past the last address, or of a zero-length read are no range",
          "[capi][range][VIO-18][VIO-15]") {
  Machine machine;
  viommu_piece piece{};
  viommu_range_end end{};
  const auto result = [&](std::uint64_t iova, std::uint64_t length, std::uint8_t flags = 0) {
    const viommu_request asked = request(device, iova, VIOMMU_READ, length, flags);
    return viommu_translate_range(machine.reader.get(), &asked, &piece, 1, &end);
  };
  constexpr std::uint64_t last = ~std::uint64_t{0};
  CHECK(result(base_iova, 0) == VIOMMU_E_ARGUMENT);
  CHECK(result(last, 2) == VIOMMU_E_ARGUMENT);
  CHECK(result(2, last) == VIOMMU_E_ARGUMENT);
  CHECK(result(base_iova, last) == VIOMMU_E_ARGUMENT);
  CHECK(result(base_iova, 8, VIOMMU_ZERO_LENGTH) == VIOMMU_E_ARGUMENT);
  CHECK(machine.engine.statistics().translations == 0);
}

TEST_CASE("a range may reach to the last address, and be as long as 64 bits can say", "[capi][range][VIO-15][B53]") {
  Machine machine;
  machine.driver.enable_translation(false);
  constexpr std::uint64_t last = ~std::uint64_t{0};
  constexpr std::uint64_t behind_window = 0xFEF00000;
  constexpr unsigned both = VIOMMU_READ | VIOMMU_WRITE;
  const Answer most = ask(machine, behind_window, last - behind_window + 1);
  CHECK(most.result == VIOMMU_OK);
  CHECK(most.end.complete == 1);
  CHECK(most.pieces == Pieces{{behind_window, behind_window, last - behind_window + 1, both, VIOMMU_IDENTITY}});
  CHECK(ask(machine, last, 1).pieces == Pieces{{last, last, 1, both, VIOMMU_IDENTITY}});
  const Answer all = ask(machine, 1, last);
  CHECK(all.result == VIOMMU_OK);
  CHECK(all.pieces == Pieces{{1, 1, last, both, VIOMMU_IDENTITY}});
  machine.driver.enable_translation(true);
  machine.map(0, 0x5000);
  const Answer little = ask(machine, 0, last);
  CHECK(little.result == VIOMMU_E_FAULT);
  CHECK(little.pieces == Pieces{{0, 0x5000, 0x1000}});
}

TEST_CASE("in the interrupt window a range is a message of 4 bytes or it is blocked", "[capi][range][B28]") {
  Machine machine;
  constexpr std::uint64_t window = 0xFEE00000;
  // Tables that map the window, and the page before it, change nothing about it.
  machine.map(window - page_bytes, 0x4000);
  machine.map(window, 0x5000);
  constexpr unsigned write = VIOMMU_WRITE;
  CHECK(ask(machine, window, 4, VIOMMU_WRITE).pieces == Pieces{{window, window, 4, write, VIOMMU_INTERRUPT}});
  CHECK(ask(machine, window + 0xFFFFC, 4, VIOMMU_WRITE).result == VIOMMU_OK);
  for (const std::uint64_t length : {1U, 2U, 3U, 5U, 8U, 0x1000U}) {
    const Answer answer = ask(machine, window, length, VIOMMU_WRITE);
    CHECK(answer.result == VIOMMU_E_FAULT);
    CHECK(answer.end.reason == not_an_interrupt);
  }
  CHECK(ask(machine, window, 4, VIOMMU_READ).end.reason == not_an_interrupt);
  CHECK(ask(machine, window, 4, VIOMMU_READ | VIOMMU_WRITE).end.reason == not_an_interrupt);
  SECTION("a write that runs into it stops there, also when the write as a whole has 4 bytes") {
    for (const std::uint64_t length : {3U, 4U, 0x100U}) {
      const Answer answer = ask(machine, window - 2, length, VIOMMU_WRITE);
      CHECK(answer.result == VIOMMU_E_FAULT);
      CHECK(answer.pieces == Pieces{{window - 2, 0x4FFE, 2}});
      CHECK(answer.end.reason == not_an_interrupt);
    }
  }
}

TEST_CASE("one call answers a bounded number of blocks", "[capi][range][P5]") {
  // Blocks of one byte that go on alike for ever: only the bound ends this.
  std::array<core::Piece, 4> pieces;
  std::size_t asked = 0;
  core::DmaRequest wanted;
  wanted.length = ~std::uint64_t{0};
  const core::RangeEnd end = core::translate_range(wanted, pieces, [&asked](const core::DmaRequest& block) {
    ++asked;
    core::DmaAnswer answer;
    answer.kind = core::DmaKind::identity;
    answer.gpa = {block.iova.value};
    return answer;
  });
  CHECK(asked == core::most_blocks_per_range);
  CHECK(end.translated == core::most_blocks_per_range);
  CHECK(end.pieces == 1);
  CHECK_FALSE(end.complete);
  CHECK_FALSE(end.stopped);
}

TEST_CASE("a range costs one probe for each page it touches", "[capi][range]") {
  viommu_vtd_options options = default_options();
  options.fill = VIOMMU_FILL_EXACT;
  Machine machine{options};
  for (std::uint64_t i = 0; i < 10; ++i) machine.map(base_iova + i * page_bytes, 0x5000 + i * page_bytes);
  static_cast<void>(ask(machine, base_iova + 0x800, 9 * page_bytes));
  CHECK(machine.engine.statistics().translations == 10);
  CHECK(machine.engine.statistics().walks == 10);
  static_cast<void>(ask(machine, base_iova + 0x800, 9 * page_bytes));
  CHECK(machine.engine.statistics().translations == 20);
  CHECK(machine.engine.statistics().walks == 10);
}

TEST_CASE("a batch has up to 65,535 requests, and writes nothing when one of them makes no sense", "[capi][batch]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  viommu_reader* const reader = machine.reader.get();
  constexpr std::uint32_t most = 65535;
  std::vector<viommu_request> requests(most + 1, request(device, base_iova, VIOMMU_READ));
  std::vector<viommu_translation> answers(most + 1);
  for (std::uint32_t i = 0; i <= most; ++i) requests[i].iova += i % 0x1800;  // the last third of each round is blocked
  CHECK(viommu_translate_batch(reader, nullptr, nullptr, 0) == VIOMMU_OK);
  CHECK(viommu_translate_batch(reader, requests.data(), answers.data(), most + 1) == VIOMMU_E_ARGUMENT);
  CHECK(machine.engine.statistics().translations == 0);

  requests[most - 1].access = 0;
  answers[0].kind = 0xEE;
  CHECK(viommu_translate_batch(reader, requests.data(), answers.data(), most) == VIOMMU_E_ARGUMENT);
  CHECK(answers[0].kind == 0xEE);
  CHECK(machine.engine.statistics().translations == 0);

  requests[most - 1].access = VIOMMU_READ;
  answers[most].kind = 0xEE;
  CHECK(viommu_translate_batch(reader, requests.data(), answers.data(), most) == VIOMMU_OK);
  CHECK(answers[most].kind == 0xEE);
  for (std::uint32_t i = 0; i < most; ++i) {
    const bool mapped = i % 0x1800 < page_bytes;
    if (answers[i].kind != (mapped ? VIOMMU_TRANSLATED : VIOMMU_FAULT)) FAIL(i);
    if (mapped && answers[i].gpa != 0x5000 + i % 0x1800) FAIL(i);
  }
  CHECK(machine.engine.statistics().translations == most);
}

TEST_CASE("a batch answers each request as one call would", "[capi][batch]") {
  Machine machine;
  machine.map(base_iova, 0x5000, test::entry_read);
  std::vector<viommu_request> requests{
      request(device, base_iova + 8, VIOMMU_READ), request(device, base_iova, VIOMMU_WRITE, 0, VIOMMU_NO_REPORT),
      request(stranger, base_iova, VIOMMU_READ, 0, VIOMMU_NO_REPORT), request(device, 0xFEE00010, VIOMMU_WRITE, 4)};
  std::vector<viommu_translation> answers(requests.size());
  REQUIRE(machine.reader.translate_batch(requests, answers) == VIOMMU_OK);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const viommu_translation alone = machine.reader.translate(requests[i]);
    CHECK(alone.kind == answers[i].kind);
    CHECK(alone.gpa == answers[i].gpa);
    CHECK(alone.mask == answers[i].mask);
    CHECK(alone.rights == answers[i].rights);
    CHECK(alone.reason == answers[i].reason);
    CHECK(alone.status == answers[i].status);
  }
}

}  // namespace viommu::capi
