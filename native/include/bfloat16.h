// Products of bfloat16 whose sums are float32: the kernels of native/bfloat16.
//
// All of them multiply tiles of 16 x 32 numbers, 1 KiB each:
//   left   [16 rows][32 terms]
//   right  [16 pairs of terms][16 columns][2 terms]
//   sums   [16 rows][16 columns], float32
// A layer lays its operands out in such tiles, rounded to the nearest, so that one kernel serves
// the forward pass and both gradients.
#pragma once

#include "engine.h"

namespace sartor {

typedef uint16_t bfloat16;

// Rows and columns of a tile, its terms, and its numbers.
constexpr int SIDE = 16, TERMS = 32, TILE = SIDE * TERMS;
// Right sides that share a left one.
constexpr int MOST_RIGHTS = 4;

// The way from one pair of tiles to the next: three loops, the last one innermost. Distances in
// numbers.
struct Walk {
    int64_t counts[3] = {1, 1, 1};
    int64_t left[3] = {}, right[3] = {};
    // What is not zeros, of the left sides: rows, and pairs of terms in the last round of each loop.
    int rows = SIDE;
    int last_pairs[3] = {SIDE, SIDE, SIDE};
};

// Where a block of channels is laid out: distances in numbers, `data` is its first pixel.
struct Tiles {
    bfloat16* data = nullptr;
    int64_t group = 0, row = 0;
};

// How a block of a shape, and weights, are laid out as tiles.
struct Packing {
    // [group of 32 channels][row][column][pair of channels][LANES][2]
    void (*pair_channels)(View from, Shape shape, const Tiles& to);
    // [group of 16 channels][row][column][pair of images][16 channels][2]
    void (*pair_images)(View from, Shape shape, const Tiles& to);
    // [group of 16 channels][row][pair of columns][16 channels][2 columns][LANES]
    void (*pair_columns)(View from, Shape shape, const Tiles& to);
    // A left tile of up to 16 rows of up to 32 terms, which are `row` and `term` numbers apart.
    void (*pack_tile)(const float* from, int64_t row, int64_t term, int64_t rows, int64_t terms,
                      bfloat16* to);
};

struct Bfloat16Kernels {
    const Packing& packing;
    // sums[k] = sum over the walk of left * right[k], for `count` of up to MOST_RIGHTS sums that lie
    // one after the other; with `adds`, on top of what is there.
    void (*multiply)(const Walk& walk, const bfloat16* left, const bfloat16* const* right,
                     int count, bool adds, float* sums);
    // To be called by a thread before and after products; `saved`, SAVED bytes at a multiple of as
    // many, is theirs meanwhile.
    void (*begin)(void* saved);
    void (*end)(const void* saved);
};
constexpr int SAVED = 64;

// Throws std::logic_error where this module has none.
const Bfloat16Kernels& bfloat16_kernels(Isa isa);

}  // namespace sartor
