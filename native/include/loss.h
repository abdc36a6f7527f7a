// Losses: sums over images, and their gradients, as sartor.training.objective defines them.
#pragma once

#include <cstdint>

#include "engine.h"

namespace sartor {

enum class Loss { cross_entropy, mse, bce };

struct LossSpec {
    Loss kind = Loss::cross_entropy;
    float smoothing = 0;
    // One for each class, or null.
    const float* class_weights = nullptr;
};

// What the images of a batch are: one of the two.
struct Targets {
    const int64_t* labels = nullptr;
    // The share of each class, [image][class].
    const float* shares = nullptr;
};

// Of one block: sum of its images' losses, and how many were classified correctly.
struct Judged {
    double loss = 0;
    int64_t correct = 0;
};

#ifdef SARTOR_ISA
namespace SARTOR_ISA {

// The losses of some blocks of logits, [class] planes, and the gradient of their sum times `scale`;
// lanes beyond the batch have none. `judged` has an entry for each block of the batch.
void loss(const LossSpec& spec, int classes, View logits, View gradient, const Targets& targets,
          int64_t images, Range blocks, float scale, Judged* judged);

}  // namespace SARTOR_ISA
#endif

}  // namespace sartor
