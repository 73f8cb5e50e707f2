# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
# What fuzz/run and fuzz/build share. Sourced by them after `cd` to the root of the clone.
# shellcheck shell=bash

# options_of TARGET: fuzz/options, with what fuzz/TARGET.options says instead.
options_of() {
  local files=(fuzz/options)
  [ ! -e "fuzz/$1.options" ] || files+=("fuzz/$1.options")
  awk -F ' *= *' '
    NF != 2 { if (NF != 0) print; next }
    !($1 in value) { order[++count] = $1 }
    { value[$1] = $2 }
    END { for (i = 1; i <= count; ++i) print order[i] " = " value[order[i]] }' "${files[@]}"
}
