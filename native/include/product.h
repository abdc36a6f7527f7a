// Sums of products, which linear layers are made of three times: forward, and both gradients.
//
// One kernel serves all three. It keeps R rows times V vectors of sums in registers and walks over
// the terms: at each, V vectors are loaded, and each row's factor is broadcast and multiplied with
// all of them. So V + R loads feed R * V multiplications, and the arithmetic is what takes time.
#pragma once

#include <cstddef>

#include "arithmetic.h"
#include "unroll.h"

namespace sartor {
namespace SARTOR_ISA {

#if defined(__AVX512F__)
// Broadcast once into a register: GCC would load the factor again for each vector.
#define SARTOR_IN_REGISTER(value) asm("" : "+v"(value))
#else
#define SARTOR_IN_REGISTER(value) (void)0
#endif

// Where the factors and vectors of a sum lie. Distances are in floats. The terms are `outers` times
// `inners`; the factor of a row and a term is one float.
struct Terms {
    const float* factors;
    ptrdiff_t row;           // from one row's factor to the next row's
    ptrdiff_t factor_inner;  // from one term's to the next term's
    ptrdiff_t factor_outer;
    const float* vectors;
    ptrdiff_t block;  // from one block of LANES floats to the next
    ptrdiff_t vector_inner;
    ptrdiff_t vector_outer;
    int inners;
    int outers;
};

// Where R rows of V vectors of sums are put, and what they begin with: the values of `first`, one
// for each row; or what stands there already (`adds`); or zero.
struct Sums {
    float* to;
    ptrdiff_t row;
    ptrdiff_t block;
    const float* first = nullptr;
    bool adds = false;
    bool rectified = false;
    // Instead of being put there, the sum times `factor` is added to `kept` times what is there.
    bool blends = false;
    float kept = 1, factor = 1;
};

// Registers decide how much can be kept: 24 sums of 32, or 12 of 16, leave room for the rest.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MOST_VECTORS = 4;
constexpr int MOST_ROWS[MOST_VECTORS + 1] = {0, 14, 12, 8, 6};
#else
constexpr int MOST_VECTORS = 2;
constexpr int MOST_ROWS[MOST_VECTORS + 1] = {0, 12, 6};
#endif

// The place of vector v of a tile; tiles begin at a block, or at a part of one that they divide.
static inline ptrdiff_t place(int v, ptrdiff_t block) {
    return (v / PER_BLOCK) * block + (v % PER_BLOCK) * WIDTH;
}

template <int R, int V>
static void add_products(const Terms& terms, const Sums& sums) {
    vec kept[R][V];
    SARTOR_UNROLL
    for (int r = 0; r < R; ++r) {
        SARTOR_UNROLL
        for (int v = 0; v < V; ++v) {
            kept[r][v] = sums.first  ? splat(sums.first[r])
                         : sums.adds ? load(sums.to + r * sums.row + place(v, sums.block))
                                     : vec{};
        }
    }
    const float* rows[R];
    SARTOR_UNROLL
    for (int r = 0; r < R; ++r) rows[r] = terms.factors + r * terms.row;
    for (int outer = 0; outer < terms.outers; ++outer) {
        const float* vectors = terms.vectors + outer * terms.vector_outer;
        ptrdiff_t at = outer * terms.factor_outer;
        for (int inner = 0; inner < terms.inners; ++inner) {
            vec values[V];
            SARTOR_UNROLL
            for (int v = 0; v < V; ++v) values[v] = load(vectors + place(v, terms.block));
            SARTOR_UNROLL
            for (int r = 0; r < R; ++r) {
                vec factor = splat(rows[r][at]);
                SARTOR_IN_REGISTER(factor);
                SARTOR_UNROLL
                for (int v = 0; v < V; ++v) kept[r][v] = fma(factor, values[v], kept[r][v]);
            }
            at += terms.factor_inner;
            vectors += terms.vector_inner;
        }
    }
    SARTOR_UNROLL
    for (int r = 0; r < R; ++r) {
        SARTOR_UNROLL
        for (int v = 0; v < V; ++v) {
            float* to = sums.to + r * sums.row + place(v, sums.block);
            vec sum = sums.rectified ? relu(kept[r][v]) : kept[r][v];
            if (sums.blends) sum = fma(sum, splat(sums.factor), load(to) * splat(sums.kept));
            store(to, sum);
        }
    }
}

template <int V>
static void add_products_of(int rows, const Terms& terms, const Sums& sums) {
    switch (rows) {
        case 1: return add_products<1, V>(terms, sums);
        case 2: return add_products<2, V>(terms, sums);
        case 3: return add_products<3, V>(terms, sums);
        case 4: return add_products<4, V>(terms, sums);
        case 5: return add_products<5, V>(terms, sums);
        case 6: return add_products<6, V>(terms, sums);
    }
    if constexpr (MOST_ROWS[V] > 6) {
        switch (rows) {
            case 7: return add_products<7, V>(terms, sums);
            case 8: return add_products<8, V>(terms, sums);
        }
    }
    if constexpr (MOST_ROWS[V] > 8) {
        switch (rows) {
            case 9: return add_products<9, V>(terms, sums);
            case 10: return add_products<10, V>(terms, sums);
            case 11: return add_products<11, V>(terms, sums);
            case 12: return add_products<12, V>(terms, sums);
        }
    }
    if constexpr (MOST_ROWS[V] > 12) {
        switch (rows) {
            case 13: return add_products<13, V>(terms, sums);
            case 14: return add_products<14, V>(terms, sums);
        }
    }
}

// A tile of at most MOST_ROWS[vectors] rows.
static inline void add_products(int rows, int vectors, const Terms& terms, const Sums& sums) {
    switch (vectors) {
        case 1: return add_products_of<1>(rows, terms, sums);
        case 2: return add_products_of<2>(rows, terms, sums);
    }
    if constexpr (MOST_VECTORS > 2) {
        switch (vectors) {
            case 3: return add_products_of<3>(rows, terms, sums);
            case 4: return add_products_of<4>(rows, terms, sums);
        }
    }
}

// Begin of part `k` of `parts` nearly equal ones. Equal tiles beat full ones and a small rest.
static inline int part_begin(int total, int parts, int k) {
    return static_cast<int>(static_cast<int64_t>(total) * k / parts);
}

static inline int ceil_div(int total, int size) { return (total + size - 1) / size; }

// Into how many tiles of at most MOST_VECTORS vectors blocks are divided.
static inline int tiles_of(int blocks) {
    return PER_BLOCK >= MOST_VECTORS ? blocks * (PER_BLOCK / MOST_VECTORS)
                                     : ceil_div(blocks, MOST_VECTORS / PER_BLOCK);
}

// A tile's vectors, counted from the first block's first.
struct Tile {
    int first;
    int vectors;
    // Where it begins, where a block is `block` floats from the next.
    ptrdiff_t at(ptrdiff_t block) const {
        return (first / PER_BLOCK) * block + (first % PER_BLOCK) * WIDTH;
    }
};

static inline Tile tile_of(int blocks, int tile) {
    if (PER_BLOCK >= MOST_VECTORS) return {tile * MOST_VECTORS, MOST_VECTORS};
    int tiles = tiles_of(blocks);
    int begin = part_begin(blocks, tiles, tile), end = part_begin(blocks, tiles, tile + 1);
    return {begin * PER_BLOCK, (end - begin) * PER_BLOCK};
}

}  // namespace SARTOR_ISA
}  // namespace sartor
