#include "tests/harness/scenario.hpp"
namespace viommu::harness {
std::span<const Scenario> waist_scenarios() { return {}; }
}
