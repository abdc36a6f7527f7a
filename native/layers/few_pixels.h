// Convolutions of a few images, each by itself: vectors of output channels, and each input spread
// over them. Bits are those of the forward pass over blocks, whose sums have the same order.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "correlation.h"
#include "engine.h"
#include "tiles.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// Vectors and pixels of a tile, whose sums, weights and one input fit in the registers.
constexpr int FEW_VECTORS = 2;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int FEW_PIXELS = 8;
#else
constexpr int FEW_PIXELS = 4;
#endif

// As `Sweep`; a row of taps lies `down` below the one before, and each tap `right` of the last.
struct FewSweep {
    bool rectified = false;
    int64_t in = 0, row_taps = 0, taps = 0, down = 0, right = 0;
};

struct FewPlace {
    const float* pixels[FEW_PIXELS];
    // One for each pixel or, under max-pooling, for each four.
    float* results[FEW_PIXELS];
    Range rows = {INT64_MAX, 0}, columns = {INT64_MAX, 0};
};

// `first` is the first channel of the tile, `weights` [in][tap][channel of the tile].
template <int VECTORS, bool POOLED>
__attribute__((noinline)) void compute_few(const FewSweep& sweep, const FewPlace& place,
                                           const float* weights, const float* bias,
                                           int64_t first) {
    constexpr int64_t WIDE = VECTORS * WIDTH;
    vec sums[VECTORS][FEW_PIXELS];
    for (int v = 0; v < VECTORS; ++v)
        for (int p = 0; p < FEW_PIXELS; ++p) sums[v][p] = load(bias + first + v * WIDTH);
    int64_t rows = place.rows.size(), columns = place.columns.size();
    int64_t skipped = place.rows.begin * sweep.down + place.columns.begin * sweep.right;
    weights += (place.rows.begin * sweep.row_taps + place.columns.begin) * WIDE;
    for (int64_t i = 0; i < sweep.in; ++i)
        for (int64_t y = 0; y < rows; ++y) {
            const float* weight = weights + (i * sweep.taps + y * sweep.row_taps) * WIDE;
            int64_t at = skipped + y * sweep.down + i;
            for (int64_t x = 0; x < columns; ++x) {
                vec by[VECTORS];
                for (int v = 0; v < VECTORS; ++v) by[v] = load(weight + v * WIDTH);
                for (int p = 0; p < FEW_PIXELS; ++p) {
                    vec input = splat(place.pixels[p][at]);
                    for (int v = 0; v < VECTORS; ++v) sums[v][p] = fma(by[v], input, sums[v][p]);
                }
                weight += WIDE;
                at += sweep.right;
            }
        }
    for (int v = 0; v < VECTORS; ++v) {
        int64_t channel = first + v * WIDTH;
        if constexpr (POOLED) {
            for (int p = 0; p < FEW_PIXELS; p += PIXELS) {
                vec best = sums[v][p];
                for (int k = 1; k < PIXELS; ++k)
                    best = taken(sums[v][p + k], best) ? sums[v][p + k] : best;
                store(place.results[p / PIXELS] + channel, sweep.rectified ? relu(best) : best);
            }
        } else {
            for (int p = 0; p < FEW_PIXELS; ++p)
                store(place.results[p] + channel,
                      sweep.rectified ? relu(sums[v][p]) : sums[v][p]);
        }
    }
}

// A convolution's weights, packed for it.
class FewPixels {
  public:
    // `weight` is [out][in][tap], the bias may be null. Channels are filled up to a multiple of
    // LANES, with zeros.
    void pack(const float* weight, const float* bias, int64_t in, int64_t out, int64_t taps) {
        channels_ = divided_up(out, LANES) * LANES;
        if (bias_.size() == 0) {
            bias_ = Buffer(channels_);
            weights_ = Buffer(channels_ * in * taps);
        }
        for (int64_t o = 0; o < out; ++o) bias_.data()[o] = bias != nullptr ? bias[o] : 0;
        float* next = weights_.data();
        for (int64_t first = 0; first < channels_;) {
            int64_t wide = width_at(first);
            for (int64_t place = 0; place < in * taps; ++place)
                for (int64_t o = first; o < first + wide; ++o)
                    *next++ = o < out ? weight[o * in * taps + place] : 0;
            first += wide;
        }
        count_ = in * taps;
    }

    // Calls read(row, column) and write(row, column) for where pixels come from and go to.
    template <typename Read, typename Write>
    void sweep(const FewSweep& sweep, const Correlation& of, Shape shape, Read read,
               Write write) const {
        for (int64_t first = 0; first < shape.pixels(); first += FEW_PIXELS) {
            FewPlace place;
            for (int p = 0; p < FEW_PIXELS; ++p) {
                // The last pixel again, where there are no more.
                int64_t pixel = std::min(first + p, shape.pixels() - 1);
                int64_t r = pixel / shape.columns, c = pixel % shape.columns;
                place.pixels[p] = read(r, c);
                place.results[p] = write(r, c);
                widen(place, of, r, c);
            }
            compute_all<false>(sweep, place);
        }
    }

    template <typename Read, typename Write>
    void sweep_windows(const FewSweep& sweep, const Correlation& of, Shape shape, Read read,
                       Write write) const {
        constexpr int AT_A_TIME = FEW_PIXELS / PIXELS;
        for (int64_t first = 0; first < shape.pixels(); first += AT_A_TIME) {
            FewPlace place;
            for (int p = 0; p < FEW_PIXELS; ++p) {
                int64_t window = std::min(first + p / PIXELS, shape.pixels() - 1);
                int64_t r = window / shape.columns, c = window % shape.columns;
                int64_t y = 2 * r + p % PIXELS / 2, x = 2 * c + p % 2;
                place.pixels[p] = read(y, x);
                place.results[p / PIXELS] = write(r, c);
                widen(place, of, y, x);
            }
            compute_all<true>(sweep, place);
        }
    }

  private:
    int64_t width_at(int64_t first) const {
        return std::min<int64_t>(channels_ - first, FEW_VECTORS * WIDTH);
    }

    static void widen(FewPlace& place, const Correlation& of, int64_t r, int64_t c) {
        const Range &row = of.inside[0][r], &column = of.inside[1][c];
        place.rows = {std::min(place.rows.begin, row.begin), std::max(place.rows.end, row.end)};
        place.columns = {std::min(place.columns.begin, column.begin),
                         std::max(place.columns.end, column.end)};
    }

    template <bool POOLED>
    void compute_all(const FewSweep& sweep, const FewPlace& place) const {
        const float* weights = weights_.data();
        for (int64_t first = 0; first < channels_;) {
            int64_t wide = width_at(first);
            if (wide == WIDTH)
                compute_few<1, POOLED>(sweep, place, weights, bias_.data(), first);
            else
                compute_few<FEW_VECTORS, POOLED>(sweep, place, weights, bias_.data(), first);
            weights += count_ * wide;
            first += wide;
        }
    }

    int64_t channels_ = 0, count_ = 0;
    Buffer weights_, bias_;
};

}  // namespace
}  // namespace SARTOR_ISA
}  // namespace sartor
