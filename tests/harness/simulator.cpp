// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/harness/simulator.hpp"

#include <ucontext.h>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>

namespace viommu::harness {
namespace {

constexpr std::size_t stack_bytes = std::size_t{256} * 1024;
constexpr std::uint64_t most_steps = 20'000;  // an execution that has more does not end

// Fibers begin by makecontext() and are switched by _setjmp() and _longjmp(), which make no system call.
struct Switches {
  std::array<std::jmp_buf, most_fibers> fibers;
  std::jmp_buf caller;
  std::array<bool, most_fibers> begun{};
  std::array<ucontext_t, most_fibers> contexts;
  std::array<std::unique_ptr<char[]>, most_fibers> stacks;
};
Switches switches;

[[nodiscard]] const char* word_for(Operation operation) noexcept {
  switch (operation) {
    case Operation::load:             return "load";
    case Operation::store:            return "store";
    case Operation::modify:           return "modify";
    case Operation::compare_exchange: return "compare-exchange";
    case Operation::full_fence:       return "full fence";
    case Operation::compiler_fence:   return "compiler fence";
    case Operation::process_barrier:  return "process barrier";
  }
  return "";
}

[[nodiscard]] const char* word_for(std::memory_order order) noexcept {
  switch (order) {
    case std::memory_order_relaxed: return "relaxed";
    case std::memory_order_consume:
    case std::memory_order_acquire: return "acquire";
    case std::memory_order_release: return "release";
    case std::memory_order_acq_rel: return "acq_rel";
    case std::memory_order_seq_cst: return "seq_cst";
  }
  return "";
}

[[nodiscard]] std::memory_order changed(std::memory_order order, Change change) noexcept {
  if (change == Change::relaxed) return std::memory_order_relaxed;
  return change == Change::weaker ? std::memory_order_acq_rel : order;
}

/// As a path of the project: from one of its folders on.
[[nodiscard]] std::string_view from_root(std::string_view file) noexcept {
  for (const std::string_view folder : {"/engine/", "/caches/", "/walkers/", "/tests/"})
    if (const std::size_t at = file.rfind(folder); at != std::string_view::npos) return file.substr(at + 1);
  return file;
}

void fail_at_signal(int number) {
  simulator().fail(number == SIGALRM ? "no end: an execution that makes no steps" : "a crash");
  std::_Exit(3);  // not in a fiber
}

}  // namespace

std::string Site::text() const {
  return file + ":" + std::to_string(line) + ":" + std::to_string(column) + " " + word_for(operation) + " " +
         word_for(order);
}

const char* name_of(Change change) noexcept {
  switch (change) {
    case Change::none:      return "none";
    case Change::relaxed:   return "relaxed";
    case Change::weaker:    return "acq_rel";
    case Change::dropped:   return "dropped";
    case Change::unchecked: return "unchecked";
    case Change::stale:     return "stale";
  }
  return "";
}

Simulator& simulator() noexcept {
  static Simulator only;
  return only;
}

void Simulator::enter_fiber() {
  body_.fiber(body_.scenario, current_);
  finished_[current_] = true;
  choose_next(true);
  leave_execution();
}

void Simulator::leave_execution() { _longjmp(switches.caller, 1); }

void Simulator::catch_crashes() {
  static std::array<char, std::size_t{64} * 1024> stack;
  const stack_t other{.ss_sp = stack.data(), .ss_flags = 0, .ss_size = stack.size()};
  sigaltstack(&other, nullptr);
  struct sigaction action{};
  action.sa_handler = fail_at_signal;
  action.sa_flags = SA_ONSTACK | SA_NODEFER;
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM}) sigaction(number, &action, nullptr);
}

void Simulator::run(const Body& body, Model model, Schedule& schedule) {
  body_ = body;
  schedule_ = &schedule;
  model_ = model;
  memory_.reset(model, body.fibers);
  finished_ = {};
  waits_for_ = {};
  paused_ = {};
  steps_ = 0;
  current_ = 0;
  switches.begun = {};
  running_ = true;
  if (_setjmp(switches.caller) == 0) {
    choose_next(true);
    go_on_with(current_);
  }
  running_ = false;
}

void Simulator::go_on_with(std::size_t next) {
  current_ = next;
  if (switches.begun[next]) _longjmp(switches.fibers[next], 1);
  switches.begun[next] = true;
  ucontext_t& context = switches.contexts[next];
  if (!switches.stacks[next]) switches.stacks[next] = std::make_unique<char[]>(stack_bytes);
  getcontext(&context);
  context.uc_stack.ss_sp = switches.stacks[next].get();
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, [] { simulator().enter_fiber(); }, 0);
  setcontext(&context);
}

void Simulator::choose_next(bool yields) {
  std::array<std::size_t, most_fibers> ready{};
  std::size_t count = 0;
  std::size_t alive = 0;
  for (int round = 0; round < 2 && count == 0; ++round) {
    alive = 0;
    for (std::size_t i = 0; i < body_.fibers; ++i) {
      if (finished_[i]) continue;
      ++alive;
      if (waits_for_[i] != nullptr && *waits_for_[i]) continue;
      if (paused_[i]) continue;
      ready[count++] = i;
    }
    if (count == 0) paused_ = {};  // they only pause: somebody has to go on
  }
  if (alive == 0) leave_execution();
  if (count == 0) fail("deadlock: every fiber waits for a lock");
  const std::size_t before = current_;
  const std::size_t next = schedule_->fiber({ready.data(), count}, before, yields || finished_[before]);
  if (next == before && switches.begun[before] && !finished_[before]) return;
  paused_ = {};
  if (finished_[before] || !switches.begun[before]) go_on_with(next);
  if (_setjmp(switches.fibers[before]) == 0) go_on_with(next);
}

void Simulator::point() {
  if (!running_) return;
  if (++steps_ > most_steps) fail("no end: " + std::to_string(most_steps) + " steps");
  choose_next(false);
}

void Simulator::pause() {
  if (!running_) return;
  if (++steps_ > most_steps) fail("no end: " + std::to_string(most_steps) + " steps");
  if (!schedule_->gives_way()) return;
  paused_[current_] = true;
  choose_next(true);
}

void Simulator::fail(std::string what) {
  if (failure_.empty()) failure_ = std::move(what);
  if (running_) leave_execution();
}

void Simulator::note(const std::string& what) const {
  if (trace_) std::printf("    %zu: %s\n", current_, what.c_str());
}

std::size_t Simulator::site_at(Operation operation, std::memory_order order, const Place& place) {
  const Key key{place.file_name(), place.line(), place.column(), static_cast<std::uint32_t>(operation)};
  if (const auto known = known_sites_.find(key); known != known_sites_.end()) return known->second;
  // Another translation unit may have another pointer for the same name.
  const std::string_view file = from_root(place.file_name());
  std::size_t index = 0;
  while (index < sites_.size() && !(sites_[index].file == file && sites_[index].line == place.line() &&
                                    sites_[index].column == place.column() && sites_[index].operation == operation))
    ++index;
  if (index == sites_.size())
    sites_.push_back({std::string{file}, place.line(), place.column(), operation, order, false, 0});
  known_sites_.emplace(key, index);
  return index;
}

Change Simulator::change_at(Operation operation, std::memory_order order, const Place& place) {
  site_ = site_at(operation, order, place);
  const std::size_t site = site_;
  ++sites_[site].reached;
  // What a reader counts is nobody else's.
  if (sites_[site].file != "engine/core/reader.hpp") point();
  site_ = site;
  change_ = mutant_.change != Change::none && mutant_.site == site_ ? mutant_.change : Change::none;
  return change_;
}

Value Simulator::load(const void* object, const Value& now, std::memory_order order, const Place& place) {
  if (!running_) return now;
  const Change change = change_at(Operation::load, order, place);
  const Memory::Location location = memory_.location(object, now);
  const std::optional<std::size_t> own = memory_.age_of_own(current_, location);
  if (own) sites_[site_].repeats = true;
  const std::size_t count = memory_.readable(current_, location, changed(order, change));
  const std::size_t age = change == Change::stale && own ? *own : schedule_->age(count, current_);
  if (change == Change::stale && own && *own != 0) effective_ = true;
  const Value value = memory_.load(current_, location, age, changed(order, change));
  if (trace_)
    std::printf("    %zu: %s -> %#llx%s\n", current_, sites_[site_].text().c_str(),
                static_cast<unsigned long long>(value.low), age != 0 ? " (old)" : "");
  return value;
}

bool Simulator::store(const void* object, const Value& now, const Value& value, std::memory_order order,
                      const Place& place) {
  if (!running_) return true;
  const Change change = change_at(Operation::store, order, place);
  const Memory::Location location = memory_.location(object, now);
  if (trace_)
    std::printf("    %zu: %s <- %#llx\n", current_, sites_[site_].text().c_str(),
                static_cast<unsigned long long>(value.low));
  if (change == Change::dropped) return false;
  memory_.store(current_, location, value, changed(order, change));
  return true;
}

std::size_t Simulator::age_to_modify(Memory::Location location, std::memory_order order) {
  if (model_ == Model::x86) order = std::memory_order_seq_cst;  // it begins with a fence
  const std::size_t age = schedule_->age(memory_.readable(current_, location, order), current_);
  return memory_.modifiable(location, age) ? age : 0;
}

Value Simulator::begin_modify(const void* object, const Value& now, std::memory_order order, const Place& place) {
  if (!running_) return now;
  const Change change = change_at(Operation::modify, order, place);
  modified_ = memory_.location(object, now);
  modified_age_ = age_to_modify(modified_, changed(order, change));
  return memory_.value(modified_, modified_age_);
}

bool Simulator::end_modify(const Value& value, std::memory_order order) {
  if (!running_) return true;
  if (trace_)
    std::printf("    %zu: %s <- %#llx%s\n", current_, sites_[site_].text().c_str(),
                static_cast<unsigned long long>(value.low), modified_age_ != 0 ? " (before a newer one)" : "");
  if (change_ == Change::dropped) {
    memory_.load(current_, modified_, modified_age_, order);
    return false;
  }
  memory_.modify(current_, modified_, modified_age_, value, changed(order, change_));
  return modified_age_ == 0;
}

Simulator::Exchanged Simulator::compare_exchange(const void* object, const Value& now, const Value& expected,
                                                 const Value& desired, std::memory_order order,
                                                 std::memory_order otherwise, const Place& place) {
  if (!running_) return {now == expected, true, now};
  const Change change = change_at(Operation::compare_exchange, order, place);
  const Memory::Location location = memory_.location(object, now);
  const bool unchecked = change == Change::unchecked;
  const std::size_t age = unchecked ? 0 : age_to_modify(location, changed(order, change));
  if (memory_.value(location, age) == expected || unchecked) {
    if (trace_)
      std::printf("    %zu: %s <- %#llx%s\n", current_, sites_[site_].text().c_str(),
                  static_cast<unsigned long long>(desired.low), age != 0 ? " (before a newer one)" : "");
    memory_.modify(current_, location, age, desired, changed(order, change));
    return {true, age == 0, expected};
  }
  const Value found = memory_.load(current_, location, age, otherwise);
  if (trace_) std::printf("    %zu: %s lost\n", current_, sites_[site_].text().c_str());
  return {false, false, found};
}

void Simulator::full_fence(const Place& place) {
  if (!running_) return;
  const Change change = change_at(Operation::full_fence, std::memory_order_seq_cst, place);
  if (trace_) std::printf("    %zu: %s\n", current_, sites_[site_].text().c_str());
  if (change != Change::dropped) memory_.full_fence(current_);
}

void Simulator::compiler_fence(const Place& place) {
  if (!running_) return;
  const Change change = change_at(Operation::compiler_fence, std::memory_order_seq_cst, place);
  if (change != Change::dropped) memory_.compiler_fence(current_);
}

void Simulator::process_barrier(const Place& place) {
  if (!running_) return;
  const Change change = change_at(Operation::process_barrier, std::memory_order_seq_cst, place);
  if (change == Change::dropped) return;
  // Each fiber makes its fence at some time between call and return.
  memory_.full_fence(current_);
  for (std::size_t other = 0; other < body_.fibers; ++other) {
    if (other == current_) continue;
    memory_.foreign_fence(other);
    if (trace_) std::printf("    %zu: process barrier reaches %zu\n", current_, other);
    point();
  }
  memory_.full_fence(current_);
}

bool Simulator::try_lock(bool& held) {
  if (running_) point();
  if (held) return false;
  held = true;
  if (running_) memory_.locked(current_, &held);
  return true;
}

void Simulator::lock(bool& held) {
  if (running_) {
    point();
    while (held) {
      waits_for_[current_] = &held;
      choose_next(true);
      waits_for_[current_] = nullptr;
    }
    memory_.locked(current_, &held);
  }
  held = true;
}

void Simulator::unlock(bool& held) {
  if (running_) memory_.unlocked(current_, &held);
  held = false;
  point();
}

void Plain::check(const std::array<std::uint32_t, most_fibers>& steps, const char* what) const {
  Simulator& run = simulator();
  for (std::size_t other = 0; other < most_fibers; ++other)
    if (other != run.fiber() && !run.memory().happened_before(other, steps[other], run.fiber()))
      run.fail(std::string{"a race on "} + what);
}

void Plain::read(const char* what) {
  Simulator& run = simulator();
  if (!run.running()) return;
  check(writes_, what);
  reads_[run.fiber()] = run.memory().step(run.fiber());
}

void Plain::write(const char* what) {
  Simulator& run = simulator();
  if (!run.running()) return;
  check(reads_, what);
  check(writes_, what);
  writes_[run.fiber()] = run.memory().step(run.fiber());
}

}  // namespace viommu::harness
