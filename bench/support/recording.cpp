// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "bench/support/recording.hpp"

#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <variant>

#include "engine/cli/trace_file.hpp"
#include "engine/cli/unit.hpp"
#include "engine/trace/event.hpp"
#include "tests/support/oracle.hpp"

namespace viommu::bench {
namespace {

constexpr std::uint8_t blocked_for_some_reason = 0xff;

[[nodiscard]] std::uint8_t bits(trace::Perm perm) noexcept {
  return static_cast<std::uint8_t>((perm.read ? 1 : 0) | (perm.write ? 2 : 0));
}

template <class Visit>
bool for_each_event(std::string_view text, std::string& problem, Visit visit) {
  cli::EventReader events{text};
  for (trace::Event event; events.next(event);) {
    if (!visit(event)) return false;
  }
  if (const auto& error = events.error()) problem = "line " + std::to_string(error->line) + ": " + error->text;
  return problem.empty();
}

// Puts the events into the order in which a translator is fed: the words that a register write causes to be read stand
// below it in the trace and must be in memory before it.
class Builder {
 public:
  Builder(Recording& recording, std::string& problem) : recording_{recording}, problem_{problem} {}

  bool operator()(const trace::Event& event) {
    if (std::holds_alternative<trace::Nothing>(event)) return true;
    ++recording_.events;
    if (const auto* const word = std::get_if<trace::GuestWord>(&event)) return store(word->gpa, word->value);
    if (const auto* const write = std::get_if<trace::RegisterWrite>(&event)) {
      flush();
      held_ = RegisterWrite{write->value, write->offset, write->size};
      return true;
    }
    if (const auto* const asked = std::get_if<trace::Translate>(&event)) return ask(*asked);
    if (const auto* const write = std::get_if<trace::MemoryWrite>(&event)) written_[write->gpa] = *write;
    if (std::holds_alternative<trace::Message>(event)) ++recording_.messages;
    if (std::holds_alternative<trace::RegisterRead>(event) || std::holds_alternative<trace::Interrupt>(event)) flush();
    if (std::holds_alternative<trace::CachesDropped>(event)) single(Step::drop_caches);
    if (std::holds_alternative<trace::Reset>(event)) single(Step::reset);
    if (const auto* const configuration = std::get_if<trace::Configuration>(&event)) return configure(*configuration);
    return true;
  }

  void finish() {
    flush();
    for (const auto& [gpa, write] : written_) {
      recording_.written.push_back({recording_.ram.at(gpa), write.value, write.size});
    }
  }

 private:
  void flush() {
    if (!held_) return;
    recording_.writes.push_back(*held_);
    count(Step::write);
    held_.reset();
  }

  bool configure(const trace::Configuration& configuration) {
    if (configuration.family != trace::Family::vtd) {
      problem_ = "not a VT-d unit";
    } else if (trace::parse_vtd_configuration(configuration.pairs, recording_.configuration)) {
      problem_ = "the cfg line cannot be read";
    } else if (recording_.configuration.scenario) {
      problem_ = "a scenario, not a recording";
    } else {
      problem_ = cli::missing_feature(recording_.configuration);
    }
    return problem_.empty();
  }

  bool store(std::uint64_t gpa, std::uint64_t value) {
    recording_.stores.push_back({recording_.ram.at(gpa), value});
    written_.erase(written_.lower_bound(gpa), written_.upper_bound(gpa + 7));
    count(Step::store);
    return true;
  }

  bool ask(const trace::Translate& asked) {
    flush();
    if (asked.pasid != trace::no_pasid || !asked.access.plain() || bits(asked.access.rights) == 0) {
      problem_ = "a kind of request that legacy mode does not have";
      return false;
    }
    const std::uint8_t access = bits(asked.access.rights);
    Expected expected;
    if (asked.ok) {
      expected.recorded = {asked.gpa | (asked.iova & asked.mask), bits(asked.perm), 0};
      expected.from_cache = asked.source == trace::Source::iotlb;
      expected.dropped = expected.from_cache && (access & ~bits(asked.perm)) != 0;
    } else {
      // `fault 0 none`: an access dropped without a reason.
      expected.dropped = asked.reason == 0;
      expected.recorded.reason = asked.reason == 0 ? blocked_for_some_reason : asked.reason;
    }
    // A recorded answer from a cache left no record, whatever the tables say by now.
    const bool report = !expected.from_cache && (asked.ok || asked.status != trace::Status::none);
    recording_.asks.push_back({asked.iova, static_cast<std::uint16_t>(asked.source_id), access, report});
    recording_.expected.push_back(expected);
    count(Step::ask);
    return true;
  }

  void single(Step step) {
    flush();
    // Every pass begins after a reset, outside the clock; the one that recordings begin with would be a second.
    if (step == Step::reset && recording_.runs.empty()) return;
    recording_.runs.push_back({step, 1});
  }

  void count(Step step) {
    if (recording_.runs.empty() || recording_.runs.back().step != step) recording_.runs.push_back({step, 0});
    ++recording_.runs.back().count;
  }

  Recording& recording_;
  std::string& problem_;
  std::optional<RegisterWrite> held_;
  std::map<std::uint64_t, trace::MemoryWrite> written_;
};

// Walks the memory of each moment, so that an answer newer than a recorded cached one can be told from a wrong one.
class Fresh {
 public:
  explicit Fresh(const Recording& recording)
      : recording_{recording},
        unit_{.cap = recording.configuration.capability,
              .ecap = recording.configuration.extended_capability,
              .haw = recording.configuration.host_address_width != 0 ? recording.configuration.host_address_width
                                                                     : recording.configuration.address_width} {}

  Answer translate(const Ask& ask) const {
    const auto read_word = [this](std::uint64_t gpa) -> std::optional<std::uint64_t> {
      if (recording_.ram.at(gpa) == nullptr) return std::nullopt;
      return recording_.ram.word(gpa);
    };
    oracle::Request request;
    request.source_id = ask.source;
    request.iova = ask.iova;
    request.read = (ask.access & 1) != 0;
    request.write = (ask.access & 2) != 0;
    const oracle::Answer answer = oracle::translate(unit_, read_word, request);
    if (answer.kind == oracle::Answer::fault) return {0, 0, answer.reason};
    if (answer.kind == oracle::Answer::identity) return {ask.iova, 3, 0};
    return {answer.gpa, bits({answer.read, answer.write}), 0};
  }

  void write(const RegisterWrite& write) {
    constexpr std::uint32_t global_command = 0x18;
    constexpr std::uint32_t root_table = 0x20;
    if (write.offset == root_table)
      root_table_ = write.size == 8 ? write.value : (root_table_ >> 32 << 32) | write.value;
    if (write.offset == root_table + 4) root_table_ = (write.value << 32) | (root_table_ & 0xffffffff);
    if (write.offset != global_command) return;
    if ((write.value >> 30 & 1) != 0) unit_.root_table = root_table_;
    unit_.translation_enabled = (write.value >> 31 & 1) != 0;
  }
  void drop_caches() {}
  void reset() {
    root_table_ = 0;
    unit_.root_table = 0;
    unit_.translation_enabled = false;
  }

 private:
  const Recording& recording_;
  oracle::Unit unit_;
  std::uint64_t root_table_ = 0;
};

[[nodiscard]] bool same(const Answer& expected, const Answer& answer, std::uint8_t access) noexcept {
  if (expected.reason != 0) return answer.reason == expected.reason;
  return answer.reason == 0 && answer.gpa == expected.gpa && (access & ~answer.rights) == 0;
}

}  // namespace

bool is_there(const Written& written) noexcept {
  return written.at != nullptr && std::memcmp(written.at, &written.value, written.size) == 0;
}

bool right(const Expected& expected, const Ask& ask, const Answer& answer) noexcept {
  if (expected.dropped && answer.reason != 0) return true;
  return same(expected.recorded, answer, ask.access) ||
         ((expected.from_cache || expected.dropped) && same(expected.fresh, answer, ask.access));
}

bool parse_recording(std::string_view text, Recording& recording, std::string& problem) {
  std::set<std::uint64_t> pages;
  const auto note_page = [&pages](const trace::Event& event) {
    if (const auto* const word = std::get_if<trace::GuestWord>(&event)) pages.insert(word->gpa >> 12);
    if (const auto* const write = std::get_if<trace::MemoryWrite>(&event)) pages.insert(write->gpa >> 12);
    return true;
  };
  if (!for_each_event(text, problem, note_page)) return false;
  recording.ram = GuestRam{pages};

  Builder builder{recording, problem};
  if (!for_each_event(text, problem, [&builder](const trace::Event& event) { return builder(event); })) return false;
  builder.finish();

  Fresh fresh{recording};
  std::vector<Answer> answers(recording.asks.size());
  feed(recording, fresh, answers.data());
  for (std::size_t index = 0; index < answers.size(); ++index) recording.expected[index].fresh = answers[index];
  recording.ram.clear();
  return true;
}

}  // namespace viommu::bench
