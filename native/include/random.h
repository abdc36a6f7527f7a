// The random numbers of PyTorch's generator for the CPU, so that dropout drops the same elements.
#pragma once

#include <cstdint>

namespace sartor {

constexpr int MERSENNE_WORDS = 624;

// MT19937 (Matsumoto and Nishimura, 1998), as `torch.manual_seed` starts it.
struct Mersenne {
    uint32_t state[MERSENNE_WORDS];
    int used = MERSENNE_WORDS;
};

#ifdef SARTOR_ISA
namespace SARTOR_ISA {

void seed(Mersenne& generator, uint64_t seed);

// `count` random 16-bit numbers, a multiple of 4: those that `Tensor.random_` fills an int64 tensor
// with, from the lowest 16 bits of each element to the highest.
void draw(Mersenne& generator, uint16_t* words, int64_t count);

}  // namespace SARTOR_ISA
#endif

}  // namespace sartor
