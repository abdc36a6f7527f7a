// Training steps: many in one call, by a team of threads.
#pragma once

#include <memory>
#include <vector>

#include "communicator.h"
#include "loss.h"
#include "network.h"
#include "update.h"

namespace sartor {

// A trained parameter and what its optimizer remembers, in the memory of PyTorch.
struct Trained {
    float* value = nullptr;
    int64_t size = 0;
    double decay = 0;
    // What the learning rate is multiplied by.
    double factor = 1;
    // Momentum of sgd and rmsprop or mean of adam; square of adam and rmsprop. Null: none.
    float *first = nullptr, *second = nullptr;
    // How many updates there were, for all but sgd.
    float* count = nullptr;
};

// Images in the order in which the steps take them.
struct Data {
    // Either bytes (N, C, H, W), of which image k is at rows[k], or by itself where there are no
    // rows: byte * scale[channel] + shift[channel]. Its label is labels[rows[k]].
    const uint8_t* bytes = nullptr;
    const int64_t* rows = nullptr;
    const float *scale = nullptr, *shift = nullptr;
    // Or floats (images, C, H, W), with labels or shares (images, K) in the same order.
    const float* floats = nullptr;
    const int64_t* labels = nullptr;
    const float* shares = nullptr;
    int64_t images = 0;
    // Of one step by several processes: floats and what belongs to them are only those of this
    // process, although `images` counts all.
    bool own_only = false;
};

// What of a step is reported.
struct Report {
    double loss = 0;    // sum over images
    double weight = 0;  // what it was divided by, this process's part of it
    int64_t correct = 0;
};

// Of so many images those of this process, as sartor.data.feed.shares divides them.
Range share_of_process(int64_t images, const Communicator* communicator);

class Trainer {
  public:
    // A step's images are divided into `parts`, whose gradients add up. Gradients of a larger norm
    // than `clip` are scaled down to it; 0: never. Of several processes, each takes its share of
    // every part, and all make the same update. Throws std::invalid_argument.
    Trainer(Network& network, const LossSpec& loss, const OptimizerSpec& optimizer,
            std::vector<Trained> trained, int parts, double clip,
            Communicator* communicator = nullptr);
    ~Trainer();

    // Step s takes the images from s * batch up to (s + 1) * batch, or to the end. Where a loss is
    // not finite, training goes on: who reads the reports decides. Throws where another process is
    // out of reach, before the update of that step.
    void steps(const Data& data, int64_t batch, int64_t count, const double* learning_rates,
               const uint64_t* seeds, Report* reports);

  private:
    class Run;
    std::unique_ptr<Run> run_;
};

}  // namespace sartor
