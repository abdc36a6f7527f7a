#include "isa.h"

#include <array>
#include <stdexcept>
#include <string>

#if defined(SARTOR_HAS_BFLOAT16)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

#if defined(SARTOR_HAS_BFLOAT16)
// Leaf 7 of CPUID, subleaf 0 or 1: EAX, EBX, ECX, EDX.
std::array<unsigned, 4> features(unsigned subleaf) {
    std::array<unsigned, 4> found{};
    __get_cpuid_count(7, subleaf, &found[0], &found[1], &found[2], &found[3]);
    return found;
}

bool has_dot() { return has_v4() && (features(1)[0] >> 5 & 1); }

// Linux lends a process the tile registers on demand: its permission holds for all of its threads,
// and for its children.
bool lends_tiles() {
    constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool has_tile() {
    unsigned edx = features(0)[3];
    bool known = (edx >> 22 & 1) && (edx >> 24 & 1);
    return has_dot() && known && lends_tiles();
}
#endif

}  // namespace

std::vector<Isa> usable_bfloat16() {
    std::vector<Isa> found;
#if defined(SARTOR_HAS_BFLOAT16)
    if (has_dot()) found.push_back(Isa::dot);
    if (has_tile()) found.push_back(Isa::tile);
#endif
    return found;
}

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
        case Isa::tile: return "amx-bf16";
        case Isa::dot: return "avx512-bf16";
        case Isa::v4: return "x86-64-v4";
        case Isa::v3: return "x86-64-v3";
        default: return "generic";
    }
}

Isa chosen_isa(const std::string& name) {
    std::vector<Isa> usable = usable_isas();
    if (name.empty()) return usable.back();
    for (Isa isa : usable_bfloat16()) usable.push_back(isa);
    std::string known;
    for (Isa isa : usable) {
        if (name == name_of(isa)) return isa;
        known += (known.empty() ? "" : ", ") + std::string(name_of(isa));
    }
    throw std::invalid_argument("instruction set \"" + name + "\" is not available here, only " +
                                known);
}

}  // namespace sartor
