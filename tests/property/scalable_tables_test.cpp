// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Properties of one engine in scalable mode over tables that no driver would write, against the oracle: answers, fault
// records, the words that are read, and the flags that are left behind. Every world has a unit of its own with random
// capabilities.
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
#include <ranges>
#include <string>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/agreement.hpp"
#include "tests/support/explained.hpp"
#include "tests/support/memory_backend.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random_scalable_tables.hpp"
#include "tests/support/scalable_oracle.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {
namespace {

using oracle::Answer;
using oracle::Exchanged;

/// What the engine has of what an engine of scalable mode need not have.
constexpr ScalableFeatures offered{.nested = true, .second_stage_flags = true};

constexpr unsigned worlds = 120;
constexpr unsigned loads_of_structures =
    7;  // root entry 1, context entry 2, directory entry 1, PASID entry 4: less one
constexpr unsigned loads_of_walk = offered.nested ? 480 : 40;

unsigned requests_per_world() { return run_whole() ? 10'000 : 500; }

/// The oracle's copy of memory: what it writes, memory keeps until somebody else writes the same.
class Copy {
 public:
  explicit Copy(const SparseMemory& memory) : memory_{&memory} {}

  [[nodiscard]] std::optional<std::uint64_t> load(std::uint64_t gpa) const {
    for (const MemoryBackend::Exchange& write : exchanges_ | std::views::reverse)
      if (write.gpa == gpa) return write.desired;
    return memory_->load_u64(gpa);
  }
  Exchanged exchange(std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
    if (load(gpa) != expected) return Exchanged::lost;
    exchanges_.push_back({gpa, expected, desired, 0});
    return Exchanged::done;
  }
  /// Each changes one word that was as expected.
  [[nodiscard]] const std::vector<MemoryBackend::Exchange>& exchanges() const { return exchanges_; }

 private:
  const SparseMemory* memory_;
  std::vector<MemoryBackend::Exchange> exchanges_;
};

/// Guest memory that answers with what an engine was told, in the same order; anything else is a disagreement.
class Replayed {
 public:
  explicit Replayed(const MemoryBackend& backend)
      : loads_{backend.loads().begin(), backend.loads().end()},
        exchanges_{backend.exchanges().begin(), backend.exchanges().end()} {}

  [[nodiscard]] std::optional<std::uint64_t> load(std::uint64_t gpa) {
    if (loads_.empty() || loads_.front().gpa != gpa) {
      strayed_ = true;
      return std::nullopt;
    }
    const std::optional<std::uint64_t> value = loads_.front().value;
    loads_.pop_front();
    return value;
  }
  [[nodiscard]] Exchanged exchange(std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
    if (exchanges_.empty()) return stray();
    const MemoryBackend::Exchange told = exchanges_.front();
    exchanges_.pop_front();
    if (told != MemoryBackend::Exchange{gpa, expected, desired, told.outcome}) return stray();
    return told.outcome == 0 ? Exchanged::done : told.outcome > 0 ? Exchanged::lost : Exchanged::no_memory;
  }
  /// The oracle took the same words in the same order, exchanged the same ones, and nothing is left over.
  [[nodiscard]] bool same_path() const { return !strayed_ && loads_.empty() && exchanges_.empty(); }

 private:
  Exchanged stray() {
    strayed_ = true;
    return Exchanged::no_memory;
  }
  std::deque<MemoryBackend::Load> loads_;
  std::deque<MemoryBackend::Exchange> exchanges_;
  bool strayed_ = false;
};

template <class Memory>
Answer ask_oracle(const oracle::Unit& unit, Memory& memory, const oracle::Request& request) {
  return oracle::translate_scalable(
      unit, [&](std::uint64_t gpa) { return memory.load(gpa); },
      [&](std::uint64_t gpa, std::uint64_t expected, std::uint64_t desired) {
        return memory.exchange(gpa, expected, desired);
      },
      request);
}

struct World {
  explicit World(std::uint64_t seed, bool mixed, std::uint32_t fill = VIOMMU_FILL_EXACT)
      : random{seed},
        unit{random_scalable_unit(random, offered)},
        tables{random, unit, memory, mixed},
        engine{create(fill)},
        reader{*engine.reader()} {
    tables.fill(random);
    const std::uint64_t mode = random.chance(1, 10) ? random.below(4) : 1;
    unit.root_table = (random.chance(1, 40) ? 0x3F000 : tables.root_table()) | mode << 10;
    driver.set_root_table(unit.root_table);
    unit.translation_enabled = !random.chance(1, 40);
    if (unit.translation_enabled) driver.enable_translation(true);
  }

  Engine create(std::uint32_t fill) {
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.version = unit.major_version << 4;
    options.capability = unit.cap;
    options.extended_capability = unit.ecap;
    options.host_address_width = unit.haw;
    options.fill = fill;
    options.iotlb_pages = 1024;
    options.context_entries = 64;
    options.pasid_entries = 64;
    viommu_host host{};
    host.size = sizeof host;
    backend.install(host);
    Expected<Engine> created = Engine::create_vtd(options, host);
    INFO(created.error().text);
    REQUIRE(created);
    return *std::move(created);
  }

  viommu_translation ask(const oracle::Request& request, std::uint8_t flags = 0) {
    backend.begin_decision();
    return reader.translate(engine_request(request, flags));
  }
  /// Asks with empty caches.
  viommu_translation ask_afresh(const oracle::Request& request, std::uint8_t flags = 0) {
    engine.drop_caches();
    return ask(request, flags);
  }
  /// What is right now. Memory stays as it is.
  [[nodiscard]] Answer oracle_answer(const oracle::Request& request) const {
    Copy copy{memory};
    return ask_oracle(unit, copy, request);
  }

  /// Whether flags were set in structures, where they change the way of later requests: caches and memory then differ
  /// with good reason. Mixed tables lead there, and second stages.
  [[nodiscard]] bool structures_changed() const {
    return std::ranges::any_of(backend.exchanges(), [this](const MemoryBackend::Exchange& exchange) {
      return exchange.outcome == 0 && !tables.is_of_table(exchange.gpa);
    });
  }

  Random random;
  oracle::Unit unit;
  SparseMemory memory;
  RandomScalableTables tables;
  MemoryBackend backend{memory};
  Engine engine;
  VtdDriver driver{engine, words_of(memory), 0, 0};
  Reader reader;
};

/// As difference(), for an answer that may come from a cache: what was cached before a dirty flag was set does not know
/// of the right to write.
std::string cached_difference(const viommu_translation& answer, Answer right, const oracle::Request& request) {
  if (!request.write && (answer.rights & VIOMMU_WRITE) == 0) right.write = false;
  return difference(answer, right, request);
}

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

void check_record(World& world, const oracle::Request& request, const Answer& right, const viommu_translation& answer) {
  const std::optional<FaultRecord> record = world.driver.take_fault();
  const std::optional<FaultRecord> expected = expected_record(world.unit, request, right);
  if (record.has_value() != expected.has_value()) FAIL("a fault record too many or missing");
  if (record && record->high != expected->high) FAIL(std::hex << "record " << record->high << ' ' << expected->high);
  if (record && right.reason != 0x29 && record->low != expected->low) FAIL("fault address in the record");
  if (right.kind != Answer::fault) return;
  const unsigned status = right.reported ? VIOMMU_FAULT_RECORDED : VIOMMU_FAULT_DISABLED;
  if (answer.status != status) FAIL("status");
}

/// The first answer is one whole decision, and memory is then as the oracle says.
void check_decision(World& world, const oracle::Request& request, const viommu_translation& answer, const Answer& right,
                    const Copy& expected) {
  Replayed told{world.backend};
  const Answer of_the_same_words = ask_oracle(world.unit, told, request);
  if (const std::string differs = difference(answer, right, request); !differs.empty()) FAIL(differs);
  if (!told.same_path() || of_the_same_words.reason != right.reason) FAIL("not the words of the walk, in order, once");
  if (world.backend.exchanges() != expected.exchanges()) FAIL("other flags are set");
  if (!world.backend.writes().empty()) FAIL("memory was written");
  if (world.backend.reads() > loads_of_structures + 1 + loads_of_walk) FAIL(world.backend.reads() << " loads");
}

}  // namespace

TEST_CASE("engine and oracle give the same answer in scalable mode, for any tables and capabilities",
          "[property][scalable][SEC-2][SEC-4][RVM-3][RVM-7][RVM-9]") {
  std::array<unsigned, 256> faults{};
  unsigned translated = 0;
  unsigned flags_set = 0;
  for (unsigned seed = 1; seed <= 2 * worlds; ++seed) {
    World world{seed, seed % 4 == 0};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      if (world.random.chance(1, 3)) world.tables.change(world.random);
      const oracle::Request request = world.tables.request(world.random);
      Copy expected{world.memory};
      const Answer right = ask_oracle(world.unit, expected, request);
      const viommu_translation answer = world.ask_afresh(request);
      INFO(describe(world.unit, request, right, answer));
      check_decision(world, request, answer, right, expected);
      check_record(world, request, right, answer);
      const bool changed = world.structures_changed();
      if (!changed) check_block(world, world.random, request, answer);
      translated += right.kind == Answer::translated ? 1 : 0;
      if (!expected.exchanges().empty()) ++flags_set;
      if (right.kind == Answer::fault) ++faults.at(right.reason);
      for (unsigned again = 0; again < 2 && !changed; ++again) {
        const Answer now = world.oracle_answer(request);
        const viommu_translation cached = world.ask(request);
        INFO("once more: " << describe(world.unit, request, now, cached));
        if (const std::string differs = cached_difference(cached, now, request); !differs.empty()) FAIL(differs);
        check_record(world, request, now, cached);
        check_block(world, world.random, request, cached);
      }
    }
  }
  // The property is worth nothing where the tables do not lead: each outcome came up.
  CHECK(translated > 1000);
  CHECK(flags_set > 1000);
  std::vector<unsigned> reasons{0x29, 0x30, 0x31, 0x33, 0x34, 0x38, 0x39, 0x3A, 0x40, 0x41, 0x42, 0x43, 0x45, 0x46,
                                0x48, 0x50, 0x51, 0x52, 0x58, 0x59, 0x5A, 0x5B, 0x5C, 0x5D, 0x70, 0x71, 0x72, 0x73,
                                0x78, 0x79, 0x7A, 0x7B, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x89, 0x90};
  if (offered.nested) reasons.insert(reasons.end(), {0x74, 0x75, 0x76, 0x77});
  if (offered.second_stage_flags) reasons.push_back(0x7C);
  for (const unsigned reason : reasons) {
    CAPTURE(reason);
    CHECK(faults.at(reason) > 10);
  }
}

TEST_CASE("an answer from the caches is the answer of the walk in scalable mode", "[property][scalable]") {
  for (unsigned seed = 1000; seed < 1000 + worlds; ++seed) {
    World world{seed, false, seed % 2 == 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_DEFAULT};
    CAPTURE(seed);
    std::vector<oracle::Request> asked;
    for (unsigned i = 0; i < 2 * requests_per_world(); ++i) {
      const bool again = !asked.empty() && world.random.chance(2, 3);
      oracle::Request request = again ? asked[world.random.below(asked.size())] : world.tables.request(world.random);
      if (again) {  // all but one or two of: the address, the source, the PASID, the kind
        const oracle::Request other = world.tables.request(world.random);
        if (world.random.chance(1, 2)) request.iova ^= world.random.below(1 << 14);
        if (world.random.chance(1, 3)) request.source_id = other.source_id;
        if (request.pasid && other.pasid && world.random.chance(1, 3)) request.pasid = other.pasid;
        if (request.pasid && world.random.chance(1, 3)) request.privileged = !request.privileged;
        request.read = other.read;
        request.write = other.write;
        request.zero_length = other.zero_length;
        request.execute = request.pasid && other.execute;
      }
      asked.push_back(request);
      const Answer right = world.oracle_answer(request);
      const viommu_translation answer = world.ask(request, VIOMMU_NO_REPORT);
      INFO(describe(world.unit, request, right, answer));
      if (const std::string differs = cached_difference(answer, right, request); !differs.empty()) FAIL(differs);
      if (answer.kind == VIOMMU_FAULT && answer.status != VIOMMU_FAULT_NOT_REPORTED) FAIL("status");
      if (world.structures_changed()) {
        world.engine.drop_caches();
        continue;
      }
      check_block(world, world.random, request, answer);
    }
    CHECK_FALSE(world.driver.take_fault());
  }
}

TEST_CASE("a read that fails blocks the request in scalable mode, whichever read it is", "[property][scalable][B35]") {
  for (unsigned seed = 2000; seed < 2000 + worlds; ++seed) {
    World world{seed, seed % 2 == 0};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world() / 8; ++i) {
      const oracle::Request request = world.tables.request(world.random);
      static_cast<void>(world.ask_afresh(request, VIOMMU_NO_REPORT));
      const unsigned reads = world.backend.reads();
      for (unsigned k = 1; k <= reads; ++k) {
        world.backend.fail_read(k);
        const viommu_translation answer = world.ask_afresh(request, VIOMMU_NO_REPORT);
        world.backend.fail_read(0);
        Replayed told{world.backend};
        const Answer right = ask_oracle(world.unit, told, request);
        INFO(k << ": " << describe(world.unit, request, right, answer));
        if (world.backend.reads() >= k) REQUIRE(answer.kind == VIOMMU_FAULT);  // flags may lead another way by now
        REQUIRE(difference(answer, right, request) == "");
        REQUIRE(told.same_path());
        if (world.structures_changed()) continue;
        // Nothing of the failure stays: the next request is answered from memory as it is.
        const Answer next = world.oracle_answer(request);
        REQUIRE(difference(world.ask(request, VIOMMU_NO_REPORT), next, request) == "");
      }
    }
  }
}

TEST_CASE("only the one copy of each word decides in scalable mode, though no two loads agree and exchanges are lost",
          "[property][scalable][SEC-2][F5][B44]") {
  unsigned lost_for_good = 0;
  for (unsigned seed = 3000; seed < 3000 + worlds; ++seed) {
    World world{seed, false};
    CAPTURE(seed);
    Random lies{seed};
    world.backend.lie([&](std::uint64_t gpa) -> std::optional<std::uint64_t> {
      if (!world.memory.is_ram(gpa, 8)) return std::nullopt;
      return world.tables.word(lies, gpa);
    });
    const std::uint64_t done_of_ten = 1 + 3 * (seed % 3);
    world.backend.interfere([&]() -> std::int32_t {
      if (lies.chance(1, 50)) return -1;
      return lies.chance(done_of_ten, 10) ? 0 : 1;
    });
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      const oracle::Request request = world.tables.request(world.random);
      const viommu_translation answer = world.ask_afresh(request, VIOMMU_NO_REPORT);
      Replayed told{world.backend};
      const Answer right = ask_oracle(world.unit, told, request);
      INFO(describe(world.unit, request, right, answer));
      if (const std::string differs = difference(answer, right, request); !differs.empty()) FAIL(differs);
      if (!told.same_path()) FAIL("not the words of the walk, in order, once");
      if (world.backend.reads() > loads_of_structures + 1 + loads_of_walk) FAIL(world.backend.reads() << " loads");
      if (right.reason == 0x91 && world.backend.exchanges().back().outcome > 0) ++lost_for_good;
    }
  }
  CHECK(lost_for_good > 10);
}

TEST_CASE("a batch answers in scalable mode as its requests do one at a time", "[property][scalable][batch]") {
  for (unsigned seed = 4000; seed < 4000 + worlds; ++seed) {
    World world{seed, false, seed % 2 == 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_DEFAULT};
    CAPTURE(seed);
    std::vector<oracle::Request> known;
    for (unsigned i = 0; i < requests_per_world() / 12; ++i) {
      std::vector<oracle::Request> requests(1 + world.random.below(64));
      std::vector<viommu_request> asked;
      std::vector<Answer> before;
      for (oracle::Request& request : requests) {
        const bool again = !known.empty() && world.random.chance(2, 3);
        request = again ? known[world.random.below(known.size())] : world.tables.request(world.random);
        if (!again) known.push_back(request);
        asked.push_back(engine_request(request, VIOMMU_NO_REPORT));
        before.push_back(world.oracle_answer(request));
      }
      std::vector<viommu_translation> answers(requests.size());
      world.backend.begin_decision();
      REQUIRE(world.reader.translate_batch(asked, answers) == VIOMMU_OK);
      if (world.structures_changed()) {
        world.engine.drop_caches();
        continue;
      }
      for (std::size_t at = 0; at < requests.size(); ++at) {
        // A flag that another one of them has set may be there already, or not yet.
        if (cached_difference(answers[at], before[at], requests[at]).empty()) continue;
        const Answer after = world.oracle_answer(requests[at]);
        INFO(describe(world.unit, requests[at], after, answers[at]));
        REQUIRE(cached_difference(answers[at], after, requests[at]) == "");
      }
    }
  }
}

TEST_CASE("a range in scalable mode is the pages it is made of, up to the first blocked byte", "[property][scalable]") {
  for (unsigned seed = 5000; seed < 5000 + worlds; ++seed) {
    World world{seed, false, seed % 2 == 0 ? VIOMMU_FILL_EXACT : VIOMMU_FILL_DEFAULT};
    CAPTURE(seed);
    for (unsigned i = 0; i < requests_per_world() / 4; ++i) {
      oracle::Request request = world.tables.request(world.random);
      request.zero_length = false;
      request.length = 1 + static_cast<unsigned>(world.random.below(world.random.chance(1, 2) ? 0x1000 : 0x8000));
      const std::uint64_t last = request.iova + request.length - 1;
      if (last < request.iova || (last >= 0xFEE00000 && request.iova <= 0xFEEFFFFF)) continue;
      const auto at = [&](std::uint64_t offset) {
        oracle::Request byte = request;
        byte.iova += offset;
        byte.length = 0;
        return world.oracle_answer(byte);
      };
      std::array<viommu_piece, 16> pieces{};
      world.backend.begin_decision();
      const viommu_range_end end = world.reader.translate_range(engine_request(request, VIOMMU_NO_REPORT), pieces);
      INFO(describe(world.unit, request, {}, {}));
      REQUIRE(end.pieces <= pieces.size());
      if (world.structures_changed()) {
        world.engine.drop_caches();
        continue;
      }
      std::uint64_t covered = 0;
      for (std::size_t number = 0; number < end.pieces; ++number) {
        const viommu_piece& piece = pieces[number];
        REQUIRE(piece.iova == request.iova + covered);
        REQUIRE(piece.length > 0);
        for (std::uint64_t offset = 0; offset < piece.length;) {
          const Answer right = at(covered + offset);
          REQUIRE((right.kind == Answer::translated || right.kind == Answer::identity));
          REQUIRE(right.gpa == piece.gpa + offset);
          const bool write = right.write && (request.write || (piece.rights & VIOMMU_WRITE) != 0);  // see above
          REQUIRE(piece.rights == ((right.read ? VIOMMU_READ : 0) | (write ? VIOMMU_WRITE : 0)));
          offset += 0x1000 - ((piece.iova + offset) & 0xFFF);
        }
        covered += piece.length;
      }
      REQUIRE(end.translated == covered);
      REQUIRE((end.complete == 1) == (end.translated == request.length));
      if (end.complete == 0) REQUIRE(end.reason == at(covered).reason);
    }
  }
}

TEST_CASE("a translation request is completed as the oracle says, for any scalable tables and capabilities",
          "[property][scalable][ats]") {
  constexpr std::uint64_t device_tlbs = 1 << 2;
  constexpr std::uint64_t no_write_flags = std::uint64_t{1} << 33;
  constexpr std::uint64_t address_type = std::uint64_t{1} << 60;  // of a translation request
  std::array<unsigned, 3> completed{};
  for (unsigned seed = 6000; seed < 6000 + worlds; ++seed) {
    World world{seed, false};
    CAPTURE(seed);
    if ((world.unit.root_table & 0xC00) == 0) continue;  // legacy mode
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      if (world.random.chance(1, 3)) world.tables.change(world.random);
      oracle::Request request = world.tables.request(world.random);
      request.read = true;
      request.write = !request.execute && world.random.chance(1, 2);
      request.zero_length = false;
      const viommu_request asked = engine_request(request);
      if ((world.unit.ecap & no_write_flags) == 0) request.write = true;
      world.engine.drop_caches();
      for (unsigned again = 0; again < 3; ++again) {  // afresh, then by the caches
        Copy expected{world.memory};
        const oracle::Completion right = oracle::translate_for_device(
            world.unit, [&](std::uint64_t gpa) { return expected.load(gpa); },
            [&](std::uint64_t gpa, std::uint64_t old, std::uint64_t desired) {
              return expected.exchange(gpa, old, desired);
            },
            request);
        world.backend.begin_decision();
        const viommu_ats_completion completion = world.reader.ats_translate(asked);
        INFO(describe(world.unit, request, {}, {})
             << std::hex << " | oracle " << unsigned{right.status} << " reason " << unsigned{right.reason} << " gpa "
             << right.gpa << " | engine " << unsigned{completion.status} << " reason " << unsigned{completion.reason}
             << " gpa " << completion.gpa);
        if (completion.status != right.status) FAIL("status");
        if (completion.reason != right.reason) FAIL("reason");
        const unsigned rights = (right.read ? 1U : 0U) | (right.write ? 2U : 0U);
        if (completion.rights != rights) FAIL("rights " << unsigned{completion.rights} << ' ' << rights);
        if (rights != 0 && completion.gpa != right.gpa) FAIL("address");
        if (rights != 0 && (completion.gpa & completion.mask) != (request.iova & completion.mask)) FAIL("alignment");
        if (((completion.flags & VIOMMU_ATS_PRIVILEGED) != 0) != right.privileged) FAIL("PRIV");
        if (((completion.flags & VIOMMU_ATS_UNTRANSLATED_ONLY) != 0) != right.untranslated_only) FAIL("U");
        if (again == 0 && world.backend.exchanges() != expected.exchanges()) FAIL("other flags are set");
        Answer fault;
        fault.reason = right.reason;
        fault.reported = right.reported;
        std::optional<FaultRecord> expected_fault = expected_record(world.unit, request, fault);
        if (expected_fault && (world.unit.ecap & device_tlbs) != 0) expected_fault->high |= address_type;
        if (world.driver.take_fault() != expected_fault) FAIL("record");
        ++completed.at(right.status);
        if (world.structures_changed()) break;
      }
    }
  }
  for (const unsigned count : completed) CHECK(count > 1000);
}

TEST_CASE("translated requests and page requests are admitted as the oracle says, for any scalable tables",
          "[property][scalable][ats][pages]") {
  constexpr std::uint64_t device_tlbs = 1 << 2;
  constexpr std::uint64_t page_requests = 1 << 29;
  constexpr std::uint64_t translated_type = std::uint64_t{2} << 60;
  constexpr std::uint64_t nowhere = std::uint64_t{1} << 38;  // no memory: what is admitted is answered at once
  std::array<std::array<unsigned, 256>, 2> seen{};
  for (unsigned seed = 7000; seed < 7000 + 2 * worlds; ++seed) {
    World world{seed, false};
    CAPTURE(seed);
    if ((world.unit.root_table & 0xC00) == 0) continue;  // legacy mode
    if (world.engine.mmio_read(0xD0, 8) == 0) static_cast<void>(world.engine.mmio_write(0xD0, 8, nowhere));
    const auto load = [&](std::uint64_t gpa) { return world.memory.load_u64(gpa); };
    for (unsigned i = 0; i < requests_per_world(); ++i) {
      if (world.random.chance(1, 2)) world.tables.change(world.random);
      oracle::Request request = world.tables.request(world.random);
      request.zero_length = false;
      const bool for_page = (world.unit.ecap & page_requests) != 0 && world.random.chance(1, 2);
      const Answer right =
          for_page ? admit_page_request(world.unit, load, request) : check_translated(world.unit, load, request);
      if (world.random.chance(1, 2)) world.engine.drop_caches();
      ++seen.at(for_page ? 1 : 0).at(right.reason);
      INFO(describe(world.unit, request, right, {}) << " page " << for_page);
      std::optional<FaultRecord> expected = expected_record(world.unit, request, right);
      if (for_page) {
        viommu_page_request asked{};
        asked.iova = request.iova;
        asked.source = request.source_id;
        asked.access = static_cast<std::uint8_t>((request.read ? VIOMMU_READ : 0) | (request.write ? VIOMMU_WRITE : 0));
        asked.last = 1;
        asked.pasid = request.pasid.value_or(0);
        if (request.pasid)
          asked.flags = static_cast<std::uint8_t>(VIOMMU_HAS_PASID | (request.privileged ? VIOMMU_PRIVILEGED : 0) |
                                                  (request.execute ? VIOMMU_EXECUTE : 0));
        std::uint32_t code = 99;
        static_cast<void>(world.engine.mmio_write(0xDC, 4, 3));  // no overflow
        const viommu_result result = viommu_request_page(world.engine.get(), &asked, &code);
        if (right.kind != Answer::fault) {
          if (result != VIOMMU_PAGE_QUEUED) FAIL("not queued");
        } else if (result != VIOMMU_PAGE_ANSWERED || code != VIOMMU_PAGE_INVALID) {
          FAIL("not invalid");
        }
        constexpr std::uint64_t first_type = std::uint64_t{1} << 62;
        constexpr std::uint64_t second_type = 1 << 28;
        if (expected) expected->high = (expected->high & ~first_type) | second_type;  // "Type": a page request
      } else {
        const viommu_translation answer = world.reader.ats_check(engine_request(request));
        if (answer.reason != right.reason) FAIL("reason " << std::hex << unsigned{answer.reason});
        if ((answer.kind == VIOMMU_IDENTITY) != (right.kind == Answer::identity)) FAIL("kind");
        if (answer.kind == VIOMMU_IDENTITY && answer.gpa != request.iova) FAIL("address");
        if (expected && (world.unit.ecap & device_tlbs) != 0) expected->high |= translated_type;
      }
      const std::optional<FaultRecord> record = world.driver.take_fault();
      if (record.has_value() != expected.has_value()) FAIL("a record too many or missing");
      if (record && record->high != expected->high) FAIL(std::hex << record->high << ' ' << expected->high);
      if (record && record->low != expected->low) FAIL("fault address");
    }
  }
  for (const unsigned reason : {0x00U, 0x39U, 0x41U, 0x42U, 0x43U, 0x44U, 0x49U, 0x83U, 0x87U, 0x89U}) {
    CAPTURE(reason);
    CHECK(seen[0].at(reason) > 5);
  }
  for (const unsigned reason : {0x00U, 0x39U, 0x41U, 0x42U, 0x43U, 0x45U, 0x47U, 0x51U, 0x59U, 0x5AU}) {
    CAPTURE(reason);
    CHECK(seen[1].at(reason) > 0);
  }
}

TEST_CASE(
    "an explanation says what a device is answered in scalable mode, by tables and by caches, and changes nothing",
    "[property][scalable][dump]") {
  std::map<std::string, unsigned> by;
  for (unsigned seed = 1; seed <= worlds; ++seed) {
    World world{seed, false, seed % 2 == 0 ? VIOMMU_FILL_ALL : VIOMMU_FILL_EXACT};
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
