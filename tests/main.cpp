// SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
// The one object that holds Catch2 itself.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
