// Linear layers, by the products of `products.cpp`.
#include "linear.h"

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <string>

#include "arithmetic.h"
#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

class Linear final : public Layer {
  public:
    Linear(const LayerSpec& spec, Shape input)
        : Layer(input, {spec.out, 1, 1}),
          inputs_(int(spec.in)),
          weight_(spec.weight),
          bias_(spec.bias),
          rectified_(spec.rectified) {
        parameters.push_back({weight_, spec.out * spec.in, true, {}});
        if (bias_ != nullptr) parameters.push_back({bias_, spec.out, true, {}});
    }

    bool reads_output() const override { return rectified_; }

    void reserve(int64_t blocks, int threads) override {
        Layer::reserve(blocks, threads);
        panel_ = blocks * LANES * LANES;
        turned_.clear();
        for (int t = 0; t < threads && parameters[0].trained; ++t)
            turned_.emplace_back((inputs_ + LANES - 1) / LANES * panel_);
    }

    void forward(const Pass&, const Part& part, View in, View out) override {
        linear_forward(weight_, bias_, inputs_, in, out, part.blocks, rows_of(part), rectified_);
    }

    void backward(const Pass&, const Part& part, View in, View out, View out_gradient,
                  View in_gradient) override {
        Range all = {0, output.channels};
        if (rectified_) rectify_gradient(out_gradient, out, part.blocks, all, 1);
        if (parameters[0].trained) {
            // The blocks of this part, counted from 0.
            Range blocks = {0, part.blocks.size()};
            turn(in.from(part.blocks.begin), blocks, {0, inputs_}, turned_[part.thread].data(),
                 panel_);
            Sink sink{parameters[0].gradients[part.thread], true};
            linear_weight_gradient(inputs_, out_gradient.from(part.blocks.begin),
                                   {turned_[part.thread].data(), panel_}, blocks, all, sink);
        }
        if (bias_ != nullptr && parameters[1].trained)
            linear_bias_gradient(out_gradient, part.blocks, all,
                                 parameters[1].gradients[part.thread], true);
        if (in_gradient.data != nullptr)
            linear_input_gradient(weight_, inputs_, int(output.channels), out_gradient, in_gradient,
                                  part.blocks, {0, inputs_});
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        linear_few(weight_, bias_, inputs_, in.data, in.image, out.data, out.image, images,
                   {0, output.channels}, rectified_);
    }

  private:
    Range rows_of(const Part& part) const {
        return {part.rows.begin, std::min(part.rows.end, output.channels)};
    }

    const int inputs_;
    float *weight_, *bias_;
    const bool rectified_;
    // Of each thread: its input, turned.
    std::vector<Buffer> turned_;
    int64_t panel_ = 0;
};

}  // namespace

std::unique_ptr<Layer> make_linear(const LayerSpec& spec, Shape input) {
    if (spec.in != input.channels || input.pixels() != 1)
        throw std::invalid_argument("linear takes " + std::to_string(spec.in) +
                                    " features, its input has " + std::to_string(input.size()));
    if (spec.weight == nullptr || spec.out < 1)
        throw std::invalid_argument("linear needs a weight and an output");
    if (spec.in > INT_MAX / 2 || spec.out > INT_MAX / 2)
        throw std::invalid_argument("linear has too many inputs or outputs");
    return std::make_unique<Linear>(spec, input);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
