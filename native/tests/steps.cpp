// Trains a small network with every instruction set that is here: they must agree but for rounding.
// Prints the loss of each step, for comparison with other machines.
#include <cmath>
#include <cstdio>
#include <vector>

#include "trainer.h"

namespace {

constexpr int kImages = 40, kSide = 12, kClasses = 5, kSteps = 6;

// Numbers in -0.5..0.5, the same everywhere.
struct Numbers {
    uint32_t state = 1;
    float next() {
        state = state * 1664525u + 1013904223u;
        return float(state >> 8) / float(1 << 24) - 0.5f;
    }
    std::vector<float> many(int count, float scale) {
        std::vector<float> found(count);
        for (float& one : found) one = scale * next();
        return found;
    }
};

std::vector<double> losses_with(sartor::Isa isa, int threads) {
    Numbers numbers;
    std::vector<float> kernel = numbers.many(6 * 3 * 3 * 3, 0.5f), kernel_bias(6);
    std::vector<float> scale(6, 1.0f), shift(6), mean(6), variance(6, 1.0f);
    std::vector<float> weight = numbers.many(kClasses * 150, 0.2f), bias(kClasses);
    sartor::LayerSpec conv, pool, norm, relu, flatten, linear;
    conv.kind = "conv";
    conv.in = 3;
    conv.out = 6;
    conv.kernel = {3, 3};
    conv.weight = kernel.data();
    conv.bias = kernel_bias.data();
    pool.kind = "max_pool";
    pool.kernel = pool.stride = {2, 2};
    norm.kind = "batch_norm";
    norm.in = norm.out = 6;
    norm.weight = scale.data();
    norm.bias = shift.data();
    norm.mean = mean.data();
    norm.variance = variance.data();
    relu.kind = "relu";
    flatten.kind = "flatten";
    linear.kind = "linear";
    linear.in = 150;
    linear.out = kClasses;
    linear.weight = weight.data();
    linear.bias = bias.data();
    sartor::Network network({conv, pool, norm, relu, flatten, linear}, {3, kSide, kSide}, kClasses,
                            threads, isa);
    std::vector<sartor::Trained> trained;
    std::vector<std::vector<float>> averages;
    averages.reserve(12);
    std::vector<float> counts(6);
    for (auto* each : {&kernel, &kernel_bias, &scale, &shift, &weight, &bias}) {
        sartor::Trained one;
        one.value = each->data();
        one.size = int64_t(each->size());
        one.first = averages.emplace_back(each->size()).data();
        one.second = averages.emplace_back(each->size()).data();
        one.count = &counts[trained.size()];
        trained.push_back(one);
    }
    sartor::OptimizerSpec adam;
    adam.kind = sartor::Optimizer::adam;
    sartor::Trainer trainer(network, {}, adam, trained, 1, 1.0);
    std::vector<float> images = numbers.many(kImages * 3 * kSide * kSide, 2.0f);
    std::vector<int64_t> labels(kImages);
    for (int k = 0; k < kImages; ++k) labels[k] = k % kClasses;
    sartor::Data data;
    data.floats = images.data();
    data.labels = labels.data();
    data.images = kImages;
    std::vector<double> losses;
    for (int step = 0; step < kSteps; ++step) {
        double rate = 0.01;
        uint64_t seed = step;
        sartor::Report report;
        trainer.steps(data, kImages, 1, &rate, &seed, &report);
        losses.push_back(report.loss / report.weight);
    }
    return losses;
}

}  // namespace

int main() {
    std::vector<double> first = losses_with(sartor::Isa::base, 1);
    int failures = !(first.back() < 0.8 * first.front());
    for (sartor::Isa isa : sartor::usable_isas())
        for (int threads : {1, 2, 3}) {
            std::vector<double> found = losses_with(isa, threads);
            for (int step = 0; step < kSteps; ++step)
                failures += !(std::abs(found[step] - first[step]) < 1e-4 * first[step]);
        }
    for (double loss : first) std::printf("%.4f\n", loss);
    return failures ? 1 : 0;
}
