// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Counts by device and domain of a virtio-iommu: a domain goes by the id that the guest knows it by.
#include "tests/behaviour/virtio_machine.hpp"

namespace viommu::test {
namespace {

constexpr std::uint64_t page = 0x1000;
constexpr std::uint32_t first_domain = 0x1234'5678;
constexpr std::uint32_t other_domain = 0x5678;  // the same low half

struct Counting : VirtioMachine {
  Counting() : VirtioMachine{options()} {
    REQUIRE(plug(pf) == VIOMMU_OK);
    REQUIRE(plug(vf) == VIOMMU_OK);
    negotiate();
  }
  [[nodiscard]] static viommu_virtio_options options() {
    viommu_virtio_options made = virtio_options();
    made.accounts = 16;
    return made;
  }
  /// One that leads somewhere, and a walk of it.
  void begin(std::uint32_t domain, std::uint16_t source) const {
    REQUIRE(attach(domain, source) == virtio_status::ok);
    if (map(domain, 0, page - 1, page) != virtio_status::ok) FAIL("no mapping");
    hit(source, 1);
  }
  void hit(std::uint16_t source, unsigned times) const {
    for (unsigned i = 0; i < times; ++i) CHECK(translate(source, 0).kind == VIOMMU_TRANSLATED);
  }
  [[nodiscard]] viommu_part_statistics of(std::uint32_t domain) const {
    viommu_part_statistics part{};
    part.size = sizeof part;
    REQUIRE(viommu_domain_statistics_get(engine, domain, &part) == VIOMMU_OK);
    return part;
  }
  [[nodiscard]] std::uint64_t faults(std::uint32_t of, std::uint32_t id) const {
    std::uint64_t count = 0;
    REQUIRE(viommu_fault_count(engine, of, id, VIOMMU_VIRTIO_FAULT_MAPPING, &count) == VIOMMU_OK);
    return count;
  }
};

}  // namespace

TEST_CASE("what a domain has had is asked for by the guest's number for it", "[behaviour][virtio][statistics][S5.9]") {
  const Counting machine;
  machine.begin(first_domain, Counting::pf);
  machine.begin(other_domain, Counting::vf);
  machine.hit(Counting::pf, 3);
  machine.hit(Counting::vf, 5);
  CHECK(machine.translate(Counting::pf, page).kind == VIOMMU_FAULT);
  CHECK(machine.of(first_domain).iotlb_hits == 3);
  CHECK(machine.of(first_domain).walks == 2);
  CHECK(machine.of(first_domain).faults == 1);
  CHECK(machine.of(other_domain).iotlb_hits == 5);
  CHECK(machine.of(other_domain).faults == 0);
  CHECK(machine.faults(VIOMMU_OF_DOMAIN, first_domain) == 1);
  CHECK(machine.faults(VIOMMU_OF_DOMAIN, other_domain) == 0);
  CHECK(machine.faults(VIOMMU_OF_DEVICE, Counting::pf) == 1);
  CHECK(machine.faults(VIOMMU_OF_DEVICE, Counting::pf + 0x1'0000) == 0);
  // What the engine numbers them by is nobody's id.
  for (const std::uint32_t number : {0U, 1U, 2U, ~0U}) {
    CHECK(machine.of(number).iotlb_hits == 0);
    CHECK(machine.of(number).walks == 0);
    CHECK(machine.faults(VIOMMU_OF_DOMAIN, number) == 0);
  }
}

TEST_CASE("a domain that has come to its end leaves its counts to no other", "[behaviour][virtio][statistics][S5.9]") {
  const Counting machine;
  machine.begin(first_domain, Counting::pf);
  machine.hit(Counting::pf, 3);
  CHECK(machine.translate(Counting::pf, page).kind == VIOMMU_FAULT);
  REQUIRE(machine.detach(first_domain, Counting::pf) == virtio_status::ok);
  CHECK(machine.of(first_domain).iotlb_hits == 0);
  CHECK(machine.faults(VIOMMU_OF_DOMAIN, first_domain) == 0);
  // More of them than there are numbers: each takes that of another, and has not been used yet.
  for (std::uint32_t domain = 100; domain < 150; ++domain) {
    REQUIRE(machine.attach(domain, Counting::pf) == virtio_status::ok);
    CAPTURE(domain);
    CHECK(machine.of(domain).iotlb_hits == 0);
    CHECK(machine.of(domain).walks == 0);
    CHECK(machine.faults(VIOMMU_OF_DOMAIN, domain) == 0);
    REQUIRE(machine.map(domain, 0, page - 1, page) == virtio_status::ok);
    machine.hit(Counting::pf, 3);
    CHECK(machine.translate(Counting::pf, page).kind == VIOMMU_FAULT);
    CHECK(machine.of(domain).iotlb_hits == 2);
    CHECK(machine.faults(VIOMMU_OF_DOMAIN, domain) == 1);
    REQUIRE(machine.detach(domain, Counting::pf) == virtio_status::ok);
  }
  REQUIRE(machine.attach(first_domain, Counting::pf) == virtio_status::ok);
  CHECK(machine.of(first_domain).iotlb_hits == 0);
  CHECK(machine.faults(VIOMMU_OF_DEVICE, Counting::pf) == 51);
}

TEST_CASE("domains that a saved state brings begin at 0", "[behaviour][virtio][statistics][S5.9]") {
  const Counting machine;
  machine.begin(first_domain, Counting::pf);
  machine.hit(Counting::pf, 3);
  std::vector<std::byte> state(1 << 16);
  std::size_t length = 0;
  viommu_refusal refusal{};
  refusal.size = sizeof refusal;
  REQUIRE(viommu_save(machine.engine, state.data(), state.size(), &length, &refusal) == VIOMMU_OK);
  REQUIRE(viommu_load(machine.engine, state.data(), length, &refusal) == VIOMMU_OK);
  CHECK(machine.of(first_domain).iotlb_hits == 0);
  machine.hit(Counting::pf, 3);
  CHECK(machine.of(first_domain).iotlb_hits == 2);
}

}  // namespace viommu::test
