// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Structs that begin with their size: those of other versions of the library.
#include <viommu/viommu.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "tests/capi/machine.hpp"
#include "tests/support/guarded_region.hpp"

namespace viommu::capi {
namespace {

/// A struct of `size` bytes that ends where memory ends (but for what its alignment asks for): reading a byte more ends
/// the test.
template <class Struct>
class AtTheEdge {
 public:
  AtTheEdge(const Struct& value, std::size_t size, unsigned char beyond = 0)
      : bytes_{memory_.data() + memory_.length() - (size + alignof(Struct) - 1) / alignof(Struct) * alignof(Struct)} {
    std::memset(bytes_, beyond, size);
    std::memcpy(bytes_, &value, std::min(size, sizeof value));
    if (size >= sizeof size) std::memcpy(bytes_, &size, sizeof size);
  }
  [[nodiscard]] Struct* get() { return reinterpret_cast<Struct*>(bytes_); }
  [[nodiscard]] std::byte& at(std::size_t offset) { return bytes_[offset]; }

 private:
  test::GuardedRegion memory_{0, page_bytes};
  std::byte* bytes_;
};

struct Made {
  viommu_result result;
  std::string text;
};
Made make(const viommu_vtd_options* options, const viommu_host* host) {
  char text[200] = "untouched";
  viommu_engine* engine = nullptr;
  const viommu_result result = viommu_create_vtd(options, host, text, sizeof text, &engine);
  CHECK((engine != nullptr) == (result == VIOMMU_OK));
  CHECK(viommu_destroy(engine) == VIOMMU_OK);
  return {result, text};
}
Made make_options(std::size_t size, unsigned char beyond = 0) {
  AtTheEdge<viommu_vtd_options> options{default_options(), size, beyond};
  const viommu_host host = empty_host();
  return make(options.get(), &host);
}
Made make_host(std::size_t size, unsigned char beyond = 0) {
  const viommu_vtd_options options = default_options();
  AtTheEdge<viommu_host> host{empty_host(), size, beyond};
  return make(&options, host.get());
}

constexpr std::size_t longest = 4096;  // no version of any struct comes near

}  // namespace

TEST_CASE("options of any version are taken, of any other size refused", "[capi][sized][IFD-1]") {
  for (std::size_t size = sizeof(std::size_t); size <= sizeof(viommu_vtd_options) + 200; ++size) {
    const bool a_version = size >= 2 * sizeof(std::uint64_t) && size % alignof(viommu_vtd_options) == 0;
    const Made made = make_options(size);
    CAPTURE(size, made.text);
    CHECK(made.result == (a_version ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    CHECK((made.text.find("options.size") == 0) == !a_version);
  }
  CHECK(make_options(longest).result == VIOMMU_OK);
}

TEST_CASE("what an older program's options do not have is the default", "[capi][sized][IFD-1]") {
  // Everything behind the size that is told says 0xFF, which no field accepts.
  const viommu_host host = empty_host();
  viommu_vtd_options options{};
  std::memset(&options, 0xFF, sizeof options);
  options.capability = 0;
  options.size = offsetof(viommu_vtd_options, capability) + sizeof options.capability;
  CHECK(make(&options, &host).result == VIOMMU_OK);
  options.size = sizeof options;
  CHECK(make(&options, &host).result != VIOMMU_OK);
}

TEST_CASE("a newer program's options are taken when it uses nothing new", "[capi][sized][IFD-1]") {
  constexpr std::size_t newer = sizeof(viommu_vtd_options) + 64;
  CHECK(make_options(newer, 0).result == VIOMMU_OK);
  for (const std::size_t offset : {sizeof(viommu_vtd_options), newer - 1}) {
    AtTheEdge<viommu_vtd_options> options{default_options(), newer};
    options.at(offset) = std::byte{1};
    const viommu_host host = empty_host();
    const Made made = make(options.get(), &host);
    CHECK(made.result == VIOMMU_E_UNSUPPORTED);
    CHECK(made.text.find("options") == 0);
  }
}

TEST_CASE("a size that nothing can have is refused without looking there", "[capi][sized][IFD-1]") {
  viommu_vtd_options options = default_options();
  viommu_host host = empty_host();
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{7}, longest + 8, std::size_t{1} << 40, ~std::size_t{0} - 7}) {
    options.size = size;
    CHECK(make(&options, &host).result == VIOMMU_E_ARGUMENT);
    options.size = sizeof options;
    host.size = size;
    CHECK(make(&options, &host).result == VIOMMU_E_ARGUMENT);
    host.size = sizeof host;
  }
}

TEST_CASE("a host table of any version is taken, of any other size refused", "[capi][sized][IFD-1]") {
  for (std::size_t size = sizeof(std::size_t); size <= sizeof(viommu_host) + 40; ++size) {
    const bool a_version = size % alignof(viommu_host) == 0;
    const Made made = make_host(size);
    CAPTURE(size, made.text);
    CHECK(made.result == (a_version ? VIOMMU_OK : VIOMMU_E_ARGUMENT));
    CHECK((made.text.find("host.size") == 0) == !a_version);
  }
}

TEST_CASE("a newer host table is taken when it offers nothing new", "[capi][sized][IFD-1]") {
  constexpr std::size_t newer = sizeof(viommu_host) + 16;
  CHECK(make_host(newer, 0).result == VIOMMU_OK);
  const Made made = make_host(newer, 1);
  CHECK(made.result == VIOMMU_E_UNSUPPORTED);
  CHECK(made.text.find("host") == 0);
}

TEST_CASE("an older host table has none of the functions behind its end", "[capi][sized][IFD-1]") {
  viommu_host host = empty_host();
  std::memset(&host.now_ns, 0x41, sizeof host - offsetof(viommu_host, now_ns));  // addresses of nothing
  host.size = offsetof(viommu_host, now_ns);
  Machine machine{default_options(), host};
  machine.map(base_iova, 0x5000);
  viommu_translation answer{};
  CHECK(machine.reader.hold(request(device, base_iova, VIOMMU_READ), 0, answer));
  CHECK(machine.engine.reset() == VIOMMU_OK);
}

TEST_CASE("statistics fill in what their size says and not a byte more", "[capi][sized][IFD-1][IFD-6]") {
  Machine machine;
  machine.map(base_iova, 0x5000);
  static_cast<void>(machine.ask());
  const viommu_statistics all = machine.engine.statistics();
  CHECK(all.translations == 1);
  constexpr unsigned char dirt = 0xEE;
  for (std::size_t size = sizeof(std::size_t); size <= sizeof(viommu_statistics) + 32; ++size) {
    AtTheEdge<viommu_statistics> some{viommu_statistics{}, size};
    for (std::size_t i = sizeof size; i < size; ++i) some.at(i) = std::byte{dirt};
    CAPTURE(size);
    if (size % alignof(viommu_statistics) != 0) {
      CHECK(viommu_statistics_get(machine.engine.get(), some.get()) == VIOMMU_E_ARGUMENT);
      continue;
    }
    REQUIRE(viommu_statistics_get(machine.engine.get(), some.get()) == VIOMMU_OK);
    CHECK(some.get()->size == size);
    const std::size_t known = std::min(size, sizeof all);
    CHECK(std::memcmp(&some.at(0) + sizeof size, reinterpret_cast<const char*>(&all) + sizeof size,
                      known - sizeof size) == 0);
    for (std::size_t i = known; i < size; ++i) CHECK(some.at(i) == std::byte{dirt});
  }
  viommu_statistics none{};
  CHECK(viommu_statistics_get(machine.engine.get(), &none) == VIOMMU_E_ARGUMENT);
}

}  // namespace viommu::capi
