// Forward pass of a block: 3×3 convolution, 2×2 max-pooling, bias, activation function.
//
// Activations lie as [image][row][column][channel] with a border of zeros, so that every 3×3 patch is whole.
#pragma once

#include "pooling.h"
#include "product.h"

struct Block {
    int inputs, outputs;  // channels
    int side;             // of the square images that come in, 64 at most
    bool first;           // whether it sees the images: three channels, without padding
    int border;           // of what goes out: 1 where another block follows, else 0

    int depth() const { return first ? inputs : padded(inputs); }   // floats of a pixel
    int stride() const { return first ? inputs : spaced(inputs); }  // from one pixel to the next
    int columns() const { return padded(outputs); }
    int row() const { return (side + 2) * stride(); }
    size_t image() const { return (size_t)(side + 2) * row(); }
    int half() const { return side / 2; }
    int out_stride() const { return border ? spaced(outputs) : columns(); }
    int out_row() const { return (half() + 2 * border) * out_stride(); }
    size_t out_image() const { return (size_t)(half() + 2 * border) * out_row(); }
    size_t units() const { return (size_t)half() * half() * columns(); }
    size_t patch() const { return (size_t)9 * depth(); }
    Runs runs() const {
        return first ? Runs{0, 3, (size_t)row(), 1, 1, 3 * inputs}
                     : Runs{0, 3, (size_t)row(), 3, (size_t)stride(), depth()};
    }
};

constexpr int WIDE = 4 * SLAB;  // outputs that a sparse product computes together
constexpr int ROOM = 4096;      // floats in which sums of sparse products wait for pooling

struct Pooled {
    float *out;       // [images][half + border][half + border][columns]
    int8_t *choices;  // [images][half][half][columns]
    float *slopes;    // alike
    long open;        // units of all images
};

INLINE void pool_rows(const Block &b, const float *upper, const float *lower, size_t width, int wide, int image, int y,
                      int column, const float *bias, int function, float parameter, Pooled *to) {
    size_t unit = (size_t)image * b.units() + (size_t)y * b.half() * b.columns() + column;
    float *out = to->out + (size_t)image * b.out_image() + (size_t)(y + b.border) * b.out_row() +
                 b.border * b.out_stride() + column;
    to->open += pool(upper, lower, width, wide, b.half(), bias + column, function, parameter, b.out_stride(), out,
                     b.columns(), to->choices + unit, to->slopes ? to->slopes + unit : nullptr);
}

constexpr int PIXELS = 128;  // whose sums wait for pooling

// Every product is computed. weights: packed; sums: room for [PIXELS or two rows][SLAB].
static void convolve_dense(const Block &b, const float *x, int images, const float *weights, const float *bias,
                           int function, float parameter, float *sums, Pooled *to) {
    const float *inputs[PIXELS];
    int pairs = images * b.half(), together = PIXELS / (2 * b.side);
    for (int first = 0; first < pairs; first += together) {
        int count = pairs - first < together ? pairs - first : together, pixels = 0;
        for (int pair = first; pair < first + count; pair++) {
            const float *row = x + pair / b.half() * b.image() + pair % b.half() * 2 * b.row();
            for (int y = 0; y < 2; y++, row += b.row())
                for (int p = 0; p < b.side; p++) inputs[pixels++] = row + p * b.stride();
        }
        const float *slab = weights;
        for (int column = 0; column < b.columns(); column += SLAB) {
            int wide = b.columns() - column < SLAB ? b.columns() - column : SLAB;
            multiply(pixels, inputs, b.runs(), slab, wide, sums, wide);
            for (int pair = 0; pair < count; pair++) {
                const float *upper = sums + (size_t)pair * 2 * b.side * wide;
                pool_rows(b, upper, upper + b.side * wide, wide, wide, (first + pair) / b.half(),
                          (first + pair) % b.half(), column, bias, function, parameter, to);
            }
            slab += b.patch() * wide;
        }
    }
}

// The inputs that are not zero, pixel by pixel.
struct Sparse {
    int *ends;       // [pixels]: where a pixel's list ends; it begins where the one before ends
    int *channels;   // [pixels * depth]
    float *values;   // alike
};

INLINE void list_inputs(const Block &b, const float *x, Sparse *list) {
    int end = 0;
    for (int y = 0; y < b.side; y++)
        for (int column = 0; column < b.side; column++) {
            const float *pixel = x + (y + 1) * b.row() + (column + 1) * b.stride();
            for (int c = 0; c < b.depth(); c++) {
                list->channels[end] = c;
                list->values[end] = pixel[c];
                end += pixel[c] != 0;
            }
            list->ends[y * b.side + column] = end;
        }
}

// S slabs of V vectors: every product of a pixel's list with one tap's weights, added to sums.
template <int S, int V>
INLINE void add_products(const int *channels, const float *values, int count, const float *weights, size_t slab,
                         float *sums) {
    vec s[S][V];
    const float *w[S];
    UNROLLED for (int i = 0; i < S; i++) {
        w[i] = weights + i * slab;
        UNROLLED for (int v = 0; v < V; v++) s[i][v] = load(sums + (i * V + v) * LANES);
    }
    UNROLLED_BY_4 for (int j = 0; j < count; j++) {
        size_t at = (size_t)channels[j] * V * LANES;
        float value = values[j];
        UNROLLED for (int i = 0; i < S; i++)
            UNROLLED for (int v = 0; v < V; v++) s[i][v] += value * load(w[i] + at + v * LANES);
    }
    UNROLLED for (int i = 0; i < S; i++)
        UNROLLED for (int v = 0; v < V; v++) store(sums + (i * V + v) * LANES, s[i][v]);
}

// Every pixel of images whose inputs are listed, S slabs of outputs. sums: [images][pixels][S * V * LANES].
template <int S, int V>
static __attribute__((noinline)) void multiply_sparse(const Block &b, int images, const Sparse &lists,
                                                      const float *weights, float *sums) {
    int pixels = b.side * b.side, width = S * V * LANES;
    size_t room = (size_t)pixels * b.depth(), slab = b.patch() * V * LANES;
    memset(sums, 0, sizeof(float) * images * pixels * width);
    for (int tap = 0; tap < 9; tap++) {
        const float *w = weights + (size_t)tap * b.depth() * V * LANES;
        int down = tap / 3 - 1, right = tap % 3 - 1;
        for (int image = 0; image < images; image++) {
            const int *ends = lists.ends + image * pixels;
            for (int y = down < 0 ? 1 : 0; y < b.side - (down > 0); y++)
                for (int x = right < 0 ? 1 : 0; x < b.side - (right > 0); x++) {
                    int from = (y + down) * b.side + x + right;
                    int start = from ? ends[from - 1] : 0;
                    add_products<S, V>(lists.channels + image * room + start, lists.values + image * room + start,
                                       ends[from] - start, w, slab,
                                       sums + ((size_t)image * pixels + y * b.side + x) * width);
                }
        }
    }
}

// Products with inputs that are zero are left out; the order of additions is the dense one's, and so are the bits.
static void convolve_sparse(const Block &b, const float *x, int images, const float *weights, const float *bias,
                            int function, float parameter, float *sums, const Sparse &lists, Pooled *to) {
    int pixels = b.side * b.side, widest = b.columns() < WIDE ? b.columns() : WIDE;
    int together = ROOM / (pixels * widest);
    together = together < 1 ? 1 : together;
    size_t room = (size_t)pixels * b.depth();
    for (int first = 0; first < images; first += together) {
        int count = images - first < together ? images - first : together;
        for (int i = 0; i < count; i++) {
            Sparse list = {lists.ends + i * pixels, lists.channels + i * room, lists.values + i * room};
            list_inputs(b, x + (first + i) * b.image(), &list);
        }
        for (int column = 0, wide; column < b.columns(); column += wide) {
            int left = b.columns() - column;
            const float *w = weights + b.patch() * column;
            wide = left >= 4 * SLAB ? 4 * SLAB : left >= 2 * SLAB ? 2 * SLAB : left >= SLAB ? SLAB : LANES;
            if (wide == 4 * SLAB)
                multiply_sparse<4, VECTORS>(b, count, lists, w, sums);
            else if (wide == 2 * SLAB)
                multiply_sparse<2, VECTORS>(b, count, lists, w, sums);
            else if (wide == SLAB)
                multiply_sparse<1, VECTORS>(b, count, lists, w, sums);
            else
                multiply_sparse<1, 1>(b, count, lists, w, sums);
            for (int i = 0; i < count; i++)
                for (int y = 0; y < b.half(); y++) {
                    const float *upper = sums + ((size_t)i * pixels + 2 * y * b.side) * wide;
                    pool_rows(b, upper, upper + b.side * wide, wide, wide, first + i, y, column, bias, function,
                              parameter, to);
                }
        }
    }
}
