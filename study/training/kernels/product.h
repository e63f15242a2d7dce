// Products of a few rows of inputs with a slab of weights: the inner loop of dense convolutions and linear layers.
#pragma once

#include "vectors.h"

#if LANES == 16
constexpr int TILE = 8, VECTORS = 2;  // 16 sums in 32 registers
#elif LANES == 8
constexpr int TILE = 6, VECTORS = 2;  // 12 sums in 16 registers
#elif defined(__aarch64__)
constexpr int TILE = 4, VECTORS = 4;  // 16 sums in 32 registers
#else
constexpr int TILE = 2, VECTORS = 4;  // 8 sums in 16 registers
#endif
constexpr int SLAB = VECTORS * LANES;  // outputs that are computed together

// The weights of a layer as the products read them: slab by slab of outputs, and in it a row of outputs per input.
// to: [columns / SLAB][inputs][SLAB]; from: [outputs][inputs]; columns: outputs, padded.
static void pack(float *to, const float *from, int outputs, int inputs, int columns) {
    for (int first = 0; first < columns; first += SLAB) {
        int wide = columns - first < SLAB ? columns - first : SLAB;
        int there = outputs - first < wide ? outputs - first : wide;
        for (int i = 0; i < inputs; i++, to += wide) {
            for (int j = 0; j < there; j++) to[j] = from[(size_t)(first + j) * inputs + i];
            for (int j = there; j < wide; j++) to[j] = 0;
        }
    }
}

// Where the inputs of a row lie: rows × columns of runs of `length` floats, the first `from` a pointer of its own.
struct Runs {
    size_t from;
    int rows;
    size_t row;  // floats from one to the next
    int columns;
    size_t column;
    int length;
};

// Sums for P rows of inputs times V vectors of outputs, begun at zero or added to. out: [P][width].
template <int P, int V>
INLINE void tile(const float *const *inputs, Runs r, const float *weights, bool add, float *out, size_t width) {
    const float *x[P];
    UNROLLED for (int p = 0; p < P; p++) x[p] = inputs[p] + r.from;
    vec sums[P][V] = {};
    if (add)
        UNROLLED for (int p = 0; p < P; p++)
            UNROLLED for (int v = 0; v < V; v++) sums[p][v] = load(out + p * width + v * LANES);
    for (int row = 0; row < r.rows; row++) {
        for (size_t column = 0; column < r.columns * r.column; column += r.column)
            UNROLLED_BY_4 for (size_t k = column; k < column + r.length; k++, weights += V * LANES) {
                vec w[V];
                UNROLLED for (int v = 0; v < V; v++) w[v] = load(weights + v * LANES);
                UNROLLED for (int p = 0; p < P; p++) {
                    float value = x[p][k];
                    UNROLLED for (int v = 0; v < V; v++) sums[p][v] += value * w[v];
                }
            }
        UNROLLED for (int p = 0; p < P; p++) x[p] += r.row;
    }
    UNROLLED for (int p = 0; p < P; p++)
        UNROLLED for (int v = 0; v < V; v++) store(out + p * width + v * LANES, sums[p][v]);
}

template <int V>
INLINE void tiles(int count, const float *const *inputs, Runs r, const float *weights, bool add, float *out,
                  size_t width) {
    constexpr int HALF = TILE > 4 ? 4 : 2;
    while (count >= TILE && !(TILE == 6 && count == 8)) {
        tile<TILE, V>(inputs, r, weights, add, out, width);
        count -= TILE, inputs += TILE, out += TILE * width;
    }
    for (; count >= HALF; count -= HALF, inputs += HALF, out += HALF * width)
        tile<HALF, V>(inputs, r, weights, add, out, width);
    for (; count; count--, inputs++, out += width) tile<1, V>(inputs, r, weights, add, out, width);
}

constexpr int AT_HAND = 256;  // inputs whose weights stay in the first cache while all rows are multiplied with them

// The same for any number of rows and one slab, which is as wide as SLAB or, at the end, as one vector.
static __attribute__((noinline)) void multiply(int count, const float *const *inputs, Runs all, const float *weights,
                                               int wide, float *out, size_t width) {
    bool add = false;
    auto some = [&](Runs r) {
        if (wide == SLAB)
            tiles<VECTORS>(count, inputs, r, weights, add, out, width);
        else
            tiles<1>(count, inputs, r, weights, add, out, width);
        weights += (size_t)r.rows * r.columns * r.length * wide;
        add = true;
    };
    if (all.rows * all.columns * all.length <= AT_HAND) return some(all);
    for (int row = 0; row < all.rows; row++) {
        size_t from = all.from + row * all.row;
        if (all.columns * all.length <= AT_HAND)
            some({from, 1, 0, all.columns, all.column, all.length});
        else
            for (int column = 0; column < all.columns; column++)
                for (int k = 0; k < all.length; k += AT_HAND)
                    some({from + column * all.column + k, 1, 0, 1, 1, all.length - k < AT_HAND ? all.length - k : AT_HAND});
    }
}
