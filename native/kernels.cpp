#include <stdexcept>

#include "bfloat16.h"

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
        case Isa::tile:
        case Isa::dot:
        case Isa::v4: return v4::kernels();
#endif
#if defined(SARTOR_HAS_v3)
        case Isa::v3: return v3::kernels();
#endif
        default: return base::kernels();
    }
}

#if defined(SARTOR_HAS_BFLOAT16)
extern const Bfloat16Kernels dot_kernels, tile_kernels;
#endif

const Bfloat16Kernels& bfloat16_kernels(Isa isa) {
    switch (isa) {
#if defined(SARTOR_HAS_BFLOAT16)
        case Isa::tile: return tile_kernels;
        case Isa::dot: return dot_kernels;
#endif
        default: throw std::logic_error("no kernels of bfloat16 for this instruction set");
    }
}

}  // namespace sartor
