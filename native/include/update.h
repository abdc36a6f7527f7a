// The optimizers: how a parameter and what is remembered of it change with its gradient.
#pragma once

#include <cstdint>

namespace sartor {

enum class Optimizer { sgd, adam, adamw, rmsprop };

// What all parameters have in common; see sartor.training.optim.
struct OptimizerSpec {
    Optimizer kind = Optimizer::sgd;
    double momentum = 0;
    bool nesterov = false;
    double beta1 = 0.9, beta2 = 0.999;
    double epsilon = 1e-8;
    double alpha = 0.99;  // of rmsprop: how much of the running square stays
};

// An update of one parameter at one step: numbers only, the same for all of its elements.
struct Rule {
    Optimizer kind = Optimizer::sgd;
    bool nesterov = false;
    float momentum = 0;
    float decay = 0;   // added to the gradient, times the parameter
    float shrink = 1;  // of adamw: what the parameter is multiplied by instead
    float rate = 0;    // learning rate; of adam, over the correction of its mean
    float mean_kept = 0, mean_new = 0;
    float square_kept = 0, square_new = 0;
    float root_factor = 1;  // of adam: over the root of the correction of its square
    float epsilon = 0;

    // Whether the parameter's change is a multiple of the gradient and of itself.
    bool is_linear() const { return kind == Optimizer::sgd && momentum == 0; }
};

// The rule of update number `count`, counted from 1.
Rule rule_of(const OptimizerSpec& spec, double learning_rate, double weight_decay, double count);

#ifdef SARTOR_ISA
namespace SARTOR_ISA {

// Updates `count` elements. `first` is the momentum of sgd and rmsprop or the mean of adam,
// `second` the square of adam and rmsprop; what a rule has no use for may be null. The gradients
// are taken times `factor`.
void update(const Rule& rule, float* parameters, const float* gradients, float factor, float* first,
            float* second, int64_t count);

// Elements [begin, end) of several arrays are added up in the first, in their order; the others'
// become zero. Returns the sum of the squares, if asked for.
double add_up(float* const* gradients, int arrays, int64_t begin, int64_t end, bool squares);

}  // namespace SARTOR_ISA
#endif

}  // namespace sartor
