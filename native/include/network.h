// A network in evaluation mode: images to logits.
#pragma once

#include <memory>
#include <vector>

#include "engine.h"
#include "threads.h"

namespace sartor {

class Network {
  public:
    // Throws std::invalid_argument if the layers do not fit together.
    Network(const std::vector<LayerSpec>& layers, Shape input, int64_t classes, int threads,
            Isa isa);

    Chain& chain() { return *chain_; }
    Shape input() const { return chain_->input(); }
    int64_t classes() const { return chain_->output().size(); }
    // Inputs of the last linear layer; 0 without one.
    int64_t features() const { return features_; }
    // Whether a layer is computed with products of bfloat16.
    bool multiplies_bfloat16() const { return chain_->narrow(); }
    int threads() const { return threads_; }
    Isa isa() const { return isa_; }
    const Kernels& kernels() const { return kernels_; }
    // As they were given.
    const std::vector<LayerSpec>& layers() const { return layers_; }

    // To be called when parameters have changed in Python.
    void refresh();

    // Images float32 (count, C, H, W) to logits (count, classes) and, unless null, features
    // (count, features).
    void forward(const float* images, int64_t count, float* logits, float* features);
    // The same of images uint8 (N, C, H, W), at `rows` or, if null, the first: byte * scale[channel]
    // + shift[channel].
    void forward_bytes(const uint8_t* images, const int64_t* rows, int64_t count,
                       const float* scale, const float* shift, float* logits, float* features);

  private:
    // What one thread needs for the blocks that it carries together.
    struct Workspace {
        Activations input, output;
        Chain::Buffers between;
    };

    // Images that `read(number, where to)` writes as [channel][row][column].
    template <typename Read>
    void each_few(int64_t count, float* logits, float* features, const Read& read);
    template <typename Load>
    void each_block(int64_t count, float* logits, float* features, const Load& load);
    template <typename Load>
    void carry(int thread, Range blocks, int64_t count, float* logits, float* features,
               const Load& load) const;

    const Isa isa_;
    const Kernels& kernels_;
    const std::vector<LayerSpec> layers_;
    std::unique_ptr<Chain> chain_;
    int threads_;
    int64_t together_ = 1;
    std::vector<Workspace> workspaces_;
    // Of forward passes over many images; started with the first of them.
    std::unique_ptr<Threads> team_;
    // What a few images need, each by itself; made when there are some.
    struct {
        bool made = false, stale = true;
        Pictures input, output;
        std::vector<Pictures> between;
        std::vector<float> image;
    } few_;
    // The last linear layer; -1 without one.
    int64_t last_linear_ = -1;
    int64_t features_ = 0;
    bool spreads_first_ = false;
    // Up to so many images go by themselves.
    int most_few_ = FEW_IMAGES;
};

}  // namespace sartor
