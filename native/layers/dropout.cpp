// Inverted dropout, with the masks of sartor.models.dropout: the same words of the same generator,
// read in the order of images and features.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "arithmetic.h"
#include "layers.h"
#include "linear.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

constexpr double WORDS = 65536;

class Dropout final : public Layer {
  public:
    Dropout(const LayerSpec& spec, Shape shape) : Layer(shape, shape) {
        if (!(spec.p >= 0 && spec.p < 1))
            throw std::invalid_argument("dropout's p must be at least 0 and below 1");
        // A p of 0 draws nothing, as in Python; Python's round, too, halves to even.
        active_ = spec.p > 0;
        double dropped = std::min(std::nearbyint(spec.p * WORDS), WORDS - 1);
        threshold_ = int(dropped) - 32768;
        scale_ = float(WORDS / (WORDS - dropped));
    }

    bool in_place() const override { return true; }

    void order_draws(std::vector<int64_t>& features) override {
        if (!active_) return;
        before_ = features;
        features.push_back(input.size());
    }

    void forward(const Pass& pass, const Part& part, View in, View out) override {
        apply(pass, part, in, out);
    }

    void backward(const Pass& pass, const Part& part, View, View, View out_gradient,
                  View in_gradient) override {
        if (in_gradient.data != nullptr) apply(pass, part, out_gradient, in_gradient);
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < input.rows; ++r)
                std::memcpy(out.at(image, r, 0), in.at(image, r, 0),
                            input.columns * out.column * sizeof(float));
    }

  private:
    // Forward and backward are the same product with the mask.
    void apply(const Pass& pass, const Part& part, View from, View to) const {
        bool drops = pass.training && active_;
        const int16_t* words = nullptr;
        if (drops)
            words = reinterpret_cast<const int16_t*>(pass.words) + words_of(before_, pass.whole) +
                    pass.before * input.size();
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
            int64_t lanes = pass.lanes(block);
            if (!drops) {
                if (from.data != to.data) copy(block, from, to);
                continue;
            }
            if (input.pixels() == 1) {
                // Features lie one after the other, as the words do: 16 x 16 of them at a time.
                if (from.data != to.data) copy(block, from, to);
                drop(to, input.size(), pass.images, {block, block + 1}, {0, input.size()},
                     reinterpret_cast<const uint16_t*>(words), threshold_, scale_);
                continue;
            }
            const int16_t* row = words + block * LANES * input.size();
            for (int64_t c = 0; c < input.channels; ++c)
                for (int64_t r = 0; r < input.rows; ++r)
                    for (int64_t x = 0; x < input.columns; ++x) {
                        const float* source = from.at(block, c, r, x);
                        float* target = to.at(block, c, r, x);
                        alignas(64) float mask[LANES];
                        int64_t feature = (c * input.rows + r) * input.columns + x;
                        for (int64_t l = 0; l < LANES; ++l)
                            mask[l] = row[std::min(l, lanes - 1) * input.size() + feature] >=
                                              threshold_
                                          ? scale_
                                          : 0;
                        for (int l = 0; l < LANES; l += WIDTH)
                            store(target + l, load(source + l) * load(mask + l));
                    }
        }
    }

    void copy(int64_t block, View from, View to) const {
        for (int64_t c = 0; c < input.channels; ++c)
            for (int64_t r = 0; r < input.rows; ++r)
                std::memcpy(to.at(block, c, r, 0), from.at(block, c, r, 0),
                            input.columns * LANES * sizeof(float));
    }

    bool active_;
    int threshold_;
    float scale_;
    std::vector<int64_t> before_;
};

}  // namespace

std::unique_ptr<Layer> make_dropout(const LayerSpec& spec, Shape input) {
    return std::make_unique<Dropout>(spec, input);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
