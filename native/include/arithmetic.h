// Arithmetic on vectors that is the same, bit for bit, for every instruction set that can fuse a
// product and a sum.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "simd.h"

namespace sartor {
namespace SARTOR_ISA {

// a * b + c, rounded once where the processor can. Kernels are compiled without contraction, so
// that nothing but this is fused and compilers have no choice that would show in the bits.
static inline vec fma(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

// Masks, all bits of a lane or none, kept among floats.
static inline ivec load_mask(const float* from) {
    ivec found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

static inline void store_mask(float* to, ivec mask) { std::memcpy(to, &mask, sizeof mask); }

// As PyTorch's: NaN stays NaN.
static inline vec relu(vec values) { return values < 0 ? vec{} : values; }

// The gradient of ReLU from its result, as PyTorch's: what is NaN lets it pass.
static inline vec relu_gradient(vec gradient, vec result) { return result <= 0 ? vec{} : gradient; }

// Whether max-pooling takes a value instead of the largest so far: the first of equal ones stays,
// and NaN wins.
static inline ivec taken(vec value, vec largest) { return (value > largest) | (value != value); }

// The sum over lanes of a block: halves are added until one number is left, an order that does not
// depend on WIDTH.
static inline float sum_of_lanes(const float* lanes) {
    float sums[LANES / 2];
    for (int l = 0; l < LANES / 2; ++l) sums[l] = lanes[l] + lanes[l + LANES / 2];
    for (int half = LANES / 4; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
    return sums[0];
}

// Of two vectors of groups of SIZE numbers: the groups of both, each folded to its half.
template <int SIZE>
static inline vec folded(vec one, vec other) {
    constexpr int half = SIZE / 2, groups = WIDTH / SIZE;
#if defined(__clang__)
    vec first, second;
#else
    ivec first, second;
#endif
    for (int p = 0; p < WIDTH; ++p) {
        bool of_other = p / half >= groups;
        int at = p / half % groups * SIZE + p % half;
#if defined(__clang__)
        // Its shuffles take literals only, and it makes them of this.
        first[p] = (of_other ? other : one)[at];
        second[p] = (of_other ? other : one)[at + half];
    }
    return first + second;
#else
        first[p] = at + (of_other ? WIDTH : 0);
        second[p] = first[p] + half;
    }
    return __builtin_shuffle(one, other, first) + __builtin_shuffle(one, other, second);
#endif
}

template <int SIZE>
static inline __attribute__((always_inline)) void fold(vec* sums) {
    for (int k = 0; k < SIZE / 2; ++k) sums[k] = folded<SIZE>(sums[2 * k], sums[2 * k + 1]);
    if constexpr (SIZE > 2) fold<SIZE / 2>(sums);
}

// The sums over lanes of WIDTH vectors in one, in three instructions a sum instead of thirty, each
// as by `sum_of_lanes`; of a block's PER_BLOCK vectors the sum is given.
static inline __attribute__((always_inline)) vec sums_of_lanes(vec* sums) {
    fold<WIDTH>(sums);
    return sums[0];
}

// The first step of a sum over lanes: a block's vectors to one.
static inline vec narrowed(const vec (&block)[PER_BLOCK]) {
    if constexpr (PER_BLOCK == 1) return block[0];
    if constexpr (PER_BLOCK == 2) return block[0] + block[1];
    return (block[0] + block[PER_BLOCK / 2]) + (block[1 % PER_BLOCK] + block[3 % PER_BLOCK]);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
