// Losses of blocks of logits. A vector holds one class of several images.
#include "loss.h"

#include <algorithm>
#include <cmath>

#include "functions.h"

namespace sartor {
namespace SARTOR_ISA {

namespace {

// Some images of a block: as many as a vector holds.
struct Group {
    const float* logits;
    float* gradient;
    ptrdiff_t logit_plane, gradient_plane;
    int classes;
    int64_t first;  // number of its first image
    int here;       // how many are in the batch

    vec logit(int k) const { return load(logits + k * logit_plane); }
    void put(int k, vec value) const {
        // Lanes beyond the batch repeat an image that was counted already.
        for (int lane = std::max(here, 0); lane < WIDTH; ++lane) value[lane] = 0;
        store(gradient + k * gradient_plane, value);
    }
};

// What a group's images should be.
class Wanted {
  public:
    Wanted(const LossSpec& spec, const Targets& targets, const Group& group)
        : shares_(targets.shares), weights_(spec.class_weights) {
        for (int lane = 0; lane < WIDTH; ++lane) {
            int64_t image = group.first + std::min(lane, std::max(group.here - 1, 0));
            if (shares_) {
                rows_[lane] = shares_ + image * group.classes;
                label_[lane] = int32_t(std::max_element(rows_[lane], rows_[lane] + group.classes) -
                                       rows_[lane]);
            } else {
                label_[lane] = int32_t(targets.labels[image]);
            }
        }
        image_weight_ = splat(1);
        if (weights_ == nullptr) return;
        for (int lane = 0; lane < WIDTH; ++lane) {
            float weight = 0;
            if (shares_)
                for (int k = 0; k < group.classes; ++k) weight += rows_[lane][k] * weights_[k];
            else
                weight = weights_[label_[lane]];
            image_weight_[lane] = weight;
        }
    }

    // The class, or the one with the largest share.
    ivec label() const { return label_; }
    // 1 or 0, or the share.
    vec share(int k) const {
        if (!shares_) return label_ == (ivec{} + k) ? splat(1) : vec{};
        vec found;
        for (int lane = 0; lane < WIDTH; ++lane) found[lane] = rows_[lane][k];
        return found;
    }
    bool mixed() const { return shares_ != nullptr; }
    vec image_weight() const { return image_weight_; }
    float class_weight(int k) const { return weights_ ? weights_[k] : 1; }

  private:
    const float* shares_;
    const float* weights_;
    const float* rows_[WIDTH];
    ivec label_;
    vec image_weight_;
};

// Images whose label has the highest logit: the first of equal ones; NaN counts as the highest.
int64_t correct(const Group& group, const Wanted& wanted) {
    vec best = group.logit(0);
    ivec found = {};
    for (int k = 1; k < group.classes; ++k) {
        vec value = group.logit(k);
        ivec higher = (value > best) | ((value != value) & (best == best));
        best = higher ? value : best;
        found = higher ? ivec{} + k : found;
    }
    ivec same = found == wanted.label();
    int64_t count = 0;
    for (int lane = 0; lane < group.here; ++lane) count -= same[lane];
    return count;
}

// Minus the logarithm of each class's probability times what is wanted of it. Its gradient is the
// probabilities, times all that is wanted, minus what is wanted.
vec cross_entropy(const LossSpec& spec, const Group& group, const Wanted& wanted, float scale) {
    int classes = group.classes;
    vec most = group.logit(0);
    for (int k = 1; k < classes; ++k) most = group.logit(k) > most ? group.logit(k) : most;
    vec sum = {};
    for (int k = 0; k < classes; ++k) {
        vec part = exponential(group.logit(k) - most);
        store(group.gradient + k * group.gradient_plane, part);
        sum += part;
    }
    vec log_sum = logarithm(sum), over_sum = 1 / sum;
    float certain = 1 - spec.smoothing, uniform = spec.smoothing / float(classes);
    vec total = {}, loss = {};
    if (!wanted.mixed()) {
        // Nearly all classes are wanted alike: the label apart, two numbers say it.
        float all = 0;
        for (int k = 0; k < classes; ++k) all += uniform * wanted.class_weight(k);
        total = splat(all) + certain * wanted.image_weight();
    } else {
        for (int k = 0; k < classes; ++k)
            total += wanted.class_weight(k) * fma(wanted.share(k), splat(certain), splat(uniform));
    }
    for (int k = 0; k < classes; ++k) {
        vec logarithm_of_k = group.logit(k) - most - log_sum;
        float of_class = wanted.class_weight(k);
        vec wish;
        if (wanted.mixed()) {
            wish = of_class * fma(wanted.share(k), splat(certain), splat(uniform));
            loss -= wish * logarithm_of_k;
        } else {
            ivec is_label = wanted.label() == (ivec{} + k);
            vec of_label = is_label ? certain * wanted.image_weight() : vec{};
            loss -= is_label ? of_label * logarithm_of_k : vec{};
            wish = of_label;
            if (uniform != 0) {
                loss -= uniform * of_class * logarithm_of_k;
                wish += uniform * of_class;
            }
        }
        vec probability = load(group.gradient + k * group.gradient_plane) * over_sum;
        group.put(k, (probability * total - wish) * scale);
    }
    return loss;
}

vec squared_error(const Group& group, const Wanted& wanted, float scale) {
    vec loss = {}, weight = wanted.image_weight() / float(group.classes);
    for (int k = 0; k < group.classes; ++k) {
        vec distance = group.logit(k) - wanted.share(k);
        loss = fma(distance, distance, loss);
        group.put(k, distance * 2 * weight * scale);
    }
    return loss * weight;
}

vec binary_cross_entropy(const Group& group, const Wanted& wanted, float scale) {
    vec loss = {}, weight = wanted.image_weight() / float(group.classes);
    for (int k = 0; k < group.classes; ++k) {
        vec logit = group.logit(k), share = wanted.share(k);
        vec size = logit < 0 ? -logit : logit;
        vec small = exponential(-size);
        vec positive = logit < 0 ? vec{} : logit;
        loss += positive - logit * share + logarithm(1 + small);
        vec probability = (logit < 0 ? small : splat(1)) / (1 + small);
        group.put(k, (probability - share) * weight * scale);
    }
    return loss * weight;
}

}  // namespace

void loss(const LossSpec& spec, int classes, View logits, View gradient, const Targets& targets,
          int64_t images, Range blocks, float scale, Judged* judged) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
        judged[block] = {};
        for (int v = 0; v < PER_BLOCK; ++v) {
            int64_t first = block * LANES + v * WIDTH;
            int here = int(std::min<int64_t>(std::max<int64_t>(images - first, 0), WIDTH));
            Group group{logits.at(block, 0, 0, 0) + v * WIDTH,
                        gradient.at(block, 0, 0, 0) + v * WIDTH,
                        logits.plane, gradient.plane, classes, first, here};
            if (here == 0) {
                for (int k = 0; k < classes; ++k) group.put(k, vec{});
                continue;
            }
            Wanted wanted(spec, targets, group);
            vec losses = spec.kind == Loss::cross_entropy
                             ? cross_entropy(spec, group, wanted, scale)
                         : spec.kind == Loss::mse ? squared_error(group, wanted, scale)
                                                  : binary_cross_entropy(group, wanted, scale);
            for (int lane = 0; lane < here; ++lane) judged[block].loss += double(losses[lane]);
            judged[block].correct += correct(group, wanted);
        }
    }
}

}  // namespace SARTOR_ISA
}  // namespace sartor
