// Max-pooling and average pooling with any windows.
#include <algorithm>
#include <stdexcept>

#include "arithmetic.h"
#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// The pixels under each window along one axis, and what PyTorch counts as its size.
struct Windows {
    std::vector<Range> pixels;
    std::vector<int64_t> size;

    int64_t count() const { return int64_t(pixels.size()); }
};

Windows sliding(int64_t length, int64_t kernel, int64_t stride, int64_t padding, bool ceil,
                bool count_padding) {
    if (kernel < 1 || stride < 1 || padding < 0 || 2 * padding > kernel)
        throw std::invalid_argument("pooling needs windows and strides of a pixel or more, and "
                                    "padding of half a window at most");
    // How far a window can go; rounding up, it may reach beyond the end.
    int64_t free = length + 2 * padding - kernel + (ceil ? stride - 1 : 0);
    if (free < 0) throw std::invalid_argument("a pooling window is larger than the image");
    int64_t count = free / stride + 1;
    // No window begins beyond the image and the padding before it.
    if (ceil && (count - 1) * stride >= length + padding) --count;
    Windows found;
    for (int64_t k = 0; k < count; ++k) {
        int64_t begin = k * stride - padding, end = std::min(begin + kernel, length + padding);
        Range inside = {std::max<int64_t>(begin, 0), std::min(end, length)};
        found.pixels.push_back(inside);
        found.size.push_back(count_padding ? end - begin : inside.size());
    }
    return found;
}

Windows adaptive(int64_t length, int64_t count) {
    if (count < 1 || length < 1)
        throw std::invalid_argument("adaptive pooling needs a pixel of input and of output");
    Windows found;
    for (int64_t k = 0; k < count; ++k) {
        Range inside = {k * length / count, ((k + 1) * length + count - 1) / count};
        found.pixels.push_back(inside);
        found.size.push_back(inside.size());
    }
    return found;
}

class Pool : public Layer {
  public:
    Pool(Shape input, Windows rows, Windows columns)
        : Layer(input, {input.channels, rows.count(), columns.count()}),
          rows_(std::move(rows)),
          columns_(std::move(columns)) {}

  protected:
    static void clear(Shape shape, View view, int64_t block, int64_t c) {
        for (int64_t r = 0; r < shape.rows; ++r)
            std::fill_n(view.at(block, c, r, 0), shape.columns * LANES, 0.0f);
    }

    // Calls use(channel, output row, output column, rows, columns) for every window of a block.
    template <typename Use>
    void each(Use use) const {
        for (int64_t c = 0; c < input.channels; ++c) each_of(c, use);
    }

    template <typename Use>
    void each_of(int64_t c, Use use) const {
        for (int64_t r = 0; r < output.rows; ++r)
            for (int64_t x = 0; x < output.columns; ++x)
                use(c, r, x, rows_.pixels[r], columns_.pixels[x]);
    }

    // Calls use(image, output row, output column, first channel of a vector).
    template <typename Use>
    void each_few(int images, Pixels out, Use use) const {
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < output.rows; ++r)
                for (int64_t x = 0; x < output.columns; ++x)
                    for (int64_t c = 0; c < out.column; c += WIDTH) use(image, r, x, c);
    }

    const Windows rows_, columns_;
};

// Nothing is kept for the backward pass, which looks for the largest again.
class MaxPool final : public Pool {
  public:
    using Pool::Pool;

    void forward(const Pass&, const Part& part, View in, View out) override {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            each([&](int64_t c, int64_t r, int64_t x, Range rows, Range columns) {
                for (int l = 0; l < LANES; l += WIDTH) {
                    vec largest = load(in.at(block, c, rows.begin, columns.begin) + l);
                    for (int64_t y = rows.begin; y < rows.end; ++y)
                        for (int64_t z = columns.begin; z < columns.end; ++z) {
                            vec value = load(in.at(block, c, y, z) + l);
                            largest = taken(value, largest) ? value : largest;
                        }
                    store(out.at(block, c, r, x) + l, largest);
                }
            });
    }

    void backward(const Pass&, const Part& part, View in, View, View out_gradient,
                  View in_gradient) override {
        if (in_gradient.data == nullptr) return;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t channel = 0; channel < input.channels; ++channel) {
                clear(input, in_gradient, block, channel);
                each_of(channel, [&](int64_t c, int64_t r, int64_t x, Range rows, Range columns) {
                    for (int l = 0; l < LANES; l += WIDTH)
                        pass_on(in, in_gradient, block, c, rows, columns, l,
                                load(out_gradient.at(block, c, r, x) + l));
                });
            }
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        each_few(images, out, [&](int image, int64_t r, int64_t x, int64_t c) {
            Range rows = rows_.pixels[r], columns = columns_.pixels[x];
            vec largest = load(in.at(image, rows.begin, columns.begin) + c);
            for (int64_t y = rows.begin; y < rows.end; ++y)
                for (int64_t z = columns.begin; z < columns.end; ++z) {
                    vec value = load(in.at(image, y, z) + c);
                    largest = taken(value, largest) ? value : largest;
                }
            store(out.at(image, r, x) + c, largest);
        });
    }

  private:
    static void pass_on(View in, View in_gradient, int64_t block, int64_t c, Range rows,
                        Range columns, int l, vec gradient) {
        vec largest = load(in.at(block, c, rows.begin, columns.begin) + l);
        ivec place = {}, number = {};
        for (int64_t y = rows.begin; y < rows.end; ++y)
            for (int64_t z = columns.begin; z < columns.end; ++z) {
                vec value = load(in.at(block, c, y, z) + l);
                ivec take = taken(value, largest);
                largest = take ? value : largest;
                place = take ? number : place;
                number += 1;
            }
        number = ivec{};
        for (int64_t y = rows.begin; y < rows.end; ++y)
            for (int64_t z = columns.begin; z < columns.end; ++z) {
                float* to = in_gradient.at(block, c, y, z) + l;
                store(to, load(to) + (number == place ? gradient : vec{}));
                number += 1;
            }
    }
};

class AveragePool final : public Pool {
  public:
    using Pool::Pool;

    void forward(const Pass&, const Part& part, View in, View out) override {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            each([&](int64_t c, int64_t r, int64_t x, Range rows, Range columns) {
                vec size = splat(size_at(r, x));
                for (int l = 0; l < LANES; l += WIDTH) {
                    vec sum = {};
                    for (int64_t y = rows.begin; y < rows.end; ++y)
                        for (int64_t z = columns.begin; z < columns.end; ++z)
                            sum += load(in.at(block, c, y, z) + l);
                    store(out.at(block, c, r, x) + l, sum / size);
                }
            });
    }

    void backward(const Pass&, const Part& part, View, View, View out_gradient,
                  View in_gradient) override {
        if (in_gradient.data == nullptr) return;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t channel = 0; channel < input.channels; ++channel) {
                clear(input, in_gradient, block, channel);
                each_of(channel, [&](int64_t c, int64_t r, int64_t x, Range rows, Range columns) {
                    vec size = splat(size_at(r, x));
                    for (int l = 0; l < LANES; l += WIDTH) {
                        vec gradient = load(out_gradient.at(block, c, r, x) + l) / size;
                        for (int64_t y = rows.begin; y < rows.end; ++y)
                            for (int64_t z = columns.begin; z < columns.end; ++z) {
                                float* to = in_gradient.at(block, c, y, z) + l;
                                store(to, load(to) + gradient);
                            }
                    }
                });
            }
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        each_few(images, out, [&](int image, int64_t r, int64_t x, int64_t c) {
            Range rows = rows_.pixels[r], columns = columns_.pixels[x];
            vec sum = {};
            for (int64_t y = rows.begin; y < rows.end; ++y)
                for (int64_t z = columns.begin; z < columns.end; ++z)
                    sum += load(in.at(image, y, z) + c);
            store(out.at(image, r, x) + c, sum / splat(size_at(r, x)));
        });
    }

  private:
    float size_at(int64_t r, int64_t x) const { return float(rows_.size[r] * columns_.size[x]); }
};

}  // namespace

std::unique_ptr<Layer> make_max_pool(const LayerSpec& spec, Shape input) {
    const auto& padding = spec.padding;
    // Padding is never the largest, so it is left out of the windows.
    return std::make_unique<MaxPool>(
        input,
        sliding(input.rows, spec.kernel[0], spec.stride[0], padding[0], spec.ceil, false),
        sliding(input.columns, spec.kernel[1], spec.stride[1], padding[2], spec.ceil, false));
}

std::unique_ptr<Layer> make_avg_pool(const LayerSpec& spec, Shape input) {
    const auto& padding = spec.padding;
    return std::make_unique<AveragePool>(
        input,
        sliding(input.rows, spec.kernel[0], spec.stride[0], padding[0], spec.ceil,
                spec.count_padding),
        sliding(input.columns, spec.kernel[1], spec.stride[1], padding[2], spec.ceil,
                spec.count_padding));
}

std::unique_ptr<Layer> make_adaptive_avg_pool(const LayerSpec& spec, Shape input) {
    return std::make_unique<AveragePool>(input, adaptive(input.rows, spec.output[0]),
                                         adaptive(input.columns, spec.output[1]));
}

}  // namespace SARTOR_ISA
}  // namespace sartor
