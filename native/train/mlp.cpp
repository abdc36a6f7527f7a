// Linear layers with ReLU and dropout between them: each thread computes some rows of every layer.
//
// The weights of such networks outweigh their activations by far. So no weight leaves its core: the
// thread that owns a row computes its outputs, its gradient, and updates it at once, while the
// gradient is still in registers. What crosses cores is activations, and the threads meet between
// layers. Where the weights are the smaller part, as in logistic regression, each thread takes some
// of the images instead, and the gradients are added up.
#include <algorithm>
#include <cmath>

#include "schedule.h"

namespace sartor {

namespace {

constexpr double WORDS = 65536;
// Images, for the choice of how to divide.
constexpr int USUAL_BATCH = 64;

int64_t filled(int64_t size) { return (size + LANES - 1) / LANES * LANES; }

View plain_view(const Buffer& buffer, int64_t size) {
    return {buffer.data(), LANES, LANES, size * LANES};
}

struct LinearLayer {
    int inputs = 0, outputs = 0;
    float *weight = nullptr, *bias = nullptr;
    bool rectified = false;
    // Of dropout after it. A tiny p drops nothing, yet draws.
    bool drops = false;
    int threshold = 0;
    float scale = 1;
    // Among the trained parameters, or -1.
    int weight_index = -1, bias_index = -1;
    // Where its random words begin, for a batch of so many images.
    std::vector<int64_t> drawn_before;

    bool trained() const { return weight_index >= 0 || bias_index >= 0; }
};

// The layers, or none if there is anything else.
std::vector<LinearLayer> linear_layers(const std::vector<LayerSpec>& layers, const Plan& plan) {
    std::vector<LinearLayer> found;
    std::vector<int64_t> drawn;
    for (const LayerSpec& spec : layers) {
        if (spec.kind == "flatten") continue;
        if (spec.kind == "linear") {
            LinearLayer layer;
            layer.inputs = int(spec.in);
            layer.outputs = int(spec.out);
            layer.weight = spec.weight;
            layer.bias = spec.bias;
            layer.weight_index = plan.index_of(spec.weight);
            layer.bias_index = spec.bias ? plan.index_of(spec.bias) : -1;
            found.push_back(layer);
        } else if (spec.kind == "relu" && !found.empty() && !found.back().rectified) {
            found.back().rectified = true;
        } else if (spec.kind == "dropout" && !found.empty() && found.back().rectified &&
                   !found.back().drops) {
            if (spec.p == 0) continue;
            // As Dropout: the nearest of 65,536 probabilities.
            double dropped = std::min(std::nearbyint(spec.p * WORDS), WORDS - 1);
            found.back().drops = true;
            found.back().threshold = int(dropped) - 32768;
            found.back().scale = float(WORDS / (WORDS - dropped));
            found.back().drawn_before = drawn;
            drawn.push_back(found.back().outputs);
        } else {
            return {};
        }
    }
    // Of the logits, dropout and ReLU are another matter.
    if (!found.empty() && found.back().rectified) return {};
    return found;
}

class Mlp final : public Schedule {
  public:
    Mlp(const Plan& plan, std::vector<LinearLayer> layers, bool by_rows)
        : plan_(plan), kernels_(plan.kernels), layers_(std::move(layers)), by_rows_(by_rows) {
        while (first_trained_ < int(layers_.size()) && !layers_[first_trained_].trained())
            ++first_trained_;
        int arrays = by_rows_ ? 1 : plan.parts();
        gradients_.resize(plan.trained.size());
        if (by_rows_ && !plan.apart) return;
        for (size_t k = 0; k < plan.trained.size(); ++k)
            for (int a = 0; a < arrays; ++a) {
                memory_.emplace_back(filled(plan.trained[k].size));
                gradients_[k].push_back(memory_.back().data());
            }
    }

    void reserve(int64_t images) override {
        int64_t blocks = (images + LANES - 1) / LANES;
        panel_ = blocks * LANES * LANES;
        int64_t features = filled(layers_.front().inputs);
        input_ = Buffer(blocks * features * LANES);
        buffers_.clear();
        for (const LinearLayer& layer : layers_)
            buffers_.push_back({Buffer(blocks * layer.outputs * LANES),
                                Buffer(blocks * layer.outputs * LANES),
                                Buffer(filled(layer.outputs) * blocks * LANES)});
        scratch_.clear();
        for (int t = 0; t < plan_.parts(); ++t)
            scratch_.emplace_back(kernels_.weight_scratch(blocks) + widest());
    }

    int64_t words(int64_t images) const override {
        std::vector<int64_t> features;
        for (const LinearLayer& layer : layers_)
            if (layer.drops) features.push_back(layer.outputs);
        return words_of(features, images);
    }

    const std::vector<float*>& gradients(int index) const override { return gradients_[index]; }
    bool accumulates() const override { return false; }
    void refresh() override {}

    void gather(const Batch& batch, int64_t images, Range blocks) override {
        Rows rows = pixels_of(batch);
        if (batch.of_bytes)
            kernels_.gather_bytes(rows, images, blocks,
                                  reinterpret_cast<uint8_t*>(input_.data()), byte_blocks().block);
        else
            kernels_.gather_floats(rows, images, blocks,
                                   plain_view(input_, layers_.front().inputs));
    }

    void pass(Batch& batch) override {
        int last = int(layers_.size()) - 1;
        if (!by_rows_) {
            plan_.threads.each([&](int part) {
                Work work{part, share_of(batch.blocks(), part, plan_.parts())};
                for (int k = 0; k <= last; ++k) forward(work, batch, k);
                judge(work.blocks, batch);
                for (int k = last; k >= first_trained_; --k) {
                    if (k > first_trained_) input_gradient(work, k);
                    weight_gradient(work, batch, k);
                }
            });
            return;
        }
        // Each layer needs all of the one before, so all threads meet in between.
        auto each = [&](auto body) {
            plan_.threads.each([&](int part) { body(Work{part, {0, batch.blocks()}}); });
        };
        for (int k = 0; k <= last; ++k) each([&](const Work& work) { forward(work, batch, k); });
        each([&](const Work& work) {
            judge(share_of(batch.blocks(), work.part, plan_.parts()), batch);
        });
        // A weight changes only after all have used it for the gradient of its layer's input.
        for (int k = last; k > first_trained_; --k)
            each([&](const Work& work) {
                if (k < last) weight_gradient(work, batch, k + 1);
                input_gradient(work, k);
            });
        if (first_trained_ <= last)
            each([&](const Work& work) {
                if (first_trained_ < last) weight_gradient(work, batch, first_trained_ + 1);
                weight_gradient(work, batch, first_trained_);
            });
    }

  private:
    struct Buffers {
        Buffer values, gradient, turned;
    };
    struct Work {
        int part;
        // What the products cover.
        Range blocks;
    };

    Range rows_of(const Work& work, int outputs) const {
        if (!by_rows_) return {0, outputs};
        return share_of(outputs, work.part, plan_.parts(), outputs >= LANES * plan_.parts() ? LANES : 1);
    }
    View values(int k) const { return plain_view(buffers_[k].values, layers_[k].outputs); }
    View gradient(int k) const { return plain_view(buffers_[k].gradient, layers_[k].outputs); }
    int64_t widest() const {
        int64_t most = 0;
        for (const LinearLayer& layer : layers_) most = std::max<int64_t>(most, layer.outputs);
        return most;
    }

    Rows pixels_of(const Batch& batch) const {
        Rows rows;
        rows.bytes = batch.of_bytes ? batch.bytes.data() : nullptr;
        rows.floats = batch.of_bytes ? nullptr : batch.floats.data();
        rows.features = layers_.front().inputs;
        rows.scale = batch.scales.data();
        rows.shift = batch.shifts.data();
        return rows;
    }

    ByteBlocks byte_blocks() const {
        return {reinterpret_cast<const uint8_t*>(input_.data()),
                filled(layers_.front().inputs) * LANES};
    }

    void judge(Range blocks, Batch& batch) {
        int last = int(layers_.size()) - 1;
        kernels_.loss(plan_.loss, layers_[last].outputs, values(last), gradient(last),
                      batch.targets(), batch.images, blocks, batch.scale, batch.judged.data());
    }

    void forward(const Work& work, const Batch& batch, int k) {
        const LinearLayer& layer = layers_[k];
        Range rows = rows_of(work, layer.outputs);
        if (k == 0 && batch.of_bytes)
            kernels_.forward_bytes(layer.weight, layer.bias, layer.inputs, byte_blocks(),
                                   batch.scales.data(), batch.shifts.data(), values(k), work.blocks,
                                   rows, layer.rectified);
        else
            kernels_.forward(layer.weight, layer.bias, layer.inputs,
                             k == 0 ? plain_view(input_, layer.inputs) : values(k - 1), values(k),
                             work.blocks, rows, layer.rectified);
        if (layer.drops)
            kernels_.drop(values(k), layer.outputs, batch.images, work.blocks, rows,
                          batch.words.data() + words_of(layer.drawn_before, batch.whole) +
                              batch.before * layer.outputs,
                          layer.threshold, layer.scale);
        bool read_by_gradient = k + 1 < int(layers_.size()) && layers_[k + 1].weight_index >= 0;
        if (read_by_gradient)
            kernels_.turn(values(k), work.blocks, rows, buffers_[k].turned.data(), panel_);
    }

    // Of the layer's inputs, which are the outputs of the one before.
    void input_gradient(const Work& work, int k) {
        const LinearLayer &layer = layers_[k], &before = layers_[k - 1];
        Range columns = rows_of(work, layer.inputs);
        kernels_.input_gradient(layer.weight, layer.inputs, layer.outputs, gradient(k),
                                gradient(k - 1), work.blocks, columns);
        if (before.rectified)
            kernels_.rectify_gradient(gradient(k - 1), values(k - 1), work.blocks, columns,
                                      before.scale);
    }

    void weight_gradient(const Work& work, const Batch& batch, int k) {
        const LinearLayer& layer = layers_[k];
        Range rows = rows_of(work, layer.outputs);
        float* scratch = scratch_[work.part].data();
        if (layer.weight_index >= 0) {
            Sink sink = sink_of(work, batch, layer.weight_index);
            if (k == 0)
                kernels_.weight_gradient_of_rows(layer.inputs, gradient(k), pixels_of(batch),
                                                 batch.images, work.blocks, rows, sink, scratch);
            else
                kernels_.weight_gradient(layer.inputs, gradient(k),
                                         Turned{buffers_[k - 1].turned.data(), panel_}, work.blocks,
                                         rows, sink);
        }
        if (layer.bias_index >= 0) {
            Sink sink = sink_of(work, batch, layer.bias_index);
            if (sink.gradient) {
                kernels_.bias_gradient(gradient(k), work.blocks, rows, sink.gradient + rows.begin,
                                       sink.adds);
            } else {
                kernels_.bias_gradient(gradient(k), work.blocks, rows, scratch, false);
                kernels_.update(*sink.rule, sink.weight + rows.begin, scratch, 1,
                                sink.first ? sink.first + rows.begin : nullptr,
                                sink.second ? sink.second + rows.begin : nullptr, rows.size());
            }
        }
    }

    Sink sink_of(const Work& work, const Batch& batch, int index) const {
        const Trained& trained = plan_.trained[index];
        const std::vector<float*>& arrays = gradients_[index];
        if (arrays.empty())
            return {nullptr, false, &batch.rules[index], trained.value, trained.first,
                    trained.second};
        return {arrays[by_rows_ ? 0 : work.part], !batch.first, nullptr, nullptr, nullptr,
                nullptr};
    }

    Plan plan_;
    const TrainKernels& kernels_;
    std::vector<LinearLayer> layers_;
    bool by_rows_;
    int first_trained_ = 0;
    // Of the batch, as bytes or floats.
    Buffer input_;
    std::vector<Buffers> buffers_;
    int64_t panel_ = 0;
    std::vector<Buffer> scratch_, memory_;
    std::vector<std::vector<float*>> gradients_;
};

}  // namespace

std::unique_ptr<Schedule> make_mlp(const Plan& plan) {
    std::vector<LinearLayer> layers = linear_layers(plan.network.layers(), plan);
    if (layers.empty()) return nullptr;
    // Divided rows make every pixel cross to the other cores, as a byte; divided images make every
    // gradient cross, as a float. By the shapes only: a run that resumes at a smaller batch, the
    // last of an epoch, must add up in the same order.
    double weights = 0, pixels = double(USUAL_BATCH) * layers.front().inputs;
    for (const LinearLayer& layer : layers) weights += 4.0 * layer.inputs * layer.outputs;
    bool by_rows = plan.parts() == 1 || weights > pixels;
    return std::make_unique<Mlp>(plan, std::move(layers), by_rows);
}

}  // namespace sartor
