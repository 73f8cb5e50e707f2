// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// A virtio-iommu as a VMM uses it: requests as their bytes, translations in a guard, through viommu.hpp and linked
// statically. One endpoint, in one domain.
#pragma once

#include <viommu/viommu_virtio.h>
#include <viommu/viommu.hpp>

#include <cstddef>
#include <cstdint>

#include "engine/virtio_iommu/layouts.hpp"

namespace viommu::bench {

class VirtioCalls {
 public:
  static constexpr const char* name = "ViommuCalls";

  /// Throws std::runtime_error when the engine refuses.
  VirtioCalls();

  [[nodiscard]] bool map(std::uint64_t first, std::uint64_t last, std::uint64_t gpa);
  [[nodiscard]] bool unmap(std::uint64_t first, std::uint64_t last);
  void settle() { static_cast<void>(engine_.process()); }

  /// One thread's way in.
  class Port {
   public:
    Port(VirtioCalls& calls, std::size_t thread);
    /// All ones where nothing is mapped. The guard is open from the question to the use of the answer.
    [[nodiscard]] std::uint64_t translate(std::uint64_t iova) noexcept {
      viommu_request request{};
      request.iova = iova;
      request.source = source;
      request.access = VIOMMU_READ;
      const Guard guard = reader_.guard();
      const viommu_translation answer = reader_.translate(request);
      return answer.kind == VIOMMU_TRANSLATED ? answer.gpa : ~std::uint64_t{0};
    }

   private:
    Reader reader_;
  };

 private:
  static constexpr std::uint16_t source = 0x100;
  static constexpr std::uint32_t domain = 1;
  template <class Layout>
  [[nodiscard]] bool ask(const Layout& request);

  Engine engine_;
};

}  // namespace viommu::bench
