#include "engine.h"

namespace sartor {

#define SARTOR_KERNELS(isa)            \
    namespace isa {                    \
    const Kernels& kernels();          \
    }
SARTOR_KERNELS(base)
#if defined(SARTOR_HAS_v3)
SARTOR_KERNELS(v3)
#endif
#if defined(SARTOR_HAS_v4)
SARTOR_KERNELS(v4)
#endif

const Kernels& kernels_of(Isa isa) {
    switch (isa) {
#if defined(SARTOR_HAS_v4)
        case Isa::v4: return v4::kernels();
#endif
#if defined(SARTOR_HAS_v3)
        case Isa::v3: return v3::kernels();
#endif
        default: return base::kernels();
    }
}

}  // namespace sartor
