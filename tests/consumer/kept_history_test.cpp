// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Property: whatever mappings come and go, devices move and memory changes, and whichever call of a host fails, each
// consumer holds what its domain maps of the memory that is there; and a request that is refused has changed nothing.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/consumer/kept_world.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

struct Kind {
  std::uint32_t declares = 0;
  std::uint64_t unit_bytes = 0;
  std::uint64_t first = 0;
  std::uint64_t last = ~std::uint64_t{0};
  std::uint64_t quota = 1 << 20;
};
constexpr std::array kinds{
    Kind{},
    Kind{VIOMMU_CONSUMER_LEAF},
    Kind{VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_MMIO},
    Kind{VIOMMU_CONSUMER_POW2 | VIOMMU_CONSUMER_MMIO},
    Kind{VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2},
    Kind{0, gib_1},
    Kind{0, 0, 0x1800, gib_1 + 3 * page_4k + 0x7FF},
    Kind{0, 0, 0, ~std::uint64_t{0}, 20},
    Kind{VIOMMU_CONSUMER_LEAF, 0, 0, ~std::uint64_t{0}, 6},
};
constexpr std::uint64_t more_base = 8 * gib_1;
constexpr std::uint64_t more_bytes = 6 * page_4k;
constexpr std::size_t devices = 4;  // the last two share
constexpr std::array<std::uint64_t, 6> places{0,     mib_2 - 4 * page_4k, gib_1 - 2 * page_4k,
                                              gib_1, 3 * gib_1,           1ULL << 38};
constexpr std::array<std::uint64_t, 6> targets{
    ram_base, ram_base + mib_2, bar_base - 8 * page_4k, bar_base + bar_bytes - 8 * page_4k, rom_base, more_base};

class History {
 public:
  explicit History(std::uint64_t seed) : random_{seed} {
    for (std::size_t i = 0; i < devices; ++i) {
      Kind& kind = kinds_[i];
      if (i < 2) kind = random_.pick(kinds);
      models_[i] = std::make_unique<MirrorModel>(kind.declares, kind.first, kind.last);
      if (i >= 2) models_[i]->share(host_);
      arm(*models_[i]);
      world_.attach(source(i), domains_[i]);
      world_.join(source(i), *models_[i], kind.unit_bytes, kind.quota);
    }
  }

  /// @return what is wrong afterwards
  [[nodiscard]] std::string step() {
    const std::uint64_t what = random_.below(16);
    bool done = true;
    bool failing = false;
    if (what < 12) {
      const auto domain = static_cast<std::uint16_t>(1 + random_.below(2));
      failing = failing_ = random_.chance(1, 3);
      done = what < 7 ? map(domain) : unmap(domain);
      failing_ = false;
    } else if (what < 15) {
      move();
    } else {
      change_memory();
    }
    refused += done ? 0 : 1;
    if (!done && !world_.restored) {
      ++not_restored;
      if (!failing) return "a request without a failure was not undone\n";
      for (std::size_t i = 0; i < devices; ++i) world_.attach(source(i), domains_[i]);
    }
    std::string wrong;
    for (std::size_t i = 0; i < devices; ++i) wrong += judge(i);
    if (!wrong.empty()) wrong = "step of kind " + std::to_string(what) + (done ? "" : ", refused") + ": " + wrong;
    return wrong;
  }
  std::uint64_t refused = 0;
  std::uint64_t not_restored = 0;

 private:
  [[nodiscard]] static std::uint16_t source(std::size_t i) { return static_cast<std::uint16_t>(0x300 + 8 * i); }

  void arm(MirrorModel& model) {
    model.fails = [this, &model](const viommu_event& event) {
      if (!failing_) return false;
      const MirrorModel& holder = model.host == nullptr ? model : *host_.spaces.at(model.attached);
      if (event.kind == VIOMMU_EVENT_MAP && holder.holds_any(event.iova, event.last)) return true;
      return random_.chance(1, 12);
    };
  }
  bool map(std::uint16_t domain) {
    std::uint64_t iova = random_.pick(places) + random_.below(16) * page_4k;
    std::uint64_t bytes = page_4k;
    std::uint64_t gpa = random_.pick(targets) + random_.below(4) * page_4k;
    switch (random_.below(8)) {
      case 0: bytes = mib_2; break;
      case 1: bytes = mib_2 + page_4k; break;
      case 2: iova &= ~(mib_2 - 1), gpa &= ~(mib_2 - 1), bytes = 3 * mib_2; break;
      case 3:
        if (random_.chance(1, 3)) iova &= ~(gib_1 - 1), gpa = ram_base, bytes = gib_1;
        break;
      case 4:  iova += random_.below(page_4k), bytes = 1 + random_.below(3 * page_4k); break;
      case 5:  gpa += random_.below(2); break;
      default: bytes = page_4k * (1 + random_.below(12)); break;
    }
    const std::uint64_t last = iova + bytes - 1;
    const auto& there = world_.store.domains[domain];
    const auto next = there.lower_bound(iova);
    if (next != there.end() && next->second.range.first.value <= last) return true;
    return world_.map(domain, iova, bytes, gpa, static_cast<unsigned>(1 + random_.below(3)));
  }
  bool unmap(std::uint16_t domain) {
    const auto& there = world_.store.domains[domain];
    if (there.empty()) return true;
    auto first = there.begin();
    std::advance(first, static_cast<std::ptrdiff_t>(random_.below(there.size())));
    auto last = first;
    for (std::uint64_t more = random_.below(4); more > 0 && std::next(last) != there.end(); --more) ++last;
    return world_.unmap(domain, first->second.range.first.value, last->second.range.last.value);
  }
  void move() {
    const std::size_t i = random_.below(devices);
    domains_[i] = static_cast<std::uint16_t>(random_.below(3));
    world_.attach(source(i), domains_[i]);
  }
  void change_memory() {
    if (more_)
      CHECK(world_.waist->remove_region({more_base}, 1) == core::RegionResult::ok);
    else
      CHECK(world_.waist.add(more_base, more_bytes) == core::RegionResult::ok);
    more_ = !more_;
    world_.settle();
  }

  [[nodiscard]] std::string judge(std::size_t i) {
    const MirrorModel& model = *models_[i];
    const bool gave_up = world_.mirror(model).gave_up();
    const std::vector<Extent> wanted = gave_up ? std::vector<Extent>{} : expected(i);
    const std::vector<Extent> held = model.extents();
    std::ostringstream text;
    const auto [w, h] = std::ranges::mismatch(wanted, held);
    if (w != wanted.end() || h != held.end()) {
      text << "device " << i << " expected ";
      if (w != wanted.end()) text << *w;
      text << " found ";
      if (h != held.end()) text << *h;
      text << '\n';
    }
    const auto& wrong =
        model.host == nullptr || model.attached == 0 ? model.wrong : host_.spaces.at(model.attached)->wrong;
    if (!wrong.empty()) text << wrong.front() << '\n';
    if (!host_.wrong.empty()) text << host_.wrong.front() << '\n';
    std::uint64_t bytes = 0;
    for (const Extent& extent : held) bytes += extent.length;
    const bool clipped = kinds_[i].first != 0;
    if (!clipped && world_.bytes_of(model) != bytes)
      text << "counts " << world_.bytes_of(model) << " of " << bytes << '\n';
    if (gave_up && kinds_[i].quota > 1000) text << "device " << i << " gave up\n";
    return text.str();
  }
  /// What the device's domain maps, in whole pages, as far as there is memory that the consumer takes.
  [[nodiscard]] std::vector<Extent> expected(std::size_t i) {
    std::vector<Extent> extents;
    if (domains_[i] == 0) return extents;
    struct Memory {
      std::uint64_t first;
      std::uint64_t bytes;
      unsigned rights;
      bool mmio;
    };
    const std::array memory{Memory{ram_base, 4 * gib_1, 3, false}, Memory{bar_base, bar_bytes, 3, true},
                            Memory{rom_base, rom_bytes, 1, false}, Memory{more_base, more_ ? more_bytes : 0, 3, false}};
    for (const auto& [last, mapping] : world_.store.domains[domains_[i]]) {
      const std::uint64_t begin = (mapping.range.first.value + page_4k - 1) & ~(page_4k - 1);
      const std::uint64_t end = (last + 1) & ~(page_4k - 1);
      const std::uint64_t gpa = mapping.gpa.value + (begin - mapping.range.first.value);
      if (begin >= end || gpa % page_4k != 0) continue;
      for (const Memory& piece : memory) {
        const std::uint64_t from = std::max(gpa, piece.first);
        const std::uint64_t to = std::min(gpa + (end - begin), piece.first + piece.bytes);
        const auto rights = static_cast<unsigned>(mapping.rights.bits() & piece.rights);
        if (from >= to || rights == 0 || (piece.mmio && (kinds_[i].declares & VIOMMU_CONSUMER_MMIO) == 0)) continue;
        add(extents, kinds_[i], begin + (from - gpa), begin + (to - gpa) - 1, from,
            rights | (piece.mmio ? unsigned{VIOMMU_MMIO} : 0U));
      }
    }
    return extents;
  }
  static void add(std::vector<Extent>& extents, const Kind& kind, std::uint64_t first, std::uint64_t last,
                  std::uint64_t gpa, unsigned rights) {
    if (last < kind.first || first > kind.last) return;
    gpa += std::max(first, kind.first) - first;
    first = std::max(first, kind.first);
    last = std::min(last, kind.last);
    Extent* const before = extents.empty() ? nullptr : &extents.back();
    if (before != nullptr && before->iova + before->length == first && before->gpa + before->length == gpa &&
        before->rights == rights)
      before->length += last - first + 1;
    else
      extents.push_back({first, last - first + 1, gpa, rights});
  }

  Random random_;
  bool failing_ = false;
  bool more_ = false;
  std::array<Kind, devices> kinds_{};
  std::array<std::uint16_t, devices> domains_{1, 1, 1, 2};
  SpaceHost host_;
  std::array<std::unique_ptr<MirrorModel>, devices> models_;
  KeptWorld world_;
};

}  // namespace

TEST_CASE("any history of mappings, moves, memory and failures leaves each consumer with what its domain maps",
          "[consumer][mappings][property][S3.7][S3.11][SEC-15]") {
  const std::uint64_t seeds = run_whole() ? 10'000 : 150;
  constexpr unsigned steps = 80;
  std::uint64_t refused = 0;
  std::uint64_t not_restored = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    History history{seed};
    std::string wrong;
    unsigned step = 0;
    while (step < steps && wrong.empty()) ++step, wrong = history.step();
    INFO("seed " << seed << " step " << step << ": " << wrong);
    CHECK(wrong.empty());
    if (!wrong.empty()) return;
    refused += history.refused;
    not_restored += history.not_restored;
  }
  CHECK(refused > seeds);
  CHECK(not_restored > 0);
  CHECK(not_restored < refused / 2);
}

}  // namespace viommu::test
