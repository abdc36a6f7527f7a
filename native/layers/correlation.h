// The products of a convolution's forward pass and of its input's gradient, over blocks of images.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "engine.h"
#include "tiles.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// Where a tile is made in two goes, the sums are a function of their own: the results of the first
// would otherwise take registers from the second.
#if defined(__AVX512F__) || defined(__aarch64__)
#define TILED inline __attribute__((always_inline))
#else
#define TILED __attribute__((noinline))
#endif

// A sum of products over channels and taps: out(pixel) = sum of in(pixel + tap) * weight.
// The forward pass is one; the gradient of the input is one for each phase of the stride, over the
// gradient of the output, with the kernel's taps that meet that phase.
struct Correlation {
    int64_t in = 0, out = 0;
    // Taps in rows and columns, and from one to the next, in pixels: 1, or -1 on the way back.
    std::array<int64_t, 2> taps{};
    int64_t direction = 1;
    // Of each tap, its place in the kernel.
    std::vector<int64_t> places;
    // Of each row and column of results, the taps that do not read the margin: it would add zeros,
    // which on the way back through a kernel of 5 and a map of 8 are more than half of all.
    std::array<std::vector<Range>, 2> inside;
    std::vector<Tile> tiles;
    // [tile][in][tap][channel of the tile]: in the order in which they are read.
    Buffer packed;

    void prepare() {
        tiles = tiles_of(out, CHANNELS);
        packed = Buffer(in * out * taps[0] * taps[1]);
        const float* next = packed.data();
        for (Tile& tile : tiles) {
            tile.weights = next;
            next += in * taps[0] * taps[1] * tile.size;
        }
    }

    // The taps of an axis for `count` results, where that of the first reads pixel `first`, each
    // next one `step` further, of `length`.
    void clip(int axis, int64_t count, int64_t first, int64_t step, int64_t length) {
        inside[axis].clear();
        for (int64_t k = 0; k < count; ++k) {
            int64_t at = first + k * step, from = direction > 0 ? -at : at - length + 1;
            int64_t most = direction > 0 ? length - at : at + 1;
            Range range = {std::max<int64_t>(from, 0), std::min(most, taps[axis])};
            if (range.end < range.begin) range = {0, 0};
            inside[axis].push_back(range);
        }
    }

    // weight(out, in, place)
    template <typename Weight>
    void pack(Weight weight, int thread, int threads) {
        for (size_t k = thread; k < tiles.size(); k += threads) {
            float* next = const_cast<float*>(tiles[k].weights);
            for (int64_t i = 0; i < in; ++i)
                for (int64_t place : places)
                    for (int64_t o = 0; o < tiles[k].size; ++o)
                        *next++ = weight(tiles[k].first + o, i, place);
        }
    }
};

// What all tiles of a correlation share; distances in floats.
struct Sweep {
    const float* bias = nullptr;
    bool rectified = false;
    int64_t in = 0, in_plane = 0, out_plane = 0, largest_plane = 0;
    // Taps: in a row, of a channel, and from one to the next, down and right.
    int64_t row_taps = 0, taps = 0, down = 0, right = 0;
};

// What a tile reads and writes.
struct Place {
    const float* pixels[PIXELS];
    // Where the sums go; the last ones may be the same pixel, which is written again.
    float* results[PIXELS];
    // Of max-pooling: which of the four was the largest, a byte per image; null in evaluation.
    int8_t* largest = nullptr;
    // Rows and columns of taps that any of the pixels has inside.
    Range rows = {INT64_MAX, 0}, columns = {INT64_MAX, 0};

    void widen(const Range& of_row, const Range& of_column) {
        rows = {std::min(rows.begin, of_row.begin), std::max(rows.end, of_row.end)};
        columns = {std::min(columns.begin, of_column.begin),
                   std::max(columns.end, of_column.end)};
    }
};

// The sums of a tile over all channels and taps, of the pixels from `first`, for the WIDTH images
// from `lane`.
template <int OUT>
static TILED void accumulate(const Sweep& sweep, const Tile& tile, const Place& place, int first,
                             int lane, vec (&found)[OUT][PIXELS]) {
    vec sums[OUT][AT_ONCE];
    for (int o = 0; o < OUT; ++o) {
        vec bias = splat(sweep.bias != nullptr ? sweep.bias[tile.first + o] : 0);
        for (int p = 0; p < AT_ONCE; ++p) sums[o][p] = bias;
    }
    const float* from[AT_ONCE];
    int64_t skipped = place.rows.begin * sweep.down + place.columns.begin * sweep.right + lane;
    for (int p = 0; p < AT_ONCE; ++p) from[p] = place.pixels[first + p] + skipped;
    const float* weights =
        tile.weights + (place.rows.begin * sweep.row_taps + place.columns.begin) * OUT;
    int64_t rows = place.rows.size(), columns = place.columns.size();
    for (int64_t i = 0; i < sweep.in; ++i) {
        for (int64_t y = 0; y < rows; ++y) {
            const float* weight = weights + y * sweep.row_taps * OUT;
            int64_t at = y * sweep.down;
            for (int64_t x = 0; x < columns; ++x) {
                vec values[AT_ONCE];
                for (int p = 0; p < AT_ONCE; ++p) values[p] = load(from[p] + at);
                for (int o = 0; o < OUT; ++o) {
                    vec by = splat(weight[o]);
                    for (int p = 0; p < AT_ONCE; ++p) sums[o][p] = fma(by, values[p], sums[o][p]);
                }
                weight += OUT;
                at += sweep.right;
            }
        }
        for (int p = 0; p < AT_ONCE; ++p) from[p] += sweep.in_plane;
        weights += sweep.taps * OUT;
    }
    for (int o = 0; o < OUT; ++o)
        for (int p = 0; p < AT_ONCE; ++p) found[o][first + p] = sums[o][p];
}

typedef int8_t bytes __attribute__((vector_size(WIDTH)));

template <int OUT, bool POOLED>
__attribute__((noinline)) void compute(const Sweep& sweep, const Tile& tile, const Place& place) {
    for (int l = 0; l < LANES; l += WIDTH) {
        vec sums[OUT][PIXELS];
        accumulate<OUT>(sweep, tile, place, 0, l, sums);
        if constexpr (AT_ONCE < PIXELS) accumulate<OUT>(sweep, tile, place, AT_ONCE, l, sums);
        for (int o = 0; o < OUT; ++o) {
            int64_t plane = (tile.first + o) * sweep.out_plane + l;
            if constexpr (POOLED) {
                vec best = sums[o][0];
                ivec number = {};
                for (int p = 1; p < PIXELS; ++p) {
                    ivec take = taken(sums[o][p], best);
                    best = take ? sums[o][p] : best;
                    number = take ? ivec{} + p : number;
                }
                store(place.results[0] + plane, sweep.rectified ? relu(best) : best);
                if (place.largest == nullptr) continue;
                bytes small = __builtin_convertvector(number, bytes);
                std::memcpy(place.largest + (tile.first + o) * sweep.largest_plane + l, &small,
                            WIDTH);
            } else {
                for (int p = 0; p < PIXELS; ++p)
                    store(place.results[p] + plane,
                          sweep.rectified ? relu(sums[o][p]) : sums[o][p]);
            }
        }
    }
}

template <bool POOLED>
void compute_all(const Sweep& sweep, const std::vector<Tile>& tiles, const Place& place) {
    for (const Tile& tile : tiles) switch (tile.size) {
            case 1: compute<1, POOLED>(sweep, tile, place); break;
            case 2: compute<2, POOLED>(sweep, tile, place); break;
            case 3: compute<3, POOLED>(sweep, tile, place); break;
            case 4: compute<4, POOLED>(sweep, tile, place); break;
            case 5: compute<5, POOLED>(sweep, tile, place); break;
            default: compute<6, POOLED>(sweep, tile, place); break;
        }
}

}  // namespace
}  // namespace SARTOR_ISA
}  // namespace sartor
