// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
#include "tests/support/paths.hpp"

#include <cstdlib>

namespace viommu::test {

// These macros come from tests/CMakeLists.txt, for this file alone.
std::filesystem::path source_folder() { return SOURCE_FOLDER; }
std::filesystem::path tool() { return TOOL_FILE; }
std::filesystem::path shared_library() { return LIBRARY_FILE; }
std::filesystem::path recordings_folder() { return source_folder() / "tests/recordings"; }
bool run_whole() { return std::getenv("VIOMMU_LONG") != nullptr; }

}  // namespace viommu::test
