// ReLU and Flatten: layers that work in place.
#include <cstring>

#include "arithmetic.h"
#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

class Relu final : public Layer {
  public:
    explicit Relu(Shape shape) : Layer(shape, shape) {}

    bool in_place() const override { return true; }
    bool reads_output() const override { return true; }

    void forward(const Pass&, const Part& part, View in, View out) override {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t c = 0; c < input.channels; ++c)
                for (int64_t r = 0; r < input.rows; ++r) {
                    const float* from = in.at(block, c, r, 0);
                    float* to = out.at(block, c, r, 0);
                    for (int64_t j = 0; j < input.columns * LANES; j += WIDTH)
                        store(to + j, relu(load(from + j)));
                }
    }

    void backward(const Pass&, const Part& part, View, View out, View out_gradient,
                  View in_gradient) override {
        if (in_gradient.data == nullptr) return;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t c = 0; c < input.channels; ++c)
                for (int64_t r = 0; r < input.rows; ++r) {
                    const float* result = out.at(block, c, r, 0);
                    const float* from = out_gradient.at(block, c, r, 0);
                    float* to = in_gradient.at(block, c, r, 0);
                    for (int64_t j = 0; j < input.columns * LANES; j += WIDTH)
                        store(to + j, relu_gradient(load(from + j), load(result + j)));
                }
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < input.rows; ++r) {
                const float* from = in.at(image, r, 0);
                float* to = out.at(image, r, 0);
                for (int64_t j = 0; j < input.columns * out.column; j += WIDTH)
                    store(to + j, relu(load(from + j)));
            }
    }
};

// Features in the order of channels, rows and columns are how a block lies anyway: only where a
// margin or the end of a chain is in between are they copied.
class Flatten final : public Layer {
  public:
    explicit Flatten(Shape input) : Layer(input, {input.size(), 1, 1}) {}

    // Not in place: what comes before may want a margin around rows, which features have not. The
    // copy is small, since what is flattened is.
    void forward(const Pass&, const Part& part, View in, View out) override {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            each_row([&](int64_t c, int64_t r, int64_t bytes) {
                std::memcpy(out.at(block, (c * input.rows + r) * input.columns, 0, 0),
                            in.at(block, c, r, 0), bytes);
            });
    }

    void backward(const Pass&, const Part& part, View, View, View out_gradient,
                  View in_gradient) override {
        if (in_gradient.data == nullptr) return;
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            each_row([&](int64_t c, int64_t r, int64_t bytes) {
                std::memcpy(in_gradient.at(block, c, r, 0),
                            out_gradient.at(block, (c * input.rows + r) * input.columns, 0, 0),
                            bytes);
            });
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < input.rows; ++r)
                for (int64_t x = 0; x < input.columns; ++x) {
                    const float* from = in.at(image, r, x);
                    float* to = out.at(image, 0, 0) + r * input.columns + x;
                    for (int64_t c = 0; c < input.channels; ++c) to[c * input.pixels()] = from[c];
                }
    }

  private:
    template <typename CopyRow>
    void each_row(CopyRow copy_row) const {
        for (int64_t c = 0; c < input.channels; ++c)
            for (int64_t r = 0; r < input.rows; ++r)
                copy_row(c, r, input.columns * LANES * int64_t(sizeof(float)));
    }
};

}  // namespace

std::unique_ptr<Layer> make_relu(Shape input) { return std::make_unique<Relu>(input); }

std::unique_ptr<Layer> make_flatten(Shape input) { return std::make_unique<Flatten>(input); }

}  // namespace SARTOR_ISA
}  // namespace sartor
