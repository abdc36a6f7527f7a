// A convolution's three products in bfloat16, for a stride of 1; sums are float32.
//
// A tile of results is 16 channels by up to four pixels of 16 images. Of the weights' gradient it
// is 16 output channels by 16 input channels, under up to four taps.
#pragma once

#include <algorithm>
#include <array>
#include <vector>

#include "arithmetic.h"
#include "bfloat16.h"
#include "engine.h"
#include "tiles.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// Channels, in and out, from which on it pays: fewer leave most of a tile empty.
constexpr int64_t FEWEST_CHANNELS = 16;

static bfloat16* numbers_of(const Buffer& buffer) {
    return reinterpret_cast<bfloat16*>(buffer.data());
}

// Room for so many numbers in bfloat16.
static Buffer room_for(int64_t numbers) { return Buffer(divided_up(numbers, 2)); }

// A thread's tile registers, as long as it multiplies.
class Multiplying {
  public:
    explicit Multiplying(const Bfloat16Kernels& kernels) : kernels_(kernels) {
        kernels_.begin(saved_);
    }
    ~Multiplying() { kernels_.end(saved_); }
    Multiplying(const Multiplying&) = delete;
    Multiplying& operator=(const Multiplying&) = delete;

  private:
    const Bfloat16Kernels& kernels_;
    alignas(64) unsigned char saved_[SAVED];
};

// A pixel of the results.
struct Pixel {
    int64_t row, column;
};

// A tile of results: up to 16 channels of up to four pixels.
struct Results {
    int64_t first, channels;
    Pixel pixels[MOST_RIGHTS];
    int count;
    // [pixel][16 channels][LANES]
    const float* sums;
};

// out(pixel) = sum over channels and taps of source(pixel + first + tap) * weight(tap): the forward
// pass, and with the kernel turned round the gradient of the input.
class Bfloat16Correlation {
  public:
    Bfloat16Correlation(Shape source, Shape results, std::array<int64_t, 2> taps,
                        std::array<int64_t, 2> first)
        : source_(source), results_(results), taps_(taps) {
        std::array<int64_t, 2> length{source.rows, source.columns};
        std::array<int64_t, 2> count{results.rows, results.columns};
        for (int axis = 0; axis < 2; ++axis) {
            before_[axis] = std::max<int64_t>(-first[axis], 0);
            from_[axis] = std::max<int64_t>(first[axis], 0);
            int64_t last = first[axis] + count[axis] + taps[axis] - 1;
            padded_[axis] = before_[axis] + std::max(last, length[axis]);
            for (int64_t k = 0; k < count[axis]; ++k) {
                int64_t at = first[axis] + k;
                Range inside{std::max<int64_t>(-at, 0), std::min(taps[axis], length[axis] - at)};
                inside_[axis].push_back(inside.size() > 0 ? inside : Range{});
            }
        }
        packed_ = room_for(tiles() * tile_size());
    }

    // Numbers of a block's copy.
    int64_t room() const { return groups() * group(); }

    // weight(channel of the results, of the source, tap) is at channel * row + channel * term + tap.
    // `turned`: the last tap is the first.
    void pack(const Packing& packing, const float* weight, int64_t row, int64_t term, bool turned,
              int thread, int threads) {
        int64_t taps = taps_[0] * taps_[1];
        for (int64_t tile = thread; tile < tiles(); tile += threads) {
            bfloat16* to = numbers_of(packed_) + tile * tile_size();
            int64_t o = tile * SIDE;
            for (int64_t i = 0; i < source_.channels; i += TERMS)
                for (int64_t tap = 0; tap < taps; ++tap, to += TILE)
                    packing.pack_tile(
                        weight + o * row + i * term + (turned ? taps - 1 - tap : tap), row, term,
                        results_.channels - o, std::min<int64_t>(source_.channels - i, TERMS), to);
        }
    }

    // Copies a block of the source.
    void read(const Packing& packing, View from, bfloat16* copy) const {
        packing.pair_channels(from, source_,
                              {copy + before_[0] * row() + before_[1] * TILE, group(), row()});
    }

    // Of a tile of channels, at up to four pixels.
    void compute(const Bfloat16Kernels& kernels, const bfloat16* copy, int64_t tile,
                 const Pixel* pixels, int count, float* sums) const {
        Range rows{INT64_MAX, 0}, columns{INT64_MAX, 0};
        const bfloat16* right[MOST_RIGHTS];
        for (int p = 0; p < count; ++p) {
            widen(rows, inside_[0][pixels[p].row]);
            widen(columns, inside_[1][pixels[p].column]);
        }
        for (int p = 0; p < count; ++p)
            right[p] = copy + (from_[0] + pixels[p].row + rows.begin) * row() +
                       (from_[1] + pixels[p].column + columns.begin) * TILE;
        Walk walk;
        walk.counts[0] = groups();
        walk.counts[1] = rows.size();
        walk.counts[2] = columns.size();
        walk.left[0] = taps_[0] * taps_[1] * TILE;
        walk.left[1] = taps_[1] * TILE;
        walk.left[2] = TILE;
        walk.right[0] = group();
        walk.right[1] = row();
        walk.right[2] = TILE;
        walk.rows = int(std::min<int64_t>(results_.channels - tile * SIDE, SIDE));
        walk.last_pairs[0] = int(divided_up(source_.channels - (groups() - 1) * TERMS, 2));
        const bfloat16* left = numbers_of(packed_) + tile * tile_size() +
                               (rows.begin * taps_[1] + columns.begin) * TILE;
        kernels.multiply(walk, left, right, count, false, sums);
    }

    int64_t tiles() const { return divided_up(results_.channels, SIDE); }

  private:
    static void widen(Range& all, const Range& more) {
        all = {std::min(all.begin, more.begin), std::max(all.end, more.end)};
    }

    int64_t groups() const { return divided_up(source_.channels, TERMS); }
    int64_t row() const { return padded_[1] * TILE; }
    int64_t group() const { return padded_[0] * row(); }
    int64_t tile_size() const { return groups() * taps_[0] * taps_[1] * TILE; }

    const Shape source_, results_;
    const std::array<int64_t, 2> taps_;
    // Of the copy: zeros before the source, where the first result's first tap is, and its size.
    std::array<int64_t, 2> before_, from_, padded_;
    // Of each row and column of results, the taps that read the source.
    std::array<std::vector<Range>, 2> inside_;
    // [tile of results' channels][group of the source's][tap][16][32]
    Buffer packed_;
};

// What all of a convolution's products in bfloat16 need.
class Bfloat16Convolution {
  public:
    static bool suits(const LayerSpec& spec) {
        return std::min(spec.in, spec.out) >= FEWEST_CHANNELS &&
               spec.stride == std::array<int64_t, 2>{1, 1};
    }

    Bfloat16Convolution(const LayerSpec& spec, Shape input, Shape maps)
        : kernels_(bfloat16_kernels(spec.isa)),
          input_(input),
          maps_(maps),
          kernel_(spec.kernel),
          padding_{spec.padding[0], spec.padding[2]},
          forward_(input, maps, kernel_, {-padding_[0], -padding_[1]}),
          backward_(maps, input, kernel_,
                    {padding_[0] - kernel_[0] + 1, padding_[1] - kernel_[1] + 1}) {
        padded_[0] = maps.rows + kernel_[0] - 1;
        // One more, for the maps' last pair of columns may be half of one.
        padded_[1] = maps.columns + kernel_[1];
    }

    void prepare(int threads) {
        values_.clear();
        for (int thread = 0; thread < threads; ++thread)
            values_.push_back(room_for(forward_.room()));
    }

    void reserve(int threads, bool trained) {
        prepare(threads);
        works_.clear();
        for (int thread = 0; thread < threads; ++thread) {
            Work work;
            work.gradient = room_for(backward_.room());
            if (trained) {
                work.by_columns = room_for(divided_up(maps_.channels, SIDE) * gradient_group());
                work.by_images = room_for(divided_up(input_.channels, SIDE) * image_group());
                work.sums = Buffer(divided_up(maps_.channels, SIDE) * sums_of_tile());
            }
            works_.push_back(std::move(work));
        }
    }

    void pack(const float* weight, int thread, int threads) {
        int64_t taps = kernel_[0] * kernel_[1], row = input_.channels * taps;
        forward_.pack(kernels_.packing, weight, row, taps, false, thread, threads);
        backward_.pack(kernels_.packing, weight, taps, row, true, thread, threads);
    }

    // write(results) for the maps of a block, four pixels at a time: under max-pooling a window,
    // else those that follow each other.
    template <typename Write>
    void forward(View in, int thread, bool pooled, const Write& write) const {
        bfloat16* copy = numbers_of(values_[thread]);
        forward_.read(kernels_.packing, in, copy);
        Multiplying multiplying(kernels_);
        sweep(forward_, copy, maps_, pooled, write);
    }

    // The same for the gradient of a block's input, from that of its maps.
    template <typename Write>
    void pass_on(View gradient, int thread, const Write& write) const {
        bfloat16* copy = numbers_of(works_[thread].gradient);
        backward_.read(kernels_.packing, gradient, copy);
        Multiplying multiplying(kernels_);
        sweep(backward_, copy, input_, false, write);
    }

    // Adds a block's products to the sums of a thread, or begins them.
    void weigh(View in, View gradient, int thread, bool adds) const {
        const Work& work = works_[thread];
        bfloat16 *columns = numbers_of(work.by_columns), *images = numbers_of(work.by_images);
        kernels_.packing.pair_columns(gradient, maps_, {columns, gradient_group(), pairs() * TILE});
        kernels_.packing.pair_images(
            in, input_, {images + padding_[0] * image_row() + padding_[1] * TILE / 2, image_group(),
                     image_row()});
        Walk walk;
        walk.counts[1] = maps_.rows;
        walk.counts[2] = pairs();
        walk.left[1] = pairs() * TILE;
        walk.left[2] = TILE;
        walk.right[1] = image_row();
        walk.right[2] = TILE;
        // Of an odd number of columns, the last one is alone.
        walk.last_pairs[2] = maps_.columns % 2 == 0 ? SIDE : SIDE / 2;
        int64_t taps = kernel_[0] * kernel_[1];
        int64_t all = divided_up(input_.channels, SIDE) * taps;
        Multiplying multiplying(kernels_);
        for (int64_t o = 0; o < divided_up(maps_.channels, SIDE); ++o) {
            walk.rows = int(std::min<int64_t>(maps_.channels - o * SIDE, SIDE));
            for (int64_t first = 0; first < all; first += MOST_RIGHTS) {
                const bfloat16* right[MOST_RIGHTS];
                int count = int(std::min<int64_t>(all - first, MOST_RIGHTS));
                for (int k = 0; k < count; ++k) {
                    int64_t tap = (first + k) % taps;
                    right[k] = images + (first + k) / taps * image_group() +
                               tap / kernel_[1] * image_row() + tap % kernel_[1] * TILE / 2;
                }
                kernels_.multiply(walk, columns + o * gradient_group(), right, count, adds,
                                  work.sums.data() + o * sums_of_tile() + first * SIDE * SIDE);
            }
        }
    }

    // Adds the sums of a thread to a gradient in PyTorch's layout.
    void add_sums(int thread, float* gradient) const {
        const float* sums = works_[thread].sums.data();
        int64_t taps = kernel_[0] * kernel_[1];
        for (int64_t o = 0; o < maps_.channels; ++o)
            for (int64_t i = 0; i < input_.channels; ++i) {
                const float* from = sums + o / SIDE * sums_of_tile() +
                                    i / SIDE * taps * SIDE * SIDE + o % SIDE * SIDE + i % SIDE;
                for (int64_t tap = 0; tap < taps; ++tap) *gradient++ += from[tap * SIDE * SIDE];
            }
    }

  private:
    // Of one thread, for one block.
    struct Work {
        // The maps' gradient for the gradient of the input, and for that of the weights; the input.
        Buffer gradient, by_columns, by_images;
        // [tile of outputs][tile of inputs][tap][16 outputs][16 inputs]
        Buffer sums;
    };

    template <typename Write>
    void sweep(const Bfloat16Correlation& correlation, const bfloat16* copy, Shape shape,
               bool pooled, const Write& write) const {
        alignas(64) float sums[MOST_RIGHTS * SIDE * LANES];
        Results results;
        results.sums = sums;
        int64_t side = pooled ? 2 : 1, rows = shape.rows / side, columns = shape.columns / side;
        int64_t all = rows * columns, at_once = pooled ? 1 : MOST_RIGHTS;
        for (int64_t tile = 0; tile < correlation.tiles(); ++tile) {
            results.first = tile * SIDE;
            results.channels = std::min<int64_t>(shape.channels - results.first, SIDE);
            for (int64_t first = 0; first < all; first += at_once) {
                results.count = pooled ? MOST_RIGHTS : int(std::min(all - first, at_once));
                for (int p = 0; p < results.count; ++p) {
                    int64_t at = pooled ? first : first + p;
                    results.pixels[p] = {at / columns * side + (pooled ? p / 2 : 0),
                                         at % columns * side + (pooled ? p % 2 : 0)};
                }
                correlation.compute(kernels_, copy, tile, results.pixels, results.count, sums);
                write(results);
            }
        }
    }

    int64_t pairs() const { return divided_up(maps_.columns, 2); }
    int64_t gradient_group() const { return maps_.rows * pairs() * TILE; }
    int64_t image_row() const { return padded_[1] * TILE / 2; }
    int64_t image_group() const { return padded_[0] * image_row(); }
    int64_t sums_of_tile() const {
        return divided_up(input_.channels, SIDE) * kernel_[0] * kernel_[1] * SIDE * SIDE;
    }

    const Bfloat16Kernels& kernels_;
    const Shape input_, maps_;
    const std::array<int64_t, 2> kernel_, padding_;
    Bfloat16Correlation forward_, backward_;
    // Rows and columns of the input's copy for the gradient of the weights.
    std::array<int64_t, 2> padded_;
    // Of each thread: a block of the input.
    std::vector<Buffer> values_;
    std::vector<Work> works_;
};

}  // namespace
}  // namespace SARTOR_ISA
}  // namespace sartor
