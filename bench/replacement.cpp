// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Which part of a stream of requests does a cache of a given size answer?
//
//   replacement<T>/zipf/CAPACITY           pages of 16 devices by Zipf's law (s = 0.99) out of 262,144, at random
//                                          places
//   replacement<T>/scan/CAPACITY           the same, every second request a sweep over all pages
//   replacement<T>/RECORDING/CAPACITY      the requests of a recorded guest, without its invalidations
//
// Counter `hit_rate`, 0..1; items are requests, walks included. CAPACITY is what the library is told (iotlb_pages),
// what QEMU's shape throws everything away at, and what Floor holds: the most recently used, the aim of a real cache.
// The library is told to fill nothing but what was asked for.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <list>
#include <unordered_map>

#include "bench/support/bed.hpp"
#include "bench/support/question.hpp"
#include "bench/support/recording.hpp"
#include "engine/cli/input.hpp"

namespace viommu::bench {
namespace {

/// Pages asked for, by number; a guest that maps them has one for each.
using Stream = std::vector<std::uint32_t>;

constexpr std::uint32_t synthetic_pages = 262144;
constexpr std::size_t stream_length = 1'000'000;

[[nodiscard]] Stream zipf() {
  std::vector<double> sums(synthetic_pages);
  double sum = 0;
  for (std::uint32_t rank = 0; rank < synthetic_pages; ++rank) {
    sum += std::pow(rank + 1.0, -0.99);
    sums[rank] = sum;
  }
  Stream stream(stream_length);
  for (std::size_t index = 0; index < stream.size(); ++index) {
    const double at = static_cast<double>(mixed(index) >> 11) * 0x1p-53 * sum;
    const auto rank = static_cast<std::uint32_t>(std::lower_bound(sums.begin(), sums.end(), at) - sums.begin());
    stream[index] = (rank * 0x9E3779B1u) & (synthetic_pages - 1);
  }
  return stream;
}

[[nodiscard]] Stream scan() {
  Stream stream = zipf();
  for (std::size_t index = 1; index < stream.size(); index += 2) {
    stream[index] = static_cast<std::uint32_t>(index / 2) & (synthetic_pages - 1);
  }
  return stream;
}

/// The recording's pages, numbered in the order of their first request: {device, page} as the guest laid them out.
[[nodiscard]] Stream recorded(const Recording& recording) {
  std::unordered_map<std::uint64_t, std::uint32_t> numbers;
  Stream stream;
  for (const Ask& ask : recording.asks) {
    const std::uint64_t page = std::uint64_t{ask.source} << 48 | ask.iova >> 12;
    const auto number = static_cast<std::uint32_t>(numbers.size());
    stream.push_back(numbers.try_emplace(page, number).first->second & (synthetic_pages - 1));
  }
  return stream;
}

[[nodiscard]] viommu_request ask(const SyntheticGuest& guest, std::uint32_t page) {
  return guest.ask(page & (guest.layout().devices - 1), page / guest.layout().devices);
}

/// Least recently used first out: no set is too small, nothing is forgotten too early.
class MostRecentlyUsed {
 public:
  explicit MostRecentlyUsed(std::size_t capacity) : capacity_{capacity} {}
  [[nodiscard]] bool hit(std::uint32_t page) {
    if (const auto found = places_.find(page); found != places_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return true;
    }
    if (order_.size() >= capacity_) {
      places_.erase(order_.back());
      order_.pop_back();
    }
    order_.push_front(page);
    places_.emplace(page, order_.begin());
    return false;
  }

 private:
  std::size_t capacity_;
  std::list<std::uint32_t> order_;
  std::unordered_map<std::uint32_t, std::list<std::uint32_t>::iterator> places_;
};

void tell(benchmark::State& state, const Stream& stream, double seconds, std::uint64_t hits) {
  state.SetIterationTime(seconds);
  state.counters["hit_rate"] = static_cast<double>(hits) / static_cast<double>(stream.size());
  state.SetItemsProcessed(static_cast<std::int64_t>(stream.size()));
}

void library(benchmark::State& state, const Stream& stream, std::uint32_t capacity) {
  const auto guest = guest_of({.pages = synthetic_pages});
  for (auto _ : state) {
    Library engine{*guest, {.fill_exactly = true, .iotlb_pages = capacity}};
    const GuestQueue<Library> queue{*guest, engine};
    Library::Port port{engine};
    const std::uint64_t hits_before = engine.statistics().iotlb_hits;
    bool all_right = true;
    const Stopwatch stopwatch;
    for (const std::uint32_t page : stream) {
      const viommu_request request = ask(*guest, page);
      all_right = right(*guest, request, port.translate(request)) && all_right;
    }
    tell(state, stream, stopwatch.stop().ns * 1e-9, engine.statistics().iotlb_hits - hits_before);
    if (!all_right) state.SkipWithError("wrong answers");
  }
}

void qemu_shape(benchmark::State& state, const Stream& stream, std::uint32_t capacity) {
  const auto guest = guest_of({.pages = synthetic_pages});
  for (auto _ : state) {
    QemuIotlb iotlb{capacity};
    std::uint64_t hits = 0;
    const Stopwatch stopwatch;
    for (const std::uint32_t page : stream) {
      const viommu_request request = ask(*guest, page);
      if (iotlb.find(request.source, request.iova) != nullptr) {
        ++hits;
      } else {
        iotlb.insert(request.source, 1, {.frame = request.iova >> 12, .page = guest->gpa(request)});
      }
    }
    tell(state, stream, stopwatch.stop().ns * 1e-9, hits);
  }
}

void most_recently_used(benchmark::State& state, const Stream& stream, std::uint32_t capacity) {
  for (auto _ : state) {
    MostRecentlyUsed cache{capacity};
    std::uint64_t hits = 0;
    const Stopwatch stopwatch;
    for (const std::uint32_t page : stream) hits += cache.hit(page) ? 1u : 0u;
    tell(state, stream, stopwatch.stop().ns * 1e-9, hits);
  }
}

using Run = void (*)(benchmark::State&, const Stream&, std::uint32_t);

void add_stream(const std::string& name, const std::shared_ptr<Stream>& stream, const std::function<Stream()>& make) {
  const auto add_one = [&](const std::string& translator, Run run) {
    benchmark::RegisterBenchmark(("replacement<" + translator + ">/" + name).c_str(),
                                 [run, stream, make](benchmark::State& state) {
                                   pin_this_thread();
                                   if (stream->empty()) *stream = make();
                                   run(state, *stream, static_cast<std::uint32_t>(state.range(0)));
                                 })
        ->UseManualTime()
        ->Iterations(1)
        ->Arg(1024)
        ->Arg(16384)
        ->Arg(65536);
  };
  add_one("Viommu", &library);
  add_one("QemuShape", &qemu_shape);
  add_one("Floor", &most_recently_used);
}

[[nodiscard]] Stream read_stream(const std::string& file) {
  const cli::Text text = cli::read_text(file, std::cin);
  Recording recording;
  std::string problem = text.error;
  if (!problem.empty() || !parse_recording(text.bytes, recording, problem))
    throw std::runtime_error{file + ": " + problem};
  return recorded(recording);
}

void add_all() {
  add_stream("zipf", std::make_shared<Stream>(), &zipf);
  add_stream("scan", std::make_shared<Stream>(), &scan);
  for (const auto& entry : std::filesystem::directory_iterator{RECORDINGS_FOLDER}) {
    const std::string file = entry.path().string();
    constexpr std::uintmax_t worth_it = 100'000;  // shorter ones ask next to nothing
    if (!file.ends_with(".trace.zst") || entry.file_size() < worth_it) continue;
    const std::string name = entry.path().filename().string();
    add_stream(name.substr(0, name.find(".trace")), std::make_shared<Stream>(), [file] { return read_stream(file); });
  }
}

}  // namespace
}  // namespace viommu::bench

int main(int count, char** words) { return viommu::bench::run_question(count, words, &viommu::bench::add_all); }
