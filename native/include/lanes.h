// The innermost dimension of activations.
#pragma once

namespace sartor {

// Images in a block, whatever the instruction set.
constexpr int LANES = 16;

}  // namespace sartor
