// Products by AVX512_BF16: vdpbf16ps adds two products to each of 16 sums.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "bfloat16.h"
#include "unroll.h"

namespace sartor {

namespace {

// Rows whose sums stay in registers, with COUNT right sides: up to 16 sums hide the latency.
constexpr int ROWS = 4;

inline __m512bh spread(const bfloat16* pair) {
    int32_t both;
    std::memcpy(&both, pair, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

inline int pairs_of(const Walk& walk, int loop, int64_t round) {
    return round + 1 == walk.counts[loop] ? walk.last_pairs[loop] : SIDE;
}

template <int COUNT>
void multiply_rows(const Walk& walk, const bfloat16* left, const bfloat16* const* right,
                   bool adds, float* to) {
    __m512 sums[ROWS][COUNT];
    SARTOR_UNROLL
    for (int r = 0; r < ROWS; ++r)
        SARTOR_UNROLL
        for (int k = 0; k < COUNT; ++k)
            sums[r][k] = adds ? _mm512_loadu_ps(to + (k * SIDE + r) * SIDE) : _mm512_setzero_ps();
    for (int64_t a = 0; a < walk.counts[0]; ++a)
        for (int64_t b = 0; b < walk.counts[1]; ++b) {
            const bfloat16* by = left + a * walk.left[0] + b * walk.left[1];
            int64_t at = a * walk.right[0] + b * walk.right[1];
            int most = std::min(pairs_of(walk, 0, a), pairs_of(walk, 1, b));
            for (int64_t c = 0; c < walk.counts[2]; ++c, by += walk.left[2], at += walk.right[2]) {
                int pairs = std::min(most, pairs_of(walk, 2, c));
                for (int pair = 0; pair < pairs; ++pair) {
                    __m512bh values[COUNT];
                    SARTOR_UNROLL
                    for (int k = 0; k < COUNT; ++k)
                        values[k] =
                            (__m512bh)_mm512_loadu_si512(right[k] + at + pair * TERMS);
                    SARTOR_UNROLL
                    for (int r = 0; r < ROWS; ++r) {
                        __m512bh factor = spread(by + r * TERMS + 2 * pair);
                        SARTOR_UNROLL
                        for (int k = 0; k < COUNT; ++k)
                            sums[r][k] = _mm512_dpbf16_ps(sums[r][k], factor, values[k]);
                    }
                }
            }
        }
    SARTOR_UNROLL
    for (int r = 0; r < ROWS; ++r)
        SARTOR_UNROLL
        for (int k = 0; k < COUNT; ++k) _mm512_storeu_ps(to + (k * SIDE + r) * SIDE, sums[r][k]);
}

void multiply(const Walk& walk, const bfloat16* left, const bfloat16* const* right, int count,
              bool adds, float* sums) {
    for (int r = 0; r < walk.rows; r += ROWS, left += ROWS * TERMS, sums += ROWS * SIDE) switch (count) {
            case 1: multiply_rows<1>(walk, left, right, adds, sums); break;
            case 2: multiply_rows<2>(walk, left, right, adds, sums); break;
            case 3: multiply_rows<3>(walk, left, right, adds, sums); break;
            default: multiply_rows<4>(walk, left, right, adds, sums); break;
        }
}

void begin(void*) {}
void end(const void*) {}

}  // namespace

extern const Packing packing;
extern const Bfloat16Kernels dot_kernels;
const Bfloat16Kernels dot_kernels = {packing, multiply, begin, end};

}  // namespace sartor
