// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Feeds a trace to an engine, event by event, and compares every answer.
//
//   recording: a W waits until the next W, R, T, V, Z or O, because the words it made the unit read are written behind
//              it
//   scenario:  every line acts where it stands; nothing below it is read ahead. Behind each line the unit works until
//              it is idle or waits for a hold
//
// What the unit does to the outside (w, I, U, irte, reply) is one list, what the trace says it does is another; they
// must be equal. Effects of a T or V stand before it, those of everything else behind what caused them.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <viommu/viommu.hpp>

#include "engine/cli/devices.hpp"
#include "engine/cli/report.hpp"
#include "engine/cli/unit.hpp"
#include "engine/trace/event.hpp"

namespace viommu::cli {

struct ReplayOptions {
  /// A scenario with a `ram` line anywhere has no memory but what those lines give.
  bool explicit_ram = false;
};

/// A request of the driver, and what must come back.
struct AskedRequest {
  std::vector<std::uint8_t> readable;
  std::vector<std::uint8_t> written;
  std::size_t writable_bytes = 0;
  std::uint64_t line = 0;
  std::string text;  // its line
};
/// What is known of a virtio-iommu.
struct VirtioDevice {
  trace::VirtioConfiguration configuration;
  std::vector<viommu_virtio_region> reserved;
  std::bitset<0x10000> endpoints;  // of a recording that does not say which there are: that were named
  std::uint64_t features = 0;      // of a recording: negotiated
  std::deque<AskedRequest> asked;  // not answered yet, in their order
};

class Replayer {
 public:
  explicit Replayer(ReplayOptions options = {}) : options_(options) {}
  Replayer(const Replayer&) = delete;
  Replayer& operator=(const Replayer&) = delete;
  Replayer(Replayer&&) = delete;
  Replayer& operator=(Replayer&&) = delete;
  ~Replayer();

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
  [[nodiscard]] Engine* engine() const noexcept { return unit_.engine.get(); }
  /// The host address width the engine was made with.
  [[nodiscard]] unsigned host_address_width() const noexcept { return host_address_width_; }

 private:
  void on(const trace::Nothing&) {}
  void on(const trace::Configuration& cfg);
  void on(const trace::ReservedRegion& region);
  void on(const trace::GuestWord& m) { host_.memory.store(m.gpa, m.value); }
  void on(const trace::FailedRead& u) { host_.memory.fail_reads(u.gpa, u.length); }
  void on(const trace::FailedWrite& u);
  void on(const trace::MemoryWrite& w);
  void on(const trace::Message& i);
  void on(const trace::RegisterWrite& w);
  void on(const trace::RegisterRead& r);
  void on(const trace::Translate& t);
  void on(const trace::CachesDropped&) const;
  void on(const trace::Reset&);
  void on(const trace::Interrupt& v);
  void on(const trace::ViewSwitch& s);
  void on(const trace::Notify& n);
  void on(const trace::ReplayAsked& p);
  void on(const trace::Marker&) {}
  // A virtio-iommu.
  void on(const trace::DriverReady& ready);
  void on(const trace::BypassChanged& change);
  void on(const trace::Request& q);
  void on(const trace::FaultReported& report);
  void on(const trace::SizedRequest& q);
  void on(const trace::WaitingCheck& check);
  void on(const trace::EventBuffers& left) { host_.event_buffers = left.count; }
  void on(const trace::Unknown& u) { skip(std::string{u.word}); }
  // Memory and the machine.
  void on(const trace::RamAdded& ram);
  void on(const trace::RamRemoved& ram);
  void on(const trace::PartChanged& part);
  void on(const trace::RegionGone& gone);
  void on(const trace::MemoryCheck& mem);
  void on(const trace::Ready& ready);
  void on(const trace::MachineReset& reset);
  void on(const trace::RoutesChanged& routes);
  void on(const trace::Process& process);
  void on(const trace::ClockForward& clock);

  // Devices.
  void on(const trace::BusBypassed& bus);
  void on(const trace::Plug& plug);
  void on(const trace::FactsUnset& unset);
  void on(const trace::Unplug& unplug);
  void on(const trace::DriverChoice& choice);
  void on(const trace::BusRenumbered& renumber);
  void on(const trace::PageRequested& page);
  void on(const trace::HostFaulted& fault);
  void on(const trace::PageAnswered& reply);
  void on(const trace::ViewCheck& check);
  void on(const trace::IsolatableCheck& check);
  void on(const trace::ScopeCheck& check);
  void on(const trace::CapabilitiesCheck& check);
  void on(const trace::WidthCheck& check);
  void on(const trace::BlockersCheck& check);
  void on(const trace::PinsCheck& check);

  // Consumers.
  void on(const trace::Subscribe& subscribe);
  void on(const trace::Unsubscribe& unsubscribe);
  void on(const trace::FailNext& fail);
  void on(const trace::ShadowCheck& check);
  void on(const trace::ShadowExtent& extent);
  void on(const trace::DeltaCheck& check);
  void on(const trace::CountCheck& check);
  void on(const trace::ErrorsCheck& check);

  // DMA in flight, saved state, dirty pages.
  void on(const trace::HoldOpened& hold);
  void on(const trace::HoldReleased& release);
  void on(const trace::StateStep& step);
  void on(const trace::DirtySwitch& dirty);
  void on(const trace::BitmapCheck& check);
  void on(const trace::DirtyRun& run);

  /// Creates the engine when it is not there yet. False on an error.
  bool engine_exists();
  [[nodiscard]] bool create_unit();
  /// Its reader and its regions.
  [[nodiscard]] bool furnish();
  /// A scenario's line that only a machine that is ready can have. False on an error.
  bool machine_is_ready(const char* what);

  /// The unit, and what hangs on it: what a load replaces as a whole.
  struct Unit {
    std::unique_ptr<Engine> engine;
    std::unique_ptr<Reader> reader;  // goes before its engine
    std::vector<std::unique_ptr<Consumer>> consumers;
    std::map<std::string, std::vector<std::uint64_t>, std::less<>> holds;  // each of as many answers as it takes
  };
  /// What a recording's listener of one device holds.
  struct Listener {
    Holdings held;
    Consumer* consumer = nullptr;  // ours, from the first replay on
    bool told = false;             // N lines since the last look
    bool asked = false;            // a P line since then
  };
  [[nodiscard]] bool configure_virtio(std::string_view pairs);
  [[nodiscard]] bool create_virtio();
  [[nodiscard]] bool begin_recording();
  void know_endpoint(std::uint32_t endpoint);
  [[nodiscard]] std::uint64_t bypass_byte() const;
  /// A request of a scenario: it waits for those before it.
  void ask(AskedRequest asked);
  /// One of a recording.
  void answer_recorded(const AskedRequest& asked);
  /// Answers what can be answered now.
  void answer_requests();
  /// Nothing while the answer has to wait.
  [[nodiscard]] std::optional<std::vector<std::uint8_t>> answer_to(const AskedRequest& asked, unsigned tries,
                                                                   viommu_result& result);
  /// Memory of a scenario that has no `ram` line.
  void fill_memory();
  [[nodiscard]] bool is_report_deviation(const Effect& recorded, const Effect& found);
  void check_recorded();
  void listen(std::uint16_t source, Listener& listener);
  void drop(Unit& unit);
  /// Gives the unit its regions, devices and subscriptions again. False on an error.
  bool furnish_again();
  [[nodiscard]] std::string load();
  [[nodiscard]] std::string add_region(const Regions::Region& region) const;
  [[nodiscard]] Consumer* consumer(std::string_view id);
  /// Subscribes it; the mappings are asked for by viommu_replay().
  [[nodiscard]] std::string subscribe(Consumer& consumer);
  [[nodiscard]] std::uint64_t new_cookie(Range range);
  /// Behind a line that acted: the unit works, and consumers settle.
  void end_line();
  /// Behind `shadow` and `bitmap` their lines must follow.
  void check_lists(bool is_extent, bool is_run);
  void compare(const trace::Event& event, std::string_view expected, std::string_view found);
  void begin_list(const trace::Event& event, std::uint64_t count, bool is_shadow);
  void compare_list_line(const trace::Event& event);
  void succeed(const char* what, viommu_result result);

  void expect(Effect effect);
  void act_on_pending_write();
  /// Runs the unit until it is idle and notes which line its new effects belong to.
  void settle_unit(std::uint64_t line);
  void match_effects();
  /// Before an event that acts: nothing may be left over, but what a request is about to cause.
  void close_effects(bool request_follows);
  void reset_unit(bool whole_system);
  /// Where a T line says that its access goes.
  [[nodiscard]] std::uint64_t place_of(const trace::Translate& t) const noexcept;

  [[nodiscard]] viommu_translation translate(const trace::Translate& t, bool report) const;
  [[nodiscard]] bool same_answer(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool whole_block_alike(const trace::Translate& t, const viommu_translation& found);
  // What an `h` line allows besides its own answer: in a scenario that of an earlier line, in a recording a fresh
  // walk's.
  [[nodiscard]] bool is_earlier(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool is_fresh(const trace::Translate& t, const viommu_translation& found);
  [[nodiscard]] bool differs_by_artefact(const trace::RegisterRead& r, std::uint64_t found);
  [[nodiscard]] std::uint64_t deviating_bits(unsigned byte, const trace::RegisterRead& r, std::uint64_t found);
  [[nodiscard]] bool in_scalable_mode() const;

  void skip(const std::string& letter) { ++report_.skipped[letter]; }
  void mismatch(std::string event, std::string expected, std::string found);
  void fail(std::string text);

  ReplayOptions options_;
  Report report_;
  trace::VtdConfiguration configuration_;
  bool configured_ = false;
  bool ready_ = false;
  bool ready_asked_ = false;  // a ready line was there
  unsigned host_address_width_ = 0;
  std::uint64_t line_ = 0;

  Host host_;
  Unit unit_;                                     // after the host that it calls
  std::vector<std::unique_ptr<Consumer>> ended_;  // that nothing may be told any more
  std::vector<PluggedDevice> devices_;
  std::vector<std::uint8_t> bypassed_buses_;
  std::unique_ptr<VirtioDevice> virtio_;  // nothing: a VT-d unit
  std::string state_;                     // what the last save wrote
  bool manual_ = false;
  // The lines that a check promised, as they should be, and how many are still to come.
  std::vector<std::string> list_;
  std::size_t list_at_ = 0;
  std::uint64_t list_left_ = 0;
  bool list_is_shadow_ = false;
  bool list_compared_ = false;

  std::map<std::uint16_t, Listener> listeners_;
  std::map<std::uint16_t, trace::ViewSwitch> switches_;  // since the last look
  std::vector<trace::Translate> earlier_;                // the T lines of a scenario
  std::optional<trace::RegisterWrite> pending_;          // a recording's W that has not acted yet
  std::uint64_t pending_line_ = 0;
  std::vector<Effect> expected_;
  std::size_t expected_done_ = 0;
  std::size_t found_done_ = 0;  // of host_.effects
  std::size_t owned_ = 0;       // effects whose line is known
};

}  // namespace viommu::cli
