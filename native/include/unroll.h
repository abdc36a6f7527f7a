// Loops written out: an array can be kept in registers only if its indices are known.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#define SARTOR_UNROLL _Pragma("GCC unroll 16")
#else
#define SARTOR_UNROLL _Pragma("unroll")
#endif
