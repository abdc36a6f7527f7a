// Layers one after the other, and the memory between them.
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

#include "engine.h"

namespace sartor {

namespace {

constexpr int64_t ALIGNMENT = 64;
// 4 TiB: no sum of sizes overflows below.
constexpr int64_t MOST_FLOATS = int64_t{1} << 40;

}  // namespace

Margin larger(const Margin& one, const Margin& other) {
    auto most = [](int64_t a, int64_t b) { return a > b ? a : b; };
    return {most(one.top, other.top), most(one.bottom, other.bottom), most(one.left, other.left),
            most(one.right, other.right)};
}

Buffer::Buffer(int64_t count) : count_(count) {
    if (count < 0 || count > MOST_FLOATS) throw std::bad_alloc();
    if (count == 0) return;
    int64_t bytes = (count * int64_t(sizeof(float)) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    data_ = static_cast<float*>(std::aligned_alloc(ALIGNMENT, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
}

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
}

Activations::Activations(Shape shape, Margin margin, int64_t blocks) {
    int64_t rows = shape.rows + margin.top + margin.bottom;
    int64_t columns = shape.columns + margin.left + margin.right;
    if (double(shape.channels) * double(rows) * double(columns) * LANES * double(blocks) >
        double(MOST_FLOATS))
        throw std::bad_alloc();
    view_.row = columns * LANES;
    view_.plane = rows * view_.row;
    view_.block = shape.channels * view_.plane;
    buffer_ = Buffer(blocks * view_.block);
    // A single block is found under every number: whoever takes one block after the other needs no
    // more memory.
    if (blocks == 1) view_.block = 0;
    view_.data = buffer_.data() + margin.top * view_.row + margin.left * LANES;
}

Pictures::Pictures(Shape shape, Margin margin, int64_t images, bool filled) {
    int64_t rows = shape.rows + margin.top + margin.bottom;
    int64_t columns = shape.columns + margin.left + margin.right;
    view_.column = filled ? (shape.channels + LANES - 1) / LANES * LANES : shape.channels;
    if (double(view_.column) * double(rows) * double(columns) * double(images) >
        double(MOST_FLOATS))
        throw std::bad_alloc();
    view_.row = columns * view_.column;
    view_.image = rows * view_.row;
    buffer_ = Buffer(images * view_.image);
    view_.data = buffer_.data() + margin.top * view_.row + margin.left * view_.column;
}

void Layer::reserve(int64_t, int threads) {
    int64_t count = 0;
    // Each thread's begin a cache line of its own.
    auto rounded = [](int64_t size) { return (size + LANES - 1) / LANES * LANES; };
    for (const Parameter& parameter : parameters)
        if (parameter.trained) count += rounded(parameter.size) * threads;
    gradients_ = Buffer(count);
    float* next = gradients_.data();
    for (Parameter& parameter : parameters) {
        parameter.gradients.clear();
        for (int thread = 0; parameter.trained && thread < threads; ++thread) {
            parameter.gradients.push_back(next);
            next += rounded(parameter.size);
        }
    }
}

bool Layer::trained() const {
    for (const Parameter& parameter : parameters)
        if (parameter.trained) return true;
    return false;
}

void Layer::list_parameters(std::vector<Parameter*>& found) {
    for (Parameter& parameter : parameters) found.push_back(&parameter);
}

Chain::Chain(const std::vector<LayerSpec>& layers, Shape input, MakeLayer make) : input_(input) {
    for (const LayerSpec& spec : fused(layers)) {
        layers_.push_back(make(spec, output()));
        if (layers_.back()->output.size() > MOST_FLOATS)
            throw std::invalid_argument("layer " + spec.kind + " has too many outputs");
    }
}

Margin Chain::input_margin() const {
    return layers_.empty() ? Margin{} : layers_.front()->input_margin();
}

Margin Chain::gradient_margin() const {
    return layers_.empty() ? Margin{} : layers_.back()->gradient_margin();
}

bool Chain::narrow() const {
    for (const auto& layer : layers_)
        if (layer->narrow()) return true;
    return false;
}

bool Chain::whole_batch() const {
    for (const auto& layer : layers_)
        if (layer->whole_batch()) return true;
    return false;
}

void Chain::order_draws(std::vector<int64_t>& features) {
    for (const auto& layer : layers_) layer->order_draws(features);
}

void Chain::prepare(int threads) {
    for (const auto& layer : layers_) layer->prepare(threads);
}

void Chain::reserve(int64_t blocks, int threads) {
    for (const auto& layer : layers_) layer->reserve(blocks, threads);
}

void Chain::refresh(int thread, int threads) {
    for (const auto& layer : layers_) layer->refresh(thread, threads);
}

bool Chain::trained() const {
    for (const auto& layer : layers_)
        if (layer->trained()) return true;
    return false;
}

void Chain::list_parameters(std::vector<Parameter*>& found) {
    for (const auto& layer : layers_) layer->list_parameters(found);
}

// Layers in place have their input's memory be their output's: one block of memory then has the
// margin that the first of its readers or writers that is not in place asks for. The chain's own
// ends belong to others, so its first layer's input and its last layer's gradient are never shared.
Chain::Buffers Chain::buffers(int64_t blocks, bool with_gradients) const {
    Buffers found;
    int64_t between = layers_.empty() ? 0 : int64_t(layers_.size()) - 1;
    found.values.resize(between);
    for (int64_t k = between - 1; k >= 0; --k) {
        if (layers_[k + 1]->in_place()) continue;  // the memory of the next
        found.values[k] =
            Activations(layers_[k + 1]->input, layers_[k + 1]->input_margin(), blocks);
    }
    if (!with_gradients) return found;
    found.gradients.resize(between);
    for (int64_t k = 0; k < between; ++k) {
        if (k > 0 && layers_[k]->in_place()) continue;  // the memory of the one before
        found.gradients[k] = Activations(layers_[k]->output, layers_[k]->gradient_margin(), blocks);
    }
    return found;
}

std::vector<View> Chain::values(const Buffers& buffers, View in, View out) const {
    int64_t count = int64_t(layers_.size());
    std::vector<View> found(count + 1);
    found[0] = in;
    found[count] = out;
    for (int64_t k = count - 1; k > 0; --k)
        found[k] = layers_[k]->in_place() ? found[k + 1] : buffers.values[k - 1].view();
    return found;
}

void Chain::forward(const Pass& pass, const Part& part, const Buffers& buffers, View in,
                    View out) const {
    std::vector<View> at = values(buffers, in, out);
    for (size_t k = 0; k < layers_.size(); ++k)
        layers_[k]->forward(pass, part, at[k], at[k + 1]);
}

void Chain::backward(const Pass& pass, const Part& part, const Buffers& buffers, View in, View out,
                     View out_gradient, View in_gradient) const {
    int64_t count = int64_t(layers_.size());
    std::vector<View> at = values(buffers, in, out), gradients(count + 1);
    gradients[0] = in_gradient;
    gradients[count] = out_gradient;
    for (int64_t k = 1; k < count; ++k)
        gradients[k] = k > 1 && layers_[k - 1]->in_place() ? gradients[k - 1]
                                                           : buffers.gradients[k - 1].view();
    int64_t first = 0;
    while (in_gradient.data == nullptr && first < count && !layers_[first]->trained()) ++first;
    for (int64_t k = count - 1; k >= first; --k)
        layers_[k]->backward(pass, part, at[k], at[k + 1], gradients[k + 1],
                             k > first ? gradients[k] : in_gradient);
}

void Chain::refresh_few() {
    for (const auto& layer : layers_) layer->refresh_few();
}

std::vector<Pictures> Chain::pictures() const {
    std::vector<Pictures> found;
    for (size_t k = 1; k < layers_.size(); ++k)
        found.emplace_back(layers_[k]->input, layers_[k]->input_margin(), FEW_IMAGES);
    return found;
}

void Chain::forward_few(int images, const std::vector<Pictures>& between, Pixels in,
                        Pixels out) const {
    for (size_t k = 0; k < layers_.size(); ++k) {
        Pixels next = k + 1 < layers_.size() ? between[k].view() : out;
        layers_[k]->forward_few(images, in, next);
        in = next;
    }
}

int64_t words_of(const std::vector<int64_t>& features, int64_t images) {
    int64_t count = 0;
    for (int64_t size : features) count += (size * images + 3) / 4 * 4;
    return count;
}

}  // namespace sartor
