// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// One DMA on both sides: what may happen, what did, and where the data went.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "tests/qemu/pair.hpp"
#include "tests/qemu/world.hpp"
#include "tests/support/oracle.hpp"
#include "tests/support/window_model.hpp"

namespace viommu::qemu {

/// The guest's view: what its tables say, what was invalidated, and so what a DMA may come to.
class Rules {
 public:
  /// Tables as they are now. `broken_root`: the root entry of bus 1 leads to no context table.
  Rules(const oracle::Unit& unit, const test::Words& words, bool broken_root);

  bool translation_on = false;

  void memory_changed();
  void contexts_invalidated() { strict_.contexts_invalidated(); }
  void contexts_invalidated(std::uint16_t domain) { strict_.contexts_invalidated(domain); }
  void contexts_invalidated(std::uint16_t domain, std::uint16_t source, std::uint16_t ignored) {
    strict_.contexts_invalidated(domain, source, ignored);
  }
  void translations_invalidated() {
    each([](test::WindowModel& model) { model.translations_invalidated(); });
  }
  void translations_invalidated(std::uint16_t domain) {
    each([=](test::WindowModel& model) { model.translations_invalidated(domain); });
  }
  void translations_invalidated(std::uint16_t domain, std::uint64_t first, std::uint64_t last) {
    each([=](test::WindowModel& model) { model.translations_invalidated(domain, first, last); });
  }

  /// All answers that the window rule allows for the word at `offset` of a watched page.
  [[nodiscard]] std::vector<oracle::Answer> allowed(std::size_t source, std::size_t iova, std::uint64_t offset,
                                                    bool write) const;
  /// The same for a unit that finds translations by source alone, whatever became of the context.
  [[nodiscard]] std::vector<oracle::Answer> by_source(std::size_t source, std::size_t iova, std::uint64_t offset,
                                                      bool write) const;
  [[nodiscard]] oracle::Answer present(std::size_t source, std::size_t iova, bool write) const;
  [[nodiscard]] std::vector<Way> ways(std::size_t source, std::uint64_t iova) const;

 private:
  template <class Action>
  void each(Action action) {
    action(strict_);
    action(by_source_);
  }
  [[nodiscard]] std::vector<oracle::Answer> answers(const test::WindowModel& model, std::size_t source,
                                                    std::size_t iova, std::uint64_t offset, bool write) const;

  [[nodiscard]] std::vector<std::uint64_t> entries(const Way& context, std::uint64_t iova) const;

  oracle::Unit unit_;
  test::Words words_;
  bool broken_root_;
  std::array<std::vector<Way>, sources.size()> contexts_;  ///< without entries, by source, in the order of their time
  test::WindowModel strict_;
  test::WindowModel by_source_;
};

/// The devices' side of a case.
class Devices {
 public:
  explicit Devices(Pair& pair) : pair_{&pair} {}

  /// Puts a word that is known into every device's buffer; while translation is off.
  void load_buffers();

  void clear_faults();

  /// @return false when nothing was done, because a table might be written
  bool dma(const Rules& rules, std::size_t source, std::size_t iova, std::uint64_t offset, bool write);

 private:
  struct Buffer {
    std::set<std::uint32_t> words;  ///< what may be in it
    bool known = true;              ///< otherwise anything
  };
  [[nodiscard]] std::uint32_t new_tag() { return next_tag_++; }
  [[nodiscard]] Outcome outcome_of_qemu(const std::vector<std::uint64_t>& places,
                                        const std::vector<std::uint32_t>& tags, std::size_t source, std::uint64_t iova,
                                        bool write);

  Pair* pair_;
  std::array<Buffer, sources.size()> qemu_{};  ///< the library's buffers are known
  std::uint32_t next_tag_ = 0xDA7A'0000;
  bool pending_ = false;  ///< a fault was recorded before and is not cleared
};

}  // namespace viommu::qemu
