// Any chain of layers: each thread carries some blocks of images through all layers, forward and
// back, and the gradients are added up in the order of threads.
//
// A thread takes one block at a time where no layer needs the whole batch: its activations are then
// still in the core's own cache when the backward pass reads them.
#include <algorithm>

#include "schedule.h"

namespace sartor {

namespace {

class ByBlocks final : public Schedule {
  public:
    explicit ByBlocks(const Plan& plan)
        : plan_(plan), chain_(plan.network.chain()), whole_(chain_.whole_batch()) {
        std::vector<Parameter*> parameters;
        chain_.list_parameters(parameters);
        for (Parameter* parameter : parameters)
            parameter->trained = plan_.index_of(parameter->value) >= 0;
        chain_.order_draws(draws_);
    }

    void reserve(int64_t images) override {
        int64_t blocks = (images + LANES - 1) / LANES;
        int threads = plan_.threads.threads();
        chain_.reserve(blocks, threads);
        gradients_.assign(plan_.trained.size(), {});
        std::vector<Parameter*> parameters;
        chain_.list_parameters(parameters);
        for (const Parameter* parameter : parameters)
            if (parameter->trained)
                gradients_[plan_.index_of(parameter->value)] = parameter->gradients;
        workspaces_.clear();
        for (int t = 0; t < (whole_ ? 1 : threads); ++t)
            workspaces_.push_back(Workspace(chain_, whole_ ? blocks : 1));
    }

    int64_t words(int64_t images) const override { return words_of(draws_, images); }
    const std::vector<float*>& gradients(int index) const override { return gradients_[index]; }
    bool accumulates() const override { return true; }
    void refresh() override {
        plan_.threads.each([&](int part) { chain_.refresh(part, plan_.parts()); });
    }
    void gather(const Batch&, int64_t, Range) override {}

    void pass(Batch& batch) override {
        Pass pass;
        pass.images = batch.images;
        pass.communicator = plan_.communicator;
        pass.whole = batch.whole;
        pass.before = batch.before;
        pass.training = true;
        pass.words = batch.words.data();
        if (whole_)
            // Layers wait for each other's statistics.
            plan_.threads.together([&](int thread) {
                Part part;
                part.thread = thread;
                part.team = &plan_.threads;
                part.blocks = share_of(batch.blocks(), thread, plan_.parts());
                carry(pass, part, workspaces_[0], batch);
            });
        else
            plan_.threads.each([&](int thread) {
                Part part;
                part.thread = thread;
                Range own = share_of(batch.blocks(), thread, plan_.parts());
                for (int64_t block = own.begin; block < own.end; ++block) {
                    part.blocks = {block, block + 1};
                    carry(pass, part, workspaces_[thread], batch);
                }
            });
    }

  private:
    struct Workspace {
        Activations input, output, gradient;
        Chain::Buffers between;

        Workspace(const Chain& chain, int64_t blocks)
            : input(chain.input(), chain.input_margin(), blocks),
              output(chain.output(), {}, blocks),
              gradient(chain.output(), chain.gradient_margin(), blocks),
              between(chain.buffers(blocks, true)) {}
    };

    void carry(const Pass& pass, const Part& part, const Workspace& work, Batch& batch) {
        View in = work.input.view(), out = work.output.view(), gradient = work.gradient.view();
        for (int64_t block = part.blocks.begin; block < part.blocks.end; ++block)
            load(batch, block, in.from(block));
        chain_.forward(pass, part, work.between, in, out);
        plan_.kernels.loss(plan_.loss, int(chain_.output().size()), out, gradient, batch.targets(),
                           batch.images, part.blocks, batch.scale, batch.judged.data());
        chain_.backward(pass, part, work.between, in, out, gradient, View{});
    }

    void load(const Batch& batch, int64_t block, View to) const {
        const Kernels& kernels = plan_.network.kernels();
        int64_t first = block * LANES, last = batch.images - 1;
        if (batch.of_bytes) {
            const uint8_t* images[LANES];
            for (int64_t k = 0; k < LANES; ++k) images[k] = batch.bytes[std::min(first + k, last)];
            kernels.load_bytes(images, chain_.input(), batch.channel_scales, batch.channel_shifts,
                               to);
        } else {
            const float* images[LANES];
            for (int64_t k = 0; k < LANES; ++k) images[k] = batch.floats[std::min(first + k, last)];
            kernels.load_floats(images, chain_.input(), to);
        }
    }

    const Plan plan_;
    Chain& chain_;
    const bool whole_;
    std::vector<int64_t> draws_;
    std::vector<Workspace> workspaces_;
    std::vector<std::vector<float*>> gradients_;
};

}  // namespace

std::unique_ptr<Schedule> make_by_blocks(const Plan& plan) {
    return std::make_unique<ByBlocks>(plan);
}

}  // namespace sartor
