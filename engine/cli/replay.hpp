// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Feeds a trace to an engine, event by event, and compares every answer.
//
//   recording: a W waits until the next W, R, T, V, Z or O, because the words it made the unit read are written behind
//              it
//   scenario:  every line acts where it stands; nothing below it is read ahead
//
// What the unit does to the outside (w, I, U, irte) is one list, what the trace says it does is another; they must be
// equal. Effects of a T or V stand before it, those of everything else behind what caused them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <viommu/viommu.hpp>

#include "engine/cli/report.hpp"
#include "engine/cli/unit.hpp"
#include "engine/trace/event.hpp"

namespace viommu::cli {

struct ReplayOptions {
  /// A scenario with a `ram` line anywhere has no memory but what those lines give.
  bool explicit_ram = false;
};

class Replayer {
 public:
  explicit Replayer(ReplayOptions options = {}) : options_(options) {}
  Replayer(const Replayer&) = delete;
  Replayer& operator=(const Replayer&) = delete;
  Replayer(Replayer&&) = delete;
  Replayer& operator=(Replayer&&) = delete;
  ~Replayer() = default;

  /// Takes the next event of the trace. False when the trace cannot go on: report().error says why. The event's texts
  /// are not kept.
  [[nodiscard]] bool feed(const trace::Event& event, std::uint64_t line);
  /// Lets a write that waits for the words behind it act now, to look at the unit in between.
  void pause() { act_on_pending_write(); }
  /// The trace is over: lets the last write act and settles the effects.
  void finish(std::uint64_t last_line);

  [[nodiscard]] Report& report() noexcept { return report_; }
  [[nodiscard]] const Memory& memory() const noexcept { return host_.memory; }
  [[nodiscard]] const trace::VtdConfiguration& configuration() const noexcept { return configuration_; }
  /// Nothing before the cfg line (in a scenario: before a line that needs it).
  [[nodiscard]] Engine* engine() noexcept { return engine_.get(); }
  /// The host address width the engine was made with.
  [[nodiscard]] unsigned host_address_width() const noexcept { return host_address_width_; }

 private:
  void on(const trace::Nothing&) {}
  void on(const trace::Configuration& cfg);
  void on(const trace::ReservedRegion&) {}
  void on(const trace::GuestWord& m) { host_.memory.store(m.gpa, m.value); }
  void on(const trace::FailedRead& u) { host_.memory.fail_reads(u.gpa, u.length); }
  void on(const trace::FailedWrite& u);
  void on(const trace::MemoryWrite& w);
  void on(const trace::Message& i);
  void on(const trace::RegisterWrite& w);
  void on(const trace::RegisterRead& r);
  void on(const trace::Translate& t);
  void on(const trace::CachesDropped&);
  void on(const trace::Reset&);
  void on(const trace::Interrupt& v);
  void on(const trace::ViewSwitch&) { skip("S"); }
  void on(const trace::Notify&) { skip("N"); }
  void on(const trace::ReplayAsked&) { skip("P"); }
  void on(const trace::Marker&) {}
  void on(const trace::VirtioLine& v) { skip(std::string{v.letter}); }
  void on(const trace::Unknown& u) { skip(std::string{u.word}); }
  void on(const trace::RamAdded& ram);
  void on(const trace::RamRemoved& ram);
  void on(const trace::MemoryCheck& mem);
  void on(const trace::Ready& ready);
  void on(const trace::MachineReset& reset);
  void on(const trace::RoutesChanged& routes);

  /// Creates the engine when it is not there yet. False on an error.
  bool engine_exists();
  /// A scenario's line that only a machine that is ready can have. False on an error.
  bool machine_is_ready(const char* what);

  void expect(Effect effect);
  void act_on_pending_write();
  /// Runs the unit until it is idle and notes which line its new effects belong to.
  void settle_unit(std::uint64_t line);
  void match_effects();
  /// Before an event that acts: nothing may be left over, but what a request is about to cause.
  void close_effects(bool request_follows);
  void reset_unit();

  [[nodiscard]] viommu_translation translate(const trace::Translate& t, bool report);
  [[nodiscard]] bool same_answer(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool whole_block_alike(const trace::Translate& t, const viommu_translation& found);
  // What an `h` line allows besides its own answer: in a scenario that of an earlier line, in a recording a fresh
  // walk's.
  [[nodiscard]] bool is_earlier(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool is_fresh(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool differs_by_artefact(const trace::RegisterRead& r, std::uint64_t found);
  [[nodiscard]] std::uint64_t deviating_bits(unsigned byte, const trace::RegisterRead& r, std::uint64_t found);
  [[nodiscard]] bool in_scalable_mode();

  void skip(const std::string& letter) { ++report_.skipped[letter]; }
  void mismatch(std::string event, std::string expected, std::string found);
  void fail(std::string text);

  ReplayOptions options_;
  Report report_;
  trace::VtdConfiguration configuration_;
  bool configured_ = false;
  bool ready_ = false;
  unsigned host_address_width_ = 0;
  std::uint64_t line_ = 0;

  Host host_;
  std::unique_ptr<Engine> engine_;  // after the host it calls
  std::unique_ptr<Reader> reader_;  // goes before its engine

  std::vector<trace::Translate> earlier_;        // the T lines of a scenario
  std::optional<trace::RegisterWrite> pending_;  // a recording's W that has not acted yet
  std::uint64_t pending_line_ = 0;
  std::vector<Effect> expected_;
  std::size_t expected_done_ = 0;
  std::size_t found_done_ = 0;  // of host_.effects
  std::size_t owned_ = 0;       // effects whose line is known
};

}  // namespace viommu::cli
