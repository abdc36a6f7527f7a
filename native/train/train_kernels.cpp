#include "train_kernels.h"

namespace sartor {

#define SARTOR_TRAIN_KERNELS(isa)          \
    namespace isa {                        \
    const TrainKernels& train_kernels();   \
    }
SARTOR_TRAIN_KERNELS(base)
#if defined(SARTOR_HAS_v3)
SARTOR_TRAIN_KERNELS(v3)
#endif
#if defined(SARTOR_HAS_v4)
SARTOR_TRAIN_KERNELS(v4)
#endif

const TrainKernels& train_kernels_of(Isa isa) {
    switch (isa) {
#if defined(SARTOR_HAS_v4)
        case Isa::tile:
        case Isa::dot:
        case Isa::v4: return v4::train_kernels();
#endif
#if defined(SARTOR_HAS_v3)
        case Isa::v3: return v3::train_kernels();
#endif
        default: return base::train_kernels();
    }
}

}  // namespace sartor
