// Products by AMX: a processor's tile registers hold the tiles, and one instruction multiplies two.
#include <immintrin.h>

#include "bfloat16.h"

namespace sartor {

namespace {

// The layout of LDTILECFG's operand: palette 1, whose 8 tiles all have 16 rows of 64 bytes.
struct alignas(64) Configuration {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE};
};
static_assert(sizeof(Configuration) == SAVED, "as the processor reads it");
const Configuration ALL_TILES;

constexpr int ROW_BYTES = 64;

// Other libraries of the process keep tiles configured too, and rely on it.
void begin(void* saved) {
    _tile_storeconfig(saved);
    _tile_loadconfig(&ALL_TILES);
}

// Without a configuration, the context of a thread is smaller, and the core may sleep deeper.
void end(const void* saved) {
    if (*static_cast<const uint8_t*>(saved) == 0)
        _tile_release();
    else
        _tile_loadconfig(saved);
}

// Sums in tiles 0 to 3, a left side in 4, right sides in 5 to 7 in turn.
template <int COUNT>
void multiply_all(const Walk& walk, const bfloat16* left, const bfloat16* const* right, bool adds,
                  float* sums) {
    if (adds) {
        _tile_loadd(0, sums, ROW_BYTES);
        if constexpr (COUNT > 1) _tile_loadd(1, sums + SIDE * SIDE, ROW_BYTES);
        if constexpr (COUNT > 2) _tile_loadd(2, sums + 2 * SIDE * SIDE, ROW_BYTES);
        if constexpr (COUNT > 3) _tile_loadd(3, sums + 3 * SIDE * SIDE, ROW_BYTES);
    } else {
        _tile_zero(0);
        if constexpr (COUNT > 1) _tile_zero(1);
        if constexpr (COUNT > 2) _tile_zero(2);
        if constexpr (COUNT > 3) _tile_zero(3);
    }
    for (int64_t a = 0; a < walk.counts[0]; ++a)
        for (int64_t b = 0; b < walk.counts[1]; ++b) {
            const bfloat16* by = left + a * walk.left[0] + b * walk.left[1];
            int64_t at = a * walk.right[0] + b * walk.right[1];
            for (int64_t c = 0; c < walk.counts[2]; ++c) {
                _tile_loadd(4, by, ROW_BYTES);
                _tile_loadd(5, right[0] + at, ROW_BYTES);
                _tile_dpbf16ps(0, 4, 5);
                if constexpr (COUNT > 1) {
                    _tile_loadd(6, right[1] + at, ROW_BYTES);
                    _tile_dpbf16ps(1, 4, 6);
                }
                if constexpr (COUNT > 2) {
                    _tile_loadd(7, right[2] + at, ROW_BYTES);
                    _tile_dpbf16ps(2, 4, 7);
                }
                if constexpr (COUNT > 3) {
                    _tile_loadd(5, right[3] + at, ROW_BYTES);
                    _tile_dpbf16ps(3, 4, 5);
                }
                by += walk.left[2];
                at += walk.right[2];
            }
        }
    _tile_stored(0, sums, ROW_BYTES);
    if constexpr (COUNT > 1) _tile_stored(1, sums + SIDE * SIDE, ROW_BYTES);
    if constexpr (COUNT > 2) _tile_stored(2, sums + 2 * SIDE * SIDE, ROW_BYTES);
    if constexpr (COUNT > 3) _tile_stored(3, sums + 3 * SIDE * SIDE, ROW_BYTES);
}

void multiply(const Walk& walk, const bfloat16* left, const bfloat16* const* right, int count,
              bool adds, float* sums) {
    switch (count) {
        case 1: return multiply_all<1>(walk, left, right, adds, sums);
        case 2: return multiply_all<2>(walk, left, right, adds, sums);
        case 3: return multiply_all<3>(walk, left, right, adds, sums);
        default: return multiply_all<4>(walk, left, right, adds, sums);
    }
}

}  // namespace

extern const Packing packing;
extern const Bfloat16Kernels tile_kernels;
const Bfloat16Kernels tile_kernels = {packing, multiply, begin, end};

}  // namespace sartor
