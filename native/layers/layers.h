// The kinds of layers, for `make.cpp`; each in the file of its name.
#pragma once

#include <memory>

#include "engine.h"

namespace sartor {
namespace SARTOR_ISA {

std::unique_ptr<Layer> make_conv(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_linear(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_max_pool(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_avg_pool(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_adaptive_avg_pool(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_batch_norm(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_relu(Shape input);
std::unique_ptr<Layer> make_dropout(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_flatten(Shape input);
std::unique_ptr<Layer> make_residual(const LayerSpec&, Shape input);
std::unique_ptr<Layer> make_layer(const LayerSpec&, Shape input);

void load_bytes(const uint8_t* const* images, Shape, const float* scale, const float* shift,
                View to);
void load_floats(const float* const* images, Shape, View to);

}  // namespace SARTOR_ISA
}  // namespace sartor
