// The trainer's kernels of an instruction set, called from outside of it.
#include "train_kernels.h"

namespace sartor {
namespace SARTOR_ISA {

const TrainKernels& train_kernels() {
    static const TrainKernels found = {linear_forward,
                                       linear_forward,
                                       linear_input_gradient,
                                       linear_weight_gradient,
                                       linear_weight_gradient,
                                       weight_scratch,
                                       linear_bias_gradient,
                                       turn,
                                       gather_bytes,
                                       gather_floats,
                                       drop,
                                       rectify_gradient,
                                       loss,
                                       seed,
                                       draw,
                                       update,
                                       add_up};
    return found;
}

}  // namespace SARTOR_ISA
}  // namespace sartor
