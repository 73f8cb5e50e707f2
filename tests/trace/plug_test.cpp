// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "engine/trace/plug.hpp"

#include <catch2/catch.hpp>
#include <string_view>
#include <vector>

namespace viommu::test {

TEST_CASE("A plug line without pairs is a device of the defaults", "[trace][Words]") {
  trace::PlugOptions options;
  options.bypassed = true;
  CHECK_FALSE(trace::parse_plug_options("", options));
  CHECK(options.backend == trace::Backend::iommufd);
  CHECK(options.host_kind == trace::HostKind::vtd);
  CHECK(options.ability == trace::Ability::able);
  CHECK(options.wish == trace::Wish::unset);
  CHECK(options.fails == trace::HostFact::none);
  CHECK_FALSE(options.width);
  CHECK_FALSE(options.capability);
  CHECK_FALSE(options.alias);
  CHECK_FALSE(options.bypassed);
}

TEST_CASE("Every pair of a plug line is read", "[trace][Words]") {
  trace::PlugOptions options;
  CHECK_FALSE(
      trace::parse_plug_options("backend=vfio hostkind=smmu hcap=12 hecap=ffffffffffffffff haw=48 hpages=40201000 "
                                "hiova=0-fedfffff,fef00000-7fffffffff hfail=pages ability=unknown wish=bypass "
                                "platform=1 alias=500 endpoint=10300 rmrr=1000-1fff bypassed",
                                options));
  CHECK(options.backend == trace::Backend::vfio);
  CHECK(options.host_kind == trace::HostKind::smmu);
  CHECK(options.capability == 0x12);
  CHECK(options.extended_capability == ~0ull);
  CHECK(options.width == 48);
  CHECK(options.page_sizes == 0x40201000);
  CHECK(options.fails == trace::HostFact::pages);
  CHECK(options.ability == trace::Ability::unknown);
  CHECK(options.wish == trace::Wish::bypass);
  CHECK(options.platform_offered);
  CHECK(options.alias == 0x500);
  CHECK(options.endpoint == 0x10300u);
  CHECK(options.reserved == trace::AddressRange{0x1000, 0x1fff});
  CHECK(options.bypassed);

  std::vector<trace::AddressRange> ranges;
  trace::AddressRange range;
  for (std::string_view list = options.ranges; trace::next_range(list, range);) ranges.push_back(range);
  CHECK(ranges == std::vector<trace::AddressRange>{{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}});
}

TEST_CASE("Each fact of a host can be the one that fails", "[trace][Words]") {
  trace::PlugOptions options;
  CHECK_FALSE(trace::parse_plug_options("hfail=width", options));
  CHECK(options.fails == trace::HostFact::width);
  CHECK_FALSE(trace::parse_plug_options("hfail=caps", options));
  CHECK(options.fails == trace::HostFact::caps);
  CHECK_FALSE(trace::parse_plug_options("hfail=ranges", options));
  CHECK(options.fails == trace::HostFact::ranges);
  CHECK(trace::parse_plug_options("hfail=none", options).problem == trace::Problem::bad_choice);
}

}  // namespace viommu::test
