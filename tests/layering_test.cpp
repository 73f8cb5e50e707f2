// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The shape of the tree as a test: who may include whom, what may stand at the top, what each source file begins with.
// The rules are proved on small planted trees first, then held against the project.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/paths.hpp"

namespace {

namespace fs = std::filesystem;
using std::string_view_literals::operator""sv;

struct Layer {
  std::string_view folder;
  std::vector<std::string_view> may_include;  // layers by folder; its own is always allowed
};

// Lowest first. A layer sees what is listed here and nothing else; the longest folder that fits a file is its layer.
const std::array layers{
    Layer{"engine/include/viommu", {}},
    Layer{"engine/base", {}},
    Layer{"engine/trace", {"engine/base"}},
    Layer{"engine/virtqueue", {"engine/base"}},
    Layer{"caches", {"engine/base"}},
    Layer{"walkers", {"engine/base"}},
    Layer{"engine/core", {"engine/base", "caches", "walkers"}},
    Layer{"engine/consumer", {"engine/base", "caches", "walkers", "engine/core"}},
    Layer{"engine/machine", {"engine/base", "caches", "walkers", "engine/core", "engine/consumer"}},
    Layer{"engine/vtd", {"engine/base", "caches", "walkers", "engine/core", "engine/consumer", "engine/machine"}},
    Layer{"engine/virtio_iommu",
          {"engine/base", "caches", "walkers", "engine/core", "engine/consumer", "engine/machine", "engine/virtqueue"}},
    Layer{"engine/capi",
          {"engine/include/viommu", "engine/base", "caches", "walkers", "engine/trace", "engine/core",
           "engine/consumer", "engine/machine", "engine/vtd", "engine/virtio_iommu"}},
    Layer{"engine/cli",
          {"engine/include/viommu", "engine/base", "caches", "walkers", "engine/trace", "engine/core",
           "engine/consumer", "engine/machine", "engine/vtd", "engine/virtio_iommu", "engine/capi"}},
    Layer{"engine/tbb", {"engine/include/viommu"}},
    Layer{"engine/host", {"engine/include/viommu"}},
    Layer{"engine/vhost", {"engine/include/viommu"}},
    // The oracle reads the specification on its own: of the engine it shares the vocabulary alone.
    Layer{"tests/support/oracle", {"engine/base"}},
};

/// A header that only some folders may name.
struct Guarded {
  std::string_view header;
  std::vector<std::string_view> folders;
};
// Pointers into guest memory: who works with them loads each word once, within one region (SEC-1, SEC-2). Everybody
// else asks engine/base/guest_memory.hpp.
const std::array guarded{
    Guarded{"engine/base/memory_view.hpp", {"engine/base", "engine/virtqueue", "walkers"}},
};

// These look at everything.
const std::array unrestricted{"tests"sv, "bench"sv, "fuzz"sv};

const std::array top_level{
    "CMakeLists.txt"sv,
    "CMakePresets.json"sv,
    "LICENSE"sv,
    "README.md"sv,
    "bench"sv,
    "caches"sv,
    "engine"sv,
    "fuzz"sv,
    "tests"sv,
    "walkers"sv,
    // not part of the project: version control, build output and a developer's own settings
    "build"sv,
    "CMakeUserPresets.json"sv,
};
const std::array hidden_top_level{".ci"sv,     ".clang-format"sv, ".clang-tidy"sv, ".clusterfuzzlite"sv, ".gitignore"sv,
                                  ".github"sv, ".git"sv,          ".cache"sv,      ".clangd"sv};

constexpr std::string_view license_line = "SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0";

template <class List>
bool contains(const List& list, std::string_view what) {
  return std::find(list.begin(), list.end(), what) != list.end();
}

/// Whether `path` is `folder` itself, lies below it, or (tests/support/oracle) is a file whose name begins with it.
bool lies_in(std::string_view path, std::string_view folder) {
  if (!path.starts_with(folder)) return false;
  return path.size() == folder.size() || path[folder.size()] == '/' || path[folder.size()] == '.' ||
         path[folder.size()] == '_';
}

const Layer* layer_of(std::string_view path) {
  const Layer* best = nullptr;
  for (const Layer& layer : layers)
    if (lies_in(path, layer.folder) && (!best || layer.folder.size() > best->folder.size())) best = &layer;
  return best;
}

bool is_source(const fs::path& file) {
  const std::string extension = file.extension().string();
  return extension == ".cpp" || extension == ".hpp" || extension == ".h" || extension == ".c";
}

bool is_header(const fs::path& file) { return file.extension() == ".hpp" || file.extension() == ".h"; }

struct Include {
  std::string_view target;
  bool quoted;
};

std::optional<Include> include_on(std::string_view line) {
  const auto skip_blanks = [&line] { line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size())); };
  skip_blanks();
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip_blanks();
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix("include"sv.size());
  skip_blanks();
  if (line.empty() || (line.front() != '"' && line.front() != '<')) return Include{line, false};
  const bool quoted = line.front() == '"';
  line.remove_prefix(1);
  return Include{line.substr(0, line.find(quoted ? '"' : '>')), quoted};
}

/// What is wrong with one `#include`; empty when nothing is.
std::string wrong_with(const fs::path& root, std::string_view file, const Include& include) {
  const std::string target{include.target};
  std::string path = target;
  if (include.quoted) {
    if (target.find("./") != std::string::npos || !fs::is_regular_file(root / target))
      return "includes \"" + target + "\", which is no path from the root";
  } else {
    if (target.starts_with("viommu/"))
      path = "engine/include/" + target;
    else if (contains(top_level, target.substr(0, target.find('/'))) && target.find('/') != std::string::npos)
      return "includes <" + target + ">, which is ours: use quotes";
    else
      return {};
  }
  const Layer* from = layer_of(file);
  if (!from) return {};
  for (const Guarded& one : guarded)
    if (path == one.header && !contains(one.folders, from->folder))
      return "includes " + path + ", which is not for " + std::string{from->folder};
  const Layer* to = layer_of(path);
  if (to == from || (to && contains(from->may_include, to->folder))) return {};
  if (!to && from->folder == "tests/support/oracle" && lies_in(path, "tests/support")) return {};
  return "includes " + path + ", which " + std::string{from->folder} + " must not know";
}

void check_file(const fs::path& root, const std::string& name, std::vector<std::string>& wrong) {
  const bool source = is_source(name);
  if (!source && fs::path{name}.filename() != "CMakeLists.txt" && fs::path{name}.extension() != ".rs") return;
  std::ifstream text{root / name};
  std::string line;
  std::getline(text, line);
  if (line.find(license_line) == std::string::npos) wrong.push_back(name + " does not begin with the licence line");
  if (!source) return;
  const bool guard_allowed = lies_in(name, "engine/include/viommu") && fs::path{name}.extension() == ".h";
  bool once = false;
  while (std::getline(text, line)) {
    // The C ABI is read by compilers that need not know the pragma.
    if (line.starts_with("#pragma once") || (guard_allowed && line.starts_with("#ifndef VIOMMU_"))) once = true;
    if (const auto include = include_on(line))
      if (const std::string problem = wrong_with(root, name, *include); !problem.empty())
        wrong.push_back(name + " " + problem);
  }
  if (is_header(name) && !once) wrong.push_back(name + " has no #pragma once");
  if (!layer_of(name) && !contains(unrestricted, name.substr(0, name.find('/'))))
    wrong.push_back(name + " lies in no layer");
}

/// Every breach of the rules in the tree at `root`, one line each, sorted.
std::vector<std::string> violations(const fs::path& root) {
  std::vector<std::string> wrong;
  for (const auto& entry : fs::directory_iterator{root}) {
    const std::string name = entry.path().filename().string();
    if (contains(hidden_top_level, name)) continue;
    if (!contains(top_level, name)) wrong.push_back(name + " does not belong at the top");
    if (name == "build" || !entry.is_directory()) continue;
    for (const auto& file : fs::recursive_directory_iterator{entry})
      if (file.is_regular_file()) check_file(root, file.path().lexically_relative(root).generic_string(), wrong);
  }
  std::sort(wrong.begin(), wrong.end());
  return wrong;
}

/// A tree of small files, gone with the object. A text is what follows the licence line.
class PlantedTree {
 public:
  PlantedTree(std::initializer_list<std::pair<std::string_view, std::string_view>> files) {
    std::string name = (fs::temp_directory_path() / "layering.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root_ = name;
    plant("engine/base/address.hpp", "#pragma once\n");
    plant("caches/iotlb.hpp", "#pragma once\n#include \"engine/base/address.hpp\"\n");
    plant("walkers/walk.hpp", "#pragma once\n");
    plant("engine/core/translate.hpp", "#pragma once\n#include \"caches/iotlb.hpp\"\n#include \"walkers/walk.hpp\"\n");
    for (const auto& [file, text] : files) plant(file, text);
  }
  PlantedTree(const PlantedTree&) = delete;
  PlantedTree& operator=(const PlantedTree&) = delete;
  ~PlantedTree() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  void plant(std::string_view file, std::string_view text) {
    plant_bare(file, "// " + std::string{license_line} + "\n" + std::string{text});
  }
  void plant_bare(std::string_view file, std::string_view text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream{root_ / file} << text;
  }
  [[nodiscard]] const fs::path& root() const { return root_; }

 private:
  fs::path root_;
};

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("The layering rules accept a tree that keeps them", "[layering]") {
  const PlantedTree tree{{"tests/caches/iotlb_test.cpp", "#include <vector>\n#include \"engine/core/translate.hpp\"\n"},
                         {"engine/capi/engine.cpp", "# include <viommu/viommu.h>\n"},
                         {"engine/include/viommu/viommu.h", "#ifndef VIOMMU_H\n#include <stdint.h>\n"},
                         {"build/anything.hpp", "#include \"../x\"\n"}};
  CHECK(violations(tree.root()) == Lines{});
}

TEST_CASE("The layering rules find each kind of breach", "[layering][SEC-1]") {
  SECTION("an edge upward") {
    const PlantedTree tree{{"engine/base/up.hpp", "#pragma once\n  #  include \"caches/iotlb.hpp\"\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"engine/base/up.hpp includes caches/iotlb.hpp, which engine/base must not know"});
  }
  SECTION("caches and walkers know neither each other nor a front end") {
    const PlantedTree tree{{"caches/a.cpp", "#include \"walkers/walk.hpp\"\n"},
                           {"walkers/simd/b.cpp", "#include \"caches/iotlb.hpp\"\n#include \"engine/vtd/c.hpp\"\n"},
                           {"engine/vtd/c.hpp", "#pragma once\n#include \"engine/core/translate.hpp\"\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"caches/a.cpp includes walkers/walk.hpp, which caches must not know",
                "walkers/simd/b.cpp includes caches/iotlb.hpp, which walkers must not know",
                "walkers/simd/b.cpp includes engine/vtd/c.hpp, which walkers must not know"});
  }
  SECTION("pointers into guest memory in other hands") {
    const PlantedTree tree{{"engine/base/memory_view.hpp", "#pragma once\n"},
                           {"walkers/a.cpp", "#include \"engine/base/memory_view.hpp\"\n"},
                           {"engine/core/b.cpp", "#include \"engine/base/memory_view.hpp\"\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"engine/core/b.cpp includes engine/base/memory_view.hpp, which is not for engine/core"});
  }
  SECTION("the C ABI seen from below it") {
    const PlantedTree tree{{"engine/include/viommu/viommu.h", "#pragma once\n"},
                           {"engine/vtd/a.cpp", "#include <viommu/viommu.h>\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"engine/vtd/a.cpp includes engine/include/viommu/viommu.h, which engine/vtd must not know"});
  }
  SECTION("an optional target that includes what is not installed") {
    const PlantedTree tree{{"engine/host/a.cpp", "#include \"engine/base/address.hpp\"\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"engine/host/a.cpp includes engine/base/address.hpp, which engine/host must not know"});
  }
  SECTION("the oracle sharing code with what it checks") {
    const PlantedTree tree{
        {"tests/support/guest.hpp", "#pragma once\n"},
        {"tests/support/oracle.cpp", "#include \"tests/support/guest.hpp\"\n#include \"walkers/walk.hpp\"\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"tests/support/oracle.cpp includes walkers/walk.hpp, which tests/support/oracle must not know"});
  }
  SECTION("includes that do not start at the root") {
    const PlantedTree tree{{"caches/a.cpp", "#include \"iotlb.hpp\"\n#include \"../engine/base/address.hpp\"\n"},
                           {"tests/b.cpp", "#include <caches/iotlb.hpp>\n"}};
    CHECK(violations(tree.root()) ==
          Lines{"caches/a.cpp includes \"../engine/base/address.hpp\", which is no path from the root",
                "caches/a.cpp includes \"iotlb.hpp\", which is no path from the root",
                "tests/b.cpp includes <caches/iotlb.hpp>, which is ours: use quotes"});
  }
  SECTION("a strange entry at the top, and a file in no layer") {
    const PlantedTree tree{{"helpers/a.md", ""}, {"engine/odd/a.cpp", ""}};
    CHECK(violations(tree.root()) == Lines{"engine/odd/a.cpp lies in no layer", "helpers does not belong at the top"});
  }
  SECTION("a file without its first lines") {
    PlantedTree tree{{"caches/twice.hpp", "\n"}};
    tree.plant_bare("walkers/bare.cpp", "\n");
    tree.plant_bare("walkers/CMakeLists.txt", "\n");
    CHECK(violations(tree.root()) == Lines{"caches/twice.hpp has no #pragma once",
                                           "walkers/CMakeLists.txt does not begin with the licence line",
                                           "walkers/bare.cpp does not begin with the licence line"});
  }
}

TEST_CASE("The project keeps its layering", "[layering][SEC-1]") {
  CHECK(violations(viommu::test::source_folder()) == Lines{});
}
