// Linear layers: the three products, on blocks of images. See docs/native.md for the layouts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine.h"
#include "update.h"

namespace sartor {

// Images as bytes, still unscaled, in the layout of activations: [block][feature][LANES], with the
// features filled up to a multiple of LANES. A quarter of the memory of floats, and what a core
// must fetch from another one; scaled a piece at a time, within the product.
struct ByteBlocks {
    const uint8_t* data;
    ptrdiff_t block;
};

// Where images lie as they were given, each a row of features.
struct Rows {
    // One of the two, for each image.
    const uint8_t* const* bytes = nullptr;
    const float* const* floats = nullptr;
    int64_t features = 0;
    // Of each feature, filled up to a multiple of LANES: byte * scale + shift.
    const float* scale = nullptr;
    const float* shift = nullptr;
};

// Activations turned, so that 16 features are a vector: [feature / 16][image][16]. With them a
// weight's gradient has the weights' own rows as its vectors.
struct Turned {
    const float* data;
    ptrdiff_t panel;  // floats from 16 features to the next 16
};

// What becomes of a weight's gradient.
struct Sink {
    float* gradient = nullptr;  // null: updated at once
    bool adds = false;
    const Rule* rule = nullptr;
    float *weight = nullptr, *first = nullptr, *second = nullptr;
};

#ifdef SARTOR_ISA
namespace SARTOR_ISA {

// out = in * weight^T + bias for some blocks and rows of the weight (outputs). `bias` may be null.
void linear_forward(const float* weight, const float* bias, int inputs, View in, View out,
                    Range blocks, Range rows, bool rectified);
void linear_forward(const float* weight, const float* bias, int inputs, ByteBlocks in,
                    const float* scale, const float* shift, View out, Range blocks, Range rows,
                    bool rectified);

// in_gradient = out_gradient * weight for some blocks and inputs.
void linear_input_gradient(const float* weight, int inputs, int outputs, View out_gradient,
                           View in_gradient, Range blocks, Range columns);

// The gradient of some rows of the weight, from all images of some blocks.
void linear_weight_gradient(int inputs, View out_gradient, Turned in, Range blocks, Range rows,
                            const Sink& sink);
// The same from images as they were given; `scratch` holds `weight_scratch` floats.
void linear_weight_gradient(int inputs, View out_gradient, const Rows& in, int64_t images,
                            Range blocks, Range rows, const Sink& sink, float* scratch);
int64_t weight_scratch(int64_t blocks);

// Sums over the images of some blocks: the gradient of a bias, `rows.size()` floats.
void linear_bias_gradient(View out_gradient, Range blocks, Range rows, float* gradient, bool adds);

// A few images at once, each a row of features, without blocks: at most FEW of them.
constexpr int FEW = 4;
void linear_few(const float* weight, const float* bias, int inputs, const float* in,
                ptrdiff_t in_row, float* out, ptrdiff_t out_row, int images, Range rows,
                bool rectified);

// Some features of some blocks, turned.
void turn(View in, Range blocks, Range features, float* turned, ptrdiff_t panel);

// Blocks of images from their rows; those beyond `images` repeat the last. Bytes stay bytes.
void gather_bytes(const Rows& rows, int64_t images, Range blocks, uint8_t* to, ptrdiff_t block);
void gather_floats(const Rows& rows, int64_t images, Range blocks, View to);

// In place, for some features: dropout with the words of a layer, [image][feature] of 16 bits; what
// is dropped has a word below `threshold`, and the rest is multiplied with `scale`.
void drop(View values, int64_t size, int64_t images, Range blocks, Range features,
          const uint16_t* words, int threshold, float scale);

// In place, the gradient of ReLU and of dropout after it, from their result: zero where that is
// zero or less, else times `scale`.
void rectify_gradient(View gradient, View result, Range blocks, Range features, float scale);

}  // namespace SARTOR_ISA
#endif

}  // namespace sartor
