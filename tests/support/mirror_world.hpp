// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A guest with tables, contexts and consumers that mirror them, step by step, and an independent walk that says what
// each consumer should hold. A step is numbers, so that lists of them can be made by chance, by a fuzzer, and cut down.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
#include <viommu/viommu.hpp>

#include "tests/support/guest_tables.hpp"
#include "tests/support/mirror_model.hpp"
#include "tests/support/vtd_driver.hpp"

namespace viommu::test {

class MirrorWorld {
 public:
  static constexpr unsigned devices = 3;
  /// What a guest's context entry of a device says.
  struct Context {
    enum Kind : std::uint8_t { absent, tables, pass_through, broken } kind = absent;
    unsigned domain = 0;
  };
  /// One step, as numbers, so that a failing list of them can be cut down.
  struct Step {
    std::array<std::uint32_t, 6> n{};
  };

  MirrorWorld() : pages_(ram_bytes / page), ram_{pages_.front().words.data(), ram_bytes / 8}, engine_{create()} {
    const viommu_region tables{0, ram_bytes, ram_.data(), 0};
    must(viommu_region_add(engine_.get(), &tables) == VIOMMU_OK);
    parts_ = {{0, ram_bytes - 1}};
    add_region(0x4000'0000, 0x8000'0000, VIOMMU_REGION_UNMAPPED);
    add_region(0xC000'0000, 0x20'0000, VIOMMU_REGION_MMIO);
    add_region(0x1'0000'0000, 0x4000'0000, VIOMMU_REGION_UNMAPPED);
    for (Tree& tree : trees_) tree = tables_.create_tree(3);
    begin();
  }

  /// @return what is wrong after it; empty when nothing is
  std::string take(const Step& step) {
    act(step);
    while (engine_.process().state == VIOMMU_PROCESS_MORE) {
    }
    return check();
  }

 private:
  static constexpr std::uint64_t page = 0x1000;
  static constexpr std::uint64_t mib2 = 0x20'0000;
  static constexpr std::uint64_t gib = 0x4000'0000;
  static constexpr std::uint64_t ram_bytes = 0x10'0000;
  static constexpr unsigned domains = 3;
  static constexpr std::uint64_t reserved_bit = std::uint64_t{1} << 45;

  struct Part {
    std::uint64_t first;
    std::uint64_t last;
    bool mmio = false;
    unsigned state = VIOMMU_PART_SHARED;
  };

  static void must(bool done) {
    if (!done) throw std::logic_error{"the world of a mirror could not go on"};
  }
  [[nodiscard]] Engine create() {
    viommu_host host{};
    host.size = sizeof host;
    viommu_vtd_options options{};
    options.size = sizeof options;
    options.capability = 0x80D2'008C'2226'0286;
    options.extended_capability = 0xF0'0F4A;
    options.host_address_width = 39;
    options.iotlb_pages = 64;
    options.context_entries = 16;
    options.flags = VIOMMU_SHARE_SPACES;
    auto engine = Engine::create_vtd(options, host);
    must(static_cast<bool>(engine));
    return *std::move(engine);
  }
  void add_region(std::uint64_t gpa, std::uint64_t length, std::uint64_t flags) {
    const viommu_region region{gpa, length, nullptr, flags};
    must(viommu_region_add(engine_.get(), &region) == VIOMMU_OK);
    parts_.push_back({gpa, gpa + length - 1, (flags & VIOMMU_REGION_MMIO) != 0});
    std::ranges::sort(parts_, {}, &Part::first);
  }
  void begin() {
    driver_ = std::make_unique<VtdDriver>(engine_, words(), 0x2000, 0x1000);
    driver_->set_root_table(tables_.root_table());
    driver_->enable_queue();
    driver_->enable_translation(true);
    translating_ = true;
  }
  [[nodiscard]] Words words() {
    return {[this](std::uint64_t gpa) { return std::optional{ram_[gpa / 8]}; },
            [this](std::uint64_t gpa, std::uint64_t value) {
              ram_[gpa / 8] = value;
              return true;
            }};
  }

  // ---- Steps ----

  [[nodiscard]] static std::uint64_t iova_of(std::uint32_t n) {
    // Few places, so that steps meet: two runs of tables, the interrupt hole's edges, the end of the width.
    constexpr std::array<std::uint64_t, 6> bases{0, mib2, gib - mib2, 0xFEE0'0000, 2 * gib, 0x7F'FFE0'0000};
    return bases[n % bases.size()] + n / 8 % 512 * page;
  }
  [[nodiscard]] static std::uint64_t gpa_of(std::uint32_t n) {
    constexpr std::array<std::uint64_t, 6> bases{0x4000'0000, 0x4000'0000, 0x1'0000'0000,
                                                 0xBFF0'0000, 0xC000'0000, 0xD000'0000};
    return bases[n % bases.size()] + n / 8 % 2048 * page;
  }
  [[nodiscard]] static std::uint16_t source_of(unsigned device) {
    return static_cast<std::uint16_t>((device + 1) << 8);
  }
  [[nodiscard]] static std::uint16_t id_of(unsigned domain) { return static_cast<std::uint16_t>(domain + 7); }

  void act(const Step& step) {
    const auto& n = step.n;
    const unsigned domain = n[1] % domains;
    const Tree& tree = trees_[domain];
    const std::uint64_t iova = iova_of(n[2]);
    switch (n[0] % 20) {
      case 0:
      case 1:
      case 2: change(domain, iova, 0, n[5], [&] { map(tree, iova, gpa_of(n[3]), 1 + n[4] % 3, 1); }); break;
      case 3:
      case 4:
      case 5: {
        const std::uint64_t pages = 1 + n[4] % 64;
        change(domain, iova, 6, n[5], [&] {
          for (std::uint64_t i = 0; i < pages && (iova & 0x3F'FFF) + i * page < 0x4'0000; ++i)
            map(tree, iova + i * page, gpa_of(n[3]) + i * page, 3, 1);
        });
        break;
      }
      case 6:
      case 7: change(domain, iova, 0, n[5], [&] { clear(tree, iova, 1); }); break;
      case 8: {
        const std::uint64_t at = iova & ~(mib2 - 1);
        change(domain, at, 9, n[5], [&] { map(tree, at, gpa_of(n[3]) & ~(mib2 - 1), 1 + n[4] % 3, 2); });
        break;
      }
      case 9:  change(domain, iova & ~(mib2 - 1), 9, n[5], [&] { clear(tree, iova & ~(mib2 - 1), 2); }); break;
      case 10: {
        const std::uint64_t at = iova & ~(gib - 1);
        change(domain, at, 18, n[5], [&] { map(tree, at, gpa_of(n[3]) & ~(gib - 1), 3, 3); });
        break;
      }
      case 11: change(domain, iova & ~(gib - 1), 18, n[5], [&] { clear(tree, iova & ~(gib - 1), 3); }); break;
      case 12: change(domain, iova, 0, n[5], [&] { map(tree, iova, gpa_of(n[3]) | reserved_bit, 3, 1); }); break;
      case 13:
      case 14: switch_context(n[2] % devices, {static_cast<Context::Kind>(n[3] % 4), domain}, n[4]); break;
      case 15:
        translating_ = !translating_;
        driver_->enable_translation(translating_);
        break;
      case 16:
      case 17: join_or_leave(n); break;
      case 18: change_part(n); break;
      case 19:
        if (n[2] % 8 != 0) break;
        must(engine_.reset() == VIOMMU_OK);
        begin();
        break;
      default: break;
    }
  }

  /// Below a large page there is nothing to be changed: it goes first, as a guest does it.
  void map(const Tree& tree, std::uint64_t iova, std::uint64_t gpa, std::uint64_t rights, unsigned level) {
    for (unsigned above = 3; above > level; --above) {
      const std::uint64_t slot = tables_.slot(tree, iova, above);
      if ((ram_[slot / 8] & entry_page_size) != 0) ram_[slot / 8] = 0;
    }
    tables_.map(tree, iova, gpa, rights, level);
  }
  void clear(const Tree& tree, std::uint64_t iova, unsigned level) {
    for (unsigned above = 3; above > level; --above)
      if ((ram_[tables_.slot_if_any(tree, iova, above) / 8] & entry_page_size) != 0) return;
    ram_[tables_.slot(tree, iova, level) / 8] = 0;
  }

  /// A change of the tables and a flush that covers it. What lies around a page that was large goes with it.
  template <class Change>
  void change(unsigned domain, std::uint64_t iova, unsigned mask, std::uint32_t kind, Change&& make) {
    const bool was_large = under_large_page(trees_[domain], iova);
    make();
    const std::uint16_t id = id_of(domain);
    if (kind % 4 == 0 || (was_large && kind % 4 == 1))
      driver_->add_domain(id);
    else if (kind % 4 == 1)
      driver_->add_page(id, iova & ~((page << mask) - 1), mask);
    else if (kind % 4 == 2)
      driver_->add_global();
    else
      driver_->add_page(id, iova & ~((page << 18) - 1), 18);
    driver_->submit_and_wait();
  }
  [[nodiscard]] bool under_large_page(const Tree& tree, std::uint64_t iova) {
    const std::uint64_t top = ram_[tables_.slot(tree, iova, 3) / 8];
    if ((top & entry_page_size) != 0) return true;
    return (ram_[((top & 0x7F'FFFF'F000) + (iova >> 21 & 511) * 8) / 8] & entry_page_size) != 0;
  }

  void switch_context(unsigned device, Context to, std::uint32_t kind) {
    const std::uint16_t source = source_of(device);
    const Context from = contexts_[device];
    contexts_[device] = to;
    switch (to.kind) {
      case Context::absent:       tables_.detach(source); break;
      case Context::tables:       tables_.attach(source, trees_[to.domain], {.domain_id = id_of(to.domain)}); break;
      case Context::pass_through: tables_.set_context(source, 0x9, 0x501); break;
      case Context::broken:       tables_.set_context(source, trees_[0].root | 1, 0x707); break;
    }
    if (kind % 3 == 0)
      driver_->add_context_global();
    else
      driver_->add_context_device(from.kind == Context::tables ? id_of(from.domain) : std::uint16_t{0}, source);
    if (kind % 2 == 0) driver_->add_global();
    driver_->submit_and_wait();
  }

  void join_or_leave(const std::array<std::uint32_t, 6>& n) {
    const std::size_t place = n[1] % consumers_.size();
    auto& consumer = consumers_[place];
    if (consumer) {
      must(viommu_unsubscribe(engine_.get(), consumer->id) == VIOMMU_OK);
      consumer.reset();
      return;
    }
    constexpr std::array<std::uint32_t, 7> kinds{0,
                                                 VIOMMU_CONSUMER_LEAF,
                                                 VIOMMU_CONSUMER_SPLIT,
                                                 VIOMMU_CONSUMER_POW2,
                                                 VIOMMU_CONSUMER_SPLIT | VIOMMU_CONSUMER_POW2,
                                                 VIOMMU_CONSUMER_UNMAP_ALL | VIOMMU_CONSUMER_MMIO,
                                                 VIOMMU_CONSUMER_NO_BLINK | VIOMMU_CONSUMER_PRIVATE};
    constexpr std::array<std::array<std::uint64_t, 2>, 4> ranges{
        {{0, 0x7F'FFFF'FFFF}, {0, 0xFEDF'FFFF}, {0xFEF0'0000, 0x7F'FFFF'FFFF}, {0x1800, 0x20'17FF}}};
    const auto& range = ranges[n[3] % ranges.size()];
    consumer = std::make_unique<MirrorModel>(kinds[n[2] % kinds.size()], range[0], range[1]);
    consumer->consumer.unit_bytes = n[4] % 2 == 0 ? 0 : gib;
    device_of_[place] = n[5] % devices;
    // Of a device one may share.
    const bool alone = std::ranges::none_of(consumers_, [&](const auto& other) {
      return other && other->host != nullptr &&
             device_of_[static_cast<std::size_t>(&other - consumers_.data())] == n[5] % devices;
    });
    if (n[4] % 3 != 0 && alone) consumer->share(host_);
    consumer->join(engine_, source_of(device_of_[place]));
  }

  void change_part(const std::array<std::uint32_t, 6>& n) {
    const std::uint64_t first = (n[1] % 2 == 0 ? 0x4000'0000 : 0x1'0000'0000) + n[2] % 16 * std::uint64_t{8} * page;
    const std::uint64_t length = (1 + n[3] % 32) * page;
    const unsigned state = n[4] % 3;
    must(viommu_region_part(engine_.get(), first, length, state, 0) == VIOMMU_OK);
    std::vector<Part> now;
    for (const Part& part : parts_) {
      const std::uint64_t from = std::max(part.first, first);
      const std::uint64_t to = std::min(part.last, first + length - 1);
      if (from > to) {
        now.push_back(part);
        continue;
      }
      if (part.first < from) now.push_back({part.first, from - 1, part.mmio, part.state});
      now.push_back({from, to, part.mmio, state});
      if (to < part.last) now.push_back({to + 1, part.last, part.mmio, part.state});
    }
    parts_ = now;
  }

  // ---- The oracle ----

  /// Maps [iova, +length) to gpa, as far as the consumer takes it.
  void expect(std::vector<Extent>& extents, const MirrorModel& mirror, std::uint64_t iova, std::uint64_t length,
              std::uint64_t gpa, unsigned rights) const {
    const auto& consumer = mirror.consumer;
    for (const Part& part : parts_) {
      std::uint64_t first = std::max(part.first, gpa);
      std::uint64_t last = std::min(part.last, gpa + length - 1);
      if (first > last) continue;
      if (part.mmio && (consumer.declares & VIOMMU_CONSUMER_MMIO) == 0) continue;
      if (part.state == VIOMMU_PART_DISCARDED) continue;
      if (part.state == VIOMMU_PART_PRIVATE && (consumer.declares & VIOMMU_CONSUMER_PRIVATE) == 0) continue;
      std::uint64_t at = iova + (first - gpa);
      std::uint64_t end = iova + (last - gpa);
      if (end < consumer.first || at > consumer.last) continue;
      first += std::max(at, consumer.first) - at;
      at = std::max(at, consumer.first);
      end = std::min(end, consumer.last);
      const unsigned all = rights | (part.mmio ? unsigned{VIOMMU_MMIO} : 0U);
      if (!extents.empty()) {
        Extent& before = extents.back();
        if (before.iova + before.length == at && before.gpa + before.length == first && before.rights == all) {
          before.length += end - at + 1;
          continue;
        }
      }
      extents.push_back({at, end - at + 1, first, all});
    }
  }
  void walk(std::vector<Extent>& extents, const MirrorModel& mirror, std::uint64_t table, unsigned level,
            std::uint64_t base, unsigned rights) const {
    for (std::uint64_t i = 0; i < 512; ++i) {
      const std::uint64_t entry = ram_[table / 8 + i];
      if ((entry & 3) == 0 || (entry & reserved_bit) != 0) continue;
      const std::uint64_t at = base + (i << (3 + 9 * level));
      const unsigned granted = rights & static_cast<unsigned>(entry & 3);
      const std::uint64_t to = entry & 0x7F'FFFF'F000;
      if (level > 1 && (entry & entry_page_size) == 0) {
        walk(extents, mirror, to, level - 1, at, granted);
      } else if (granted != 0) {
        expect(extents, mirror, at, page << (9 * (level - 1)), to, granted);
      }
    }
  }
  [[nodiscard]] std::vector<Extent> expected(const MirrorModel& mirror, unsigned device) const {
    std::vector<Extent> extents;
    const Context& context = contexts_[device];
    if (!translating_ || context.kind == Context::pass_through) {
      for (const Part& part : parts_) expect(extents, mirror, part.first, part.last - part.first + 1, part.first, 3);
    } else if (context.kind == Context::tables) {
      walk(extents, mirror, trees_[context.domain].root, 3, 0, 3);
    }
    return extents;
  }
  [[nodiscard]] std::string check() {
    std::ostringstream text;
    for (unsigned i = 0; i < consumers_.size(); ++i) {
      if (!consumers_[i]) continue;
      const MirrorModel& mirror = *consumers_[i];
      if (!mirror.wrong.empty()) text << "consumer " << i << ": " << mirror.wrong.front() << '\n';
      const std::vector<Extent> wanted = expected(mirror, device_of_[i]);
      const std::vector<Extent> held = mirror.extents();
      if (mirror.host != nullptr) {
        const auto& wrong = mirror.host->spaces.at(mirror.attached)->wrong;
        if (!wrong.empty()) text << "consumer " << i << " in its space: " << wrong.front() << '\n';
      }
      const auto [w, h] = std::ranges::mismatch(wanted, held);
      if (w == wanted.end() && h == held.end()) continue;
      text << "consumer " << i << " declares " << mirror.consumer.declares << " unit " << mirror.consumer.unit_bytes
           << ": expected ";
      if (w != wanted.end()) text << *w;
      text << " found ";
      if (h != held.end()) text << *h;
      text << '\n';
    }
    if (!host_.wrong.empty()) text << host_.wrong.front() << '\n';
    check_sharing(text);
    return text.str();
  }
  /// Devices that see the same, to consumers that are alike, use one space, and no space is left behind.
  void check_sharing(std::ostream& text) const {
    std::set<std::uint64_t> used;
    for (unsigned i = 0; i < consumers_.size(); ++i) {
      if (!consumers_[i] || consumers_[i]->host == nullptr) continue;
      used.insert(consumers_[i]->attached);
      for (unsigned j = 0; j < i; ++j) {
        if (!consumers_[j] || consumers_[j]->host == nullptr) continue;
        const auto& one = *consumers_[i];
        const auto& other = *consumers_[j];
        const Context& a = contexts_[device_of_[i]];
        const Context& b = contexts_[device_of_[j]];
        const bool alike = one.consumer.declares == other.consumer.declares &&
                           one.consumer.first == other.consumer.first && one.consumer.last == other.consumer.last &&
                           one.consumer.unit_bytes == other.consumer.unit_bytes;
        const bool same =
            translating_ && a.kind == Context::tables && b.kind == Context::tables && a.domain == b.domain;
        if (alike && same && one.attached != other.attached) text << i << " and " << j << " do not share\n";
      }
    }
    if (host_.spaces.size() != used.size()) text << host_.spaces.size() << " spaces of " << used.size() << '\n';
  }

  struct alignas(page) RamPage {
    std::array<std::uint64_t, page / 8> words{};
  };
  std::vector<RamPage> pages_;
  std::span<std::uint64_t> ram_;
  Engine engine_;
  struct Tables : GuestTables {
    using GuestTables::GuestTables;
    std::uint64_t slot_if_any(const Tree& tree, std::uint64_t iova, unsigned level) { return slot(tree, iova, level); }
  };
  Tables tables_{words(), 0x10000};
  std::unique_ptr<VtdDriver> driver_;
  std::array<Tree, domains> trees_{};
  std::array<Context, devices> contexts_{};
  bool translating_ = false;
  std::vector<Part> parts_;
  SpaceHost host_;
  std::array<std::unique_ptr<MirrorModel>, 6> consumers_{};
  std::array<unsigned, 6> device_of_{};
};

}  // namespace viommu::test
