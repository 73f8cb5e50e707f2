/* SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0 */
/* The C interface as a C compiler sees it. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A size or an offset, by its name in C. */
struct abi_number {
  const char* name;
  size_t value;
};

/* All of them; *count receives how many there are. */
const struct abi_number* abi_numbers(size_t* count);

/* Creates an engine with a C program's own structs, translates one request and destroys it: the result of that. */
int abi_use(void);

#ifdef __cplusplus
}
#endif
