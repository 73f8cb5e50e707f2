// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/harness/schedule.hpp"

#include <algorithm>
#include <charconv>

namespace viommu::harness {
namespace {

constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";

}  // namespace

void Schedule::begin_search(const Bounds& bounds) {
  kind_ = Kind::search;
  bounds_ = bounds;
  preemptions_left_ = bounds.preemptions;
  old_loads_left_ = bounds.old_loads;
  choices_.clear();
  at_ = 0;
}

void Schedule::begin_random(std::uint64_t seed) {
  kind_ = Kind::random;
  seed_ = seed;
  start_random();
}

bool Schedule::begin_replay(std::string_view name) {
  if (name.starts_with("r")) {
    std::uint64_t seed = 0;
    const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), seed);
    if (error != std::errc{} || end != name.data() + name.size()) return false;
    begin_random(seed);
    return true;
  }
  if (!name.starts_with("s")) return false;
  // s, a digit for each bound, and the choices
  if (name.size() < 3 || digits.find(name[1]) == std::string_view::npos ||
      digits.find(name[2]) == std::string_view::npos)
    return false;
  begin_search({static_cast<unsigned>(digits.find(name[1])), static_cast<unsigned>(digits.find(name[2]))});
  kind_ = Kind::replay;
  for (const char digit : name.substr(3)) {
    const std::size_t value = digits.find(digit);
    if (value == std::string_view::npos) return false;
    choices_.push_back({static_cast<std::uint32_t>(value), 0});
  }
  return true;
}

bool Schedule::next() {
  while (!choices_.empty() && choices_.back().taken + 1 == choices_.back().count) choices_.pop_back();
  if (choices_.empty()) return false;
  ++choices_.back().taken;
  at_ = 0;
  preemptions_left_ = bounds_.preemptions;
  old_loads_left_ = bounds_.old_loads;
  return true;
}

std::size_t Schedule::choose(std::size_t count) {
  if (kind_ == Kind::replay) {
    const std::size_t taken = at_ < choices_.size() ? choices_[at_].taken : 0;
    ++at_;
    return std::min(taken, count - 1);
  }
  if (at_ == choices_.size()) choices_.push_back({0, static_cast<std::uint32_t>(count)});
  return choices_[at_++].taken;
}

std::uint64_t Schedule::random() noexcept {
  std::uint64_t mixed = state_ += 0x9E3779B97F4A7C15;
  mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9;
  mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB;
  return mixed ^ mixed >> 31;
}

void Schedule::start_random() noexcept {
  state_ = seed_ * 0xD1342543DE82EF95 + 1;
  steps_ = 0;
  for (std::size_t i = 0; i < priorities_.size(); ++i) priorities_[i] = i + most_fibers + 1;
  for (std::size_t i = priorities_.size() - 1; i > 0; --i) std::swap(priorities_[i], priorities_[random() % (i + 1)]);
  // How long an execution will be is not known; most have between 2^5 and 2^8 steps.
  const std::uint64_t length = std::uint64_t{16} << random() % 5;
  for (std::uint64_t& change : changes_) change = random() % length;
  coin_ = random() % 3 == 0 ? 1 + random() % 8 : 0;
  old_of_ = 1 + random() % 6;
  behind_ = random() % most_fibers;
  behind_for_ = random() % 2 == 0 ? random() % 1024 : 0;
  gives_way_of_ = std::uint64_t{1} << random() % 3 * 3;
}

std::size_t Schedule::fiber(std::span<const std::size_t> ready, std::size_t current, bool yields) {
  const bool may_stay = !yields && std::ranges::find(ready, current) != ready.end();
  if (kind_ != Kind::random) {
    if (may_stay && preemptions_left_ == 0) return current;
    if (ready.size() == 1) return ready.front();
    std::array<std::size_t, most_fibers> options{};
    std::size_t count = 0;
    if (may_stay) options[count++] = current;
    for (const std::size_t other : ready)
      if (other != current || (!may_stay && !yields)) options[count++] = other;
    if (count == 0) return current;
    const std::size_t chosen = options[count == 1 ? 0 : choose(count)];
    if (may_stay && chosen != current) --preemptions_left_;
    return chosen;
  }
  ++steps_;
  if (coin_ != 0) {
    if (may_stay && random() % coin_ != 0) return current;
    return ready[random() % ready.size()];
  }
  if (yields || std::ranges::find(changes_, steps_) != changes_.end()) {
    // Below everybody, the last one to fall lowest.
    for (std::uint64_t& priority : priorities_) ++priority;
    priorities_[current] = 0;
  }
  return *std::ranges::max_element(ready, {}, [&](std::size_t fiber) { return priorities_[fiber]; });
}

bool Schedule::gives_way() noexcept { return kind_ != Kind::random || random() % gives_way_of_ == 0; }

std::size_t Schedule::age(std::size_t count, std::size_t fiber) {
  if (count == 1) return 0;
  if (kind_ != Kind::random) {
    if (old_loads_left_ == 0) return 0;
    const std::size_t age = choose(count);
    if (age != 0) --old_loads_left_;
    return age;
  }
  if (fiber == behind_ && steps_ < behind_for_) return count - 1;
  return random() % old_of_ == 0 ? random() % count : 0;
}

std::string Schedule::name() const {
  if (kind_ == Kind::random) return "r" + std::to_string(seed_);
  std::string name{'s', digits[bounds_.preemptions], digits[bounds_.old_loads]};
  for (const Choice& choice : choices_) name += digits[std::min<std::size_t>(choice.taken, digits.size() - 1)];
  return name;
}

}  // namespace viommu::harness
