// What the layers of a network, the chain that runs them and the trainer agree on.
//
// Activations and gradients lie in blocks of LANES images, the image being the innermost dimension:
// [block][channel][row][column][LANES], float32. So a vector holds one pixel of 16 images, and one
// channel, six or twelve fill it equally well. In the last block the lanes beyond the batch repeat
// an image of the batch: their values are as finite as its own; their gradients are zero.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "communicator.h"
#include "isa.h"
#include "lanes.h"

namespace sartor {

struct Shape {
    int64_t channels = 1, rows = 1, columns = 1;

    int64_t pixels() const { return rows * columns; }
    int64_t size() const { return channels * rows * columns; }
};

struct Range {
    int64_t begin = 0, end = 0;

    int64_t size() const { return end - begin; }
};

// Zeros around each channel, in pixels: what a convolution reads beyond the edge.
struct Margin {
    int64_t top = 0, bottom = 0, left = 0, right = 0;
};

Margin larger(const Margin& one, const Margin& other);

// Blocks of activations: where they begin, and how many floats lie from one row, channel and block
// to the next. Rows and channels may have a margin around them, which is zero and stays so; linear
// layers are given none, so that the features of a block lie one after the other.
struct View {
    float* data = nullptr;
    int64_t row = 0, plane = 0, block = 0;

    float* at(int64_t of_block, int64_t channel, int64_t of_row, int64_t column) const {
        return data + of_block * block + channel * plane + of_row * row + column * LANES;
    }
    View from(int64_t of_block) const { return {data + of_block * block, row, plane, block}; }
};

// Aligned floats, zero at first.
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(int64_t count);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    float* data() const { return data_; }
    int64_t size() const { return count_; }

  private:
    float* data_ = nullptr;
    int64_t count_ = 0;
};

// Blocks of a shape, with a margin.
class Activations {
  public:
    Activations() = default;
    Activations(Shape shape, Margin margin, int64_t blocks);
    View view() const { return view_; }

  private:
    Buffer buffer_;
    View view_;
};

// A few images for evaluation, each by itself: a block of one image would be a sixteenth full, so
// here the channels of a pixel are the vector: [image][row][column][channel]. `column` is the number
// of channels, filled up with zeros to a multiple of LANES; only what a convolution reads may be
// unfilled. A margin may lie around, as of a `View`.
struct Pixels {
    float* data = nullptr;
    int64_t column = 0, row = 0, image = 0;

    float* at(int64_t of_image, int64_t of_row, int64_t of_column) const {
        return data + of_image * image + of_row * row + of_column * column;
    }
};

// Pixels of a shape, with a margin.
class Pictures {
  public:
    Pictures() = default;
    Pictures(Shape shape, Margin margin, int64_t images, bool filled = true);
    Pixels view() const { return view_; }

  private:
    Buffer buffer_;
    Pixels view_;
};

// At most so many images go by themselves.
constexpr int FEW_IMAGES = 4;

// The threads that carry out one pass together.
class Team {
  public:
    virtual ~Team() = default;
    virtual int threads() const = 0;
    // Returns when every thread of the team has called it.
    virtual void wait() = 0;
};

// What one thread does in a pass.
struct Part {
    Range blocks;
    // Output features of a linear layer that is divided by rows; without end, all of them.
    Range rows = {0, INT64_MAX};
    int thread = 0;
    // Null: this thread is the only one.
    Team* team = nullptr;
};

// What all threads know of a pass.
struct Pass {
    // Of the batch, in all threads together.
    int64_t images = 0;
    // The processes that have a share of the batch each, or null where this one has all of it.
    Communicator* communicator = nullptr;
    // Images of the batch in all processes, and in those before this one.
    int64_t whole = 0, before = 0;
    // Batch statistics and dropout, and what a backward pass needs is kept.
    bool training = false;
    // Random 16-bit numbers of the whole batch, in the order in which the layers that draw take them.
    const uint16_t* words = nullptr;

    int64_t blocks() const { return (images + LANES - 1) / LANES; }
    // Images in a block; the other lanes are copies.
    int64_t lanes(int64_t block) const {
        int64_t left = images - block * LANES;
        return left < LANES ? left : LANES;
    }
};

// A parameter in the memory and the layout of PyTorch.
struct Parameter {
    float* value = nullptr;
    int64_t size = 0;
    // Without an entry in the optimizer: no gradient is computed.
    bool trained = true;
    // Sums over the blocks of each thread, added to by `backward`; in the layout of `value`. The
    // gradient is their sum in the order of threads. Who has used them makes them zero again.
    std::vector<float*> gradients;
};

// One layer as Python describes it; what a kind has no use for keeps its default.
struct LayerSpec {
    std::string kind;
    int64_t in = 0, out = 0;
    // Rows, columns.
    std::array<int64_t, 2> kernel{1, 1}, stride{1, 1}, output{1, 1};
    // Top, bottom, left, right.
    std::array<int64_t, 4> padding{};
    bool ceil = false, count_padding = true;
    // Of a batch norm: running averages are used in training, too, and left as they are.
    bool frozen = false;
    double momentum = 0.1, epsilon = 1e-5, p = 0;
    float *weight = nullptr, *bias = nullptr, *mean = nullptr, *variance = nullptr;
    std::vector<LayerSpec> body, shortcut;
    // Set by `fused`: max-pooling of 2x2 and ReLU within the layer.
    bool pooled = false, rectified = false;
    // Set by the network: one that multiplies bfloat16, for layers that are wide enough.
    Isa isa = Isa::base;
};

// The same chain with a layer where several can be computed as one.
std::vector<LayerSpec> fused(const std::vector<LayerSpec>& layers);

class Layer {
  public:
    Layer(Shape input, Shape output) : input(input), output(output) {}
    virtual ~Layer() = default;

    const Shape input, output;
    std::vector<Parameter> parameters;

    // Whether input and output may be the same memory, and their gradients, too.
    virtual bool in_place() const { return false; }
    // Whether `backward` reads its output, which then has to stay what it was.
    virtual bool reads_output() const { return false; }
    // What it reads beyond the edge of its input, and of its output's gradient.
    virtual Margin input_margin() const { return {}; }
    virtual Margin gradient_margin() const { return {}; }
    // Whether it rounds to bfloat16, as `forward_few` does not.
    virtual bool narrow() const { return false; }
    // Whether it waits for the other threads: then all of them go through it at once, with all of
    // their blocks.
    virtual bool whole_batch() const { return false; }
    // A layer that draws: notes how many numbers an image takes in those before, and adds its own.
    virtual void order_draws(std::vector<int64_t>&) {}
    // Makes room for evaluation by this many threads.
    virtual void prepare(int /*threads*/) {}
    // Makes room for training with this many blocks and threads; `trained` is settled by then.
    virtual void reserve(int64_t blocks, int threads);
    // Renews packed copies of the parameters, which have changed; a part of the work per thread.
    virtual void refresh(int /*thread*/, int /*threads*/) {}
    // Whether any parameter, of inner layers too, is trained.
    virtual bool trained() const;
    virtual void list_parameters(std::vector<Parameter*>& found);

    virtual void forward(const Pass&, const Part&, View in, View out) = 0;
    // `in` and `out` are as `forward` left them, but for what layers in place made of `out`. Writes
    // `in_gradient`, unless its data is null, and adds to the gradients of its parameters.
    virtual void backward(const Pass&, const Part&, View in, View out, View out_gradient,
                          View in_gradient) = 0;

    // The forward pass of evaluation for a few images, by one thread.
    virtual void forward_few(int images, Pixels in, Pixels out) = 0;
    // Renews what `forward_few` keeps of the parameters, and makes room for it.
    virtual void refresh_few() {}

  private:
    Buffer gradients_;
};

using MakeLayer = std::unique_ptr<Layer> (*)(const LayerSpec&, Shape input);

// Layers one after the other.
class Chain {
  public:
    // What lies between the layers: the outputs of all but the last, and gradients of them.
    struct Buffers {
        std::vector<Activations> values, gradients;
    };

    Chain(const std::vector<LayerSpec>& layers, Shape input, MakeLayer make);

    const std::vector<std::unique_ptr<Layer>>& layers() const { return layers_; }
    Shape input() const { return input_; }
    Shape output() const { return layers_.empty() ? input_ : layers_.back()->output; }
    Margin input_margin() const;
    Margin gradient_margin() const;
    bool narrow() const;
    bool whole_batch() const;
    void order_draws(std::vector<int64_t>& features);
    void prepare(int threads);
    void reserve(int64_t blocks, int threads);
    void refresh(int thread, int threads);
    bool trained() const;
    void list_parameters(std::vector<Parameter*>& found);

    void refresh_few();
    std::vector<Pictures> pictures() const;
    // `between` is of `pictures`.
    void forward_few(int images, const std::vector<Pictures>& between, Pixels in,
                     Pixels out) const;

    Buffers buffers(int64_t blocks, bool with_gradients) const;
    void forward(const Pass&, const Part&, const Buffers&, View in, View out) const;
    // What comes before the first trained layer is left out, unless `in_gradient` has data.
    void backward(const Pass&, const Part&, const Buffers&, View in, View out, View out_gradient,
                  View in_gradient) const;

  private:
    std::vector<View> values(const Buffers&, View in, View out) const;

    Shape input_;
    std::vector<std::unique_ptr<Layer>> layers_;
};

// Numbers that the layers of a chain draw for a batch: `features` as `order_draws` lists them. Each
// layer's begin at a multiple of 4, as in sartor.models.dropout.
int64_t words_of(const std::vector<int64_t>& features, int64_t images);

// What is compiled for an instruction set.
struct Kernels {
    MakeLayer make;
    // Copies the images of a block from NCHW to a block; byte * scale[channel] + shift[channel].
    void (*load_bytes)(const uint8_t* const* images, Shape, const float* scale, const float* shift,
                       View to);
    void (*load_floats)(const float* const* images, Shape, View to);
};

const Kernels& kernels_of(Isa isa);

}  // namespace sartor
