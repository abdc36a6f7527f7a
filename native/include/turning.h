// Squares of values turned, so that rows become columns, and bytes read as floats.
#pragma once

#include "arithmetic.h"
#include "unroll.h"

namespace sartor {
namespace SARTOR_ISA {

typedef uint8_t sixteen_bytes __attribute__((vector_size(16)));
typedef uint8_t bytes_of_vec __attribute__((vector_size(WIDTH)));

// Elements of two vectors in turn: a0 b0 a1 b1 ..., of their first halves and of their second.
#if defined(__clang__)
#define SARTOR_SHUFFLE(a, b, mask, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SARTOR_SHUFFLE(a, b, mask, ...) __builtin_shuffle(a, b, mask{__VA_ARGS__})
#endif

static inline void interleave(sixteen_bytes a, sixteen_bytes b, sixteen_bytes& low,
                              sixteen_bytes& high) {
    low = SARTOR_SHUFFLE(a, b, sixteen_bytes, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7,
                         23);
    high = SARTOR_SHUFFLE(a, b, sixteen_bytes, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30,
                          15, 31);
}

static inline void interleave(vec a, vec b, vec& low, vec& high) {
#if defined(__AVX512F__)
    low = SARTOR_SHUFFLE(a, b, ivec, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    high = SARTOR_SHUFFLE(a, b, ivec, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX__)
    low = SARTOR_SHUFFLE(a, b, ivec, 0, 8, 1, 9, 2, 10, 3, 11);
    high = SARTOR_SHUFFLE(a, b, ivec, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    low = SARTOR_SHUFFLE(a, b, ivec, 0, 4, 1, 5);
    high = SARTOR_SHUFFLE(a, b, ivec, 2, 6, 3, 7);
#endif
}

// N vectors of N elements: rows become columns. Interleaving the rows of the first half with those
// of the second moves one bit of an element's place from its row to its column.
template <int N, class Vector>
static inline void turn_rows(Vector (&rows)[N]) {
    SARTOR_UNROLL
    for (int moved = 1; moved < N; moved *= 2) {
        Vector next[N];
        SARTOR_UNROLL
        for (int k = 0; k < N / 2; ++k)
            interleave(rows[k], rows[k + N / 2], next[2 * k], next[2 * k + 1]);
        SARTOR_UNROLL
        for (int k = 0; k < N; ++k) rows[k] = next[k];
    }
}

// A vector of bytes as floats.
static inline vec floats_of(const uint8_t* bytes) {
#if defined(__AVX512F__)
    // The masks, of all ones, keep GCC 12 from warning of its own headers.
    const __mmask16 all = -1;
    return _mm512_maskz_cvtepi32_ps(
        all, _mm512_maskz_cvtepu8_epi32(
                 all, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
#else
    bytes_of_vec found;
    std::memcpy(&found, bytes, sizeof found);
    return __builtin_convertvector(__builtin_convertvector(found, ivec), vec);
#endif
}

}  // namespace SARTOR_ISA
}  // namespace sartor
