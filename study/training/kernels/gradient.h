// Backward pass: from the gradients of a layer's outputs to those of its weights and inputs.
//
// Behind max-pooling at most one of four products counts, and behind ReLU only open units do. The open ones of each
// output are listed first; then a sweep over the list adds up the output's weight gradients, kept in registers, and
// spreads the inputs' gradients.
#pragma once

#include "convolution.h"

// An open unit of an output: where in the inputs its patch begins, and the gradient there.
struct Unit {
    int32_t at;
    float gradient;
};

// The open units of one output.
struct Open {
    int count;
    const Unit *units;
};

// The part of a patch that a sweep keeps in registers: A × B pieces of some vectors, and the floats between them, in the
// inputs and in the weights.
struct Piece {
    size_t x_rows, x_columns, w_rows, w_columns;
};

// BACK: whether the inputs' gradients are wanted.
template <int A, int B, int N, bool BACK>
INLINE void sweep(Open open, Piece piece, const float *x, float *dx, const float *weights, float *dw) {
    vec sums[A][B][N], w[A][B][N];
    UNROLLED for (int a = 0; a < A; a++) UNROLLED for (int b = 0; b < B; b++) UNROLLED for (int v = 0; v < N; v++) {
        size_t at = a * piece.w_rows + b * piece.w_columns + v * LANES;
        sums[a][b][v] = load(dw + at);
        if (BACK) w[a][b][v] = load(weights + at);
    }
    for (int i = 0; i < open.count; i++) {
        float g = open.units[i].gradient;
        const float *from = x + open.units[i].at;
        float *to = BACK ? dx + open.units[i].at : nullptr;
        UNROLLED for (int a = 0; a < A; a++) UNROLLED for (int b = 0; b < B; b++) UNROLLED for (int v = 0; v < N; v++) {
            size_t at = a * piece.x_rows + b * piece.x_columns + v * LANES;
            sums[a][b][v] += g * load(from + at);
            if (BACK) store(to + at, load(to + at) + g * w[a][b][v]);
        }
    }
    UNROLLED for (int a = 0; a < A; a++) UNROLLED for (int b = 0; b < B; b++) UNROLLED for (int v = 0; v < N; v++)
        store(dw + a * piece.w_rows + b * piece.w_columns + v * LANES, sums[a][b][v]);
}

constexpr int SWEPT = LANES == 16 ? 4 * PADDING : PADDING;  // channels whose sums and weights the registers hold

// SWEPT channels of a 3×3 patch, or fewer, a multiple of PADDING. Row by row: patches overlap, and whatever the width of
// the vectors, their gradients must be added in one order.
static __attribute__((noinline)) void sweep_channels(Open open, Piece piece, int channels, const float *x, float *dx,
                                                     const float *weights, float *dw) {
    for (int row = 0; row < 3; row++) {
        if (channels == SWEPT) {
            sweep<1, 3, SWEPT / LANES, true>(open, piece, x, dx, weights, dw);
        } else {
            for (int c = 0; c < channels; c += PADDING)
                sweep<1, 3, PADDING / LANES, true>(open, piece, x + c, dx + c, weights + c, dw + c);
        }
        x += piece.x_rows, dx += piece.x_rows, weights += piece.w_rows, dw += piece.w_rows;
    }
}

// A patch of an image: three runs of nine floats, of which 16 are read. dw: [3][16].
static __attribute__((noinline)) void sweep_image(Open open, size_t stride, const float *x, float *dw) {
    sweep<3, 1, 16 / LANES, false>(open, {stride, 0, 16, 0}, x, nullptr, nullptr, dw);
}

// So many inputs of a linear layer, a multiple of 16.
static __attribute__((noinline)) void sweep_inputs(Open open, int inputs, const float *x, float *dx,
                                                   const float *weights, float *dw) {
    int i = 0;
    for (; i + 4 * LANES <= inputs; i += 4 * LANES)
        sweep<1, 1, 4, true>(open, {}, x + i, dx + i, weights + i, dw + i);
    for (; i < inputs; i += LANES) sweep<1, 1, 1, true>(open, {}, x + i, dx + i, weights + i, dw + i);
}

// List the open units of `count` rows of pooled units, output by output; `first` counts the rows of all images.
// units: [columns][room], their places relative to the first row's image; counts: [columns].
template <bool SLOPES>
static __attribute__((noinline)) void list_open(const Block &b, int first, int count, const Pooled &pooled,
                                                const float *gradient, int room, Unit *__restrict units,
                                                int *__restrict counts) {
    const int half = b.half(), columns = b.columns();
    const int32_t steps[8] = {0, b.stride(), b.row(), b.row() + b.stride()};
    memset(counts, 0, sizeof(int) * columns);
    const int8_t *choices = pooled.choices + (size_t)first * half * columns;
    const float *slopes = SLOPES ? pooled.slopes + (size_t)first * half * columns : nullptr;
    for (int row = first; row < first + count; row++) {
        int image = row / half, y = row % half;
        const float *g = gradient + image * b.out_image() + (y + b.border) * b.out_row() +
                         b.border * b.out_stride();
        int32_t from = (int32_t)((image - first / half) * b.image()) + 2 * y * b.row();
        for (int x = 0; x < half; x++, from += 2 * b.stride(), g += b.out_stride(), choices += columns) {
            for (int c = 0; c < columns; c++) {
                // Without branches: every unit is written down, and the next one over it unless it is open.
                int choice = choices[c], listed = counts[c];
                Unit unit = {from + steps[choice], SLOPES ? g[c] * slopes[c] : g[c]};
                uint64_t both;  // one store instead of two
                memcpy(&both, &unit, sizeof(both));
                memcpy(units + (size_t)c * room + listed, &both, sizeof(both));
                counts[c] = listed + ((choice >> 2) ^ 1);
            }
            if (SLOPES) slopes += columns;
        }
    }
}
