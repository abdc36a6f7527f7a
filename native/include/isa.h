// Instruction sets: which are compiled in, and which the processor has.
#pragma once

#include <string>
#include <vector>

namespace sartor {

enum class Isa { base, v3, v4 };

// Those compiled in that this processor has, the widest last.
std::vector<Isa> usable_isas();

// "generic", "x86-64-v3" or "x86-64-v4".
const char* name_of(Isa isa);

// The one of that name, or the widest if the name is empty. Throws std::invalid_argument.
Isa chosen_isa(const std::string& name);

}  // namespace sartor
