// How the threads of a team divide a batch between them.
#pragma once

#include <memory>
#include <vector>

#include "network.h"
#include "threads.h"
#include "train_kernels.h"
#include "trainer.h"

namespace sartor {

// What all threads know of one batch, or of a part of a step's.
struct Batch {
    // Where each image lies; one of the two.
    std::vector<const uint8_t*> bytes;
    std::vector<const float*> floats;
    std::vector<int64_t> labels;
    const float* shares = nullptr;
    int64_t images = 0;
    // Images in all processes that have a share of it, and in those before this one.
    int64_t whole = 0, before = 0;
    // Whether it is the first part of a step: its gradients replace those of the last step.
    bool first = true;
    // What the gradients of the loss are multiplied by: 1 / weight of the step.
    float scale = 1;
    std::vector<Judged> judged;
    // Of each trained parameter.
    std::vector<Rule> rules;
    std::vector<uint16_t> words;
    // Whether the images are bytes, and then what scales and shifts each feature, and each channel.
    bool of_bytes = false;
    std::vector<float> scales, shifts;
    const float *channel_scales = nullptr, *channel_shifts = nullptr;

    int64_t blocks() const { return (images + LANES - 1) / LANES; }
    Targets targets() const { return {shares ? nullptr : labels.data(), shares}; }
};

// What both schedules are made of.
struct Plan {
    Network& network;
    const TrainKernels& kernels;
    Threads& threads;
    const LossSpec& loss;
    const std::vector<Trained>& trained;
    // Null: this process is alone.
    Communicator* communicator;
    // Whether gradients must be complete before any weight changes: they are clipped, or added up
    // over parts or processes.
    bool apart;

    int parts() const { return threads.threads(); }
    // The trained parameter there, or -1.
    int index_of(const float* value) const;
};

class Schedule {
  public:
    virtual ~Schedule() = default;
    // Makes room for a batch of that many images.
    virtual void reserve(int64_t images) = 0;
    // Numbers that it draws for a batch; see Pass::words.
    virtual int64_t words(int64_t images) const = 0;
    // Fetches some blocks of the batch, of `images` images.
    virtual void gather(const Batch& batch, int64_t images, Range blocks) = 0;
    // Forward, loss and backward, by all threads.
    virtual void pass(Batch& batch) = 0;
    // Gradients of trained parameter `index`, to be added up; empty if `pass` has updated it.
    virtual const std::vector<float*>& gradients(int index) const = 0;
    // Whether `pass` adds to the gradients that it finds, even in a step's first part.
    virtual bool accumulates() const = 0;
    // Renews packed copies of the weights, after an update.
    virtual void refresh() = 0;
};

// A part's share in `total`, in multiples of `grain` where there are enough.
Range share_of(int64_t total, int part, int parts, int64_t grain = 1);

// For linear layers, ReLU and dropout one after the other; null for anything else.
std::unique_ptr<Schedule> make_mlp(const Plan& plan);
// For every network.
std::unique_ptr<Schedule> make_by_blocks(const Plan& plan);

}  // namespace sartor
