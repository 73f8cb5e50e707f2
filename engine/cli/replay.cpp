// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/cli/replay.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <type_traits>
#include <utility>

#include <viommu/viommu_virtio.h>

#include "engine/base/address.hpp"
#include "engine/cli/artefacts.hpp"
#include "engine/cli/messages.hpp"
#include "engine/vtd/register_layouts.hpp"

namespace viommu::cli {
namespace {

/// Slices after which a unit that still says "more" is taken to hang: a slice is a whole queue.
constexpr unsigned slices_at_most = 1000;
constexpr unsigned narrowest_host = 39;

template <class E, class... Kinds>
constexpr bool is_any_of = (std::is_same_v<E, Kinds> || ...);

/// Events that end the run of words behind a recording's W.
template <class E>
constexpr bool ends_run = is_any_of<E, trace::RegisterWrite, trace::RegisterRead, trace::Translate, trace::Interrupt,
                                    trace::Reset, trace::CachesDropped>;

/// Lines that say nothing about what the unit did, so that effects may go on behind them.
template <class E>
constexpr bool is_silent = is_any_of<E, trace::Nothing, trace::Marker, trace::MemoryWrite, trace::Message,
                                     trace::FaultReported, trace::RoutesChanged, trace::PageAnswered>;

/// Requests: what they cause stands before their line.
template <class E>
constexpr bool comes_behind_effects = is_any_of<E, trace::Translate, trace::Interrupt, trace::HoldOpened>;

}  // namespace

bool Replayer::feed(const trace::Event& event, std::uint64_t line) {
  if (report_.error) return false;
  line_ = line;
  std::visit(
      [this]<class E>(const E& e) {
        if constexpr (!std::is_same_v<E, trace::Nothing>) ++report_.events;
        if (configuration_.scenario) {
          if constexpr (!is_silent<E>) close_effects(comes_behind_effects<E>);
        } else if constexpr (ends_run<E>) {
          act_on_pending_write();
          check_recorded();
          close_effects(comes_behind_effects<E>);
        }
        if (configuration_.scenario) {
          check_lists(std::is_same_v<E, trace::ShadowExtent>, std::is_same_v<E, trace::DirtyRun>);
          if (report_.error) return;
        }
        on(e);
        if constexpr (!is_silent<E>)
          if (configuration_.scenario && !report_.error) end_line();
      },
      event);
  return !report_.error;
}

void Replayer::finish(std::uint64_t last_line) {
  if (report_.error) return;
  line_ = last_line;
  act_on_pending_write();
  check_recorded();
  close_effects(false);
  if (virtio_)
    for (const AskedRequest& asked : virtio_->asked)
      report_.mismatch({asked.line, asked.text, "an answer", "it still waits"});
  if (list_left_ != 0) fail("lines of the list above are missing");
  if (configured_ && configuration_.scenario && !ready_asked_) fail("the scenario has no ready line");
}

Replayer::~Replayer() { drop(unit_); }

void Replayer::drop(Unit& unit) {
  for (const auto& [name, pieces] : unit.holds)
    for (const std::uint64_t hold : pieces) static_cast<void>(viommu_release(unit.engine->get(), hold));
  unit.holds.clear();
  unit.reader.reset();
  unit.engine.reset();
  unit.consumers.clear();  // the engine may call them as long as it is there
}

void Replayer::end_line() {
  if (unit_.engine) {
    settle_unit(line_);
    if (!manual_) answer_requests();
  }
  for (const auto& consumer : unit_.consumers) consumer->end_line();
  for (Complaint& complaint : std::exchange(host_.around.complaints, {}))
    mismatch("consumer", std::move(complaint.expected), std::move(complaint.event));
}

void Replayer::compare(const trace::Event& event, std::string_view expected, std::string_view found) {
  if (expected == found)
    ++report_.matches;
  else
    mismatch(text_of(event), std::string{expected}, std::string{found});
}

void Replayer::fail(std::string text) {
  if (!report_.error) report_.error = TraceError{line_, std::move(text)};
}

void Replayer::mismatch(std::string event, std::string expected, std::string found) {
  report_.mismatch({line_, std::move(event), std::move(expected), std::move(found)});
}

// ---- Configuration and the machine around the unit ----

void Replayer::on(const trace::Configuration& cfg) {
  if (cfg.family == trace::Family::virtio) return static_cast<void>(configure_virtio(cfg.pairs));
  if (const trace::ParseError error = parse_vtd_configuration(cfg.pairs, configuration_)) return fail(text_of(error));
  if (std::string missing = missing_feature(configuration_); !missing.empty()) return fail(std::move(missing));
  configured_ = true;
  host_.of_recording = !configuration_.scenario;
  if (!configuration_.scenario) {
    ready_ = true;
    engine_exists();
  } else if (options_.explicit_ram) {
    static_cast<void>(host_.memory.remove_ram(0, ~std::uint64_t{0}));
  }
}

bool Replayer::engine_exists() {
  if (unit_.engine) return true;
  return (virtio_ ? create_virtio() : create_unit()) && furnish();
}

bool Replayer::create_unit() {
  viommu_vtd_options options = options_of(configuration_);
  if (options.host_address_width == 0) {
    // The default of a scenario: the end of RAM rounded up.
    const std::uint64_t last = options_.explicit_ram ? host_.memory.last_ram().value_or(0) : 0;
    options.host_address_width = std::max(narrowest_host, static_cast<unsigned>(std::bit_width(last)));
  }
  host_address_width_ = options.host_address_width;
  fill_memory();
  auto engine = Engine::create_vtd(options, host_.table());
  if (!engine) {
    fail("the engine cannot be this unit: " +
         (engine.error().text.empty() ? std::string{viommu_result_text(engine.error().code)} : engine.error().text));
    return false;
  }
  unit_.engine = std::make_unique<Engine>(*std::move(engine));
  return true;
}

void Replayer::fill_memory() {
  if (!configuration_.scenario || options_.explicit_ram || !host_.around.regions.regions().empty()) return;
  host_.memory.limit_ram(0, low_bits(host_address_width_));
  host_.around.regions.add({0, low_bits(host_address_width_)}, false);
}

bool Replayer::furnish() {
  auto reader = unit_.engine->reader();
  if (!reader) {
    fail("the engine gives no reader: " + reader.error().text);
    return false;
  }
  unit_.reader = std::make_unique<Reader>(*std::move(reader));
  for (const Regions::Region& region : host_.around.regions.regions()) {
    if (std::string wrong = add_region(region); !wrong.empty()) {
      fail(std::move(wrong));
      return false;
    }
  }
  return true;
}

bool Replayer::machine_is_ready(const char* what) {
  if (!ready_) fail(std::string{what} + " before the machine is ready");
  return ready_ && engine_exists();
}

void Replayer::on(const trace::Reset&) { reset_unit(!virtio_); }

void Replayer::reset_unit(bool whole_system) {
  if (!engine_exists()) return;
  succeed("reset", whole_system ? viommu_reset(unit_.engine->get()) : viommu_virtio_reset(unit_.engine->get()));
  if (virtio_) {
    virtio_->features = 0;
    virtio_->asked.clear();  // their queue is gone
  }
  settle_unit(line_);
}

// ---- Effects ----

void Replayer::on(const trace::FailedWrite& u) {
  host_.memory.fail_writes(u.gpa, u.length);
  expect({Effect::Kind::failed_write, u.gpa, 0, u.length, line_});
}
void Replayer::on(const trace::MemoryWrite& w) {
  if (!configuration_.scenario) host_.memory.allow_writes(w.gpa, w.size);  // the unit could write there again
  expect({Effect::Kind::write, w.gpa, w.value, w.size, line_});
}
void Replayer::on(const trace::Message& i) { expect({Effect::Kind::message, i.address, i.data, 0, line_}); }

void Replayer::expect(Effect effect) {
  expected_.push_back(effect);
  match_effects();
}

void Replayer::settle_unit(std::uint64_t line) {
  unsigned slices = 0;
  while (!manual_ && unit_.engine->process().state == VIOMMU_PROCESS_MORE) {
    if (++slices == slices_at_most) {
      mismatch("process", "the unit comes to an end", "it always has more to do");
      break;
    }
  }
  for (; owned_ < host_.effects.size(); ++owned_) host_.effects[owned_].line = line;
  match_effects();
}

void Replayer::match_effects() {
  while (expected_done_ < expected_.size() && found_done_ < host_.effects.size()) {
    const Effect& expected = expected_[expected_done_++];
    const Effect& found = host_.effects[found_done_++];
    if (expected.same_as(found))
      ++report_.matches;
    else if (!is_report_deviation(expected, found))
      report_.mismatch({expected.line, expected.text(), expected.text(), found.text()});
  }
}

void Replayer::close_effects(bool request_follows) {
  for (; found_done_ < host_.effects.size(); ++found_done_) {
    const Effect& found = host_.effects[found_done_];
    report_.mismatch({found.line, "effect", "no such line", found.text()});
  }
  if (!request_follows) {
    for (; expected_done_ < expected_.size(); ++expected_done_) {
      const Effect& expected = expected_[expected_done_];
      report_.mismatch({expected.line, expected.text(), expected.text(), "the unit did not do it"});
    }
  }
  if (expected_done_ == expected_.size()) {
    expected_.clear();
    expected_done_ = 0;
  }
  host_.effects.clear();
  found_done_ = 0;
  owned_ = 0;
}

// ---- Registers ----

void Replayer::act_on_pending_write() {
  if (!pending_) return;
  const trace::RegisterWrite w = *pending_;
  pending_.reset();
  static_cast<void>(unit_.engine->mmio_write(w.offset, w.size, w.value));
  settle_unit(pending_line_);
}

void Replayer::on(const trace::RegisterWrite& w) {
  if (!machine_is_ready("a register write")) return;
  if (virtio_) {
    const viommu_result result = viommu_virtio_config_write(unit_.engine->get(), w.offset, w.size, w.value);
    if (result != VIOMMU_E_REFUSED) succeed("W", result);  // a driver may be wrong
    return;
  }
  pending_ = w;
  pending_line_ = line_;
  if (configuration_.scenario) act_on_pending_write();
}

void Replayer::on(const trace::RegisterRead& r) {
  if (!engine_exists()) return;
  std::uint64_t found = 0;
  if (virtio_)
    succeed("R", viommu_virtio_config_read(unit_.engine->get(), r.offset, r.size, &found));
  else
    found = unit_.engine->mmio_read(r.offset, r.size);
  if (found == r.value)
    ++report_.matches;
  else if (!differs_by_artefact(r, found))
    mismatch(text_of(trace::Event{r}), hex(r.value), hex(found));
}

bool Replayer::differs_by_artefact(const trace::RegisterRead& r, std::uint64_t found) {
  if (configuration_.scenario) return false;
  const RecordPlace place = fault_record_at(configuration_.capability, r.offset, r.size);
  if (!place.inside) return false;
  const RegisterView view{configuration_.capability, unit_.engine->mmio_read(place.record_offset + 8, 8),
                          in_scalable_mode()};
  std::uint64_t difference = (found ^ r.value) & ~deviating_bits(place.byte, r, found);
  std::array<const Artefact*, 8> used{};
  std::size_t count = 0;
  for (const Artefact& artefact : recording_artefacts()) {
    const std::uint64_t freed = freed_bits(artefact, view, place.byte, r.size);
    if ((difference & freed) != 0 && count < used.size()) used[count++] = &artefact;
    difference &= ~freed;
  }
  if (difference != 0) return false;
  for (std::size_t i = 0; i < count; ++i) ++report_.artefacts[used[i]->name];
  return true;
}

/// The fault reason of a record that is told in other words than ours, and nothing else of it.
std::uint64_t Replayer::deviating_bits(unsigned byte, const trace::RegisterRead& r, std::uint64_t found) {
  constexpr unsigned reason_byte = 12;
  if (!in_scalable_mode() || byte > reason_byte || byte + r.size <= reason_byte) return 0;
  const unsigned shift = 8 * (reason_byte - byte);
  const auto at = [shift](std::uint64_t value) { return static_cast<std::uint8_t>(value >> shift); };
  if (!is_deviation(at(r.value), at(found))) return 0;
  ++report_.deviations[deviation_text(at(r.value), at(found))];
  return std::uint64_t{0xFF} << shift;
}

bool Replayer::in_scalable_mode() const {
  constexpr unsigned root_pointer = 0x20;
  const vtd::RootTableAddress root{unit_.engine->mmio_read(root_pointer, 8)};
  return get(root, vtd::rtaddr::mode) == vtd::TableMode::scalable;
}

void Replayer::on(const trace::CachesDropped&) const { static_cast<void>(unit_.engine->drop_caches()); }

void Replayer::on(const trace::RoutesChanged& routes) {
  expect({Effect::Kind::routes, routes.first, routes.count, 0, line_});
}

void Replayer::on(const trace::Interrupt& v) {
  if (!machine_is_ready("an interrupt")) return;
  const viommu_message asked = message_of(v);
  const bool unreported = !v.ok && v.status == trace::Status::none && !configuration_.scenario;
  const viommu_routed found = v.question || unreported ? unit_.engine->route(asked) : unit_.reader->interrupt(asked);
  if (found.kind == VIOMMU_ROUTE_FAULT) settle_unit(line_);  // a fault may send its event
  close_effects(false);
  const bool delivered = found.kind != VIOMMU_ROUTE_FAULT;
  const bool same = v.ok ? delivered && found.address == v.out_address && found.data == v.out_data
                         : !delivered && found.reason == v.reason;
  if (same)
    ++report_.matches;
  else
    mismatch(text_of(trace::Event{v}), answer_text(v), answer_text(found));
}

}  // namespace viommu::cli
