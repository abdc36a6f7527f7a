#include "checksum.h"

#include <cstring>

namespace sartor {

namespace {

// Side by side, so that no product waits for the one before it.
constexpr int LANES_AT_ONCE = 32;
// Odd, so that each step can be undone: a single word that differs always shows.
constexpr uint64_t FACTOR = 0x9E3779B97F4A7C15;

uint64_t mixed(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
    return value ^ (value >> 31);
}

}  // namespace

uint64_t checksum(const uint8_t* content, int64_t size) {
    constexpr int64_t STRIPE = LANES_AT_ONCE * int64_t(sizeof(uint64_t));
    uint64_t sums[LANES_AT_ONCE], words[LANES_AT_ONCE];
    for (int lane = 0; lane < LANES_AT_ONCE; ++lane) sums[lane] = mixed(uint64_t(lane) + 1);
    for (int64_t at = 0; at < size; at += STRIPE) {
        int64_t left = size - at;
        if (left < STRIPE) std::memset(words, 0, sizeof(words));
        std::memcpy(words, content + at, size_t(left < STRIPE ? left : STRIPE));
        for (int lane = 0; lane < LANES_AT_ONCE; ++lane) {
            uint64_t sum = (sums[lane] ^ words[lane]) * FACTOR;
            sums[lane] = sum ^ (sum >> 32);
        }
    }
    uint64_t total = mixed(uint64_t(size));
    for (uint64_t sum : sums) total = mixed(total ^ sum) + FACTOR;
    return total;
}

}  // namespace sartor
