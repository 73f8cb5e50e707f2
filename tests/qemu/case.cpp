// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/qemu/case.hpp"

#include <array>
#include <cinttypes>
#include <optional>
#include <string>

#include "tests/qemu/dma.hpp"
#include "tests/qemu/guest.hpp"
#include "tests/qemu/queue.hpp"
#include "tests/support/random.hpp"

namespace viommu::qemu {
namespace {

using test::Random;

constexpr unsigned steps = 24;

// Registers and bits, from the specification's figures.
constexpr std::uint64_t gcmd = 0x18;
constexpr std::uint64_t rtaddr = 0x20;
constexpr std::uint32_t translation = 0x8000'0000;
constexpr std::uint32_t set_root = 0x4000'0000;
constexpr std::uint32_t set_interrupt_table = 0x0100'0000;
constexpr std::uint32_t remapping = 0x0200'0000;
constexpr std::uint32_t compatibility = 0x0080'0000;

class Case {
 public:
  Case(Pair& pair, std::uint64_t seed)
      : pair_{pair},
        random_{seed},
        guest_{pair, random_},
        rules_{unit(), pair.words(), guest_.broken_root()},
        devices_{pair},
        queue_{pair, rules_, random_.chance(3, 4)} {}

  void run() {
    devices_.load_buffers();
    set_root_table();
    if (queue_.enable(random_)) {
      command(0);
      queue_.enabled();
    }
    switch_translation(true);
    for (unsigned step = 0; step < steps; ++step) take_step();
    pair_.compare_memory();
  }

 private:
  [[nodiscard]] oracle::Unit unit() const {
    oracle::Unit made;
    made.cap = pair_.capability();
    made.ecap = pair_.extended_capability();
    made.haw = pair_.variant().address_bits;
    made.translation_enabled = true;
    made.root_table = guest_.root_table();
    return made;
  }

  void command(std::uint32_t bits) {
    pair_.write_register(gcmd, 4, (rules_.translation_on ? translation : 0U) | queue_.command_bit() | others_ | bits);
    pair_.compare_registers();
  }
  /// Of interrupts nothing but the registers is looked at.
  void interrupt_command() {
    constexpr std::array<std::uint32_t, 2> levels{remapping, compatibility};
    const bool one_shot = random_.chance(1, 3);
    if (!one_shot) others_ ^= random_.pick(levels);
    pair_.note(format("interrupt remapping: %x", one_shot ? set_interrupt_table : others_));
    command(one_shot ? set_interrupt_table : 0U);
  }
  void queue_off_and_on() {
    if (!queue_.disable(random_)) return;
    command(0);
    queue_.enable(random_);
    command(0);
    queue_.enabled();
  }
  void set_root_table() {
    pair_.note("set root table");
    if (random_.chance(1, 2)) {
      pair_.write_register(rtaddr, 8, guest_.root_table());
    } else {
      pair_.write_register(rtaddr, 4, guest_.root_table());
      pair_.write_register(rtaddr + 4, 4, 0);
    }
    command(set_root);
  }
  void switch_translation(bool on) {
    pair_.note(on ? "translation on" : "translation off");
    rules_.translation_on = on;
    command(0);
  }

  void take_step() {
    const std::uint64_t kind = random_.below(100);
    if (kind < 38) return dma();
    if (kind < 50) return remap();
    if (kind < 64) return changed("entry: ", guest_.change_entry(random_));
    if (kind < 70) return changed("", guest_.change_context(random_));
    if (kind < 88) return queue_.invalidate(random_);
    if (kind < 91) return queue_.odd_descriptor(random_);
    if (kind < 92) return queue_.odd_tail(random_);
    if (kind < 96) return write_some_register();
    if (kind < 97) return interrupt_command();
    if (kind < 98) return queue_off_and_on();
    if (kind < 99) return switch_translation(!rules_.translation_on);
    set_root_table();
  }

  void changed(const char* what, const std::string& how) {
    pair_.note(what + how);
    rules_.memory_changed();
  }

  void dma() {
    const std::size_t source = random_.below(sources.size());
    // Mostly the same few pages, so that something is cached for them.
    const std::size_t iova = random_.chance(1, 2) ? random_.below(3) : random_.below(iovas.size());
    const std::uint64_t offset = 4 * random_.below(1024);
    const bool write = random_.chance(2, 3);
    if (!devices_.dma(rules_, source, iova, offset, write)) return;
    if (random_.chance(3, 4)) devices_.clear_faults();
    if (!write) show_what_was_read(source);
  }
  /// What drivers do all the time: a page that is in use goes elsewhere, is invalidated, and is used again.
  void remap() {
    const std::size_t source = random_.below(sources.size());
    const std::size_t iova = random_.below(5);
    const auto use = [&] {
      static_cast<void>(devices_.dma(rules_, source, iova, 4 * random_.below(1024), random_.chance(3, 4)));
      devices_.clear_faults();
    };
    use();
    const std::optional<std::uint16_t> domain = guest_.remap(random_, source, iovas.at(iova));
    if (!domain) return;
    changed("another place for ", format("%04x at 0x%" PRIx64, sources.at(source), iovas.at(iova)));
    if (random_.chance(1, 4)) use();
    queue_.invalidate_about(random_, *domain, iovas.at(iova));
    use();
  }
  /// What a device has read is seen when it is written somewhere.
  void show_what_was_read(std::size_t source) {
    for (std::size_t iova = 0; iova < iovas.size(); ++iova) {
      const oracle::Answer there = rules_.present(source, iova, true);
      if (there.kind == oracle::Answer::fault || !is_data(there.gpa)) continue;
      static_cast<void>(devices_.dma(rules_, source, iova, 8, true));
      return;
    }
  }

  void write_some_register() {
    // Registers that start nothing, and reserved places. Accesses of 8 bytes to registers of 4 end QEMU 7.2 (B70).
    struct Register {
      std::uint64_t offset;
      unsigned size;
    };
    static constexpr std::array<Register, 42> plain{
        {{0x00, 4}, {0x08, 4},  {0x0C, 4},  {0x08, 8},  {0x10, 8},  {0x1C, 4}, {0x20, 4}, {0x24, 4}, {0x20, 8},
         {0x34, 4}, {0x3C, 4},  {0x40, 4},  {0x44, 4},  {0x64, 4},  {0x68, 4}, {0x6C, 4}, {0x70, 8}, {0x78, 8},
         {0x80, 4}, {0x80, 8},  {0x9C, 4},  {0xA4, 4},  {0xA8, 4},  {0xAC, 4}, {0xB0, 8}, {0xB8, 4}, {0xB8, 8},
         {0xBC, 4}, {0xC0, 8},  {0xC8, 8},  {0xD0, 8},  {0xDC, 4},  {0xE4, 4}, {0xE8, 4}, {0xEC, 4}, {0x50, 8},
         {0x58, 8}, {0x100, 8}, {0x108, 4}, {0x180, 8}, {0x220, 8}, {0x228, 4}}};
    const Register chosen = random_.pick(plain);
    const std::uint64_t value = random_.chance(1, 4) ? ~std::uint64_t{0} : random_.next();
    pair_.note(format("write 0x%" PRIx64 " to 0x%" PRIx64 ", %u bytes", value, chosen.offset, chosen.size));
    pair_.write_register(chosen.offset, chosen.size, chosen.size == 4 ? value & 0xFFFF'FFFF : value);
    pair_.compare_registers();
    if (chosen.size == 8) pair_.compare_sizes(chosen.offset);
  }

  Pair& pair_;
  Random random_;
  Guest guest_;
  Rules rules_;
  Devices devices_;
  Queue queue_;
  std::uint32_t others_ = 0;  ///< levels of GCMD that have to do with interrupts
};

}  // namespace

void run_case(Pair& pair, std::uint64_t seed) {
  pair.begin();
  Case{pair, seed}.run();
}

}  // namespace viommu::qemu
