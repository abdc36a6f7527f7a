// Changes of layout around linear layers, and what is done to their results in place.
#include <algorithm>
#include <cstring>

#include "arithmetic.h"
#include "linear.h"
#include "turning.h"

namespace sartor {
namespace SARTOR_ISA {

namespace {

// 16 x 16 floats: rows become columns.
void turn_square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row) {
    for (int i = 0; i < LANES; i += WIDTH) {
        for (int k = 0; k < LANES; k += WIDTH) {
            vec rows[WIDTH];
            SARTOR_UNROLL
            for (int r = 0; r < WIDTH; ++r) rows[r] = load(from + (i + r) * from_row + k);
            turn_rows(rows);
            SARTOR_UNROLL
            for (int r = 0; r < WIDTH; ++r) store(to + (k + r) * to_row + i, rows[r]);
        }
    }
}

}  // namespace

void turn(View in, Range blocks, Range features, float* turned, ptrdiff_t panel) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        for (int64_t feature = features.begin; feature < features.end;) {
            int64_t within = feature % LANES;
            int64_t here = std::min<int64_t>(features.end - feature, LANES - within);
            const float* from = in.at(block, feature, 0, 0);
            float* to = turned + feature / LANES * panel + block * LANES * LANES + within;
            if (here == LANES)
                turn_square(from, in.plane, to, LANES);
            else
                // Another thread may write the other features of these 16.
                for (int64_t f = 0; f < here; ++f)
                    for (int64_t k = 0; k < LANES; ++k) to[k * LANES + f] = from[f * in.plane + k];
            feature += here;
        }
    }
}

void gather_bytes(const Rows& rows, int64_t images, Range blocks, uint8_t* to, ptrdiff_t block) {
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        const uint8_t* from[LANES];
        for (int64_t k = 0; k < LANES; ++k)
            from[k] = rows.bytes[std::min(b * LANES + k, images - 1)];
        // Images lie anywhere in memory: those of the next block are fetched meanwhile.
        for (int64_t k = 0; k < LANES && b + 1 < blocks.end; ++k) {
            const uint8_t* next = rows.bytes[std::min((b + 1) * LANES + k, images - 1)];
            for (int64_t f = 0; f < rows.features; f += 64) __builtin_prefetch(next + f);
        }
        for (int64_t f = 0; f < rows.features; f += LANES) {
            sixteen_bytes square[LANES] = {};
            int64_t here = std::min<int64_t>(rows.features - f, LANES);
            if (here == LANES) {
                SARTOR_UNROLL
                for (int k = 0; k < LANES; ++k) std::memcpy(&square[k], from[k] + f, LANES);
            } else {
                for (int k = 0; k < LANES; ++k) std::memcpy(&square[k], from[k] + f, here);
            }
            turn_rows(square);
            SARTOR_UNROLL
            for (int k = 0; k < LANES; ++k)
                std::memcpy(to + b * block + (f + k) * LANES, &square[k], LANES);
        }
    }
}

void gather_floats(const Rows& rows, int64_t images, Range blocks, View to) {
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        for (int64_t f = 0; f < rows.features; f += LANES) {
            alignas(64) float square[LANES * LANES], turned[LANES * LANES];
            int64_t here = std::min<int64_t>(rows.features - f, LANES);
            for (int64_t k = 0; k < LANES; ++k) {
                const float* from = rows.floats[std::min(b * LANES + k, images - 1)];
                std::memcpy(square + k * LANES, from + f, here * sizeof(float));
                std::fill(square + k * LANES + here, square + (k + 1) * LANES, 0.0f);
            }
            turn_square(square, LANES, turned, LANES);
            for (int64_t k = 0; k < here; ++k)
                std::memcpy(to.at(b, f + k, 0, 0), turned + k * LANES, LANES * sizeof(float));
        }
    }
}

void drop(View values, int64_t size, int64_t images, Range blocks, Range features,
          const uint16_t* words, int threshold, float scale) {
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        for (int64_t f = features.begin; f < features.end; f += LANES) {
            int64_t here = std::min<int64_t>(features.end - f, LANES);
            sixteen_bytes square[LANES];
            for (int64_t k = 0; k < LANES; ++k) {
                int64_t image = std::min(b * LANES + k, images - 1);
                int16_t of_image[LANES] = {};
                std::memcpy(of_image, words + image * size + f, here * sizeof(int16_t));
                uint8_t kept[LANES];
                for (int i = 0; i < LANES; ++i) kept[i] = of_image[i] >= threshold;
                std::memcpy(&square[k], kept, LANES);
            }
            turn_rows(square);
            uint8_t kept[LANES * LANES];
            std::memcpy(kept, square, sizeof kept);
            for (int64_t k = 0; k < here; ++k) {
                float* at = values.at(b, f + k, 0, 0);
                for (int l = 0; l < LANES; l += WIDTH)
                    store(at + l, load(at + l) * (floats_of(kept + k * LANES + l) * scale));
            }
        }
    }
}

void rectify_gradient(View gradient, View result, Range blocks, Range features, float scale) {
    for (int64_t b = blocks.begin; b < blocks.end; ++b) {
        for (int64_t f = features.begin; f < features.end; ++f) {
            float* at = gradient.at(b, f, 0, 0);
            const float* from = result.at(b, f, 0, 0);
            for (int l = 0; l < LANES; l += WIDTH)
                store(at + l, relu_gradient(load(at + l) * scale, load(from + l)));
        }
    }
}

}  // namespace SARTOR_ISA
}  // namespace sartor
