// Rounding to bfloat16, into the layout of tiles. Numbers too small for a normal float become zero,
// as the processor's products would make them anyway.
#include <immintrin.h>

#include <algorithm>

#include "bfloat16.h"

namespace sartor {

namespace {

// Two vectors of 16 numbers, rounded: those of `low`, then those of `high`.
inline __m512i rounded(__m512 low, __m512 high) {
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

// The numbers of two vectors, rounded, in turn: low 0, high 0, low 1, high 1, ...
inline __m512i paired(__m512 low, __m512 high) {
    const __m512i in_turn = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(in_turn, rounded(low, high));
}

inline __m512 vector_at(const float* from) { return _mm512_loadu_ps(from); }

void pair_channels(View from, Shape shape, const Tiles& to) {
    for (int64_t c = 0; c < shape.channels; c += 2) {
        bfloat16* pair = to.data + c / TERMS * to.group + c % TERMS * LANES;
        for (int64_t r = 0; r < shape.rows; ++r) {
            const float* even = from.at(0, c, r, 0);
            bfloat16* pixel = pair + r * to.row;
            for (int64_t x = 0; x < shape.columns; ++x, even += LANES, pixel += TILE) {
                bool alone = c + 1 == shape.channels;
                __m512 odd = alone ? _mm512_setzero_ps() : vector_at(even + from.plane);
                _mm512_storeu_si512(pixel, paired(vector_at(even), odd));
            }
        }
    }
}

void pair_columns(View from, Shape shape, const Tiles& to) {
    for (int64_t c = 0; c < shape.channels; ++c) {
        bfloat16* channel = to.data + c / SIDE * to.group + c % SIDE * TERMS;
        for (int64_t r = 0; r < shape.rows; ++r) {
            const float* left = from.at(0, c, r, 0);
            bfloat16* pair = channel + r * to.row;
            for (int64_t x = 0; x < shape.columns; x += 2, left += 2 * LANES, pair += TILE) {
                bool alone = x + 1 == shape.columns;
                __m512 right = alone ? _mm512_setzero_ps() : vector_at(left + LANES);
                _mm512_storeu_si512(pair, rounded(vector_at(left), right));
            }
        }
    }
}

// 16 channels of a pixel, [channel][pair of images], turned to [pair of images][channel]. Of each
// vector of `rows`, the first half is of channel k, the second of channel k + 8.
inline void turn(const __m512i (&rows)[8], bfloat16* to) {
    __m512i pairs[8], fours[8];
    for (int k = 0; k < 4; ++k) {
        pairs[2 * k] = _mm512_unpacklo_epi32(rows[2 * k], rows[2 * k + 1]);
        pairs[2 * k + 1] = _mm512_unpackhi_epi32(rows[2 * k], rows[2 * k + 1]);
    }
    for (int half = 0; half < 8; half += 4)
        for (int k = 0; k < 2; ++k) {
            fours[half + 2 * k] = _mm512_unpacklo_epi64(pairs[half + k], pairs[half + k + 2]);
            fours[half + 2 * k + 1] = _mm512_unpackhi_epi64(pairs[half + k], pairs[half + k + 2]);
        }
    // Lanes of 128 bits of fours[j]: pair j of channels 0-3, pair j + 4 of 0-3, then of 8-11; of
    // fours[j + 4] the same for channels 4-7 and 12-15.
    const __m512i first = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    const __m512i second = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    for (int j = 0; j < 4; ++j) {
        _mm512_storeu_si512(to + j * TERMS,
                            _mm512_permutex2var_epi64(fours[j], first, fours[j + 4]));
        _mm512_storeu_si512(to + (j + 4) * TERMS,
                            _mm512_permutex2var_epi64(fours[j], second, fours[j + 4]));
    }
}

void pair_images(View from, Shape shape, const Tiles& to) {
    for (int64_t c = 0; c < shape.channels; c += SIDE) {
        int64_t here = std::min<int64_t>(shape.channels - c, SIDE);
        for (int64_t r = 0; r < shape.rows; ++r) {
            const float* first = from.at(0, c, r, 0);
            bfloat16* pixel = to.data + c / SIDE * to.group + r * to.row;
            for (int64_t x = 0; x < shape.columns; ++x, first += LANES, pixel += TILE / 2) {
                auto channel = [&](int64_t k) {
                    return k < here ? vector_at(first + k * from.plane) : _mm512_setzero_ps();
                };
                __m512i rows[8];
                for (int k = 0; k < 8; ++k) rows[k] = rounded(channel(k), channel(k + 8));
                turn(rows, pixel);
            }
        }
    }
}

void pack_tile(const float* from, int64_t row, int64_t term, int64_t rows, int64_t terms,
               bfloat16* to) {
    const __m512i counted =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i places = _mm512_mullo_epi32(counted, _mm512_set1_epi32(int(term)));
    auto mask = [](int64_t count) {
        return __mmask16((1u << std::min<int64_t>(std::max<int64_t>(count, 0), SIDE)) - 1);
    };
    auto gathered = [&](const float* first, int64_t count) {
        return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask(count), places, first, 4);
    };
    for (int64_t r = 0; r < SIDE; ++r, to += TERMS) {
        const float* first = from + r * row;
        int64_t here = r < rows ? terms : 0;
        __m512 low = gathered(first, here);
        __m512 high = here > SIDE ? gathered(first + SIDE * term, here - SIDE) : _mm512_setzero_ps();
        _mm512_storeu_si512(to, rounded(low, high));
    }
}

}  // namespace

extern const Packing packing;
const Packing packing = {pair_channels, pair_images, pair_columns, pack_tile};

}  // namespace sartor
