// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/config.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/random.hpp"

namespace viommu::test {
namespace {

using trace::parse_vtd_configuration;
using trace::ParseError;
using trace::Problem;
using trace::VtdConfiguration;

VtdConfiguration parsed(std::string_view pairs) {
  VtdConfiguration configuration;
  const ParseError error = parse_vtd_configuration(pairs, configuration);
  INFO(pairs << ": " << trace::phrase(error.problem) << " '" << error.text << "'");
  CHECK_FALSE(error);
  return configuration;
}

ParseError refused(std::string_view pairs) {
  VtdConfiguration configuration;
  const ParseError error = parse_vtd_configuration(pairs, configuration);
  INFO(pairs);
  CHECK(error);
  CHECK(configuration == VtdConfiguration{});
  return error;
}

constexpr std::string_view least = "scenario=1 cap=80d2008c22260206 ecap=f42";

std::string least_and(std::string_view more) {
  std::string text;
  text.append(least).append(" ").append(more);
  return text;
}

}  // namespace

TEST_CASE("A recording's cfg says the registers and the width, and may say more", "[trace][cfg]") {
  const VtdConfiguration configuration = parsed(
      "aw=48 cap=80d2008c222f0686 ecap=f00f4a cm=1 scalable=0 flts=0 fs1gp=1 pasid=0 snoop=0 drain=1 stale_tm=0 dt=0 "
      "pt=1 "
      "dma_translation=1 intremap=1 eim=0 ver=20 regsize=230 iotlb_max=1024 notify=none qemu=10.2.2 something=new");
  CHECK(configuration.capability == 0x80d2008c222f0686);
  CHECK(configuration.extended_capability == 0xf00f4a);
  CHECK(configuration.version == 0x20);
  CHECK(configuration.address_width == 48);
  CHECK(configuration.host_address_width == 0);
  CHECK(configuration.caching_mode);
  CHECK(configuration.compress);
  CHECK_FALSE(configuration.scenario);
  CHECK(parsed("aw=39 cap=1 ecap=2 haw=46 compress=0").host_address_width == 46);
  CHECK_FALSE(parsed("aw=39 cap=1 ecap=2 haw=46 compress=0").compress);
}

TEST_CASE("A scenario's cfg starts from the defaults", "[trace][cfg]") {
  const VtdConfiguration configuration = parsed(least);
  CHECK(configuration.scenario);
  CHECK(configuration.version == 0x10);
  CHECK(configuration.host_address_width == 0);
  CHECK(configuration.compress);
  CHECK(configuration.policy == trace::CapabilityPolicy::check);
  CHECK(configuration.unknown == trace::UnknownAbility::closed);
  CHECK(configuration.migratable == trace::Migratable::any);
  CHECK(configuration.fault_limit == 0);
  CHECK_FALSE(configuration.narrow_haw);
  CHECK_FALSE(configuration.first_stage_checks);
  CHECK_FALSE(configuration.share);

  const VtdConfiguration all = parsed(least_and(
      "haw=46 narrow_haw=1 policy=sync flts=1 compress=0 unknown=legacy migratable=only share=1 fault_limit=100 "
      "quota=5000"));
  CHECK(all.host_address_width == 46);
  CHECK(all.narrow_haw);
  CHECK(all.policy == trace::CapabilityPolicy::sync);
  CHECK(all.first_stage_checks);
  CHECK_FALSE(all.compress);
  CHECK(all.unknown == trace::UnknownAbility::legacy);
  CHECK(all.migratable == trace::Migratable::only);
  CHECK(all.share);
  CHECK(all.fault_limit == 100);
  CHECK(all.quota == 5000);
}

TEST_CASE("Each way a cfg line can be wrong is told with its field", "[trace][cfg][damage]") {
  CHECK(refused(least_and("colour=red")) == ParseError{Problem::unknown_key, 5, "key=value", "colour=red"});
  CHECK(refused(least_and("aw=39")).problem == Problem::unknown_key);
  CHECK(refused(least_and("cm=1")).problem == Problem::unknown_key);
  CHECK(refused(least_and("scalable=1")).problem == Problem::unknown_key);
  CHECK(refused(least_and("cap=1")) == ParseError{Problem::repeated_key, 5, "cap", "cap=1"});
  CHECK(refused("scenario=1 ecap=f42").name == "cap");
  CHECK(refused("scenario=1 ecap=f42").problem == Problem::missing_key);
  CHECK(refused("aw=48 cap=1").name == "ecap");
  CHECK(refused("cap=1 ecap=2").name == "aw");
  CHECK(refused(least_and("haw=3x")) == ParseError{Problem::not_decimal, 5, "haw", "3x"});
  CHECK(refused(least_and("haw=4/")).problem == Problem::not_decimal);
  CHECK(refused(least_and("haw=65")).problem == Problem::too_large);
  CHECK(refused("aw=65 cap=1 ecap=2").problem == Problem::too_large);
  CHECK(refused(least_and("quota=99999999999999999999")).problem == Problem::too_large);
  CHECK(refused("aw=48 cap=80D2 ecap=2").problem == Problem::upper_case);
  CHECK(refused("aw=48 cap=11112222333344445 ecap=2").problem == Problem::too_long);
  CHECK(refused("aw=48 cap=1 ecap=2 ver=100").problem == Problem::too_long);
  CHECK(refused(least_and("share=2")).problem == Problem::bad_choice);
  CHECK(refused(least_and("policy=strict")).problem == Problem::bad_choice);
  CHECK(refused("scenario=2 cap=1 ecap=2 aw=48").problem == Problem::bad_choice);
  CHECK(refused(least_and("share")).problem == Problem::not_a_pair);
  CHECK(refused(least_and("share=")).problem == Problem::not_a_pair);
  CHECK(refused(least_and("=1")) == ParseError{Problem::not_a_pair, 5, "key=value", "=1"});
  CHECK(refused(least_and(" share=1")) == ParseError{Problem::empty_field, 5, "key=value", {}});
  CHECK(refused("aw=48 cap=1 ecap=2 ").problem == Problem::empty_field);
  // Of several mistakes the first key of the format's own order is told.
  CHECK(refused("aw=4x cap=0x1 ecap=G") == ParseError{Problem::not_hex, 3, "cap", "0x1"});
}

TEST_CASE("The largest number a key can have is taken, and a recording's other keys are not looked into",
          "[trace][cfg]") {
  CHECK(parsed(least_and("quota=18446744073709551615")).quota == ~std::uint64_t{0});
  CHECK(parsed(least_and("fault_limit=18446744073709551614")).fault_limit == ~std::uint64_t{0} - 1);
  CHECK(parsed(least_and("haw=64")).host_address_width == 64);
  CHECK_FALSE(parsed("aw=48 cap=1 ecap=2 share=1").share);
  CHECK(parsed("aw=48 cap=1 ecap=2 policy=strict").policy == trace::CapabilityPolicy::check);
}

TEST_CASE("What a recording does not say is not written either", "[trace][cfg]") {
  VtdConfiguration c;
  c.address_width = 48;
  c.capability = 0x1a;
  c.extended_capability = 0xf42;
  std::array<char, 320> buffer{};
  CHECK(trace::format_vtd_configuration(c, buffer) == "aw=48 cap=1a ecap=f42 ver=10 compress=1 flts=0 cm=0 scalable=0");
  c.host_address_width = 46;
  CHECK(trace::format_vtd_configuration(c, buffer) ==
        "aw=48 cap=1a ecap=f42 ver=10 haw=46 compress=1 flts=0 cm=0 scalable=0");
}

TEST_CASE("A configuration that is written reads back", "[trace][cfg][property]") {
  Random random{7};
  for (unsigned i = 0; i < 2'000; ++i) {
    VtdConfiguration c;
    c.scenario = random.chance(1, 2);
    c.capability = random.next();
    c.extended_capability = random.next();
    c.version = static_cast<std::uint32_t>(random.below(256));
    c.host_address_width = static_cast<unsigned>(random.below(65));
    c.compress = random.chance(1, 2);
    c.first_stage_checks = random.chance(1, 2);
    if (c.scenario) {
      c.narrow_haw = random.chance(1, 2);
      c.share = random.chance(1, 2);
      c.policy = static_cast<trace::CapabilityPolicy>(random.below(2));
      c.unknown = static_cast<trace::UnknownAbility>(random.below(2));
      c.migratable = static_cast<trace::Migratable>(random.below(2));
      c.fault_limit = random.next();
      c.quota = random.next();
    } else {
      c.address_width = static_cast<unsigned>(random.below(65));
      c.caching_mode = random.chance(1, 2);
      c.scalable = random.chance(1, 2);
    }
    std::array<char, 320> buffer{};
    const std::string_view pairs = trace::format_vtd_configuration(c, buffer);
    REQUIRE_FALSE(pairs.empty());
    REQUIRE(parsed(pairs) == c);
  }
  std::array<char, 20> small{};
  CHECK(trace::format_vtd_configuration({}, small).empty());
}

TEST_CASE("A virtio-iommu's cfg says what it offers, in a recording and in a scenario", "[trace][cfg]") {
  trace::VirtioConfiguration c;
  CHECK_FALSE(trace::parse_virtio_configuration(
      "page_size_mask=fffffffffffff000 input=0-7fffffffff domain=0-ffffffff probe_size=200 bypass=1 boot_bypass=1 "
      "features=130000077 resv=1 notify=map qemu=10.2.2",
      c));
  CHECK(c.features == 0x130000077);
  CHECK(c.page_size_mask == 0xfffffffffffff000);
  CHECK(c.input_first == 0);
  CHECK(c.input_last == 0x7fffffffff);
  CHECK(c.domain_last == 0xffffffff);
  CHECK(c.probe_size == 0x200);
  CHECK(c.bypass);
  CHECK(c.boot_bypass);
  CHECK(c.reserved_regions == 1);
  CHECK_FALSE(c.plugs);
  CHECK_FALSE(c.scenario);
  CHECK_FALSE(trace::parse_virtio_configuration(
      "page_size_mask=1000 features=1 plugs=1 detach=strict domains=4 mappings=5 endpoints=6", c));
  CHECK(c.plugs);
  CHECK(c.strict_detach);
  CHECK(c.domains + c.mappings + c.endpoints == 15);
  CHECK_FALSE(trace::parse_virtio_configuration(
      "scenario=1 features=100000077 page_size_mask=1000 input=1000-ffff domain=2-3 boot_bypass=1 resv=12 "
      "detach=strict domains=4 mappings=5 endpoints=6 unknown=legacy migratable=only share=1 fault_limit=7 quota=8",
      c));
  CHECK(c.scenario);
  CHECK(c.input_first == 0x1000);
  CHECK(c.input_last == 0xffff);
  CHECK(c.domain_first == 2);
  CHECK(c.domain_last == 3);
  CHECK(c.probe_size == 0);
  CHECK(c.bypass);  // that of the boot
  CHECK(c.reserved_regions == 12);
  CHECK(c.strict_detach);
  CHECK(c.domains == 4);
  CHECK(c.mappings == 5);
  CHECK(c.endpoints == 6);
  CHECK(c.unknown == trace::UnknownAbility::legacy);
  CHECK(c.migratable == trace::Migratable::only);
  CHECK(c.share);
  CHECK(c.fault_limit == 7);
  CHECK(c.quota == 8);
  CHECK_FALSE(trace::parse_virtio_configuration("scenario=1 features=1 page_size_mask=1", c));
  CHECK(c.input_last == ~std::uint64_t{0});
  CHECK(c.domain_last == 0xffffffff);
  CHECK_FALSE(c.boot_bypass);
  CHECK(c.mappings == 0);
}

TEST_CASE("What is wrong with a virtio-iommu's cfg is told by its key", "[trace][cfg][damage]") {
  const auto error = [](std::string_view pairs) {
    trace::VirtioConfiguration c;
    const ParseError problem = trace::parse_virtio_configuration(pairs, c);
    CHECK(problem);
    CHECK(c == trace::VirtioConfiguration{});
    return problem;
  };
  CHECK(error("page_size_mask=1").name == "features");
  CHECK(error("features=1") == ParseError{Problem::missing_key, 0, "page_size_mask", {}});
  CHECK(error("features=1 page_size_mask=1 input=5-4") == ParseError{Problem::bad_range, 4, "input", "5-4"});
  CHECK(error("features=1 page_size_mask=1 input=5").problem == Problem::bad_range);
  CHECK(error("features=1 page_size_mask=1 input=-5").name == "input");
  CHECK(error("features=1 page_size_mask=1 domain=0-100000000").problem == Problem::too_long);
  CHECK(error("features=1 page_size_mask=1 resv=f").problem == Problem::not_decimal);
  CHECK(error("features=1 page_size_mask=1 boot_bypass=2").problem == Problem::bad_choice);
  CHECK(error("scenario=1 features=1 page_size_mask=1 detach=maybe").problem == Problem::bad_choice);
  CHECK(error("scenario=1 features=1 page_size_mask=1 bypass=1").problem == Problem::unknown_key);
  CHECK(error("scenario=1 features=1 page_size_mask=1 plugs=1").problem == Problem::unknown_key);
  CHECK(error("scenario=1 features=1 page_size_mask=1 cap=1").problem == Problem::unknown_key);
  CHECK(error("features=1 page_size_mask=1 features=1").problem == Problem::repeated_key);
}

TEST_CASE("A virtio-iommu's configuration that is written reads back", "[trace][cfg][property]") {
  Random random{11};
  for (unsigned i = 0; i < 2'000; ++i) {
    trace::VirtioConfiguration c;
    c.scenario = random.chance(1, 2);
    c.features = random.next();
    c.page_size_mask = random.next();
    c.input_first = random.next();
    c.input_last = c.input_first | random.next();
    c.domain_first = static_cast<std::uint32_t>(random.next());
    c.domain_last = c.domain_first | static_cast<std::uint32_t>(random.next());
    c.probe_size = static_cast<std::uint32_t>(random.next());
    c.boot_bypass = random.chance(1, 2);
    c.bypass = c.scenario ? c.boot_bypass : random.chance(1, 2);
    c.reserved_regions = static_cast<std::uint32_t>(random.below(0x10000));
    c.plugs = !c.scenario && random.chance(1, 2);
    if (c.scenario || c.plugs) {
      c.strict_detach = random.chance(1, 2);
      c.domains = random.next();
      c.mappings = random.next();
      c.endpoints = random.next();
    }
    if (c.scenario) {
      c.share = random.chance(1, 2);
      c.unknown = static_cast<trace::UnknownAbility>(random.below(2));
      c.migratable = static_cast<trace::Migratable>(random.below(2));
      c.fault_limit = random.next();
      c.quota = random.next();
    }
    std::array<char, 512> buffer{};
    const std::string_view pairs = trace::format_virtio_configuration(c, buffer);
    REQUIRE_FALSE(pairs.empty());
    trace::VirtioConfiguration back;
    REQUIRE_FALSE(trace::parse_virtio_configuration(pairs, back));
    REQUIRE(back == c);
  }
  std::array<char, 20> small{};
  CHECK(trace::format_virtio_configuration({}, small).empty());
}

}  // namespace viommu::test
