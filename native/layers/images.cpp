// Images of a batch, from where they lie one after the other, into blocks.
//
// 16 pixels of 16 images are a square, which is turned by shuffles of whole vectors: four bytes at
// a time instead of one.
#include <algorithm>
#include <cstring>

#include "layers.h"
#include "turning.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// Calls load(channel, first pixel, count, where to) for pixels that follow each other on both
// sides: a channel at once, or a row where there is a margin.
template <typename Load>
void each_run(Shape shape, View to, Load load) {
    bool whole = to.row == shape.columns * LANES;
    int64_t runs = whole ? 1 : shape.rows, count = whole ? shape.pixels() : shape.columns;
    for (int64_t c = 0; c < shape.channels; ++c)
        for (int64_t r = 0; r < runs; ++r)
            load(c, c * shape.pixels() + r * shape.columns, count, to.at(0, c, r, 0));
}

}  // namespace

void load_bytes(const uint8_t* const* images, Shape shape, const float* scale, const float* shift,
                View to) {
    each_run(shape, to, [&](int64_t c, int64_t first, int64_t count, float* into) {
        vec factor = splat(scale[c]), offset = splat(shift[c]);
        for (int64_t x = 0; x < count; x += LANES) {
            int64_t here = std::min<int64_t>(count - x, LANES);
            sixteen_bytes square[LANES] = {};
            if (here == LANES) {
                SARTOR_UNROLL
                for (int k = 0; k < LANES; ++k)
                    std::memcpy(&square[k], images[k] + first + x, LANES);
            } else {
                for (int k = 0; k < LANES; ++k)
                    std::memcpy(&square[k], images[k] + first + x, here);
            }
            turn_rows(square);
            uint8_t turned[LANES * LANES];
            std::memcpy(turned, square, sizeof turned);
            for (int64_t k = 0; k < here; ++k)
                for (int l = 0; l < LANES; l += WIDTH)
                    // Rounded twice, as where PyTorch scales images.
                    store(into + (x + k) * LANES + l,
                          floats_of(turned + k * LANES + l) * factor + offset);
        }
    });
}

void load_floats(const float* const* images, Shape shape, View to) {
    each_run(shape, to, [&](int64_t, int64_t first, int64_t count, float* into) {
        for (int64_t x = 0; x < count; x += WIDTH) {
            int64_t here = std::min<int64_t>(count - x, WIDTH);
            for (int l = 0; l < LANES; l += WIDTH) {
                vec rows[WIDTH];
                SARTOR_UNROLL
                for (int k = 0; k < WIDTH; ++k)
                    rows[k] = here == WIDTH ? load(images[l + k] + first + x)
                                            : load_first(images[l + k] + first + x, int(here));
                turn_rows(rows);
                for (int64_t k = 0; k < here; ++k) store(into + (x + k) * LANES + l, rows[k]);
            }
        }
    });
}

}  // namespace SARTOR_ISA
}  // namespace sartor
