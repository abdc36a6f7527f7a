// From a layer's description to the layer.
#include <stdexcept>

#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {

std::unique_ptr<Layer> make_layer(const LayerSpec& spec, Shape input) {
    const std::string& kind = spec.kind;
    if (kind == "conv") return make_conv(spec, input);
    if (kind == "linear") return make_linear(spec, input);
    if (kind == "max_pool") return make_max_pool(spec, input);
    if (kind == "avg_pool") return make_avg_pool(spec, input);
    if (kind == "adaptive_avg_pool") return make_adaptive_avg_pool(spec, input);
    if (kind == "batch_norm") return make_batch_norm(spec, input);
    if (kind == "relu") return make_relu(input);
    if (kind == "dropout") return make_dropout(spec, input);
    if (kind == "flatten") return make_flatten(input);
    if (kind == "residual") return make_residual(spec, input);
    throw std::invalid_argument("unknown kind of layer \"" + kind + "\"");
}

// Called from outside of the instruction set.
const Kernels& kernels() {
    static const Kernels found = {make_layer, load_bytes, load_floats};
    return found;
}

}  // namespace SARTOR_ISA
}  // namespace sartor
