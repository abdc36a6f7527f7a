// Batch normalization, with ReLU where it follows.
#include <array>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "arithmetic.h"
#include "layers.h"

namespace sartor {
namespace SARTOR_ISA {
namespace {

// How many numbers there are, their mean, and the squares of what differs from it.
struct Moments {
    double count = 0, mean = 0, squares = 0;

    // As by Chan et al. (1979).
    void add(const Moments& more) {
        if (more.count == 0) return;
        double difference = more.mean - mean, all = count + more.count;
        mean += difference * more.count / all;
        squares += more.squares + difference * difference * count * more.count / all;
        count = all;
    }
};

// Sums are made per block and added up in the order of blocks, in double precision, by every thread
// for itself: they are the same for any number of threads. Of several processes, each adds up its
// own, and then what all of them have.
class BatchNorm final : public Layer {
  public:
    BatchNorm(const LayerSpec& spec, Shape shape)
        : Layer(shape, shape),
          weight_(spec.weight),
          bias_(spec.bias),
          mean_(spec.mean),
          variance_(spec.variance),
          momentum_(spec.momentum),
          epsilon_(spec.epsilon),
          frozen_(spec.frozen),
          rectified_(spec.rectified) {
        if (spec.out != shape.channels && spec.in != shape.channels)
            throw std::invalid_argument("batch_norm has the channels " +
                                        std::to_string(spec.in > spec.out ? spec.in : spec.out) +
                                        ", its input " + std::to_string(shape.channels));
        if ((mean_ == nullptr || variance_ == nullptr))
            throw std::invalid_argument("batch_norm needs running averages");
        if (weight_ != nullptr) parameters.push_back({weight_, shape.channels, true, {}});
        if (bias_ != nullptr) parameters.push_back({bias_, shape.channels, true, {}});
    }

    bool whole_batch() const override { return !frozen_; }
    bool reads_output() const override { return rectified_; }

    void reserve(int64_t blocks, int threads) override {
        Layer::reserve(blocks, threads);
        sums_ = Buffer(2 * blocks * input.channels * FLOATS_PER_DOUBLE);
        statistics_ = Buffer(4 * input.channels * threads);
    }

    void forward(const Pass& pass, const Part& part, View in, View out) override {
        bool of_batch = pass.training && !frozen_;
        float* statistics = statistics_.data();
        if (of_batch) {
            statistics += 4 * input.channels * part.thread;
            measure(pass, part, in, statistics);
        }
        for (int64_t c = 0; c < input.channels; ++c) {
            float mean, inverse;
            if (of_batch) {
                mean = statistics[c];
                inverse = statistics[input.channels + c];
            } else {
                mean = mean_[c];
                inverse = inverse_of(variance_[c]);
            }
            float scale = weight_ != nullptr ? weight_[c] * inverse : inverse;
            float shift = bias_ != nullptr ? bias_[c] : 0;
            vec centre = splat(mean), by = splat(scale), plus = splat(shift);
            each_row(part, [&](int64_t block, int64_t r) {
                const float* from = in.at(block, c, r, 0);
                float* to = out.at(block, c, r, 0);
                for (int64_t j = 0; j < row_size(); j += WIDTH) {
                    vec result = fma(load(from + j) - centre, by, plus);
                    store(to + j, rectified_ ? relu(result) : result);
                }
            });
        }
    }

    // With y = (x - mean) / deviation: dx = scale * (dy - mean of dy - y * mean of (dy * y)).
    void backward(const Pass& pass, const Part& part, View in, View out, View out_gradient,
                  View in_gradient) override {
        const float* statistics = statistics_.data() + 4 * input.channels * part.thread;
        int64_t channels = input.channels;
        double* sums = doubles();
        for (int64_t c = 0; c < channels; ++c) {
            float mean = frozen_ ? mean_[c] : statistics[c];
            float inverse = frozen_ ? inverse_of(variance_[c]) : statistics[channels + c];
            double of_gradient = 0, of_product = 0;
            for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
                vec sum[PER_BLOCK] = {}, product[PER_BLOCK] = {};
                for (int64_t r = 0; r < input.rows; ++r) {
                    const float* from = in.at(block, c, r, 0);
                    const float* result = out.at(block, c, r, 0);
                    const float* gradient = out_gradient.at(block, c, r, 0);
                    for (int64_t j = 0; j < row_size(); j += LANES)
                        for (int k = 0; k < PER_BLOCK; ++k) {
                            int64_t at = j + k * WIDTH;
                            vec passed = load(gradient + at);
                            if (rectified_) passed = relu_gradient(passed, load(result + at));
                            sum[k] += passed;
                            product[k] = fma(passed, load(from + at) - splat(mean), product[k]);
                        }
                }
                double first = total(sum), second = total(product) * inverse;
                of_gradient += first;
                of_product += second;
                if (frozen_) continue;
                sums[2 * (block * channels + c)] = first;
                sums[2 * (block * channels + c) + 1] = second;
            }
            size_t next = 0;
            if (weight_ != nullptr) add(parameters[next++], part.thread, c, of_product);
            if (bias_ != nullptr) add(parameters[next++], part.thread, c, of_gradient);
        }
        if (!frozen_) {
            wait(part);
            exchange_sums(pass, part);
        }
        if (in_gradient.data != nullptr)
            pass_on(pass, part, in, out, out_gradient, in_gradient, statistics);
        // Another pass may not write the sums while a thread still reads them.
        if (!frozen_) wait(part);
    }

    void refresh_few() override {
        int64_t filled = (input.channels + LANES - 1) / LANES * LANES;
        if (few_.size() == 0) few_ = Buffer(3 * filled);
        for (int64_t c = 0; c < input.channels; ++c) {
            float inverse = inverse_of(variance_[c]);
            few_.data()[c] = mean_[c];
            few_.data()[filled + c] = weight_ != nullptr ? weight_[c] * inverse : inverse;
            few_.data()[2 * filled + c] = bias_ != nullptr ? bias_[c] : 0;
        }
    }

    void forward_few(int images, Pixels in, Pixels out) override {
        const float *mean = few_.data(), *scale = mean + out.column, *shift = scale + out.column;
        for (int image = 0; image < images; ++image)
            for (int64_t r = 0; r < input.rows; ++r)
                for (int64_t x = 0; x < input.columns; ++x)
                    for (int64_t c = 0; c < out.column; c += WIDTH) {
                        vec result = fma(load(in.at(image, r, x) + c) - load(mean + c),
                                         load(scale + c), load(shift + c));
                        store(out.at(image, r, x) + c, rectified_ ? relu(result) : result);
                    }
    }

  private:
    static constexpr int64_t FLOATS_PER_DOUBLE = 2;

    double* doubles() const { return reinterpret_cast<double*>(sums_.data()); }
    int64_t row_size() const { return input.columns * LANES; }
    float inverse_of(double variance) const { return float(1 / std::sqrt(variance + epsilon_)); }

    static void wait(const Part& part) {
        if (part.team != nullptr) part.team->wait();
    }

    static void add(Parameter& parameter, int thread, int64_t c, double gradient) {
        if (parameter.trained) parameter.gradients[thread][c] += float(gradient);
    }

    static double total(const vec (&sums)[PER_BLOCK]) {
        alignas(64) float lanes[LANES];
        for (int k = 0; k < PER_BLOCK; ++k) store(lanes + k * WIDTH, sums[k]);
        return sum_of_lanes(lanes);
    }

    template <typename Use>
    void each_row(const Part& part, Use use) const {
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            for (int64_t r = 0; r < input.rows; ++r) use(block, r);
    }

    // Mean and variance of the batch: a block's mean first, then the squares of what differs from
    // it, since a difference of large sums would lose digits.
    void measure(const Pass& pass, const Part& part, View in, float* statistics) {
        int64_t channels = input.channels;
        double* sums = doubles();
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
            int64_t lanes = pass.lanes(block);
            alignas(64) float valid[LANES];
            for (int l = 0; l < LANES; ++l) valid[l] = l < lanes ? 1 : 0;
            double count = double(lanes) * double(input.pixels());
            for (int64_t c = 0; c < channels; ++c) {
                vec sum[PER_BLOCK] = {}, squares[PER_BLOCK] = {};
                for (int64_t r = 0; r < input.rows; ++r)
                    for (int64_t x = 0; x < input.columns; ++x)
                        for (int k = 0; k < PER_BLOCK; ++k)
                            sum[k] += load(in.at(block, c, r, x) + k * WIDTH);
                for (int k = 0; k < PER_BLOCK; ++k) sum[k] = masked(sum[k], valid + k * WIDTH);
                double mean = total(sum) / count;
                vec centre = splat(float(mean));
                for (int64_t r = 0; r < input.rows; ++r)
                    for (int64_t x = 0; x < input.columns; ++x)
                        for (int k = 0; k < PER_BLOCK; ++k) {
                            vec from_mean = load(in.at(block, c, r, x) + k * WIDTH) - centre;
                            squares[k] = fma(from_mean, from_mean, squares[k]);
                        }
                for (int k = 0; k < PER_BLOCK; ++k)
                    squares[k] = masked(squares[k], valid + k * WIDTH);
                // The rounded mean was subtracted.
                double off = mean - float(mean);
                sums[2 * (block * channels + c)] = mean;
                sums[2 * (block * channels + c) + 1] = total(squares) - count * off * off;
            }
        }
        wait(part);
        exchange_moments(pass, part);
        for (int64_t c = 0; c < channels; ++c) {
            auto [count, mean, squares] = moments(pass, c);
            double variance = squares / count;
            if (variance < 0) variance = 0;
            statistics[c] = float(mean);
            statistics[channels + c] = inverse_of(variance);
            if (part.thread == 0) {
                // As in PyTorch, the running variance is the unbiased one.
                double unbiased = squares / (count - 1);
                mean_[c] = float((1 - momentum_) * mean_[c] + momentum_ * mean);
                variance_[c] = float((1 - momentum_) * variance_[c] + momentum_ * unbiased);
            }
        }
        wait(part);
    }

    // Of this process's images.
    Moments own_moments(const Pass& pass, int64_t c) const {
        Moments found;
        for (int64_t block = 0; block < pass.blocks(); ++block) {
            const double* at = doubles() + 2 * (block * input.channels + c);
            found.add({double(pass.lanes(block)) * double(input.pixels()), at[0], at[1]});
        }
        return found;
    }

    // Of the whole batch.
    Moments moments(const Pass& pass, int64_t c) const {
        if (pass.communicator == nullptr) return own_moments(pass, c);
        Moments found;
        for (int process = 0; process < pass.communicator->size(); ++process) {
            const double* at = exchanged_.data() + 3 * (process * input.channels + c);
            found.add({at[0], at[1], at[2]});
        }
        return found;
    }

    void exchange_moments(const Pass& pass, const Part& part) {
        if (pass.communicator == nullptr) return;
        if (part.thread == 0) {
            own_.clear();
            for (int64_t c = 0; c < input.channels; ++c) {
                Moments own = own_moments(pass, c);
                own_.insert(own_.end(), {own.count, own.mean, own.squares});
            }
            exchange(*pass.communicator);
        }
        wait(part);
    }

    // Gradient and its product with the normalized input, over this process's images.
    std::array<double, 2> own_sums(const Pass& pass, int64_t c) const {
        std::array<double, 2> found{};
        for (int64_t block = 0; block < pass.blocks(); ++block)
            for (int k = 0; k < 2; ++k)
                found[k] += doubles()[2 * (block * input.channels + c) + k];
        return found;
    }

    std::array<double, 2> sums(const Pass& pass, int64_t c) const {
        if (pass.communicator == nullptr) return own_sums(pass, c);
        std::array<double, 2> found{};
        for (int process = 0; process < pass.communicator->size(); ++process)
            for (int k = 0; k < 2; ++k)
                found[k] += exchanged_[2 * (process * input.channels + c) + k];
        return found;
    }

    void exchange_sums(const Pass& pass, const Part& part) {
        if (pass.communicator == nullptr) return;
        if (part.thread == 0) {
            own_.clear();
            for (int64_t c = 0; c < input.channels; ++c)
                for (double sum : own_sums(pass, c)) own_.push_back(sum);
            exchange(*pass.communicator);
        }
        wait(part);
    }

    void exchange(Communicator& communicator) {
        exchanged_.resize(own_.size() * communicator.size());
        communicator.gather(own_.data(), int64_t(own_.size()), exchanged_.data());
    }

    static vec masked(vec sum, const float* valid) { return load(valid) > 0 ? sum : vec{}; }

    void pass_on(const Pass& pass, const Part& part, View in, View out, View out_gradient,
                 View in_gradient, const float* statistics) const {
        int64_t channels = input.channels;
        double count = double(pass.whole) * double(input.pixels());
        for (int64_t c = 0; c < channels; ++c) {
            auto [of_gradient, of_product] = frozen_ ? std::array<double, 2>{} : sums(pass, c);
            float mean = frozen_ ? mean_[c] : statistics[c];
            float inverse = frozen_ ? inverse_of(variance_[c]) : statistics[channels + c];
            vec centre = splat(mean);
            vec scale = splat(weight_ != nullptr ? weight_[c] * inverse : inverse);
            vec level = splat(float(of_gradient / count));
            vec tilt = splat(float(of_product / count) * inverse);
            for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block) {
                // Copied lanes have no gradient, whatever the batch's mean of it is.
                alignas(64) float valid[LANES];
                for (int l = 0; l < LANES; ++l) valid[l] = l < pass.lanes(block) ? 1 : 0;
                for (int64_t r = 0; r < input.rows; ++r) {
                    const float* from = in.at(block, c, r, 0);
                    const float* result = out.at(block, c, r, 0);
                    const float* gradient = out_gradient.at(block, c, r, 0);
                    float* to = in_gradient.at(block, c, r, 0);
                    for (int64_t j = 0; j < row_size(); j += LANES)
                        for (int k = 0; k < PER_BLOCK; ++k) {
                            int64_t at = j + k * WIDTH;
                            vec passed = load(gradient + at);
                            if (rectified_) passed = relu_gradient(passed, load(result + at));
                            if (!frozen_)
                                passed = passed - fma(load(from + at) - centre, tilt, level);
                            store(to + at, masked(passed * scale, valid + k * WIDTH));
                        }
                }
            }
        }
    }

    float *weight_, *bias_, *mean_, *variance_;
    double momentum_, epsilon_;
    bool frozen_, rectified_;
    // Of each block and channel, two numbers: forward, mean and squared differences; backward, sums
    // of the gradient and of its product with the normalized input.
    Buffer sums_;
    // What this process has of them for each channel, and what all have.
    std::vector<double> own_, exchanged_;
    // Of each thread: mean and inverse deviation of the batch, for the backward pass.
    Buffer statistics_;
    // Mean, scale and shift of each channel, filled up to vectors.
    Buffer few_;
};

}  // namespace

std::unique_ptr<Layer> make_batch_norm(const LayerSpec& spec, Shape input) {
    return std::make_unique<BatchNorm>(spec, input);
}

}  // namespace SARTOR_ISA
}  // namespace sartor
