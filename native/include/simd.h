// Vectors of the instruction set that a kernel is compiled for, by GCC's and Clang's extensions.
#pragma once

#include <cstdint>
#include <cstring>

#include "lanes.h"

namespace sartor {

namespace SARTOR_ISA {

#if defined(__AVX512F__)
constexpr int WIDTH = 16;
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif

// Vectors of a block of images.
constexpr int PER_BLOCK = LANES / WIDTH;

typedef float vec __attribute__((vector_size(WIDTH * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(WIDTH * sizeof(int32_t))));

static inline vec load(const float* from) {
    vec found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

static inline void store(float* to, vec values) { std::memcpy(to, &values, sizeof values); }

// Not a sum with zero, which is an instruction: it turns -0 into 0.
static inline vec splat(float value) { return value - vec{}; }

// The first `count` of a vector, zeros after them: for ends of rows.
static inline vec load_first(const float* from, int count) {
    vec found = {};
    std::memcpy(&found, from, count * sizeof(float));
    return found;
}

static inline void store_first(float* to, vec values, int count) {
    std::memcpy(to, &values, count * sizeof(float));
}

}  // namespace SARTOR_ISA
}  // namespace sartor
