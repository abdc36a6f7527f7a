// The products of a convolution's weight gradient, over blocks of images.
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

// Inputs of a tile of weight gradients: the pixels of a channel under one tap of the kernel.
constexpr int INPUTS = AT_ONCE;

// Adds to sums[o * stride + j] what a tile's vectors, [part of the block][o * IN + j], sum up to.
template <int OUT, int IN>
static inline __attribute__((always_inline)) void add_sums(const vec (&total)[OUT * IN][PER_BLOCK],
                                                           float* sums, int64_t stride) {
    alignas(64) float found[divided_up(OUT * IN, WIDTH) * WIDTH];
    for (int first = 0; first < OUT * IN; first += WIDTH) {
        vec some[WIDTH] = {};
        for (int k = 0; k < WIDTH && first + k < OUT * IN; ++k)
            some[k] = narrowed(total[first + k]);
        store(found + first, sums_of_lanes(some));
    }
    for (int o = 0; o < OUT; ++o)
        for (int j = 0; j < IN; ++j) sums[o * stride + j] += found[o * IN + j];
}

// Sums over the pixels of a block: gradient(channel of the tile) * input.
template <int OUT, int IN>
void weigh(const float* gradient, int64_t gradient_plane, int64_t gradient_row,
           const float* const* inputs, int64_t input_row, int64_t input_column, Shape shape,
           float* sums, int64_t stride) {
    vec block[OUT * IN][PER_BLOCK];
    for (int part = 0; part < PER_BLOCK; ++part) {
        int l = part * WIDTH;
        vec total[OUT][IN] = {};
        for (int64_t r = 0; r < shape.rows; ++r) {
            const float* of_row = gradient + r * gradient_row + l;
            const float* from[IN];
            for (int j = 0; j < IN; ++j) from[j] = inputs[j] + r * input_row + l;
            for (int64_t c = 0; c < shape.columns; ++c) {
                vec values[IN];
                for (int j = 0; j < IN; ++j) values[j] = load(from[j] + c * input_column);
                for (int o = 0; o < OUT; ++o) {
                    vec by = load(of_row + o * gradient_plane + c * LANES);
                    for (int j = 0; j < IN; ++j) total[o][j] = fma(by, values[j], total[o][j]);
                }
            }
        }
        for (int o = 0; o < OUT; ++o)
            for (int j = 0; j < IN; ++j) block[o * IN + j][part] = total[o][j];
    }
    add_sums<OUT, IN>(block, sums, stride);
}

using Weigh = void (*)(const float*, int64_t, int64_t, const float* const*, int64_t, int64_t, Shape,
                       float*, int64_t);

template <int IN>
Weigh weigh_of(int64_t out) {
    switch (out) {
        case 1: return weigh<1, IN>;
        case 2: return weigh<2, IN>;
        case 3: return weigh<3, IN>;
        case 4: return weigh<4, IN>;
        case 5: return weigh<5, IN>;
        default: return weigh<6, IN>;
    }
}

Weigh weigh_of(int64_t out, int64_t in) {
    if (in == 1) return weigh_of<1>(out);
    if (in == 2) return weigh_of<2>(out);
    if constexpr (INPUTS > 3)
        if (in == 3) return weigh_of<3>(out);
    return weigh_of<INPUTS>(out);
}

// Weight gradients through max-pooling. Of the four pixels of a window only one has a gradient,
// another one in each image: of the two rows of inputs under the window that of the largest is
// selected, and the gradient is split into those for the left and the right pixel, one of which is
// zero. So a window takes two products instead of four.
struct Picked {
    // [channel][row][column][left, right, lower][LANES]; lower is a mask: the largest is below.
    const float* data;
    int64_t plane, rows, columns;
    static constexpr int64_t WINDOW = 3 * LANES;
};

// Inputs from the top left pixel of the first window on, under COLUMNS neighbouring taps.
struct Under {
    const float* first;
    // From a window's upper pixels to its lower ones, and from one row of windows to the next.
    int64_t lower, row;
};

template <int OUT, int COLUMNS>
void weigh_windows(const Picked& picked, int64_t channel, const Under& under, float* sums,
                   int64_t stride) {
    vec block[OUT * COLUMNS][PER_BLOCK];
    for (int part = 0; part < PER_BLOCK; ++part) {
        int l = part * WIDTH;
        vec total[OUT][COLUMNS] = {};
        const float* window = picked.data + channel * picked.plane + l;
        for (int64_t r = 0; r < picked.rows; ++r) {
            const float* from = under.first + r * under.row + l;
            for (int64_t c = 0; c < picked.columns; ++c) {
                vec upper[COLUMNS + 1];
                for (int k = 0; k <= COLUMNS; ++k) upper[k] = load(from + k * LANES);
                for (int o = 0; o < OUT; ++o) {
                    const float* of = window + o * picked.plane;
                    vec left = load(of), right = load(of + LANES);
                    ivec below = load_mask(of + 2 * LANES);
                    vec input = below ? load(from + under.lower) : upper[0];
                    for (int k = 0; k < COLUMNS; ++k) {
                        vec next =
                            below ? load(from + under.lower + (k + 1) * LANES) : upper[k + 1];
                        total[o][k] = fma(left, input, total[o][k]);
                        total[o][k] = fma(right, next, total[o][k]);
                        input = next;
                    }
                }
                window += Picked::WINDOW;
                from += 2 * LANES;
            }
        }
        for (int o = 0; o < OUT; ++o)
            for (int k = 0; k < COLUMNS; ++k) block[o * COLUMNS + k][part] = total[o][k];
    }
    add_sums<OUT, COLUMNS>(block, sums, stride);
}

// Channels of such a tile for a number of neighbouring taps.
constexpr int64_t channels_for(int64_t columns) {
#if defined(__AVX512F__) || defined(__aarch64__)
    return columns > 4 ? 3 : columns > 2 ? 4 : 6;
#else
    return columns > 3 ? 1 : columns > 1 ? 2 : 4;
#endif
}

constexpr int64_t MOST_COLUMNS = 5;

using WeighWindows = void (*)(const Picked&, int64_t, const Under&, float*, int64_t);

template <int COLUMNS, int OUT>
WeighWindows weigh_windows_of(int64_t out) {
    if constexpr (OUT > 1)
        if (out < OUT) return weigh_windows_of<COLUMNS, OUT - 1>(out);
    return weigh_windows<OUT, COLUMNS>;
}

WeighWindows weigh_windows_of(int64_t out, int64_t columns) {
    switch (columns) {
        case 1: return weigh_windows_of<1, channels_for(1)>(out);
        case 2: return weigh_windows_of<2, channels_for(2)>(out);
        case 3: return weigh_windows_of<3, channels_for(3)>(out);
        case 4: return weigh_windows_of<4, channels_for(4)>(out);
        default: return weigh_windows_of<5, channels_for(5)>(out);
    }
}

}  // namespace
}  // namespace SARTOR_ISA
}  // namespace sartor
