// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// What a vector kernel answers is what one lookup after another answers, and it leaves the rest alone.
#include "caches/batch_lookup.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "tests/caches/test_epochs.hpp"
#include "tests/support/random.hpp"
#include "walkers/simd/select.hpp"

namespace viommu::caches {
namespace {

struct Record {
  std::uint64_t words[3];
  friend bool operator==(const Record&, const Record&) = default;
};
static_assert(sizeof(Record) == record_bytes);

constexpr std::uint64_t kind = 2;
constexpr Record untouched{{0x1111, 0x2222, 0x3333}};

/// Those of this machine, each once.
std::vector<const BatchLookup*> kernels() {
  std::set<const BatchLookup*> all;
  for (const walkers::Kernels* const walk : walkers::runnable_kernels()) all.insert(select_batch_lookup(walk->name));
  all.erase(nullptr);
  return {all.begin(), all.end()};
}

/// Two address spaces with pages, one of them with blocks; sources 0 and 2 use the one, 1 the other, 3 is passed
/// through, 4 is not cached.
class World {
 public:
  World(std::uint64_t seed, bool with_blocks, bool large) : random_{seed} {
    REQUIRE(iotlb.reset({}, 512, 4, seed));
    REQUIRE(structures.reset({}, 16, 1, 1));
    REQUIRE(spaces.reset({}, 8, 12, epochs.epochs, {&iotlb, &structures}));
    REQUIRE(accounts.reset({}, 0, 1, epochs.epochs));
    REQUIRE(contexts.reset({}, 8, spaces, accounts));
    for (const unsigned source : {0U, 1U, 2U}) insert(source, 5 + source % 2, Interpretation::second_stage);
    insert(3, 9, Interpretation::pass_through);
    for (unsigned i = 0; i < 400; ++i) {
      AddressSpace& space = contexts.find(source(i % 2)).space();
      const Iova iova = page();
      if (interrupt_window.contains(iova.value)) continue;  // no walk fills there
      const bool block = with_blocks && i % 2 == 0 && random_.chance(1, 2);
      const PageSize size = large && random_.chance(1, 20) ? random_.pick(std::array{PageSize::mib2, PageSize::gib1})
                            : block                        ? PageSize::kib32
                                                           : PageSize::kib4;
      const auto pages = static_cast<std::uint8_t>(random_.below(256) | std::uint64_t{1} << page_in_block(iova));
      const std::uint64_t frame = random_.below(std::uint64_t{1} << 40) << page_shift;
      const Rights rights = Rights::in(1 + random_.below(3));
      space.sizes.fetch_or(bit_of(size), std::memory_order_relaxed);
      static_cast<void>(iotlb.fill(iotlb.sample(space.place(), iova, all_sizes), space.place(), iova,
                                   {{frame}, size, rights, pages}, nullptr));
    }
  }

  static SourceId source(unsigned id) { return {static_cast<std::uint16_t>(id)}; }

  Record request() {
    const std::uint64_t access = random_.chance(1, 16) ? random_.below(256) : 1 + random_.below(3);
    const std::uint64_t flags = random_.chance(1, 16) ? random_.below(256) : random_.below(2);
    const std::uint64_t high = random_.chance(1, 16) ? random_.next() << 48 : 0;
    if (random_.chance(1, 4)) source_ = random_.below(5);
    return {{(page().value + random_.below(4096)) ^ high, random_.next(),
             random_.below(1 << 20) | source_ << request_layout::source_at | access << request_layout::access_at |
                 flags << request_layout::flags_at}};
  }

  /// The answer of single lookups, for what a kernel may answer.
  std::optional<Record> answer(const Record& request) const {
    const std::uint64_t tail = request.words[2];
    const std::uint64_t access = tail >> request_layout::access_at & 0xFF;
    const std::uint64_t flags = tail >> request_layout::flags_at;
    if (access == 0 || access > 3 || flags > 1) return {};
    const ContextEntry context =
        contexts.find(source(static_cast<unsigned>(tail >> request_layout::source_at & 0xFFFF)));
    const Iova iova{request.words[0]};
    if (!context || iova >= context.space().paged) return {};
    const AddressSpace& space = context.space();
    // Of the small sizes the one that lookup() finds; then the large ones, should that not grant what is asked.
    for (const Sizes sizes : {small_sizes, bit_of(PageSize::mib2), bit_of(PageSize::gib1)}) {
      const auto known = static_cast<Sizes>(space.sizes.load(std::memory_order_relaxed) & sizes);
      const auto found = iotlb.lookup(space.place(), iova, known);
      if (!found || (access & ~std::uint64_t{found->rights.bits()}) != 0) continue;
      const bool is_large = sizes != small_sizes;
      if (is_large && interrupt_window.contains(iova.value)) continue;
      return Record{{found->gpa.value,
                     is_large ? found->mask & mask_clear_of_interrupts(iova.value) : low_bits(page_shift),
                     kind | std::uint64_t{found->rights.bits()} << answer_layout::rights_at}};
    }
    return {};
  }

  Iotlb iotlb;
  Iotlb structures;
  test::TestEpochs<1> epochs;
  AddressSpaces spaces;
  Accounts accounts;
  ContextCache contexts;

 private:
  void insert(unsigned id, unsigned domain, Interpretation interpretation) {
    const AddressSpaceKey key{{static_cast<std::uint16_t>(domain)}, interpretation, 2, {0x1000}, {low_bits(48)}};
    REQUIRE(contexts.insert(contexts.version(), source(id), key, false));
  }
  Iova page() {
    if (random_.chance(1, 8))
      return {0xFEC00000 + (random_.below(0x600) << page_shift)};  // around the interrupt window
    return {random_.below(600) << page_shift | (random_.chance(1, 2) ? std::uint64_t{1} << 40 : 0)};
  }

  test::Random random_;
  std::uint64_t source_ = 0;
};

}  // namespace

TEST_CASE("a vector kernel answers what single lookups answer", "[caches][batch]") {
  const bool with_blocks = GENERATE(false, true);
  const bool large = GENERATE(false, true);
  for (const BatchLookup* const kernel : kernels()) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      World world{seed, with_blocks, large};
      unsigned hits = 0;
      unsigned others = 0;
      for (std::size_t round = 0; round < 40; ++round) {
        const std::size_t count = round < 33 ? round : batch_lookup_width - (round - 33);
        std::vector<Record> requests(count);
        for (Record& request : requests) request = world.request();
        std::vector<Record> answers(count + 1, untouched);
        const BatchBits answered =
            kernel->look_up({&world.contexts, &world.iotlb, kind}, reinterpret_cast<const std::byte*>(requests.data()),
                            reinterpret_cast<std::byte*>(answers.data()), count);
        for (std::size_t i = 0; i < batch_lookup_width; ++i) {
          const bool said = (answered[i / 64] >> (i % 64) & 1) != 0;
          CAPTURE(kernel->name, seed, round, i);
          if (i >= count) {
            REQUIRE_FALSE(said);
            continue;
          }
          const std::optional<Record> right = world.answer(requests[i]);
          // The last ones, fewer than a vector has lanes, are not looked up.
          if (i < count / 4 * 4) REQUIRE(said == right.has_value());
          REQUIRE(answers[i] == (said ? right.value_or(Record{}) : untouched));
          ++(said ? hits : others);
        }
        REQUIRE(answers[count] == untouched);
      }
      CHECK(hits > 5);
      CHECK(others > 20);
    }
  }
}

TEST_CASE("a recorded request says its own address and source, whatever lies beside it", "[caches][batch]") {
  const std::array<Record, 3> records{{{{1, 2, 0xAAAA'0110'0000'0003}},
                                       {{0x0123'4567'89AB'CDEF, 0x1111, 0x0103'BEEF'0005'4321}},
                                       {{0x2222, 0x3333, ~std::uint64_t{0}}}}};
  const RecordedRequest request{reinterpret_cast<const std::byte*>(&records[1])};
  CHECK(request.iova() == Iova{0x0123'4567'89AB'CDEF});
  CHECK(request.source() == SourceId{0xBEEF});
}

TEST_CASE("a vector kernel knows plain requests", "[caches][batch]") {
  for (const BatchLookup* const kernel : kernels()) {
    for (std::size_t count = 0; count <= 9; ++count) {
      const auto tail = [](std::uint64_t access, std::uint64_t flags) {
        return 0xFFFFFFFFFFFF | access << request_layout::access_at | flags << request_layout::flags_at;
      };
      std::vector<Record> requests(count, Record{{~std::uint64_t{0}, ~std::uint64_t{0}, tail(3, 1)}});
      const auto plain = [&] { return kernel->all_plain(reinterpret_cast<const std::byte*>(requests.data()), count); };
      CHECK(plain());
      for (Record& request : requests) {
        for (unsigned access = 0; access < 256; ++access) {
          for (unsigned flags = 0; flags < 256; ++flags) {
            request.words[2] = tail(access, flags);
            if (plain() != (access >= 1 && access <= 3 && flags <= 1)) FAIL("access " << access << " flags " << flags);
          }
        }
        request.words[2] = tail(1, 0);
      }
    }
  }
}

TEST_CASE("vector lookups go with the walk kernel of their name", "[caches][batch]") {
  CHECK(select_batch_lookup("scalar") == nullptr);
  CHECK(select_batch_lookup("") == nullptr);
  for (const walkers::Kernels* const walk : walkers::runnable_kernels()) {
    const BatchLookup* const kernel = select_batch_lookup(walk->name);
    if (kernel != nullptr) CHECK(std::string_view{walk->name}.starts_with(kernel->name));
  }
}

}  // namespace viommu::caches
