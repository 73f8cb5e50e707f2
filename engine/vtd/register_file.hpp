// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The register window of a unit as a pure state machine: a write stores what is to be stored and returns what is to
// be done; the unit does it and reports back through the complete_, set_ and raise_ members.
//
//   guest write --> write() --> Actions --> unit: caches, queue, tickets --> complete_...() --> guest reads the bit
//
// No lock, no callback, no guest memory; a value that can be copied. Every access is O(1).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/address.hpp"
#include "engine/base/fault.hpp"
#include "engine/base/ids.hpp"
#include "engine/vtd/capabilities.hpp"
#include "engine/vtd/event_message.hpp"
#include "engine/vtd/fault_log.hpp"
#include "engine/vtd/invalidation.hpp"
#include "engine/vtd/queue_geometry.hpp"
#include "engine/vtd/register_image.hpp"
#include "engine/vtd/register_layouts.hpp"
#include "engine/vtd/register_map.hpp"

namespace viommu::vtd {

enum class AccessStatus : std::uint8_t {
  done,     ///< performed; an access to nothing reads 0 and writes nothing
  ignored,  ///< misaligned, or of a size other than 1, 2, 4, 8: reads 0, writes nothing
  outside,  ///< not inside the window: reads 0, writes nothing
};

struct ReadResult {
  AccessStatus access = AccessStatus::done;
  std::uint64_t value = 0;
};

/// What a write asks the unit to do, in the order in which it is to be done: pointers come before enables. Each
/// command of the first three groups is answered by the member of RegisterFile that stands beside it.
struct Actions {
  AccessStatus access = AccessStatus::done;

  // Commands of GCMD_REG.
  bool flush_write_buffer = false;   ///< complete_write_buffer_flush
  bool set_root_pointer = false;     ///< complete_root_pointer; root_pointer() is the new one already
  bool set_interrupt_table = false;  ///< complete_interrupt_table; interrupt_table() is the new one already
  // Levels of GCMD_REG that are to become this.
  std::optional<bool> compatibility_format;  ///< complete_compatibility_format
  std::optional<bool> queue;                 ///< complete_queue
  std::optional<bool> interrupt_remapping;   ///< complete_interrupt_remapping
  std::optional<bool> translation;           ///< complete_translation
  std::optional<bool> protected_memory;      ///< complete_protected_memory (PMEN_REG)

  // Commands of the invalidation registers. One that cannot be done was answered already and is not here.
  std::optional<ContextInvalidation> context_invalidation;  ///< complete_context_invalidation
  std::optional<IotlbInvalidation> iotlb_invalidation;      ///< complete_iotlb_invalidation

  // The queue may have something to do: look at queue_may_run().
  bool tail_written = false;
  bool queue_restarted = false;  ///< the last of IQE and ITE was cleared

  // Unmasking let a pending event go: to be sent now.
  std::optional<EventMessage> fault_event;
  std::optional<EventMessage> completion_event;
  std::optional<EventMessage> page_event;
};

/// A root or interrupt table pointer in force, that is as SRTP or SIRTP latched it.
struct RootPointer {
  Gpa table;
  TableMode mode = TableMode::legacy;
};
struct InterruptTable {
  Gpa table;
  unsigned size = 0;  ///< S: 2^(S + 1) entries
  std::uint32_t entries = 0;
  bool extended = false;  ///< EIME
};

struct RecordedFault {
  FaultStatus status = FaultStatus::none;
  std::optional<EventMessage> event;  ///< to be sent after the record is visible
};

class RegisterFile {
 public:
  struct Options {
    bool compress_faults = true;  ///< drop a fault while one of the same source is pending
  };

  /// `capabilities` pass their check().
  RegisterFile(const Capabilities& capabilities, Options options) noexcept;
  explicit RegisterFile(const Capabilities& capabilities) noexcept : RegisterFile(capabilities, Options{}) {}

  // The guest's side.
  [[nodiscard]] ReadResult read(std::uint64_t offset, unsigned size) const noexcept;
  [[nodiscard]] Actions write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept;
  /// Power-good reset: every register has its reset value again. Commands in flight are forgotten, and must not be
  /// completed any more.
  void reset() noexcept;
  /// Becomes the file of a unit with these, at its reset values.
  void adopt(const Capabilities& capabilities) noexcept { *this = RegisterFile{capabilities, options_}; }

  // Answers to commands. Each makes visible that the command has taken full effect.
  void complete_write_buffer_flush() noexcept;
  void complete_root_pointer() noexcept;
  void complete_interrupt_table() noexcept;
  void complete_compatibility_format(bool on) noexcept;
  void complete_queue(bool on) noexcept;  ///< off also returns the head to 0
  void complete_interrupt_remapping(bool on) noexcept;
  void complete_translation(bool on) noexcept;
  void complete_protected_memory(bool on) noexcept;
  void complete_context_invalidation(ContextGranularity done) noexcept;
  void complete_iotlb_invalidation(IotlbGranularity done) noexcept;

  // The queue's side. A returned message is to be sent.
  void set_queue_head(std::uint32_t head) noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_queue_error(QueueErrorCode code) noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_timeout(SourceId source) noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_completion_error(SourceId source) noexcept;
  /// A wait descriptor with IF has completed.
  [[nodiscard]] std::optional<EventMessage> complete_wait_interrupt() noexcept;

  // The page request queue. A returned message is to be sent.
  [[nodiscard]] bool page_overflow() const noexcept;
  [[nodiscard]] std::uint32_t free_page_requests() const noexcept;  ///< places; the last one always stays free
  [[nodiscard]] Gpa next_page_request() const noexcept;             ///< where the descriptor behind the tail lies
  [[nodiscard]] std::optional<EventMessage> publish_page_request() noexcept;  ///< it has been written there
  [[nodiscard]] std::optional<EventMessage> raise_page_overflow() noexcept;

  /// Records a fault that is to be reported.
  [[nodiscard]] RecordedFault record_fault(const FaultEntry& entry) noexcept;

  // Between commands (register_image.cpp).
  [[nodiscard]] RegisterImage image() const noexcept;
  /// Becomes that. @return what is wrong with it, if anything: the file is good for nothing then
  [[nodiscard]] Misfit adopt(const RegisterImage& image) noexcept;

  // State in force.
  [[nodiscard]] const Capabilities& capabilities() const noexcept { return capabilities_; }
  [[nodiscard]] GlobalStatus status() const noexcept;
  [[nodiscard]] bool translation_enabled() const noexcept { return get(status(), gsts::tes); }
  [[nodiscard]] bool interrupt_remapping_enabled() const noexcept { return get(status(), gsts::ires); }
  [[nodiscard]] bool compatibility_format_allowed() const noexcept { return get(status(), gsts::cfis); }
  [[nodiscard]] bool queue_enabled() const noexcept { return get(status(), gsts::qies); }
  [[nodiscard]] RootPointer root_pointer() const noexcept;
  [[nodiscard]] InterruptTable interrupt_table() const noexcept;
  /// The ring as it was when the queue was last enabled.
  [[nodiscard]] QueueGeometry queue_geometry() const noexcept { return QueueGeometry::of(latched_queue_); }
  [[nodiscard]] std::uint32_t queue_head() const noexcept;
  [[nodiscard]] std::uint32_t queue_tail() const noexcept;
  /// Whether descriptors are to be fetched: enabled, not empty, not stopped by an error.
  [[nodiscard]] bool queue_may_run() const noexcept;
  /// The protected regions as programmed; nothing where the region is empty or does not exist. They block DMA while
  /// protection is enabled.
  [[nodiscard]] std::optional<Range<Iova>> protected_low_region() const noexcept;
  [[nodiscard]] std::optional<Range<Iova>> protected_high_region() const noexcept;
  [[nodiscard]] bool protection_enabled() const noexcept;

 private:
  /// Half a register, or a whole 32-bit one.
  struct Slot {
    std::uint32_t value = 0;
    std::uint32_t reset = 0;
    std::uint32_t writable = 0;
    std::uint32_t write_one_clears = 0;
    std::uint32_t readable = 0;
    bool starts_64_bit = false;
  };
  /// The dwords below 0x100, then the four of IVA_REG and IOTLB_REG, wherever those are.
  static constexpr std::size_t iotlb_slots = 0x100 / 4;
  static constexpr std::size_t slot_count = iotlb_slots + 4;
  /// Where an offset leads: a slot, a dword of the fault log, or nothing.
  struct Place {
    enum class Kind : std::uint8_t { nothing, slot, fault_record } kind = Kind::nothing;
    std::size_t index = 0;
  };

  [[nodiscard]] AccessStatus judge(std::uint64_t offset, unsigned size) const noexcept;
  [[nodiscard]] Place locate(std::uint32_t offset) const noexcept;
  [[nodiscard]] bool starts_64_bit(Place place) const noexcept;
  [[nodiscard]] std::uint32_t read_dword(Place place) const noexcept;
  void write_dword(Place place, std::uint32_t value, std::uint32_t mask, Actions& actions) noexcept;
  void react(std::size_t slot, std::uint32_t before, std::uint32_t value, std::uint32_t mask,
             Actions& actions) noexcept;
  void on_global_command(std::uint32_t value, std::uint32_t mask, Actions& actions) noexcept;
  void on_context_command(Actions& actions) noexcept;
  void on_iotlb_command(Actions& actions) noexcept;
  [[nodiscard]] bool is_busy(std::size_t slot) const noexcept;
  [[nodiscard]] bool register_invalidation_refused() const noexcept;

  [[nodiscard]] std::uint32_t& at(std::uint32_t offset) noexcept;
  [[nodiscard]] std::uint32_t at(std::uint32_t offset) const noexcept;
  [[nodiscard]] std::uint64_t wide_at(std::uint32_t offset) const noexcept;
  void set_wide(std::uint32_t offset, std::uint64_t value) noexcept;
  void set_status(const Field<GlobalStatus, bool>& field, bool on) noexcept;
  void restart_fault_log_when_off() noexcept;

  [[nodiscard]] FaultStatusRegister fault_status() const noexcept;
  void refresh_fault_status() noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_status(const Field<FaultStatusRegister, bool>& field) noexcept;
  [[nodiscard]] std::uint32_t page_queue_entries() const noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_page_status(std::uint32_t bit) noexcept;
  [[nodiscard]] std::optional<EventMessage> raise_event(std::uint32_t control_offset) noexcept;
  [[nodiscard]] std::optional<EventMessage> release_event(std::uint32_t control_offset) noexcept;
  [[nodiscard]] EventMessage message(std::uint32_t control_offset) const noexcept;
  void withdraw_event(std::uint32_t control_offset) noexcept;
  [[nodiscard]] Misfit what_is_wrong(std::span<const RegisterRow> rows) const noexcept;
  [[nodiscard]] const char* wrong_about_events() const noexcept;

  Capabilities capabilities_;
  Options options_;
  std::array<Slot, slot_count> slots_{};
  FaultLog faults_;
  /// What GCMD_REG last asked for: equal to GSTS_REG's levels when no command is in flight.
  GlobalCommand commanded_;
  bool protection_commanded_ = false;
  RootTableAddress latched_root_;
  InterruptTableAddress latched_interrupt_table_;
  QueueAddress latched_queue_;
};

}  // namespace viommu::vtd
