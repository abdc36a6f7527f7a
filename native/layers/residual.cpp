// The sum of two chains over the same input.
#include <stdexcept>

#include "arithmetic.h"
#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

class Residual final : public Layer {
  public:
    Residual(std::unique_ptr<Chain> body, std::unique_ptr<Chain> shortcut, Shape input)
        : Layer(input, body->output()), body_(std::move(body)), shortcut_(std::move(shortcut)) {
        if (body_->layers().empty())
            throw std::invalid_argument("the body of a residual has no layers");
        Shape one = body_->output(), other = shortcut_->output();
        if (one.channels != other.channels || one.rows != other.rows ||
            one.columns != other.columns)
            throw std::invalid_argument("the branches of a residual have different outputs");
    }

    Margin input_margin() const override {
        return larger(body_->input_margin(), shortcut_->input_margin());
    }
    Margin gradient_margin() const override {
        return larger(body_->gradient_margin(), shortcut_->gradient_margin());
    }
    bool narrow() const override { return body_->narrow() || shortcut_->narrow(); }
    bool whole_batch() const override { return body_->whole_batch() || shortcut_->whole_batch(); }
    bool trained() const override { return body_->trained() || shortcut_->trained(); }

    void order_draws(std::vector<int64_t>& features) override {
        body_->order_draws(features);
        shortcut_->order_draws(features);
    }

    void list_parameters(std::vector<Parameter*>& found) override {
        body_->list_parameters(found);
        shortcut_->list_parameters(found);
    }

    void prepare(int threads) override {
        body_->prepare(threads);
        shortcut_->prepare(threads);
        evaluation_.clear();
        for (int thread = 0; thread < threads; ++thread) evaluation_.emplace_back(*this, 1, false);
    }

    void reserve(int64_t blocks, int threads) override {
        body_->reserve(blocks, threads);
        shortcut_->reserve(blocks, threads);
        training_ = Between(*this, blocks, true);
    }

    void refresh(int thread, int threads) override {
        body_->refresh(thread, threads);
        shortcut_->refresh(thread, threads);
    }

    void forward(const Pass& pass, const Part& part, View in, View out) override {
        if (pass.training) return add(pass, part, training_, in, out);
        // Evaluation goes block by block, with memory of its own.
        const Between& one = evaluation_[part.thread];
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
            Part first = part;
            first.blocks = {0, 1};
            add(pass, first, one, in.from(block), out.from(block));
        }
    }

    void backward(const Pass& pass, const Part& part, View in, View out, View out_gradient,
                  View in_gradient) override {
        bool onward = in_gradient.data != nullptr;
        View other = onward ? training_.input_gradient.view() : View{};
        View one = training_.body_output.view();
        body_->backward(pass, part, training_.body, in, one.data == nullptr ? out : one,
                        out_gradient, in_gradient);
        if (shortcut_->layers().empty())
            other = out_gradient;
        else
            shortcut_->backward(pass, part, training_.shortcut, in,
                                training_.shortcut_output.view(), out_gradient, other);
        if (onward) sum(part, input, in_gradient, other, in_gradient);
    }

    void refresh_few() override {
        body_->refresh_few();
        shortcut_->refresh_few();
        if (few_.shortcut_output.view().data != nullptr) return;
        few_.body = body_->pictures();
        few_.shortcut = shortcut_->pictures();
        few_.shortcut_output = Pictures(output, {}, FEW_IMAGES);
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        Pixels other = in;
        body_->forward_few(images, few_.body, in, out);
        if (!shortcut_->layers().empty()) {
            other = few_.shortcut_output.view();
            shortcut_->forward_few(images, few_.shortcut, in, other);
        }
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < output.rows; ++r) {
                const float* more = other.at(image, r, 0);
                float* sums = out.at(image, r, 0);
                for (int64_t j = 0; j < output.columns * out.column; j += WIDTH)
                    store(sums + j, load(sums + j) + load(more + j));
            }
    }

  private:
    // The memory of both chains, and what they end in.
    struct Between {
        Chain::Buffers body, shortcut;
        Activations body_output, shortcut_output, input_gradient;

        Between() = default;
        Between(const Residual& of, int64_t blocks, bool training)
            : body(of.body_->buffers(blocks, training)),
              shortcut(of.shortcut_->buffers(blocks, training)) {
            // Else the sum is written over it.
            if (of.body_->layers().back()->reads_output())
                body_output = Activations(of.output, {}, blocks);
            if (of.shortcut_->layers().empty()) return;
            shortcut_output = Activations(of.output, {}, blocks);
            if (training) input_gradient = Activations(of.input, {}, blocks);
        }
    };

    void add(const Pass& pass, const Part& part, const Between& between, View in, View out) const {
        View one = between.body_output.view(), other = in;
        if (one.data == nullptr) one = out;
        body_->forward(pass, part, between.body, in, one);
        if (!shortcut_->layers().empty()) {
            other = between.shortcut_output.view();
            shortcut_->forward(pass, part, between.shortcut, in, other);
        }
        sum(part, output, one, other, out);
    }

    static void sum(const Part& part, Shape shape, View one, View other, View to) {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t c = 0; c < shape.channels; ++c)
                for (int64_t r = 0; r < shape.rows; ++r) {
                    const float* first = one.at(block, c, r, 0);
                    const float* second = other.at(block, c, r, 0);
                    float* sums = to.at(block, c, r, 0);
                    for (int64_t j = 0; j < shape.columns * LANES; j += WIDTH)
                        store(sums + j, load(first + j) + load(second + j));
                }
    }

    std::unique_ptr<Chain> body_, shortcut_;
    Between training_;
    // Of each thread.
    std::vector<Between> evaluation_;
    struct {
        std::vector<Pictures> body, shortcut;
        Pictures shortcut_output;
    } few_;
};

}  // namespace

std::unique_ptr<Layer> make_residual(const LayerSpec& spec, Shape input) {
    return std::make_unique<Residual>(std::make_unique<Chain>(spec.body, input, make_layer),
                                      std::make_unique<Chain>(spec.shortcut, input, make_layer),
                                      input);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
