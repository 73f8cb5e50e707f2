// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A VT-d unit in scalable mode behind the C interface, the tables a guest builds for it, and its queue of 256-bit
// descriptors. The words are composed here from the figures of the specification, not through the library's layouts.
#pragma once

#include <viommu/viommu.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <optional>
#include <viommu/viommu.hpp>

#include "tests/capi/machine.hpp"
#include "tests/support/guarded_region.hpp"
#include "tests/support/guest_tables.hpp"

namespace viommu::test {

namespace scalable {
constexpr std::uint64_t bit(unsigned at) { return std::uint64_t{1} << at; }
// ECAP bits by name.
inline constexpr std::uint64_t pt = bit(6);
inline constexpr std::uint64_t srs = bit(31);
inline constexpr std::uint64_t eafs = bit(34);
inline constexpr std::uint64_t pss_20 = std::uint64_t{19} << 35;
inline constexpr std::uint64_t pasid = bit(40);
inline constexpr std::uint64_t smts = bit(43);
inline constexpr std::uint64_t nest = bit(26);
inline constexpr std::uint64_t ssads = bit(45);
inline constexpr std::uint64_t ssts = bit(46);
inline constexpr std::uint64_t fsts = bit(47);
inline constexpr std::uint64_t smpwcs = bit(48);
inline constexpr std::uint64_t rps = bit(49);
inline constexpr std::uint64_t adms = bit(52);
inline constexpr std::uint64_t rprivs = bit(53);
/// C, QI, IRO 0xF0, and all of scalable mode.
inline constexpr std::uint64_t everything =
    0xF03 | pt | nest | srs | eafs | pss_20 | pasid | smts | ssads | ssts | fsts | smpwcs | rps | adms | rprivs;
/// 39, 48 and 57 bit, MGAW 57, page-selective with AM up to 18, large pages of both stages, 5 levels, 8 fault records
/// from 0x220 on, zero-length reads, 16-bit domain ids.
inline constexpr std::uint64_t capability =
    bit(60) | bit(56) | bit(39) | 18ULL << 48 | 7ULL << 40 | 3ULL << 34 | 0x22ULL << 24 | bit(22) | 56U << 16 | 0xE06;

// PGTT of a PASID entry.
inline constexpr std::uint64_t first_stage = 1;
inline constexpr std::uint64_t second_stage = 2;
inline constexpr std::uint64_t nested = 3;
inline constexpr std::uint64_t pass_through = 4;

// First-stage entry bits, beside entry_read (P) and entry_write (R/W) of guest_tables.hpp.
inline constexpr std::uint64_t user = 4;
inline constexpr std::uint64_t accessed = 0x20;
inline constexpr std::uint64_t dirty = 0x40;
}  // namespace scalable

/// One PASID table entry.
struct PasidEntry {
  std::uint64_t type = scalable::second_stage;
  Tree tree{};
  std::uint16_t domain = 1;
  bool fault_disable = false;
  std::uint64_t low = 0;    ///< further bits of the first word, as SSADE
  std::uint64_t high = 0;   ///< of the second, as PWSNP
  std::uint64_t third = 0;  ///< of the third, as SRE
  Tree second{};            ///< of nested translation, behind which `tree` lies
};

/// Translation is on in scalable mode, and no source has a context.
class ScalableMachine {
 public:
  static constexpr std::uint16_t device = 0x0110;
  static constexpr std::uint16_t upper_device = 0x0190;  // in the upper half of its bus
  static constexpr std::uint64_t iova = 0x40000000;
  static constexpr std::uint64_t page_a = 0x7'0000;
  static constexpr std::uint64_t page_b = 0x7'1000;

  explicit ScalableMachine(std::uint64_t cap = scalable::capability, std::uint64_t ecap = scalable::everything,
                           std::uint32_t version = 0x30, const viommu_host& host = capi::empty_host(),
                           std::uint32_t flags = 0, const char* kernel = nullptr)
      : engine{capi::create(options(cap, ecap, version, flags, kernel), host)} {
    REQUIRE(engine.add_region(ram.gpa(), {ram.data(), ram.length()}) == VIOMMU_OK);
    enable_queue();
    set_mode(1);
    enable_translation(true);
  }

  static viommu_vtd_options options(std::uint64_t cap, std::uint64_t ecap, std::uint32_t version,
                                    std::uint32_t flags = 0, const char* kernel = nullptr) {
    viommu_vtd_options options = capi::default_options();
    options.kernel = kernel;
    options.flags = flags;
    // From major version 2 on draining is always there.
    options.capability = cap | (version >= 0x20 ? 3ULL << 54 : 0);
    options.extended_capability = ecap;
    options.version = version;
    options.host_address_width = 46;
    return options;
  }

  // ---- Registers ----
  void enable_queue() {
    REQUIRE(engine.mmio_write(0x90, 8, queue_page | 0x800) == VIOMMU_OK);
    command(1U << 26);
  }
  /// TTM, through RTADDR and SRTP.
  void set_mode(std::uint64_t mode) {
    REQUIRE(engine.mmio_write(0x20, 8, root_page | mode << 10) == VIOMMU_OK);
    REQUIRE(engine.mmio_write(0x18, 4, enabled_ | 1U << 30) == VIOMMU_OK);
  }
  void enable_translation(bool on) {
    enabled_ = on ? enabled_ : enabled_ & ~(1U << 31);
    command(on ? 1U << 31 : 0);
  }

  // ---- Tables ----
  /// @param low   further bits of the context entry's first word, as PASIDE
  /// @param high  RID_PASID, RID_PRIV
  void attach(std::uint16_t source, std::uint64_t low = 8, std::uint64_t high = 0) {
    const std::uint64_t root = root_page + std::uint64_t{16} * (source >> 8) + ((source & 0x80) != 0 ? 8 : 0);
    if ((word(root) & 1) == 0) put(root, tables.allocate_page() | 1);
    const std::uint64_t entry = (word(root) & ~std::uint64_t{0xFFF}) + std::uint64_t{32} * (source & 0x7F);
    put(entry + 8, high);
    put(entry, directory_page | low | 1);
  }
  std::uint64_t context_entry(std::uint16_t source) const {
    return (word(root_page + std::uint64_t{16} * (source >> 8) + ((source & 0x80) != 0 ? 8 : 0)) &
            ~std::uint64_t{0xFFF}) +
           std::uint64_t{32} * (source & 0x7F);
  }
  /// Where the entry of a PASID lies; its table is made when there is none yet.
  std::uint64_t pasid_entry(std::uint32_t pasid) {
    const std::uint64_t directory = directory_page + std::uint64_t{8} * (pasid >> 6);
    if ((word(directory) & 1) == 0) put(directory, tables.allocate_page() | 1);
    return (word(directory) & ~std::uint64_t{0xFFF}) + std::uint64_t{64} * (pasid & 63);
  }
  void set_pasid(std::uint32_t pasid, const PasidEntry& fields) {
    const std::uint64_t at = pasid_entry(pasid);
    const bool first = fields.type == scalable::first_stage || fields.type == scalable::nested;
    const Tree& second = first ? fields.second : fields.tree;
    const std::uint64_t second_stage = second.levels == 0 ? 0 : second.root | std::uint64_t{second.levels - 2} << 2;
    put(at + 16, fields.third | (first ? fields.tree.root | std::uint64_t{fields.tree.levels - 4} << 2 : 0));
    put(at + 8, fields.high | fields.domain);
    put(at, fields.low | second_stage | fields.type << 6 | std::uint64_t{fields.fault_disable} << 1 | 1);
  }
  /// A tree whose tables let everybody through, as both stages understand it.
  void map(const Tree& tree, std::uint64_t at, std::uint64_t gpa, std::uint64_t rights = 7, unsigned level = 1) {
    tables.map(tree, at, gpa, rights, level);
    for (unsigned above = level + 1; above <= tree.levels; ++above) {
      const std::uint64_t slot = tables.slot(tree, at, above);
      put(slot, word(slot) | scalable::user);
    }
  }
  [[nodiscard]] std::uint64_t word(std::uint64_t gpa) const { return ram.load_u64(gpa).value_or(~std::uint64_t{0}); }
  void put(std::uint64_t gpa, std::uint64_t value) { REQUIRE(ram.store_u64(gpa, value)); }

  // ---- The queue ----
  void add(std::uint64_t low, std::uint64_t high = 0) {
    put(queue_page + tail_, low);
    put(queue_page + tail_ + 8, high);
    put(queue_page + tail_ + 16, 0);
    put(queue_page + tail_ + 24, 0);
    tail_ = (tail_ + 32) % 0x1000;
  }
  /// A wait with a status write behind them, the tail, and a look whether it has been written.
  void submit() {
    add(0x25 | ++tickets_ << 32, status_page);
    REQUIRE(engine.mmio_write(0x88, 8, tail_) == VIOMMU_OK);
    static_cast<void>(engine.process());
    REQUIRE(word(status_page) % bit32 == tickets_);
  }
  void invalidate_all() {
    add(0x11);  // contexts
    add(0x37);  // PASIDs
    add(0x12);  // translations
    submit();
  }

  // ---- Requests ----
  [[nodiscard]] viommu_translation ask(std::uint64_t at = iova, std::uint8_t access = VIOMMU_READ,
                                       std::uint16_t source = device) {
    return reader.translate(request(source, at, access));
  }
  [[nodiscard]] viommu_translation ask_by_pasid(std::uint32_t pasid, std::uint64_t at = iova,
                                                std::uint8_t access = VIOMMU_READ, std::uint8_t flags = 0,
                                                std::uint16_t source = device) {
    viommu_request asked = request(source, at, access);
    asked.flags = static_cast<std::uint8_t>(flags | VIOMMU_HAS_PASID);
    asked.pasid = pasid;
    return reader.translate(asked);
  }
  /// The oldest fault record, {high, low}, which it clears; zeros when there is none.
  std::array<std::uint64_t, 2> take_fault() {
    for (std::uint64_t record = 0x220; record < 0x220 + 8 * 16; record += 16) {
      const std::uint64_t high = engine.mmio_read(record + 8, 8);
      if (high >> 63 == 0) continue;
      const std::uint64_t low = engine.mmio_read(record, 8);
      static_cast<void>(engine.mmio_write(record + 12, 4, 0x80000000));
      return {high, low};
    }
    return {};
  }
  [[nodiscard]] std::uint64_t walks() const { return engine.statistics().walks; }

  [[nodiscard]] std::uint64_t tail() const { return tail_; }

  static constexpr std::uint64_t queue_page = 0x100000;
  static constexpr std::uint64_t status_page = 0x101000;
  static constexpr std::uint64_t root_page = 0x102000;
  static constexpr std::uint64_t directory_page = 0x103000;  // 128 entries of PASIDs 0 to 8191: PDTS 0

  GuardedRegion ram{0x100000, 0x100000};
  GuestTables tables{words_of(ram), 0x105000};
  Engine engine;
  Reader reader = *engine.reader();

 private:
  static constexpr std::uint64_t bit32 = std::uint64_t{1} << 32;
  void command(std::uint32_t bits) {
    enabled_ |= bits;
    REQUIRE(engine.mmio_write(0x18, 4, enabled_) == VIOMMU_OK);
  }

  std::uint32_t enabled_ = 0;
  std::uint64_t tail_ = 0;
  std::uint64_t tickets_ = 0;
};

}  // namespace viommu::test
