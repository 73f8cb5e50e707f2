// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The same calls to the kernel that runs this, as far as it lets us without a device.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "engine/host/ioas.hpp"
#include "engine/host/space.hpp"
#include "tests/host/backends.hpp"

namespace viommu::test {
namespace {

/// A file of the machine's, or none.
class File {
 public:
  explicit File(const char* name) : fd_{::open(name, O_RDWR | O_CLOEXEC)} {
    if (fd_ < 0) WARN("skipped: " << name << ": " << std::strerror(errno));
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

TEST_CASE("the machine's /dev/vfio/vfio answers the probe", "[host][vfio][probe]") {
  const File file{"/dev/vfio/vfio"};
  if (file.fd() < 0) return;
  const viommu_result probed = viommu_host_probe(nullptr, VIOMMU_BACKEND_VFIO, file.fd());
  if (probed == VIOMMU_E_UNSUPPORTED) WARN("skipped: /dev/vfio/vfio is there, and knows no type1v2");
  CHECK((probed == VIOMMU_OK || probed == VIOMMU_E_UNSUPPORTED));
}

TEST_CASE("the machine's /dev/iommu keeps mappings as the rules say", "[host][iommufd][probe][IFD-3][IFD-4]") {
  const File file{"/dev/iommu"};
  if (file.fd() < 0) return;
  if (const viommu_result probed = viommu_host_probe(nullptr, VIOMMU_BACKEND_IOMMUFD, file.fd()); probed != VIOMMU_OK) {
    WARN("skipped: /dev/iommu is there, and cannot be used: " << viommu_result_text(probed));
    return;
  }
  constexpr std::size_t length = 0x10000;
  void* const memory = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const host::Kernel kernel;
  host::iommufd::IoasAlloc alloc;
  REQUIRE(kernel(file.fd(), host::iommufd::ioas_alloc, alloc) >= 0);
  {
    host::Space<host::Ioas> space{kernel, file.fd(), alloc.out_ioas_id};
    const auto apply = [&space](viommu_event event) {
      space.apply({&event, 1});
      return event.status;
    };
    viommu_event mapping = map(0x100000, 0x4000, 0);
    mapping.hva = memory;
    CHECK(apply(mapping) == VIOMMU_OK);
    CHECK(apply(mapping) == VIOMMU_E_EXISTS);
    CHECK(apply(unmap(0x100000, 0x101FFF)) == VIOMMU_E_ARGUMENT);
    CHECK(apply(unmap(0x200000, 0x2FFFFF)) == VIOMMU_OK);
    mapping.iova += 0x800;
    mapping.last = mapping.iova + 0x7FF;
    CHECK(apply(unmap(0, top)) == VIOMMU_OK);
    CHECK(apply(mapping) != VIOMMU_OK);
    CHECK(apply(unmap(0, top)) == VIOMMU_OK);
    CHECK(space.with_side([](host::Ioas& side, auto) { return side.destroy(); }) >= 0);
  }
  ::munmap(memory, length);
}

}  // namespace viommu::test
