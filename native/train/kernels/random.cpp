// MT19937, many words at a time.
#include "random.h"

#include <algorithm>
#include <cstring>

namespace sartor {
namespace SARTOR_ISA {

namespace {

constexpr int SHIFT = 397;
constexpr int REST = MERSENNE_WORDS - SHIFT;

uint32_t twisted(uint32_t high, uint32_t low, uint32_t other) {
    uint32_t joined = (high & 0x80000000u) | (low & 0x7fffffffu);
    return other ^ (joined >> 1) ^ (-(low & 1) & 0x9908b0dfu);
}

uint32_t tempered(uint32_t word) {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c5680u;
    word ^= (word << 15) & 0xefc60000u;
    return word ^ (word >> 18);
}

// Each word follows from words at a distance of at least 227, so the loops are done as vectors: one
// that reads old words only, and two that read what those before them wrote.
void refill(uint32_t* state) {
    uint32_t next[MERSENNE_WORDS];
    for (int k = 0; k < REST; ++k) next[k] = twisted(state[k], state[k + 1], state[k + SHIFT]);
    for (int k = REST; k < 2 * REST; ++k)
        next[k] = twisted(state[k], state[k + 1], next[k - REST]);
    for (int k = 2 * REST; k < MERSENNE_WORDS - 1; ++k)
        next[k] = twisted(state[k], state[k + 1], next[k - REST]);
    next[MERSENNE_WORDS - 1] = twisted(state[MERSENNE_WORDS - 1], next[0], next[SHIFT - 1]);
    std::memcpy(state, next, sizeof next);
}

}  // namespace

void seed(Mersenne& generator, uint64_t seed) {
    uint32_t* state = generator.state;
    state[0] = uint32_t(seed);
    for (int k = 1; k < MERSENNE_WORDS; ++k)
        state[k] = 1812433253u * (state[k - 1] ^ (state[k - 1] >> 30)) + uint32_t(k);
    generator.used = MERSENNE_WORDS;
}

void draw(Mersenne& generator, uint16_t* words, int64_t count) {
    for (int64_t left = count / 2; left > 0;) {
        if (generator.used == MERSENNE_WORDS) {
            refill(generator.state);
            generator.used = 0;
        }
        int here = int(std::min<int64_t>(left, MERSENNE_WORDS - generator.used));
        const uint32_t* from = generator.state + generator.used;
        // Of two words, the first is the upper half of 64 bits.
        uint32_t out[MERSENNE_WORDS];
        for (int k = 0; k < here; k += 2) {
            out[k] = tempered(from[k + 1]);
            out[k + 1] = tempered(from[k]);
        }
        std::memcpy(words, out, here * sizeof(uint32_t));
        words += 2 * here;
        generator.used += here;
        left -= here;
    }
}

}  // namespace SARTOR_ISA
}  // namespace sartor
