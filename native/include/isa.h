// Instruction sets: which are compiled in, and which the processor has.
#pragma once

#include <string>
#include <vector>

namespace sartor {

// The last two multiply bfloat16 where a layer is wide enough, by AVX512_BF16 and by AMX; the rest is
// that of v4.
enum class Isa { base, v3, v4, dot, tile };

// Those compiled in that this processor has, the widest last.
std::vector<Isa> usable_isas();

// The same of those that multiply bfloat16, the fastest last.
std::vector<Isa> usable_bfloat16();

inline bool multiplies_bfloat16(Isa isa) { return isa == Isa::dot || isa == Isa::tile; }

// "generic", "x86-64-v3", "x86-64-v4", "avx512-bf16" or "amx-bf16".
const char* name_of(Isa isa);

// The one of that name, or the widest for float32 if the name is empty. Throws std::invalid_argument.
Isa chosen_isa(const std::string& name);

}  // namespace sartor
