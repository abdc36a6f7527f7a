// Layers that can be computed as one, while the values are still in registers.
#include "engine.h"

namespace sartor {

namespace {

bool halves(const LayerSpec& spec) {
    const std::array<int64_t, 2> two{2, 2};
    return spec.kind == "max_pool" && spec.kernel == two && spec.stride == two &&
           spec.padding == std::array<int64_t, 4>{};
}

}  // namespace

std::vector<LayerSpec> fused(const std::vector<LayerSpec>& layers) {
    std::vector<LayerSpec> found;
    for (const LayerSpec& spec : layers) {
        LayerSpec* last = found.empty() ? nullptr : &found.back();
        bool after_convolution = last != nullptr && last->kind == "conv";
        if (after_convolution && !last->pooled && halves(spec)) {
            // After ReLU, too: the largest of clipped values is the clipped largest, and where all
            // four are clipped, so that another would be the first of equal ones, no gradient
            // passes.
            last->pooled = true;
        } else if (last != nullptr && spec.kind == "relu" &&
                   (after_convolution || last->kind == "linear" || last->kind == "batch_norm")) {
            last->rectified = true;
        } else {
            found.push_back(spec);
        }
    }
    return found;
}

}  // namespace sartor
