// The arithmetic of the optimizers: that of PyTorch's fused kernels, element by element.
#include "update.h"

#include "arithmetic.h"

namespace sartor {
namespace SARTOR_ISA {

namespace {

vec root(vec values) {
#if defined(__AVX512F__)
    return _mm512_maskz_sqrt_ps(__mmask16(-1), values);
#elif defined(__AVX__)
    return _mm256_sqrt_ps(values);
#else
    for (int k = 0; k < WIDTH; ++k) values[k] = __builtin_sqrtf(values[k]);
    return values;
#endif
}

// What a rule needs, with a vector for each number. Each returns the new parameters.
struct Sgd {
    const Rule& rule;
    vec operator()(vec parameters, vec gradients, vec&, vec&) const {
        gradients = fma(parameters, splat(rule.decay), gradients);
        return fma(gradients, splat(-rule.rate), parameters);
    }
};

struct Momentum {
    const Rule& rule;
    vec operator()(vec parameters, vec gradients, vec& momentum, vec&) const {
        gradients = fma(parameters, splat(rule.decay), gradients);
        momentum = fma(momentum, splat(rule.momentum), gradients);
        vec direction =
            rule.nesterov ? fma(momentum, splat(rule.momentum), gradients) : momentum;
        return fma(direction, splat(-rule.rate), parameters);
    }
};

struct Adam {
    const Rule& rule;
    vec operator()(vec parameters, vec gradients, vec& mean, vec& square) const {
        gradients = fma(parameters, splat(rule.decay), gradients);
        parameters *= splat(rule.shrink);
        // Either end of the way from the mean to the gradient is met exactly, as by `lerp`.
        vec way = gradients - mean;
        mean = rule.mean_new < 0.5f ? fma(splat(rule.mean_new), way, mean)
                                    : fma(way, splat(-rule.mean_kept), gradients);
        square = fma(splat(rule.square_new) * gradients, gradients,
                     square * splat(rule.square_kept));
        vec size = fma(root(square), splat(rule.root_factor), splat(rule.epsilon));
        return parameters - splat(rule.rate) * mean / size;
    }
};

struct RmsProp {
    const Rule& rule;
    vec operator()(vec parameters, vec gradients, vec&, vec& square) const {
        vec direction = scaled(parameters, gradients, square);
        return fma(direction, splat(-rule.rate), parameters);
    }
    vec scaled(vec parameters, vec gradients, vec& square) const {
        gradients = fma(parameters, splat(rule.decay), gradients);
        square = fma(splat(rule.square_new) * gradients, gradients,
                     square * splat(rule.square_kept));
        return gradients / (root(square) + splat(rule.epsilon));
    }
};

struct RmsPropMomentum {
    const Rule& rule;
    vec operator()(vec parameters, vec gradients, vec& momentum, vec& square) const {
        vec direction = RmsProp{rule}.scaled(parameters, gradients, square);
        momentum = fma(momentum, splat(rule.momentum), direction);
        return fma(momentum, splat(-rule.rate), parameters);
    }
};

template <class Step>
void walk(Step step, float* parameters, const float* gradients, float factor, float* first,
          float* second, int64_t count) {
    for (int64_t k = 0; k < count; k += WIDTH) {
        int here = count - k < WIDTH ? int(count - k) : WIDTH;
        vec one{}, other{};
        if (here == WIDTH) {
            if (first) one = load(first + k);
            if (second) other = load(second + k);
            store(parameters + k,
                  step(load(parameters + k), load(gradients + k) * factor, one, other));
            if (first) store(first + k, one);
            if (second) store(second + k, other);
        } else {
            if (first) one = load_first(first + k, here);
            if (second) other = load_first(second + k, here);
            store_first(parameters + k,
                        step(load_first(parameters + k, here),
                             load_first(gradients + k, here) * factor, one, other),
                        here);
            if (first) store_first(first + k, one, here);
            if (second) store_first(second + k, other, here);
        }
    }
}

}  // namespace

void update(const Rule& rule, float* parameters, const float* gradients, float factor, float* first,
            float* second, int64_t count) {
    switch (rule.kind) {
        case Optimizer::sgd:
            if (first == nullptr)
                return walk(Sgd{rule}, parameters, gradients, factor, nullptr, nullptr, count);
            return walk(Momentum{rule}, parameters, gradients, factor, first, nullptr, count);
        case Optimizer::adam:
        case Optimizer::adamw:
            return walk(Adam{rule}, parameters, gradients, factor, first, second, count);
        case Optimizer::rmsprop:
            if (first == nullptr)
                return walk(RmsProp{rule}, parameters, gradients, factor, nullptr, second, count);
            return walk(RmsPropMomentum{rule}, parameters, gradients, factor, first, second, count);
    }
}

double add_up(float* const* gradients, int arrays, int64_t begin, int64_t end, bool squares) {
    double total = 0;
    for (int64_t k = begin; k < end; k += WIDTH) {
        int here = end - k < WIDTH ? int(end - k) : WIDTH;
        vec sum;
        if (here == WIDTH) {
            sum = load(gradients[0] + k);
            for (int a = 1; a < arrays; ++a) {
                sum += load(gradients[a] + k);
                store(gradients[a] + k, vec{});
            }
            store(gradients[0] + k, sum);
        } else {
            sum = load_first(gradients[0] + k, here);
            for (int a = 1; a < arrays; ++a) {
                sum += load_first(gradients[a] + k, here);
                store_first(gradients[a] + k, vec{}, here);
            }
            store_first(gradients[0] + k, sum, here);
        }
        for (int lane = 0; squares && lane < here; ++lane)
            total += double(sum[lane]) * double(sum[lane]);
    }
    return total;
}

}  // namespace SARTOR_ISA
}  // namespace sartor
