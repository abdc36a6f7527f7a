// How the channels of a convolution are divided into tiles, whose sums stay in registers.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "arithmetic.h"
#include "engine.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// Pixels of a tile: a window of 2x2 under max-pooling, else four that follow each other.
constexpr int PIXELS = 4;
// Channels of a tile, at most. 6 x 4 sums, 4 values and a weight leave 3 of 32 registers; where
// there are 16, the pixels are taken two at a time.
constexpr int CHANNELS = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int AT_ONCE = 4;
#else
constexpr int AT_ONCE = 2;
#endif

constexpr int64_t divided_up(int64_t count, int64_t by) { return (count + by - 1) / by; }

// Output channels [first, first + size) and where their packed weights begin.
struct Tile {
    int64_t first, size;
    const float* weights;
};

// Tiles of nearly equal size: 16 channels are 6 + 5 + 5, not 6 + 6 + 4 and 32 no 5 x 6 + 2.
std::vector<Tile> tiles_of(int64_t channels, int64_t most) {
    std::vector<Tile> found;
    int64_t count = divided_up(channels, most), first = 0;
    for (int64_t k = 0; k < count; ++k) {
        int64_t size = (channels - first + count - k - 1) / (count - k);
        found.push_back({first, size, nullptr});
        first += size;
    }
    return found;
}

}  // namespace
}  // namespace SARTOR_ISA
}  // namespace sartor
