// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Executors for the host's table: one that runs tasks in another order each time, and one with threads of its own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/random.hpp"

namespace viommu::test {

using Task = void (*)(void* context, std::uint32_t index);

/// On the calling thread, shuffled.
class ShufflingExecutor {
 public:
  explicit ShufflingExecutor(std::uint64_t seed) : random_{seed} {}

  void execute(std::uint32_t count, Task task, void* context) {
    std::vector<std::uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0U);
    for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
    for (const std::uint32_t index : order) task(context, index);
    if (count > 1) ++rounds;
  }
  std::uint64_t rounds = 0;  ///< calls with more than one task

 private:
  Random random_;
};

/// On the calling thread and some others, whoever comes first. For one caller at a time.
class ThreadPool {
 public:
  explicit ThreadPool(std::size_t others) {
    for (std::size_t i = 0; i < others; ++i) threads_.emplace_back([this] { work(); });
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    {
      const std::lock_guard lock{mutex_};
      ends_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void execute(std::uint32_t count, Task task, void* context) {
    std::unique_lock lock{mutex_};
    task_ = task;
    context_ = context;
    next_ = 0;
    count_ = count;
    unfinished_ = count;
    if (count > 1) ++rounds;
    changed_.notify_all();
    while (next_ != count_) run_one(lock);
    done_.wait(lock, [this] { return unfinished_ == 0; });
  }
  std::uint64_t rounds = 0;  ///< calls with more than one task

 private:
  void work() {
    std::unique_lock lock{mutex_};
    for (;;) {
      changed_.wait(lock, [this] { return ends_ || next_ != count_; });
      if (ends_) return;
      run_one(lock);
    }
  }
  void run_one(std::unique_lock<std::mutex>& lock) {
    const std::uint32_t index = next_++;
    lock.unlock();
    task_(context_, index);
    lock.lock();
    if (--unfinished_ == 0) done_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable done_;
  Task task_ = nullptr;
  void* context_ = nullptr;
  std::uint32_t next_ = 0;
  std::uint32_t count_ = 0;
  std::uint32_t unfinished_ = 0;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace viommu::test
