// From settings and a step's learning rate to the numbers of an update.
#include <cmath>

#include "update.h"

namespace sartor {

Rule rule_of(const OptimizerSpec& spec, double learning_rate, double weight_decay, double count) {
    Rule rule;
    rule.kind = spec.kind;
    rule.nesterov = spec.nesterov;
    rule.momentum = float(spec.momentum);
    rule.decay = float(weight_decay);
    rule.rate = float(learning_rate);
    rule.epsilon = float(spec.epsilon);
    switch (spec.kind) {
        case Optimizer::sgd: break;
        case Optimizer::rmsprop:
            rule.square_kept = float(spec.alpha);
            rule.square_new = float(1 - spec.alpha);
            break;
        case Optimizer::adamw:
            rule.decay = 0;
            rule.shrink = float(1 - learning_rate * weight_decay);
            [[fallthrough]];
        case Optimizer::adam:
            rule.mean_kept = float(spec.beta1);
            rule.mean_new = float(1 - spec.beta1);
            rule.square_kept = float(spec.beta2);
            rule.square_new = float(1 - spec.beta2);
            rule.rate = float(learning_rate / (1 - std::pow(spec.beta1, count)));
            rule.root_factor = float(1 / std::sqrt(1 - std::pow(spec.beta2, count)));
            break;
    }
    return rule;
}

}  // namespace sartor
