#include "isa.h"

#include <stdexcept>

namespace sartor {

namespace {

#if defined(SARTOR_HAS_v3) || defined(SARTOR_HAS_v4)
bool has_v3() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
#endif

#if defined(SARTOR_HAS_v4)
bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

}  // namespace

std::vector<Isa> usable_isas() {
    std::vector<Isa> found = {Isa::base};
#if defined(SARTOR_HAS_v3)
    if (has_v3()) found.push_back(Isa::v3);
#endif
#if defined(SARTOR_HAS_v4)
    if (has_v4()) found.push_back(Isa::v4);
#endif
    return found;
}

const char* name_of(Isa isa) {
    switch (isa) {
        case Isa::v4: return "x86-64-v4";
        case Isa::v3: return "x86-64-v3";
        default: return "generic";
    }
}

Isa chosen_isa(const std::string& name) {
    std::vector<Isa> usable = usable_isas();
    if (name.empty()) return usable.back();
    std::string known;
    for (Isa isa : usable) {
        if (name == name_of(isa)) return isa;
        known += (known.empty() ? "" : ", ") + std::string(name_of(isa));
    }
    throw std::invalid_argument("instruction set \"" + name + "\" is not available here, only " +
                                known);
}

}  // namespace sartor
