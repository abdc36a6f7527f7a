// What intervals are made of: the same figure on many resamples of the images.
#pragma once

#include <cstdint>

namespace sartor {

// How often each of `places` is drawn in so many resamples, counts (resamples, places): as many
// draws as places, each the remainder of a random word (resamples, places).
void count_draws(const uint64_t* words, int64_t resamples, int64_t places, double* counts);

// The risk-coverage curve of each resample: at each image that was drawn, from the most confident
// one on, the share of mistakes until there, as often as it was drawn; risks (resamples, places).
//
// `order` has the places of `counts` by confidence; `wrong` and `ends` are in that order. Images of
// equal confidence are taken at once: `ends` has the last one of each one's confidence.
void risks(const double* counts, int64_t resamples, int64_t places, const int64_t* order,
           const double* wrong, const int64_t* ends, double* found);

}  // namespace sartor
