// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// Where the tests find the project's files and the built tool, whatever folder they run in.
#pragma once

#include <filesystem>

namespace viommu::test {

[[nodiscard]] std::filesystem::path source_folder();
[[nodiscard]] std::filesystem::path tool();
[[nodiscard]] std::filesystem::path shared_library();
[[nodiscard]] std::filesystem::path recordings_folder();

/// True under `tests/run --long`: a test that takes over 20 seconds then runs whole.
[[nodiscard]] bool run_whole();

}  // namespace viommu::test
