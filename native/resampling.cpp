#include "resampling.h"

#include <algorithm>
#include <vector>

namespace sartor {

namespace {

__extension__ typedef unsigned __int128 uint128_t;

// word % divisor, by a multiplication: dividing takes several times as long.
class Remainder {
  public:
    explicit Remainder(uint64_t divisor) : divisor_(divisor), inverse_(UINT64_MAX / divisor) {}

    uint64_t operator()(uint64_t word) const {
        // The quotient, or up to two less.
        uint64_t quotient = uint64_t(uint128_t(word) * inverse_ >> 64);
        uint64_t rest = word - quotient * divisor_;
        while (rest >= divisor_) rest -= divisor_;
        return rest;
    }

  private:
    const uint64_t divisor_, inverse_;
};

}  // namespace

void count_draws(const uint64_t* words, int64_t resamples, int64_t places, double* counts) {
    if (places < 1) return;
    Remainder remainder{uint64_t(places)};
    std::vector<uint32_t> drawn(places);
    for (int64_t r = 0; r < resamples; ++r, words += places, counts += places) {
        std::fill(drawn.begin(), drawn.end(), 0);
        for (int64_t k = 0; k < places; ++k) ++drawn[remainder(words[k])];
        std::copy(drawn.begin(), drawn.end(), counts);
    }
}

void risks(const double* counts, int64_t resamples, int64_t places, const int64_t* order,
           const double* wrong, const int64_t* ends, double* found) {
    for (int64_t r = 0; r < resamples; ++r, counts += places, found += places) {
        double taken = 0, mistakes = 0;
        for (int64_t begin = 0; begin < places;) {
            int64_t end = ends[begin] + 1;
            for (int64_t k = begin; k < end; ++k) {
                double drawn = counts[order[k]];
                taken += drawn;
                mistakes += drawn * wrong[k];
            }
            // Before the first that was drawn there is no mistake either.
            double risk = mistakes / std::max(taken, 1.0);
            for (; begin < end; ++begin) found[begin] = risk * counts[order[begin]];
        }
    }
}

}  // namespace sartor
