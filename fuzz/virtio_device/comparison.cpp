// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// All that is to be seen of a device, against the model.
#include "fuzz/virtio_device/world.hpp"

#include <cstdint>
#include <cstdio>
#include <vector>

#include "fuzz/support/require.hpp"
#include "tests/support/mirror_model.hpp"

namespace viommu::fuzz::virtio_device {

void World::compare() {
  side_->work();
  compare_reports();
  compare_device();
  for (const std::uint16_t source : sources) compare_view(source);
  for (const auto& keeper : side_->keepers) compare_keeper(*keeper);
  require(side_->spaces.wrong.empty(), "a space that was not there");
}

void World::compare_device() {
  const Model::Setting& setting = model_.setting();
  require_equal(side_->config(0, 8), page_sizes_, "page sizes");
  require_equal(side_->config(8, 8), setting.input_first, "first address");
  require_equal(side_->config(16, 8), setting.input_last, "last address");
  require_equal(side_->config(24, 4), setting.domain_first, "first domain");
  require_equal(side_->config(28, 4), setting.domain_last, "last domain");
  require_equal(side_->config(32, 4), setting.probe_size, "size of properties");
  require_equal(side_->config(36, 4), model_.bypass() ? 1 : 0, "bypass");
  require_equal(side_->broken() ? 1 : 0, broken_ ? 1 : 0, "whether the device is broken");
  viommu_virtio_statistics figures{};
  figures.size = sizeof figures;
  require(viommu_virtio_statistics_get(side_->engine, &figures) == VIOMMU_OK, "figures");
  require_equal(figures.domains, model_.domain_count(), "number of domains");
  require_equal(figures.mappings, model_.mapping_count(), "number of mappings");
}

void World::compare_view(std::uint16_t source) {
  std::uint32_t view = 0;
  require(viommu_view(side_->engine, source, &view) == VIOMMU_OK, "a view");
  const PluggedDevice* const device = behind(source);
  const View right = device == nullptr ? View::unknown : model_.view(device->endpoint);
  std::uint32_t expected = VIOMMU_VIEW_BLOCKED;
  if (right == View::bypass || bypasses(source)) expected = VIOMMU_VIEW_SYSTEM;
  if (right == View::translated) expected = VIOMMU_VIEW_TRANSLATED;
  require_equal(view, expected, "the view of a device");
  for (const std::uint64_t iova :
       {near_.first, near_.first - 1, near_.last, near_.last + 1, std::uint64_t{0}, ~std::uint64_t{0}}) {
    viommu_request asked{};
    asked.iova = iova;
    asked.source = source;
    asked.access = VIOMMU_READ;
    asked.flags = VIOMMU_NO_REPORT;
    viommu_translation found{};
    static_cast<void>(viommu_translate(side_->reader, &asked, &found));
    check(asked, found, answer_of(asked));
  }
}

void World::compare_keeper(const Keeper& keeper) {
  const PluggedDevice* const device = behind(keeper.source);
  const View view = device == nullptr ? View::unknown : model_.view(device->endpoint);
  if (!keeper.model.wrong.empty()) fail(keeper.model.wrong.front().c_str());
  if (!keeper.maps()) {
    for (const Keeper::Answer& one : keeper.answers) {
      viommu_request asked{};
      asked.iova = one.iova;
      asked.source = keeper.source;
      Answer now = answer_of(asked);  // asks for no right
      require(now.kind != VIOMMU_FAULT && now.gpa == one.gpa, "an answer went, and who has it was not told");
    }
    return;
  }
  ConsumerView right{parts_, keeper.model.consumer};
  std::vector<test::Extent> expected;
  if (view == View::bypass || bypasses(keeper.source)) expected = right.system();
  if (view == View::translated) expected = right.translated(model_.mappings_of(device->endpoint));
  const std::vector<test::Extent> found = keeper.model.extents();
  if (found == expected) return;
  const auto show = [](const char* who, const std::vector<test::Extent>& extents) {
    std::fprintf(stderr, "%s:\n", who);
    for (const test::Extent& one : extents)
      std::fprintf(stderr, "  %llx +%llx -> %llx %u\n", static_cast<unsigned long long>(one.iova),
                   static_cast<unsigned long long>(one.length), static_cast<unsigned long long>(one.gpa), one.rights);
  };
  show("held", found);
  show("right", expected);
  fail("what a consumer holds");
}

}  // namespace viommu::fuzz::virtio_device
