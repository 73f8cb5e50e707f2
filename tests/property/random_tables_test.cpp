// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Properties of one engine over tables that no driver would write, against the oracle. Every world has a unit of its
// own with random capabilities; where a title does not say otherwise, each answer is one whole decision.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/agreement.hpp"
#include "tests/support/explained.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/memory_backend.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random_tables.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;

constexpr unsigned loads_bound = 7;  // root entry, context entry, five levels
constexpr unsigned worlds = 150;

unsigned requests_per_world() { return run_whole() ? 20'000 : 250; }

/// Guest memory that answers with what an engine was told, in the same order; any other load is a disagreement.
class Replayed {
 public:
  explicit Replayed(const std::vector<MemoryBackend::Load>& loads) : loads_{loads.begin(), loads.end()} {}
  [[nodiscard]] std::optional<std::uint64_t> operator()(std::uint64_t gpa) {
    if (loads_.empty() || loads_.front().gpa != gpa) {
      strayed_ = true;
      return std::nullopt;
    }
    const std::optional<std::uint64_t> value = loads_.front().value;
    loads_.pop_front();
    return value;
  }
  /// The oracle took the same words in the same order, and no word is left over.
  [[nodiscard]] bool same_path() const { return !strayed_ && loads_.empty(); }

 private:
  std::deque<MemoryBackend::Load> loads_;
  bool strayed_ = false;
};

struct World {
  explicit World(std::uint64_t seed, std::uint32_t fill = VIOMMU_FILL_EXACT)
      : random{seed}, unit{random_unit(random)}, tables{unit, memory}, engine{create(fill)}, reader{*engine.reader()} {
    tables.fill(random);
    unit.root_table = tables.root_table();
    if (random.chance(1, 30)) unit.root_table = 0x3F000;                       // just below memory
    if (random.chance(1, 30)) unit.root_table |= (1 + random.below(3)) << 10;  // no legacy mode
    driver.set_root_table(unit.root_table);
    unit.translation_enabled = !random.chance(1, 30);
    if (unit.translation_enabled) driver.enable_translation(true);
  }

  Engine create(std::uint32_t fill) {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = unit.cap;
    options.extended_capability = unit.ecap;
    options.host_address_width = unit.haw;
    options.fill = fill;
    options.iotlb_pages = 1024;
    options.context_entries = 64;
    viommu_host host{};
    host.size = sizeof host;
    backend.install(host);
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }

  /// Asks with empty caches.
  viommu_translation ask_afresh(const oracle::Request& request, std::uint8_t flags = 0) {
    engine.drop_caches();
    backend.begin_decision();
    return reader.translate(engine_request(request, flags));
  }
  [[nodiscard]] Answer oracle_answer(const oracle::Request& request) const {
    return oracle::translate(unit, [this](std::uint64_t gpa) { return memory.load_u64(gpa); }, request);
  }

  Random random;
  oracle::Unit unit;
  SparseMemory memory;
  RandomTables tables;
  MemoryBackend backend{memory};
  Engine engine;
  VtdDriver driver{engine, words_of(memory), 0, 0};
  Reader reader;
};

/// Every address in the block the engine named translates as the asked one does.
void check_block(const World& world, Random& random, const oracle::Request& request, const viommu_translation& answer) {
  if (answer.kind != VIOMMU_TRANSLATED && answer.kind != VIOMMU_IDENTITY) return;
  for (unsigned i = 0; i < 3; ++i) {
    oracle::Request other = request;
    other.length = 0;
    const std::uint64_t offset = i == 0 ? answer.mask : i == 1 ? 0 : random.next() & answer.mask;
    other.iova = (request.iova & ~answer.mask) | offset;
    const Answer there = world.oracle_answer(other);
    const std::uint64_t expected = (answer.gpa & ~answer.mask) | offset;
    if (answer.kind == VIOMMU_TRANSLATED ? there.kind == Answer::translated : there.kind == Answer::identity) {
      if (there.gpa == expected) continue;
    }
    FAIL("the address " << std::hex << other.iova
                        << " of the block translates otherwise: " << describe(world.unit, request, there, answer));
  }
}

}  // namespace

TEST_CASE("engine and oracle give the same answer for any tables", "[property][SEC-2][SEC-4][F3]") {
  std::array<unsigned, 256> faults{};
  unsigned translated = 0;
  for (unsigned seed = 1; seed <= worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    for (unsigned i = 0; i < 3 * requests_per_world(); ++i) {
      if (world.random.chance(1, 5)) world.tables.change(world.random);
      const oracle::Request request = world.tables.request(world.random);
      const viommu_translation answer = world.ask_afresh(request);
      Replayed told{world.backend.loads()};
      const Answer right = world.oracle_answer(request);
      const Answer of_the_same_words = oracle::translate(world.unit, std::ref(told), request);
      const std::string differs = difference(answer, right, request);
      const std::optional<FaultRecord> record = world.driver.take_fault();
      const std::optional<FaultRecord> right_record = expected_record(world.unit, request, right);
      INFO(describe(world.unit, request, right, answer));
      if (!differs.empty()) FAIL(differs);
      if (!told.same_path() || of_the_same_words.reason != right.reason)
        FAIL("not the words of the walk, in order, once");
      if (world.backend.reads() > loads_bound) FAIL(world.backend.reads() << " loads");
      if (record.has_value() != right_record.has_value()) FAIL("a fault record too many or missing");
      if (record && record->high != right_record->high)
        FAIL(std::hex << "record " << record->high << ' ' << right_record->high);
      if (record && right.reason != 0x29 && record->low != right_record->low) FAIL("fault address in the record");
      if (right.kind == Answer::fault) {
        const unsigned status = right.reported ? VIOMMU_FAULT_RECORDED : VIOMMU_FAULT_DISABLED;
        if (answer.status != status) FAIL("status");
      }
      check_block(world, world.random, request, answer);
      translated += right.kind == Answer::translated ? 1 : 0;
      if (right.kind == Answer::fault) ++faults.at(right.reason);
    }
  }
  // The property is worth nothing where the tables do not lead: each outcome came up.
  CHECK(translated > 1000);
  for (const unsigned reason :
       {0x1U, 0x2U, 0x3U, 0x4U, 0x5U, 0x6U, 0x7U, 0x8U, 0x9U, 0xAU, 0xBU, 0xCU, 0xEU, 0x29U, 0x30U, 0x31U}) {
    CAPTURE(reason);
    CHECK(faults.at(reason) > 10);
  }
}

TEST_CASE("an answer from the caches is the answer of the walk", "[property]") {
  for (unsigned seed = 1000; seed < 1000 + worlds; ++seed) {
    World world{seed, seed % 2 == 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_DEFAULT};
    CAPTURE(seed);
    std::vector<oracle::Request> asked;
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      const bool again = !asked.empty() && world.random.chance(1, 2);
      oracle::Request request = again ? asked[world.random.below(asked.size())] : world.tables.request(world.random);
      if (again && world.random.chance(1, 2)) request.iova ^= world.random.below(1 << 14);
      if (again && world.random.chance(1, 2)) request.source_id = world.tables.request(world.random).source_id;
      asked.push_back(request);
      world.backend.begin_decision();
      const viommu_translation answer = world.reader.translate(engine_request(request, VIOMMU_NO_REPORT));
      const Answer right = world.oracle_answer(request);
      INFO(describe(world.unit, request, right, answer));
      const std::string differs = difference(answer, right, request);
      if (!differs.empty()) FAIL(differs);
      if (answer.kind == VIOMMU_FAULT && answer.status != VIOMMU_FAULT_NOT_REPORTED) FAIL("status");
      if (world.backend.reads() > loads_bound) FAIL(world.backend.reads() << " loads");
      check_block(world, world.random, request, answer);
    }
    CHECK_FALSE(world.driver.take_fault());
  }
}

TEST_CASE("a read that fails blocks the request, whichever read it is", "[property][SEC-12][B35]") {
  for (unsigned seed = 2000; seed < 2000 + worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world() / 4; ++i) {
      const oracle::Request request = world.tables.request(world.random);
      static_cast<void>(world.ask_afresh(request, VIOMMU_NO_REPORT));
      const unsigned reads = world.backend.reads();
      for (unsigned k = 1; k <= reads; ++k) {
        world.engine.drop_caches();
        world.backend.begin_decision();
        world.backend.fail_read(k);
        const viommu_translation answer = world.reader.translate(engine_request(request, VIOMMU_NO_REPORT));
        world.backend.fail_read(0);
        Replayed told{world.backend.loads()};
        const Answer right = oracle::translate(world.unit, std::ref(told), request);
        INFO(k << ": " << describe(world.unit, request, right, answer));
        REQUIRE(answer.kind == VIOMMU_FAULT);
        REQUIRE(difference(answer, right, request) == "");
        REQUIRE(told.same_path());
        // Nothing of the failure stays: the next request is answered from memory as it is.
        const viommu_translation next = world.reader.translate(engine_request(request, VIOMMU_NO_REPORT));
        if ((world.unit.cap & 0x80) == 0) REQUIRE(difference(next, world.oracle_answer(request), request) == "");
      }
    }
  }
}

TEST_CASE("only the one copy of each word decides, though no two loads agree", "[property][SEC-2][F5][B44]") {
  for (unsigned seed = 3000; seed < 3000 + worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    Random lies{seed};
    world.backend.lie([&](std::uint64_t gpa) -> std::optional<std::uint64_t> {
      if (!world.memory.is_ram(gpa, 8)) return std::nullopt;
      return world.tables.word(lies, gpa);
    });
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      const oracle::Request request = world.tables.request(world.random);
      const viommu_translation answer = world.ask_afresh(request, VIOMMU_NO_REPORT);
      Replayed told{world.backend.loads()};
      const Answer right = oracle::translate(world.unit, std::ref(told), request);
      INFO(describe(world.unit, request, right, answer));
      if (const std::string differs = difference(answer, right, request); !differs.empty()) FAIL(differs);
      if (!told.same_path()) FAIL("not the words of the walk, in order, once");
    }
  }
}

TEST_CASE("no table leads out of a mapped region", "[property][SEC-1]") {
  for (unsigned seed = 6000; seed < 6000 + worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    // The same words once more, between inaccessible pages; the piece that ends inside a page stays with the callbacks.
    std::deque<GuardedRegion> regions;
    for (const auto& [gpa, length] : world.tables.whole_pages()) {
      GuardedRegion& region = regions.emplace_back(gpa, length);
      for (std::uint64_t at = gpa; at < gpa + length; at += 8) region.store_u64(at, *world.memory.load_u64(at));
      REQUIRE(world.engine.add_region(gpa, {region.data(), region.length()}) == VIOMMU_OK);
    }
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      const oracle::Request request = world.tables.request(world.random);
      const viommu_translation answer = world.ask_afresh(request, VIOMMU_NO_REPORT);
      const Answer right = world.oracle_answer(request);
      INFO(describe(world.unit, request, right, answer));
      if (const std::string differs = difference(answer, right, request); !differs.empty()) FAIL(differs);
    }
    for (const GuardedRegion& region : regions) REQUIRE(world.engine.remove_region(region.gpa(), 0) == VIOMMU_OK);
    static_cast<void>(world.engine.process());
  }
}

TEST_CASE("a batch answers as its requests do one at a time", "[property]") {
  for (unsigned seed = 4000; seed < 4000 + worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world() / 12; ++i) {
      std::vector<oracle::Request> requests(1 + world.random.below(64));
      std::vector<viommu_request> asked;
      for (oracle::Request& request : requests) {
        request = world.tables.request(world.random);
        asked.push_back(engine_request(request, VIOMMU_NO_REPORT));
      }
      std::vector<viommu_translation> answers(requests.size());
      REQUIRE(world.reader.translate_batch(asked, answers) == VIOMMU_OK);
      for (std::size_t at = 0; at < requests.size(); ++at) {
        const Answer right = world.oracle_answer(requests[at]);
        INFO(describe(world.unit, requests[at], right, answers[at]));
        REQUIRE(difference(answers[at], right, requests[at]) == "");
      }
    }
  }
}

TEST_CASE("a range is the pages it is made of, up to the first blocked byte", "[property]") {
  for (unsigned seed = 5000; seed < 5000 + worlds; ++seed) {
    World world{seed};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world() / 4; ++i) {
      oracle::Request request = world.tables.request(world.random);
      request.zero_length = false;
      request.length = 1 + static_cast<unsigned>(world.random.below(world.random.chance(1, 2) ? 0x1000 : 0x8000));
      const std::uint64_t last = request.iova + request.length - 1;
      if (last < request.iova || (last >= 0xFEE00000 && request.iova <= 0xFEEFFFFF)) continue;
      std::array<viommu_piece, 16> pieces{};
      const viommu_range_end end = world.reader.translate_range(engine_request(request, VIOMMU_NO_REPORT), pieces);
      INFO(describe(world.unit, request, {}, {}));
      REQUIRE(end.pieces <= pieces.size());
      std::uint64_t at = request.iova;
      for (std::size_t piece = 0; piece < end.pieces; ++piece) {
        const viommu_piece& found = pieces[piece];
        REQUIRE(found.iova == at);
        REQUIRE(found.length > 0);
        for (std::uint64_t offset = 0; offset < found.length;) {
          oracle::Request byte = request;
          byte.iova = at + offset;
          byte.length = 0;
          const Answer right = world.oracle_answer(byte);
          REQUIRE((right.kind == Answer::translated || right.kind == Answer::identity));
          REQUIRE(right.gpa == found.gpa + offset);
          REQUIRE(found.rights == ((right.read ? VIOMMU_READ : 0) | (right.write ? VIOMMU_WRITE : 0)));
          offset += 0x1000 - ((at + offset) & 0xFFF);
        }
        if (piece > 0) {  // pieces that go on alike are one
          const viommu_piece& before = pieces[piece - 1];
          const bool goes_on =
              before.gpa + before.length == found.gpa && before.rights == found.rights && before.kind == found.kind;
          REQUIRE_FALSE(goes_on);
        }
        at += found.length;
      }
      REQUIRE(end.translated == at - request.iova);
      REQUIRE((end.complete == 1) == (end.translated == request.length));
      if (end.complete == 0) {
        oracle::Request byte = request;
        byte.iova = at;
        byte.length = 0;
        const Answer right = world.oracle_answer(byte);
        REQUIRE(right.kind == Answer::fault);
        REQUIRE(end.reason == right.reason);
      }
    }
  }
}

TEST_CASE("an explanation says what a device is answered, by tables and by caches, and changes nothing",
          "[property][dump]") {
  std::map<std::string, unsigned> by;
  for (unsigned seed = 1; seed <= worlds; ++seed) {
    World world{seed, seed % 2 == 0 ? VIOMMU_FILL_ALL : VIOMMU_FILL_EXACT};
    CAPTURE(seed);
    std::array<oracle::Request, 8> requests{};
    std::ranges::generate(requests, [&] { return world.tables.request(world.random); });
    for (unsigned i = 0; i < 100; ++i) {
      // Whatever is cached by then may be stale: nobody tells the unit of a change.
      if (world.random.chance(1, 8)) world.tables.change(world.random);
      if (world.random.chance(1, 20)) static_cast<void>(world.engine.drop_caches());
      // Some come again and again, so that something is cached for them.
      oracle::Request& request = requests[world.random.below(requests.size())];
      if (world.random.chance(1, 5)) request = world.tables.request(world.random);
      if (world.random.chance(1, 4)) request.iova ^= world.random.below(512) << 12;  // in the same leaf table
      const viommu_request asked = engine_request(request, VIOMMU_NO_REPORT);
      world.backend.begin_decision();
      const viommu_statistics before = world.engine.statistics();
      const nlohmann::json said = dumped(world.engine, VIOMMU_DUMP_EXPLAIN, asked)["explanation"];
      INFO(said.dump(1));
      REQUIRE(world.backend.exchanges().empty());
      REQUIRE(world.backend.writes().empty());
      const viommu_statistics after = world.engine.statistics();
      REQUIRE(std::memcmp(&before, &after, sizeof before) == 0);
      const viommu_translation answer = world.reader.translate(asked);
      if (const std::string differs = difference_of(said, answer); !differs.empty()) {
        FAIL(differs << ", and the answer is kind " << +answer.kind << " reason " << +answer.reason << " gpa "
                     << answer.gpa << " mask " << answer.mask << " rights " << +answer.rights);
      }
      ++by[said["answer"]["by"]];
    }
  }
  CHECK(by["tables"] > 100);
  CHECK(by["IOTLB"] > 100);
  CHECK(by["cached context"] > 10);
}

}  // namespace viommu::test
