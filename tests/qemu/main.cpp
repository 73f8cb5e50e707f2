// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// viommu_qemu: libviommu's VT-d unit beside QEMU's, case by case.
//
//   viommu_qemu [--cases N] [--seed S] [--jobs J] [--variant NAME] [--show]
//
// Each case is made of its seed, counted up from S. One that differs by something not on the list is printed with its
// steps; `--cases 1 --seed S --variant NAME` runs it again, and --show prints the steps of every case.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/qemu/case.hpp"

namespace viommu::qemu {
namespace {

struct Options {
  std::uint64_t cases = 1000;
  std::uint64_t seed = 1;
  std::uint64_t jobs = std::max(1U, std::thread::hardware_concurrency());
  const Variant* variant = nullptr;  ///< all in turn
  bool show = false;
};

/// 64 KiB of HLT: the processor starts there and stays.
class Firmware {
 public:
  Firmware() {
    const int file = mkstemp(name_.data());
    if (file >= 0) close(file);
    std::ofstream{name_, std::ios::binary} << std::string(0x1'0000, '\xF4');
  }
  Firmware(const Firmware&) = delete;
  Firmware& operator=(const Firmware&) = delete;
  ~Firmware() { std::remove(name_.c_str()); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  std::string name_ = "/tmp/viommu-firmware-XXXXXX";
};

class Run {
 public:
  explicit Run(const Options& options) : options_{options} {}

  bool all() {
    std::vector<std::thread> workers;
    const std::uint64_t jobs = std::min({options_.jobs, options_.cases, std::uint64_t{256}});
    workers.reserve(jobs);
    for (std::uint64_t job = 0; job < jobs; ++job) {
      workers.emplace_back([this, job, jobs] { work(job, jobs); });
    }
    for (std::thread& worker : workers) worker.join();
    return report();
  }

 private:
  static constexpr std::uint64_t most_failures = 5;

  [[nodiscard]] const Variant& variant_of(std::uint64_t seed) const {
    return options_.variant != nullptr ? *options_.variant : variants.at(seed % variants.size());
  }

  /// One variant after the other, each in its own emulator: starting one costs as much as many cases.
  void work(std::uint64_t job, std::uint64_t jobs) {
    for (const Variant& variant : variants) {
      std::vector<std::uint64_t> seeds;
      for (std::uint64_t index = job; index < options_.cases; index += jobs) {
        if (&variant_of(options_.seed + index) == &variant) seeds.push_back(options_.seed + index);
      }
      if (seeds.empty()) continue;
      try {
        Pair pair{variant, firmware_.name()};
        for (const std::uint64_t seed : seeds) {
          if (failures_ < most_failures) one(pair, seed);
        }
        const std::lock_guard lock{mutex_};
        for (std::size_t at = 0; at < met_.size(); ++at) met_[at] += pair.met()[at];
      } catch (const std::exception& error) {
        const std::lock_guard lock{mutex_};
        std::printf("ERROR: %s\n", error.what());
        ++failures_;
      }
    }
  }

  void one(Pair& pair, std::uint64_t seed) {
    std::string problem;
    try {
      run_case(pair, seed);
    } catch (const Mismatch& found) {
      problem = found.what();
    }
    ++done_;
    if (problem.empty() && !options_.show) return;
    const std::lock_guard lock{mutex_};
    std::printf("case --seed %" PRIu64 " --variant %s\n", seed, pair.variant().name);
    for (const std::string& line : pair.log()) std::printf("  %s\n", line.c_str());
    if (problem.empty()) return;
    std::printf("DIFFERENCE: %s\n", problem.c_str());
    ++failures_;
  }

  bool report() {
    std::printf("\nexpected differences, by how often they were met:\n");
    for (std::size_t at = 0; at < met_.size(); ++at) {
      std::printf("  %8" PRIu64 "  %-28s %s\n", met_[at], differences()[at].id, differences()[at].qemu);
    }
    const auto took = std::chrono::duration<double>{std::chrono::steady_clock::now() - began_};
    std::printf("\n%" PRIu64 " cases in %.0f s\n", done_.load(), took.count());
    std::printf("%" PRIu64 " passed, %" PRIu64 " failed\n", done_ - std::min(done_.load(), failures_.load()),
                failures_.load());
    return failures_ == 0 && done_ == options_.cases;
  }

  Options options_;
  Firmware firmware_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> done_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::mutex mutex_;
  std::vector<std::uint64_t> met_ = std::vector<std::uint64_t>(differences().size());
};

bool parse(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() && value > 0;
}

bool parse(int count, char** arguments, Options& options) {
  for (int at = 1; at < count; ++at) {
    const std::string_view name = arguments[at];
    if (name == "--show") {
      options.show = true;
      continue;
    }
    if (++at == count) return false;
    const std::string_view value = arguments[at];
    bool good = false;
    if (name == "--cases") good = parse(value, options.cases);
    if (name == "--seed") good = parse(value, options.seed);
    if (name == "--jobs") good = parse(value, options.jobs);
    if (name == "--variant") {
      const auto* found = std::ranges::find_if(variants, [&](const Variant& one) { return one.name == value; });
      good = found != variants.end();
      if (good) options.variant = &*found;
    }
    if (!good) return false;
  }
  return true;
}

}  // namespace
}  // namespace viommu::qemu

int main(int count, char** arguments) {
  using namespace viommu::qemu;
  std::signal(SIGPIPE, SIG_IGN);  // an emulator that ends is told by the failed write
  Options options;
  if (!parse(count, arguments, options)) {
    std::fprintf(stderr, "usage: viommu_qemu [--cases N] [--seed S] [--jobs J] [--variant NAME] [--show]\n");
    return 2;
  }
  return Run{options}.all() ? 0 : 1;
}
