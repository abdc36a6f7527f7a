// What the trainer calls that is compiled for each instruction set.
#pragma once

#include "isa.h"
#include "linear.h"
#include "loss.h"
#include "random.h"
#include "update.h"

namespace sartor {

struct TrainKernels {
    void (*forward)(const float* weight, const float* bias, int inputs, View in, View out,
                    Range blocks, Range rows, bool rectified);
    void (*forward_bytes)(const float* weight, const float* bias, int inputs, ByteBlocks in,
                          const float* scale, const float* shift, View out, Range blocks,
                          Range rows, bool rectified);
    void (*input_gradient)(const float* weight, int inputs, int outputs, View out_gradient,
                           View in_gradient, Range blocks, Range columns);
    void (*weight_gradient)(int inputs, View out_gradient, Turned in, Range blocks, Range rows,
                            const Sink& sink);
    void (*weight_gradient_of_rows)(int inputs, View out_gradient, const Rows& in, int64_t images,
                                    Range blocks, Range rows, const Sink& sink, float* scratch);
    int64_t (*weight_scratch)(int64_t blocks);
    void (*bias_gradient)(View out_gradient, Range blocks, Range rows, float* gradient, bool adds);
    void (*turn)(View in, Range blocks, Range features, float* turned, ptrdiff_t panel);
    void (*gather_bytes)(const Rows& rows, int64_t images, Range blocks, uint8_t* to,
                         ptrdiff_t block);
    void (*gather_floats)(const Rows& rows, int64_t images, Range blocks, View to);
    void (*drop)(View values, int64_t size, int64_t images, Range blocks, Range features,
                 const uint16_t* words, int threshold, float scale);
    void (*rectify_gradient)(View gradient, View result, Range blocks, Range features, float scale);
    void (*loss)(const LossSpec& spec, int classes, View logits, View gradient,
                 const Targets& targets, int64_t images, Range blocks, float scale, Judged* judged);
    void (*seed)(Mersenne& generator, uint64_t seed);
    void (*draw)(Mersenne& generator, uint16_t* words, int64_t count);
    void (*update)(const Rule& rule, float* parameters, const float* gradients, float factor,
                   float* first, float* second, int64_t count);
    double (*add_up)(float* const* gradients, int arrays, int64_t begin, int64_t end, bool squares);
};

const TrainKernels& train_kernels_of(Isa isa);

}  // namespace sartor
