// exp and log on vectors: the same bits on every instruction set that fuses, within 2 units in the
// last place. After Cephes (Moshier, 1989).
#pragma once

#include "arithmetic.h"

namespace sartor {
namespace SARTOR_ISA {

static inline vec bits_as_floats(ivec bits) {
    vec found;
    std::memcpy(&found, &bits, sizeof found);
    return found;
}

static inline ivec floats_as_bits(vec values) {
    ivec found;
    std::memcpy(&found, &values, sizeof found);
    return found;
}

// NaN stays NaN; below -104 it is 0, above 89 infinite.
static inline vec exponential(vec x) {
    // Comparisons with NaN are false, so that NaN is not clamped.
    x = x < splat(-104.0f) ? splat(-104.0f) : x;
    x = x > splat(89.0f) ? splat(89.0f) : x;
    // To the nearest integer, by adding and subtracting a number without fractions.
    const vec whole = splat(12582912.0f);
    vec n = fma(x, splat(1.44269504088896341f), whole) - whole;
    vec r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    vec p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + splat(1.0f);
    // 2^n in two steps: by itself it may be too small for a float, or too large.
    n = n == n ? n : vec{};
    ivec powers = __builtin_convertvector(n, ivec);
    ivec half = powers >> 1;
    vec first = bits_as_floats((half + 127) << 23);
    vec second = bits_as_floats((powers - half + 127) << 23);
    return p * first * second;
}

// Of finite x >= 1, or NaN.
static inline vec logarithm(vec x) {
    ivec bits = floats_as_bits(x);
    vec e = __builtin_convertvector((bits >> 23) - 127, vec);
    vec m = bits_as_floats((bits & 0x007fffff) | 0x3f800000);
    // m from 1/sqrt(2) to sqrt(2).
    ivec large = m > splat(1.41421356f);
    m = large ? m * splat(0.5f) : m;
    e = large ? e + splat(1.0f) : e;
    m -= splat(1.0f);
    vec p = splat(7.0376836292e-2f);
    p = fma(p, m, splat(-1.1514610310e-1f));
    p = fma(p, m, splat(1.1676998740e-1f));
    p = fma(p, m, splat(-1.2420140846e-1f));
    p = fma(p, m, splat(1.4249322787e-1f));
    p = fma(p, m, splat(-1.6668057665e-1f));
    p = fma(p, m, splat(2.0000714765e-1f));
    p = fma(p, m, splat(-2.4999993993e-1f));
    p = fma(p, m, splat(3.3333331174e-1f));
    vec square = m * m;
    vec found = p * m * square;
    found = fma(e, splat(-2.12194440e-4f), found);
    found = fma(square, splat(-0.5f), found);
    found = fma(e, splat(0.693359375f), m + found);
    return x == x ? found : x;
}

}  // namespace SARTOR_ISA
}  // namespace sartor
