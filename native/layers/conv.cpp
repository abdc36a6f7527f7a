// Convolutions, with the max-pooling and the ReLU that follow them.
//
// All three products, of the forward pass and of both gradients, are tiles of a few output channels
// by a few pixels whose sums stay in registers. A vector holds one pixel of WIDTH images, so a
// weight is a scalar that is spread over it, and any number of channels, any kernel and any stride
// fill vectors equally well.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "arithmetic.h"
#include "bfloat16_conv.h"
#include "correlation.h"
#include "few_pixels.h"
#include "layers.h"
#include "weighing.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

class Convolution final : public Layer {
  public:
    Convolution(const LayerSpec& spec, Shape input, Shape maps)
        : Layer(input, spec.pooled ? Shape{maps.channels, maps.rows / 2, maps.columns / 2} : maps),
          maps_(maps),
          kernel_(spec.kernel),
          stride_(spec.stride),
          padding_{spec.padding[0], spec.padding[1], spec.padding[2], spec.padding[3]},
          weight_(spec.weight),
          bias_(spec.bias),
          pooled_(spec.pooled),
          rectified_(spec.rectified) {
        parameters.push_back(
            {weight_, maps.channels * input.channels * kernel_[0] * kernel_[1], true, {}});
        if (bias_ != nullptr) parameters.push_back({bias_, maps.channels, true, {}});
        forward_.in = input.channels;
        forward_.out = maps.channels;
        forward_.taps = kernel_;
        for (int64_t place = 0; place < kernel_[0] * kernel_[1]; ++place)
            forward_.places.push_back(place);
        forward_.prepare();
        forward_.clip(0, maps.rows, -padding_.top, stride_[0], input.rows);
        forward_.clip(1, maps.columns, -padding_.left, stride_[1], input.columns);
        prepare_backward();
        if (multiplies_bfloat16(spec.isa) && Bfloat16Convolution::suits(spec))
            narrow_ = std::make_unique<Bfloat16Convolution>(spec, input, maps);
    }

    // What is rounded to bfloat16 is a copy, which has a margin of its own.
    Margin input_margin() const override { return narrow_ ? Margin{} : padding_; }
    // Gradients through pooling or ReLU are spread over a map of the layer's own.
    Margin gradient_margin() const override { return spreads() || narrow_ ? Margin{} : margin_; }
    bool narrow() const override { return narrow_ != nullptr; }
    bool reads_output() const override { return rectified_; }

    void prepare(int threads) override {
        if (narrow_) narrow_->prepare(threads);
    }

    void reserve(int64_t blocks, int threads) override {
        Layer::reserve(blocks, threads);
        if (narrow_) narrow_->reserve(threads, parameters[0].trained);
        if (pooled_) largest_ = Buffer(divided_up(blocks * output.size() * LANES, sizeof(float)));
        spread_.clear();
        picked_.clear();
        for (int thread = 0; spreads() && thread < threads; ++thread)
            spread_.emplace_back(maps_, margin_, 1);
        for (int thread = 0; picks_by_window() && thread < threads; ++thread)
            picked_.emplace_back(output.size() * Picked::WINDOW);
    }

    void refresh(int thread, int threads) override {
        if (narrow_) return narrow_->pack(weight_, thread, threads);
        int64_t taps = kernel_[0] * kernel_[1], in = input.channels;
        auto weight = [&](int64_t o, int64_t i, int64_t tap) {
            return weight_[(o * in + i) * taps + tap];
        };
        forward_.pack(weight, thread, threads);
        auto turned = [&](int64_t i, int64_t o, int64_t tap) { return weight(o, i, tap); };
        for (Phase& phase : phases_) phase.correlation.pack(turned, thread, threads);
    }

    void forward(const Pass& pass, const Part& part, View in, View out) override {
        if (narrow_) return forward_narrow(pass, part, in, out);
        Sweep sweep = sweep_of(forward_, in, out);
        sweep.bias = bias_;
        sweep.rectified = rectified_;
        sweep.largest_plane = output.pixels() * LANES;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            if (pooled_)
                forward_pooled(pass, sweep, in, out, block);
            else
                correlate(sweep, forward_, [&](int64_t r, int64_t c, Place& to, int p) {
                    to.pixels[p] = read_at(in, block, r, c);
                    to.results[p] = out.at(block, 0, r, c);
                });
    }

    void backward(const Pass&, const Part& part, View in, View out, View out_gradient,
                  View in_gradient) override {
        bool onward = in_gradient.data != nullptr, trained = parameters[0].trained;
        bool by_window = picks_by_window(), adds = false;
        float* weight_sums = trained ? parameters[0].gradients[part.thread] : nullptr;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
            View gradient = out_gradient.from(block);
            if (bias_ != nullptr && parameters[1].trained)
                sum_block(out, gradient, block, parameters[1].gradients[part.thread]);
            if (pooled_ && (onward || trained)) {
                View map = onward || !by_window ? spread_[part.thread].view() : View{};
                float* picked = by_window ? picked_[part.thread].data() : nullptr;
                pick(out.from(block), gradient, block, picked, map);
                gradient = map;
            } else if (rectified_) {
                rectify(out.from(block), gradient, spread_[part.thread].view());
                gradient = spread_[part.thread].view();
            }
            if (narrow_) {
                if (trained) narrow_->weigh(in.from(block), gradient, part.thread, adds);
                if (onward) pass_on_narrow(gradient, in_gradient.from(block), part.thread);
                adds = true;
                continue;
            }
            if (trained && by_window)
                weigh_picked(in, block, picked_[part.thread].data(), weight_sums);
            else if (trained)
                weigh_block(in, block, gradient, weight_sums);
            if (onward) pass_on(gradient, in_gradient, block);
        }
        if (narrow_ && trained && adds) narrow_->add_sums(part.thread, weight_sums);
    }

    void refresh_few() override {
        few_.pack(weight_, bias_, input.channels, maps_.channels, kernel_[0] * kernel_[1]);
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        FewSweep sweep;
        sweep.in = input.channels;
        sweep.rectified = rectified_;
        sweep.row_taps = kernel_[1];
        sweep.taps = kernel_[0] * kernel_[1];
        sweep.down = in.row;
        sweep.right = in.column;
        for (int image = 0; image < images; ++image) {
            auto read = [&](int64_t r, int64_t c) {
                return in.at(image, r * stride_[0] - padding_.top, c * stride_[1] - padding_.left);
            };
            auto write = [&](int64_t r, int64_t c) { return out.at(image, r, c); };
            if (pooled_)
                few_.sweep_windows(sweep, forward_, output, read, write);
            else
                few_.sweep(sweep, forward_, output, read, write);
        }
    }

  private:
    // Pixels of the input whose gradient meets the same taps of the kernel.
    struct Phase {
        Correlation correlation;
        // The first row and column of it, and those of the gradient's map that its tap 0 reads.
        std::array<int64_t, 2> first, from;
    };

    bool spreads() const { return pooled_ || rectified_; }
    bool picks_by_window() const { return pooled_ && stride_[1] == 1 && !narrow_; }

    const float* read_at(View in, int64_t block, int64_t r, int64_t c) const {
        return in.at(block, 0, r * stride_[0] - padding_.top, c * stride_[1] - padding_.left);
    }

    // Pixel r of the input is read through tap k for row (r + padding - k) / stride of the output,
    // where that is whole: the taps are those with the remainder of r + padding.
    void prepare_backward() {
        std::array<int64_t, 2> before{padding_.top, padding_.left};
        std::array<int64_t, 2> length{input.rows, input.columns}, maps{maps_.rows, maps_.columns};
        int64_t reach[2][2] = {};
        for (int64_t y = 0; y < std::min(stride_[0], input.rows); ++y)
            for (int64_t x = 0; x < std::min(stride_[1], input.columns); ++x) {
                std::array<int64_t, 2> first{y, x}, rest;
                for (int axis = 0; axis < 2; ++axis)
                    rest[axis] = (first[axis] + before[axis]) % stride_[axis];
                if (rest[0] >= kernel_[0] || rest[1] >= kernel_[1]) {
                    has_gaps_ = true;
                    continue;
                }
                Phase phase;
                phase.first = first;
                Correlation& correlation = phase.correlation;
                correlation.in = maps_.channels;
                correlation.out = input.channels;
                correlation.direction = -1;
                for (int64_t ky = rest[0]; ky < kernel_[0]; ky += stride_[0])
                    for (int64_t kx = rest[1]; kx < kernel_[1]; kx += stride_[1])
                        correlation.places.push_back(ky * kernel_[1] + kx);
                for (int axis = 0; axis < 2; ++axis) {
                    int64_t from = (first[axis] + before[axis]) / stride_[axis];
                    int64_t count = divided_up(length[axis] - first[axis], stride_[axis]);
                    int64_t taps = divided_up(kernel_[axis] - rest[axis], stride_[axis]);
                    correlation.taps[axis] = taps;
                    correlation.clip(axis, count, from, 1, maps[axis]);
                    phase.from[axis] = from;
                    reach[axis][0] = std::max(reach[axis][0], taps - 1 - from);
                    reach[axis][1] = std::max(reach[axis][1], from + count - maps[axis]);
                }
                correlation.prepare();
                phases_.push_back(std::move(phase));
            }
        margin_ = {reach[0][0], reach[0][1], reach[1][0], reach[1][1]};
    }

    static Sweep sweep_of(const Correlation& correlation, View in, View out) {
        Sweep sweep;
        sweep.in = correlation.in;
        sweep.in_plane = in.plane;
        sweep.out_plane = out.plane;
        sweep.row_taps = correlation.taps[1];
        sweep.taps = correlation.taps[0] * correlation.taps[1];
        sweep.down = correlation.direction * in.row;
        sweep.right = correlation.direction * LANES;
        return sweep;
    }

    // Calls set_place(row, column, place, number of the pixel) for the pixels of each tile.
    template <typename SetPlace>
    static void correlate(const Sweep& sweep, const Correlation& correlation, SetPlace set_place) {
        const std::vector<Range>&rows = correlation.inside[0], &columns = correlation.inside[1];
        int64_t r = 0, c = 0, left = int64_t(rows.size() * columns.size());
        while (left > 0) {
            Place place;
            for (int p = 0; p < PIXELS; ++p) {
                set_place(r, c, place, p);
                place.widen(rows[r], columns[c]);
                if (left > 1) {
                    --left;
                    if (++c == int64_t(columns.size())) c = 0, ++r;
                } else if (p == PIXELS - 1) {
                    left = 0;
                }
            }
            compute_all<false>(sweep, correlation.tiles, place);
        }
    }

    void forward_pooled(const Pass& pass, const Sweep& sweep, View in, View out,
                        int64_t block) {
        for (int64_t r = 0; r < output.rows; ++r)
            for (int64_t c = 0; c < output.columns; ++c) {
                Place place;
                for (int p = 0; p < PIXELS; ++p) {
                    int64_t y = 2 * r + p / 2, x = 2 * c + p % 2;
                    place.pixels[p] = read_at(in, block, y, x);
                    place.widen(forward_.inside[0][y], forward_.inside[1][x]);
                }
                place.results[0] = out.at(block, 0, r, c);
                if (pass.training) place.largest = largest_at(block, r, c);
                compute_all<true>(sweep, forward_.tiles, place);
            }
    }

    // Sums of products of bfloat16, [pixel][16 channels][LANES], with bias, pooling and ReLU.
    void forward_narrow(const Pass& pass, const Part& part, View in, View out) const {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
            auto write = [&](const Results& results) {
                for (int64_t k = 0; k < results.channels; ++k) {
                    int64_t o = results.first + k;
                    vec bias = splat(bias_ != nullptr ? bias_[o] : 0);
                    const float* sums = results.sums + k * LANES;
                    if (pooled_)
                        write_window(pass, block, o, results.pixels[0], sums, bias, out);
                    else
                        for (int p = 0; p < results.count; ++p, sums += SIDE * LANES) {
                            auto [r, c] = results.pixels[p];
                            write_pixel(sums, bias, out.at(block, o, r, c));
                        }
                }
            };
            narrow_->forward(in.from(block), part.thread, pooled_, write);
        }
    }

    void write_pixel(const float* sums, vec bias, float* to) const {
        for (int l = 0; l < LANES; l += WIDTH) {
            vec sum = load(sums + l) + bias;
            store(to + l, rectified_ ? relu(sum) : sum);
        }
    }

    // `first` is the upper left pixel of the window.
    void write_window(const Pass& pass, int64_t block, int64_t o, Pixel first, const float* sums,
                      vec bias, View out) const {
        int64_t r = first.row / 2, c = first.column / 2;
        for (int l = 0; l < LANES; l += WIDTH) {
            vec best = load(sums + l);
            ivec number = {};
            for (int p = 1; p < PIXELS; ++p) {
                vec sum = load(sums + p * SIDE * LANES + l);
                ivec take = taken(sum, best);
                best = take ? sum : best;
                number = take ? ivec{} + p : number;
            }
            best += bias;
            store(out.at(block, o, r, c) + l, rectified_ ? relu(best) : best);
            if (!pass.training) continue;
            bytes small = __builtin_convertvector(number, bytes);
            std::memcpy(largest_at(block, r, c) + o * output.pixels() * LANES + l, &small, WIDTH);
        }
    }

    void pass_on_narrow(View gradient, View in_gradient, int thread) const {
        narrow_->pass_on(gradient, thread, [&](const Results& results) {
            for (int64_t k = 0; k < results.channels; ++k)
                for (int p = 0; p < results.count; ++p) {
                    auto [r, c] = results.pixels[p];
                    const float* sums = results.sums + (p * SIDE + k) * LANES;
                    float* to = in_gradient.at(0, results.first + k, r, c);
                    for (int l = 0; l < LANES; l += WIDTH) store(to + l, load(sums + l));
                }
        });
    }

    int8_t* largest_at(int64_t block, int64_t r, int64_t c) const {
        return reinterpret_cast<int8_t*>(largest_.data()) +
               (block * output.size() + r * output.columns + c) * LANES;
    }

    // The gradient before ReLU.
    void rectify(View out, View out_gradient, View to) const {
        for (int64_t o = 0; o < output.channels; ++o)
            for (int64_t r = 0; r < output.rows; ++r) {
                const float* result = out.at(0, o, r, 0);
                const float* from = out_gradient.at(0, o, r, 0);
                float* map = to.at(0, o, r, 0);
                for (int64_t j = 0; j < output.columns * LANES; j += WIDTH)
                    store(map + j, relu_gradient(load(from + j), load(result + j)));
            }
    }

    // The gradient of a block before pooling and ReLU: by window and as a map, as asked for.
    void pick(View out, View out_gradient, int64_t block, float* picked, View map) const {
        for (int64_t o = 0; o < output.channels; ++o)
            for (int64_t r = 0; r < output.rows; ++r) {
                const float* result = out.at(0, o, r, 0);
                const float* from = out_gradient.at(0, o, r, 0);
                const int8_t* largest = largest_at(block, r, 0) + o * output.pixels() * LANES;
                float *upper = nullptr, *lower = nullptr;
                if (map.data != nullptr) {
                    upper = map.at(0, o, 2 * r, 0);
                    lower = upper + map.row;
                }
                for (int64_t j = 0; j < output.columns * LANES; j += LANES) {
                    for (int l = 0; l < LANES; l += WIDTH) {
                        vec gradient = load(from + j + l);
                        if (rectified_) gradient = relu_gradient(gradient, load(result + j + l));
                        bytes small;
                        std::memcpy(&small, largest + j + l, WIDTH);
                        ivec number = __builtin_convertvector(small, ivec);
                        ivec below = number > 1, is_right = (number & 1) != 0;
                        vec left = is_right ? vec{} : gradient;
                        vec right = is_right ? gradient : vec{};
                        if (picked != nullptr) {
                            store(picked + l, left);
                            store(picked + LANES + l, right);
                            store_mask(picked + 2 * LANES + l, below);
                        }
                        if (upper == nullptr) continue;
                        store(upper + 2 * j + l, below ? vec{} : left);
                        store(upper + 2 * j + LANES + l, below ? vec{} : right);
                        store(lower + 2 * j + l, below ? left : vec{});
                        store(lower + 2 * j + LANES + l, below ? right : vec{});
                    }
                    if (picked != nullptr) picked += Picked::WINDOW;
                }
            }
    }

    void weigh_picked(View in, int64_t block, const float* data, float* sums) const {
        const Picked picked = {data, output.pixels() * Picked::WINDOW, output.rows,
                               output.columns};
        int64_t count = input.channels * kernel_[0] * kernel_[1];
        for (const Tile& taps : tiles_of(kernel_[1], MOST_COLUMNS))
            for (const Tile& tile : tiles_of(maps_.channels, channels_for(taps.size)))
                for (int64_t i = 0; i < input.channels; ++i)
                    for (int64_t y = 0; y < kernel_[0]; ++y) {
                        Under under = {read_at(in, block, 0, 0) + i * in.plane + y * in.row +
                                           taps.first * LANES,
                                       stride_[0] * in.row, 2 * stride_[0] * in.row};
                        weigh_windows_of(tile.size, taps.size)(
                            picked, tile.first, under,
                            sums + tile.first * count +
                                (i * kernel_[0] + y) * kernel_[1] + taps.first,
                            count);
                    }
    }

    void weigh_block(View in, int64_t block, View gradient, float* sums) const {
        int64_t taps = kernel_[0] * kernel_[1], count = input.channels * taps;
        const std::vector<Tile> all_inputs = tiles_of(count, INPUTS);
        for (const Tile& tile : tiles_of(maps_.channels, CHANNELS))
            for (const Tile& inputs : all_inputs) {
                const float* from[INPUTS];
                for (int64_t j = 0; j < inputs.size; ++j) {
                    int64_t tap = (inputs.first + j) % taps;
                    from[j] = read_at(in, block, 0, 0) + (inputs.first + j) / taps * in.plane +
                              tap / kernel_[1] * in.row + tap % kernel_[1] * LANES;
                }
                weigh_of(tile.size, inputs.size)(
                    gradient.at(0, tile.first, 0, 0), gradient.plane, gradient.row, from,
                    stride_[0] * in.row, stride_[1] * LANES, maps_,
                    sums + tile.first * count + inputs.first, count);
            }
    }

    // The bias' gradient: pooling only moves gradients, so their sum is that of its output's.
    void sum_block(View out, View gradient, int64_t block, float* sums) const {
        for (int64_t o = 0; o < output.channels; ++o) {
            vec sum[PER_BLOCK] = {};
            for (int64_t r = 0; r < output.rows; ++r) {
                const float* from = gradient.at(0, o, r, 0);
                const float* result = out.at(block, o, r, 0);
                for (int64_t j = 0; j < output.columns * LANES; j += LANES)
                    for (int k = 0; k < PER_BLOCK; ++k) {
                        vec passed = load(from + j + k * WIDTH);
                        if (rectified_)
                            passed = relu_gradient(passed, load(result + j + k * WIDTH));
                        sum[k] += passed;
                    }
            }
            alignas(64) float lanes[LANES];
            for (int k = 0; k < PER_BLOCK; ++k) store(lanes + k * WIDTH, sum[k]);
            sums[o] += sum_of_lanes(lanes);
        }
    }

    void pass_on(View gradient, View in_gradient, int64_t block) const {
        for (int64_t c = 0; has_gaps_ && c < input.channels; ++c)
            for (int64_t r = 0; r < input.rows; ++r)
                std::fill_n(in_gradient.at(block, c, r, 0), input.columns * LANES, 0.0f);
        for (const Phase& phase : phases_)
            correlate(sweep_of(phase.correlation, gradient, in_gradient), phase.correlation,
                      [&](int64_t r, int64_t c, Place& to, int p) {
                          to.pixels[p] =
                              gradient.at(0, 0, phase.from[0] + r, phase.from[1] + c);
                          to.results[p] = in_gradient.at(block, 0, phase.first[0] + r * stride_[0],
                                                         phase.first[1] + c * stride_[1]);
                      });
    }

    const Shape maps_;
    const std::array<int64_t, 2> kernel_, stride_;
    const Margin padding_;
    float *weight_, *bias_;
    const bool pooled_, rectified_;
    Correlation forward_;
    // Its products in bfloat16, or null: in float32.
    std::unique_ptr<Bfloat16Convolution> narrow_;
    FewPixels few_;
    std::vector<Phase> phases_;
    // Whether there are pixels of the input that no tap reads, for the stride is larger.
    bool has_gaps_ = false;
    // Around the gradient of the maps.
    Margin margin_;
    // Bytes [block][channel][row][column][LANES].
    Buffer largest_;
    // Of each thread: the gradient of a block's maps, and of its windows.
    std::vector<Activations> spread_;
    std::vector<Buffer> picked_;
};

}  // namespace

std::unique_ptr<Layer> make_conv(const LayerSpec& spec, Shape input) {
    if (spec.in != input.channels)
        throw std::invalid_argument("conv takes " + std::to_string(spec.in) +
                                    " channels, its input has " + std::to_string(input.channels));
    if (spec.weight == nullptr) throw std::invalid_argument("conv needs a weight");
    Shape maps{spec.out, 0, 0};
    std::array<int64_t, 2> length{input.rows + spec.padding[0] + spec.padding[1],
                                  input.columns + spec.padding[2] + spec.padding[3]};
    for (int axis = 0; axis < 2; ++axis) {
        if (spec.kernel[axis] < 1 || spec.stride[axis] < 1 || spec.out < 1)
            throw std::invalid_argument("conv needs outputs, a kernel and a stride of 1 or more");
        if (*std::min_element(spec.padding.begin(), spec.padding.end()) < 0)
            throw std::invalid_argument("conv's padding may not be negative");
        if (length[axis] < spec.kernel[axis])
            throw std::invalid_argument("conv's kernel is larger than the padded image");
    }
    maps.rows = (length[0] - spec.kernel[0]) / spec.stride[0] + 1;
    maps.columns = (length[1] - spec.kernel[1]) / spec.stride[1] + 1;
    if (spec.pooled && (maps.rows < 2 || maps.columns < 2))
        throw std::invalid_argument("a pooling window is larger than the image");
    return std::make_unique<Convolution>(spec, input, maps);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
