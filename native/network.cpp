#include "network.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <string>

#include "schedule.h"

namespace sartor {

namespace {

// With fewer blocks, waking other threads takes longer than their share of the work.
constexpr int64_t FEW_BLOCKS = 4;
// Taken by a thread at a time.
constexpr int64_t FEWEST_BLOCKS = 2;
// Carried together through linear layers, whose weights then are read once for all of them, and
// whose sums fill the registers. The activations of other layers take all of a core's cache.
constexpr int64_t BLOCKS_TOGETHER = 4;

int64_t blocks_together(const std::vector<LayerSpec>& layers) {
    for (const LayerSpec& layer : layers)
        if (layer.kind != "linear" && layer.kind != "relu" && layer.kind != "dropout" &&
            layer.kind != "flatten") return 1;
    return BLOCKS_TOGETHER;
}

// The first `lanes` images of a block, each image's features one after the other.
void unload(View from, int64_t size, int64_t lanes, float* to) {
    for (int64_t l = 0; l < lanes; ++l)
        for (int64_t k = 0; k < size; ++k) to[l * size + k] = from.data[k * from.plane + l];
}

// The layers, to be computed with that instruction set.
std::vector<LayerSpec> with_isa(std::vector<LayerSpec> layers, Isa isa) {
    for (LayerSpec& spec : layers) {
        spec.isa = isa;
        spec.body = with_isa(std::move(spec.body), isa);
        spec.shortcut = with_isa(std::move(spec.shortcut), isa);
    }
    return layers;
}

}  // namespace

Network::Network(const std::vector<LayerSpec>& layers, Shape input, int64_t classes, int threads,
                 Isa isa)
    : isa_(isa), kernels_(kernels_of(isa)), layers_(layers), threads_(threads) {
    if (threads < 1) throw std::invalid_argument("a network needs a thread or more");
    if (input.channels < 1 || input.rows < 1 || input.columns < 1)
        throw std::invalid_argument("images need a channel, a row and a column or more");
    chain_ = std::make_unique<Chain>(with_isa(layers, isa), input, kernels_.make);
    if (chain_->layers().empty()) throw std::invalid_argument("a network needs a layer");
    bool any = classes == 0;
    if ((!any && chain_->output().size() != classes) || chain_->output().pixels() != 1)
        throw std::invalid_argument("the network has " + std::to_string(chain_->output().size()) +
                                    " outputs, not one for each of " + std::to_string(classes) +
                                    " classes");
    std::vector<LayerSpec> computed = fused(layers);
    for (size_t k = 0; k < computed.size(); ++k)
        if (computed[k].kind == "linear") last_linear_ = int64_t(k);
    spreads_first_ = computed[0].kind == "conv";
    together_ = blocks_together(computed);
    if (last_linear_ >= 0) features_ = chain_->layers()[last_linear_]->input.size();
    // Of rounded products, an image's are the same in any company.
    most_few_ = chain_->narrow() ? 0 : FEW_IMAGES;
    chain_->prepare(threads);
    for (int thread = 0; thread < threads; ++thread)
        workspaces_.push_back({Activations(input, chain_->input_margin(), together_),
                               Activations(chain_->output(), {}, together_),
                               chain_->buffers(together_, false)});
    refresh();
}

void Network::refresh() {
    chain_->refresh(0, 1);
    few_.stale = true;
}

template <typename Read>
void Network::each_few(int64_t count, float* logits, float* features, const Read& read) {
    if (features != nullptr && features_ == 0)
        throw std::invalid_argument("a network without a linear layer has no features");
    Shape shape = input();
    if (!few_.made) {
        // A convolution spreads single numbers, so its channels need not fill vectors.
        few_.input = Pictures(shape, chain_->input_margin(), FEW_IMAGES, !spreads_first_);
        few_.output = Pictures(chain_->output(), {}, FEW_IMAGES);
        few_.between = chain_->pictures();
        few_.image.resize(shape.size());
        few_.made = true;
    }
    if (few_.stale) chain_->refresh_few();
    few_.stale = false;
    Pixels in = few_.input.view(), out = few_.output.view();
    for (int64_t k = 0; k < count; ++k) {
        const float* from = read(k, few_.image.data());
        for (int64_t c = 0; c < shape.channels; ++c)
            for (int64_t r = 0; r < shape.rows; ++r)
                for (int64_t x = 0; x < shape.columns; ++x) in.at(k, r, x)[c] = *from++;
    }
    chain_->forward_few(int(count), few_.between, in, out);
    Pixels last = last_linear_ > 0 ? few_.between[last_linear_ - 1].view() : in;
    for (int64_t k = 0; k < count; ++k) {
        std::copy_n(out.at(k, 0, 0), classes(), logits + k * classes());
        if (features != nullptr) std::copy_n(last.at(k, 0, 0), features_, features + k * features_);
    }
}

template <typename Load>
void Network::each_block(int64_t count, float* logits, float* features, const Load& load) {
    if (features != nullptr && features_ == 0)
        throw std::invalid_argument("a network without a linear layer has no features");
    int64_t blocks = (count + LANES - 1) / LANES;
    if (threads_ == 1 || blocks < FEW_BLOCKS)
        return carry(0, {0, blocks}, count, logits, features, load);
    if (team_ == nullptr) team_ = std::make_unique<Threads>(threads_);
    // Taken a few at a time: where other programs hold up a thread, the others go on.
    std::atomic<int64_t> next{0};
    int64_t taken = std::max(FEWEST_BLOCKS, together_);
    team_->each([&](int thread) {
        for (int64_t first; (first = next.fetch_add(taken)) < blocks;)
            carry(thread, {first, std::min(first + taken, blocks)}, count, logits, features, load);
    });
}

template <typename Load>
void Network::carry(int thread, Range blocks, int64_t count, float* logits, float* features,
                    const Load& load) const {
    Pass pass;
    pass.images = count;
    Part part;
    part.thread = thread;
    const Workspace& work = workspaces_[thread];
    View in = work.input.view(), out = work.output.view();
    View last = last_linear_ > 0 ? work.between.values[last_linear_ - 1].view() : in;
    for (int64_t begin = blocks.begin; begin < blocks.end; begin += together_) {
        part.blocks = {0, std::min(together_, blocks.end - begin)};
        for (int64_t k = 0; k < part.blocks.end; ++k)
            load((begin + k) * LANES, pass.lanes(begin + k), in.from(k));
        chain_->forward(pass, part, work.between, in, out);
        for (int64_t k = 0; k < part.blocks.end; ++k) {
            int64_t first = (begin + k) * LANES, lanes = pass.lanes(begin + k);
            unload(out.from(k), classes(), lanes, logits + first * classes());
            if (features != nullptr)
                unload(last.from(k), features_, lanes, features + first * features_);
        }
    }
}

void Network::forward(const float* images, int64_t count, float* logits, float* features) {
    int64_t size = input().size();
    if (count <= most_few_)
        return each_few(count, logits, features,
                        [&](int64_t number, float*) { return images + number * size; });
    each_block(count, logits, features, [&](int64_t first, int64_t lanes, View in) {
        const float* at[LANES];
        for (int64_t l = 0; l < LANES; ++l)
            at[l] = images + (first + std::min(l, lanes - 1)) * size;
        kernels_.load_floats(at, input(), in);
    });
}

void Network::forward_bytes(const uint8_t* images, const int64_t* rows, int64_t count,
                            const float* scale, const float* shift, float* logits,
                            float* features) {
    int64_t size = input().size();
    if (count <= most_few_)
        return each_few(count, logits, features, [&](int64_t number, float* to) {
            const uint8_t* from = images + (rows != nullptr ? rows[number] : number) * size;
            for (int64_t k = 0; k < size; ++k) {
                int64_t c = k / input().pixels();
                to[k] = float(from[k]) * scale[c] + shift[c];
            }
            return static_cast<const float*>(to);
        });
    each_block(count, logits, features, [&](int64_t first, int64_t lanes, View in) {
        const uint8_t* at[LANES];
        for (int64_t l = 0; l < LANES; ++l) {
            int64_t number = first + std::min(l, lanes - 1);
            at[l] = images + (rows != nullptr ? rows[number] : number) * size;
        }
        kernels_.load_bytes(at, input(), scale, shift, in);
    });
}

}  // namespace sartor
