// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The library as a VMM uses it: through viommu.hpp and linked statically, or through the C interface of the shared
// library. Both are translators (translator.hpp).
#pragma once

#include <viommu/viommu.hpp>

#include <cstdint>
#include <span>

#include "bench/support/setup.hpp"
#include "bench/support/synthetic_guest.hpp"

namespace viommu::bench {

class Library {
 public:
  static constexpr const char* name = "Viommu";

  /// One device's or thread's way in.
  class Port {
   public:
    explicit Port(Library& library);
    /// The guard is open from the question to the use of the answer.
    [[nodiscard]] viommu_translation translate(const viommu_request& request) noexcept {
      const Guard guard = reader_.guard();
      return reader_.translate(request);
    }
    void translate_batch(std::span<const viommu_request> requests, std::span<viommu_translation> answers) noexcept {
      const Guard guard = reader_.guard();
      reader_.translate_batch(requests, answers);
    }

   private:
    Reader reader_;
  };

  /// Throws std::runtime_error when the engine refuses.
  Library(const SyntheticGuest& guest, const Setup& setup);

  void write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept {
    static_cast<void>(engine_.mmio_write(offset, size, value));
  }
  void process() noexcept { static_cast<void>(engine_.process()); }
  void drop_caches() noexcept { static_cast<void>(engine_.drop_caches()); }
  [[nodiscard]] viommu_statistics statistics() const noexcept { return engine_.statistics(); }

 private:
  Engine engine_;
};

/// The same, counting by device and domain.
class CountingLibrary : public Library {
 public:
  static constexpr const char* name = "ViommuCounting";
  CountingLibrary(const SyntheticGuest& guest, Setup setup) : Library{guest, counting(setup)} {}

 private:
  [[nodiscard]] static Setup counting(Setup setup) noexcept {
    setup.accounts = 256;
    return setup;
  }
};

/// The functions of the shared library, found by name: the executable has the static one's under the same names.
struct CInterface;

class LibraryThroughC {
 public:
  static constexpr const char* name = "ViommuC";

  class Port {
   public:
    explicit Port(LibraryThroughC& library);
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;
    ~Port();
    [[nodiscard]] viommu_translation translate(const viommu_request& request) noexcept {
      viommu_translation answer;
      enter_(reader_);
      if (translate_(reader_, &request, &answer) == VIOMMU_E_ARGUMENT) answer = {};
      leave_(reader_);
      return answer;
    }
    void translate_batch(std::span<const viommu_request> requests, std::span<viommu_translation> answers) noexcept {
      enter_(reader_);
      translate_batch_(reader_, requests.data(), answers.data(), static_cast<std::uint32_t>(requests.size()));
      leave_(reader_);
    }

   private:
    viommu_reader* reader_ = nullptr;
    decltype(&viommu_enter) enter_;
    decltype(&viommu_leave) leave_;
    decltype(&viommu_translate) translate_;
    decltype(&viommu_translate_batch) translate_batch_;
  };

  /// Throws std::runtime_error when the library cannot be loaded or the engine refuses.
  LibraryThroughC(const SyntheticGuest& guest, const Setup& setup);
  LibraryThroughC(const LibraryThroughC&) = delete;
  LibraryThroughC& operator=(const LibraryThroughC&) = delete;
  ~LibraryThroughC();

  void write(std::uint64_t offset, unsigned size, std::uint64_t value) noexcept;
  void process() noexcept;
  void drop_caches() noexcept;

 private:
  const CInterface* functions_;
  viommu_engine* engine_ = nullptr;
};

}  // namespace viommu::bench
