// The products that linear layers are made of: forward, and both gradients.
#include "linear.h"

#include <algorithm>
#include <cstring>

#include "arithmetic.h"
#include "product.h"
#include "turning.h"


namespace sartor {
namespace SARTOR_ISA {

namespace {

// Floats of a piece of activations that stays in the first-level cache while all rows use it.
constexpr int PIECE = 8192;

// Vectors of a tile: `block` floats from one block to the next, `inner` from one term to the next.
struct Vectors {
    const float* data;
    ptrdiff_t block, inner;
};

// Terms of a sum walked at a time, so that a tile's vectors fit in a piece.
int terms_at_once(int terms, int vectors) {
    int parts = ceil_div(terms, PIECE / (vectors * WIDTH));
    return ceil_div(terms, parts);
}

// Rows in tiles of nearly equal size: calls `body(first, count)`.
template <class Body>
void for_row_tiles(Range rows, int most, Body body) {
    int total = int(rows.size()), tiles = ceil_div(total, most);
    for (int t = 0; t < tiles; ++t) {
        int begin = part_begin(total, tiles, t), end = part_begin(total, tiles, t + 1);
        body(int(rows.begin) + begin, end - begin);
    }
}

// The forward product. `piece(tile, begin, end)` gives the terms [begin, end) of a tile's vectors.
template <class Piece>
void forward(const float* weight, const float* bias, int inputs, View out, Range blocks, Range rows,
             bool rectified, Piece piece) {
    int count = int(blocks.size());
    for (int t = 0; t < tiles_of(count); ++t) {
        Tile tile = tile_of(count, t);
        float* to = out.data + blocks.begin * out.block + tile.at(out.block);
        int step = terms_at_once(inputs, tile.vectors);
        for (int begin = 0; begin < inputs; begin += step) {
            int end = std::min(begin + step, inputs);
            Vectors vectors = piece(tile, begin, end);
            for_row_tiles(rows, MOST_ROWS[tile.vectors], [&](int row, int height) {
                Terms terms{weight + ptrdiff_t(row) * inputs + begin,
                            inputs, 1, 0, vectors.data, vectors.block, vectors.inner, 0,
                            end - begin, 1};
                Sums sums{to + row * out.plane, out.plane, out.block,
                          begin == 0 && bias ? bias + row : nullptr, begin > 0,
                          rectified && end == inputs};
                add_products(height, tile.vectors, terms, sums);
            });
        }
    }
}

}  // namespace

void linear_forward(const float* weight, const float* bias, int inputs, View in, View out,
                    Range blocks, Range rows, bool rectified) {
    const float* from = in.data + blocks.begin * in.block;
    forward(weight, bias, inputs, out, blocks, rows, rectified,
            [&](const Tile& tile, int begin, int) {
                return Vectors{from + tile.at(in.block) + ptrdiff_t(begin) * LANES, in.block,
                               LANES};
            });
}

void linear_forward(const float* weight, const float* bias, int inputs, ByteBlocks in,
                    const float* scale, const float* shift, View out, Range blocks, Range rows,
                    bool rectified) {
    // Every thread scales all bytes that it needs: that takes a few per cent of the product, less
    // than fetching floats that another core has just written.
    alignas(64) float piece[PIECE];
    const uint8_t* from = in.data + blocks.begin * in.block;
    forward(weight, bias, inputs, out, blocks, rows, rectified,
            [&](const Tile& tile, int begin, int end) {
                ptrdiff_t inner = std::min(tile.vectors * WIDTH, LANES);
                ptrdiff_t block = (end - begin) * inner;
                for (int v = 0; v < tile.vectors; ++v) {
                    const uint8_t* bytes = from + tile.at(in.block) + place(v, in.block);
                    float* to = piece + place(v, block);
                    for (int k = begin; k < end; ++k, to += inner)
                        store(to, fma(floats_of(bytes + ptrdiff_t(k) * LANES), splat(scale[k]),
                                      splat(shift[k])));
                }
                return Vectors{piece, block, inner};
            });
}

void linear_input_gradient(const float* weight, int inputs, int outputs, View out_gradient,
                           View in_gradient, Range blocks, Range columns) {
    int count = int(blocks.size());
    for (int t = 0; t < tiles_of(count); ++t) {
        Tile tile = tile_of(count, t);
        const float* from =
            out_gradient.data + blocks.begin * out_gradient.block + tile.at(out_gradient.block);
        float* to = in_gradient.data + blocks.begin * in_gradient.block + tile.at(in_gradient.block);
        // Of a line of the weight, a tile uses as many floats as it has rows: 8 are half a line,
        // and the other half follows at once.
        int most = std::min(MOST_ROWS[tile.vectors], 8);
        int step = terms_at_once(outputs, tile.vectors);
        for (int begin = 0; begin < outputs; begin += step) {
            int end = std::min(begin + step, outputs);
            for_row_tiles(columns, most, [&](int column, int height) {
                Terms terms{weight + ptrdiff_t(begin) * inputs + column,
                            1, inputs, 0, from + begin * out_gradient.plane, out_gradient.block,
                            out_gradient.plane, 0, end - begin, 1};
                Sums sums{to + column * in_gradient.plane, in_gradient.plane, in_gradient.block,
                          nullptr, begin > 0};
                add_products(height, tile.vectors, terms, sums);
            });
        }
    }
}

namespace {

// The gradient of a tile of the weight goes into its sink, row by row.
void sink_tile(const Sink& sink, const float* found, ptrdiff_t width, int row, int height,
               int column, int inputs) {
    int count = int(std::min(width, ptrdiff_t(inputs - column)));
    for (int r = 0; r < height; ++r, found += width) {
        ptrdiff_t at = ptrdiff_t(row + r) * inputs + column;
        if (sink.gradient == nullptr) {
            update(*sink.rule, sink.weight + at, found, 1, sink.first ? sink.first + at : nullptr,
                   sink.second ? sink.second + at : nullptr, count);
        } else if (sink.adds) {
            for (int k = 0; k < count; ++k) sink.gradient[at + k] += found[k];
        } else {
            std::memcpy(sink.gradient + at, found, count * sizeof(float));
        }
    }
}

// What the sink of a tile will change is fetched while its gradient is computed.
void prefetch_tile(const Sink& sink, ptrdiff_t width, int row, int height, int column, int inputs) {
    float* read_again = sink.adds ? sink.gradient : nullptr;
    for (const float* changed : {sink.weight, sink.first, sink.second, read_again}) {
        if (changed == nullptr) continue;
        for (int r = 0; r < height; ++r) {
            const float* line = changed + ptrdiff_t(row + r) * inputs + column;
            for (ptrdiff_t k = 0; k < width; k += LANES) __builtin_prefetch(line + k, 1);
        }
    }
}

// Where the features begin whose gradient is found in a place of its own, for vectors of it reach
// beyond the weight's row: the last group of up to four blocks, as the widest vectors take them. It
// is the same for narrower vectors, since sums that begin elsewhere are rounded differently.
int whole_features(int inputs) {
    int blocks = ceil_div(inputs, LANES), groups = ceil_div(blocks, 4);
    return inputs % LANES ? part_begin(blocks, groups, groups - 1) * LANES : inputs;
}

// The weight's gradient. `panels(tile)` gives the turned features of a tile, of all blocks.
template <class Panels>
void weight_gradient(int inputs, View out_gradient, Range blocks, Range rows, const Sink& sink,
                     Panels panels) {
    alignas(64) float found[MOST_ROWS[1] * MOST_VECTORS * LANES];
    int count = ceil_div(inputs, LANES), whole_until = whole_features(inputs);
    const float* factors = out_gradient.data + blocks.begin * out_gradient.block;
    for (int t = 0; t < tiles_of(count); ++t) {
        Tile tile = tile_of(count, t);
        int column = tile.first * WIDTH, width = tile.vectors * WIDTH;
        if (column >= inputs) break;  // the last 16 features are not all there
        Vectors vectors = panels(tile);
        for_row_tiles(rows, MOST_ROWS[tile.vectors], [&](int row, int height) {
            prefetch_tile(sink, width, row, height, column, inputs);
            Terms terms{factors + row * out_gradient.plane,
                        out_gradient.plane, 1, out_gradient.block, vectors.data, vectors.block,
                        vectors.inner, vectors.inner * LANES, LANES, int(blocks.size())};
            ptrdiff_t at = ptrdiff_t(row) * inputs + column;
            bool whole = column < whole_until;
            if (whole && sink.gradient != nullptr) {
                Sums sums{sink.gradient + at, inputs, LANES, nullptr, sink.adds};
                return add_products(height, tile.vectors, terms, sums);
            }
            if (whole && sink.rule->is_linear()) {
                // Without momentum, an update is one multiplication: done before the sums leave
                // their registers, it saves a fifth of the time.
                Sums sums{sink.weight + at, inputs, LANES};
                sums.blends = true;
                sums.kept = 1 - sink.rule->rate * sink.rule->decay;
                sums.factor = -sink.rule->rate;
                return add_products(height, tile.vectors, terms, sums);
            }
            Sums sums{found, width, LANES};
            add_products(height, tile.vectors, terms, sums);
            sink_tile(sink, found, width, row, height, column, inputs);
        });
    }
}

}  // namespace

void linear_weight_gradient(int inputs, View out_gradient, Turned in, Range blocks, Range rows,
                            const Sink& sink) {
    weight_gradient(inputs, out_gradient, blocks, rows, sink, [&](const Tile& tile) {
        return Vectors{in.data + tile.at(in.panel) + blocks.begin * LANES * LANES, in.panel, LANES};
    });
}

int64_t weight_scratch(int64_t blocks) { return blocks * LANES * MOST_VECTORS * LANES; }

void linear_weight_gradient(int inputs, View out_gradient, const Rows& in, int64_t images,
                            Range blocks, Range rows, const Sink& sink, float* scratch) {
    weight_gradient(inputs, out_gradient, blocks, rows, sink, [&](const Tile& tile) {
        ptrdiff_t inner = std::min(tile.vectors * WIDTH, LANES);
        ptrdiff_t panel = blocks.size() * LANES * inner;
        for (int v = 0; v < tile.vectors; ++v) {
            int feature = (tile.first + v) * WIDTH;
            int here = std::min(WIDTH, std::max(inputs - feature, 0));
            float* to = scratch + place(v, panel);
            vec scale = in.bytes ? load(in.scale + feature) : vec{};
            vec shift = in.bytes ? load(in.shift + feature) : vec{};
            for (int64_t k = blocks.begin * LANES; k < blocks.end * LANES; ++k, to += inner) {
                int64_t image = std::min(k, images - 1);
                if (in.floats) {
                    store(to, load_first(in.floats[image] + feature, here));
                } else if (here == WIDTH) {
                    store(to, fma(floats_of(in.bytes[image] + feature), scale, shift));
                } else {
                    // The row may end where its memory does.
                    uint8_t bytes[WIDTH] = {};
                    std::memcpy(bytes, in.bytes[image] + feature, here);
                    store(to, fma(floats_of(bytes), scale, shift));
                }
            }
        }
        return Vectors{scratch, panel, inner};
    });
}

void linear_bias_gradient(View out_gradient, Range blocks, Range rows, float* gradient, bool adds) {
    for (int64_t row = rows.begin; row < rows.end; ++row, ++gradient) {
        vec sums[PER_BLOCK] = {};
        for (int64_t block = blocks.begin; block < blocks.end; ++block)
            for (int v = 0; v < PER_BLOCK; ++v)
                sums[v] += load(out_gradient.at(block, row, 0, 0) + v * WIDTH);
        float lanes[LANES];
        for (int v = 0; v < PER_BLOCK; ++v) store(lanes + v * WIDTH, sums[v]);
        float sum = sum_of_lanes(lanes);
        *gradient = adds ? *gradient + sum : sum;
    }
}

namespace {

// For a few images, blocks would be nearly empty, and the weights, each used once or a few times,
// come from memory faster than they are used. So a vector holds 16 terms of a sum, and the weights
// are read in their own order; R rows at once keep R streams from memory going.
template <int R, int N>
void few(const float* weight, const float* bias, int inputs, const float* in, ptrdiff_t in_row,
         float* out, ptrdiff_t out_row, bool rectified) {
    vec sums[R][N][PER_BLOCK] = {};
    auto add = [&](int k, auto read) {
        SARTOR_UNROLL
        for (int v = 0; v < PER_BLOCK; ++v) {
            vec values[N];
            SARTOR_UNROLL
            for (int n = 0; n < N; ++n) values[n] = read(in + n * in_row + k + v * WIDTH, v);
            SARTOR_UNROLL
            for (int r = 0; r < R; ++r) {
                vec factors = read(weight + ptrdiff_t(r) * inputs + k + v * WIDTH, v);
                SARTOR_IN_REGISTER(factors);
                SARTOR_UNROLL
                for (int n = 0; n < N; ++n)
                    sums[r][n][v] = fma(factors, values[n], sums[r][n][v]);
            }
        }
    };
    int whole = inputs / LANES * LANES, rest = inputs - whole;
    for (int k = 0; k < whole; k += LANES) add(k, [](const float* from, int) { return load(from); });
    if (rest > 0)
        add(whole, [&](const float* from, int v) {
            return load_first(from, std::min(std::max(rest - v * WIDTH, 0), WIDTH));
        });
    for (int r = 0; r < R; ++r)
        for (int n = 0; n < N; ++n) {
            float lanes[LANES];
            for (int v = 0; v < PER_BLOCK; ++v) store(lanes + v * WIDTH, sums[r][n][v]);
            float sum = sum_of_lanes(lanes) + (bias ? bias[r] : 0);
            out[n * out_row + r] = rectified && sum < 0 ? 0 : sum;
        }
}

template <int N>
void few_images(const float* weight, const float* bias, int inputs, const float* in,
                ptrdiff_t in_row, float* out, ptrdiff_t out_row, Range rows, bool rectified) {
    constexpr int R = N == 1 ? 8 : 4;
    int64_t row = rows.begin;
    auto at = [&](int64_t r) { return weight + r * inputs; };
    for (; row + R <= rows.end; row += R)
        few<R, N>(at(row), bias ? bias + row : nullptr, inputs, in, in_row, out + row, out_row,
                  rectified);
    for (; row < rows.end; ++row)
        few<1, N>(at(row), bias ? bias + row : nullptr, inputs, in, in_row, out + row, out_row,
                  rectified);
}

}  // namespace

void linear_few(const float* weight, const float* bias, int inputs, const float* in,
                ptrdiff_t in_row, float* out, ptrdiff_t out_row, int images, Range rows,
                bool rectified) {
    switch (images) {
        case 1: return few_images<1>(weight, bias, inputs, in, in_row, out, out_row, rows, rectified);
        case 2: return few_images<2>(weight, bias, inputs, in, in_row, out, out_row, rows, rectified);
        case 3: return few_images<3>(weight, bias, inputs, in, in_row, out, out_row, rows, rectified);
        case 4: return few_images<4>(weight, bias, inputs, in, in_row, out, out_row, rows, rectified);
    }
}

}  // namespace SARTOR_ISA
}  // namespace sartor
