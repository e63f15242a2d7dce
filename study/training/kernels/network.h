// Forward and backward pass of the whole network: blocks, hidden layer with dropout, classifier, loss.
#pragma once

#include <math.h>

#include "gradient.h"

constexpr int MOST_BLOCKS = 8;
constexpr float DENSE = 0.45f;        // share of inputs above which leaving out zeros does not pay
constexpr int CACHED = 24 * 1024;  // bytes of inputs and their gradients that a backward pass keeps at hand

// What the network is made of. Weights of a layer lie in a member's row at `weights[layer]`, biases at `biases[layer]`:
// the blocks', then the hidden layer's, then the classifier's. Convolutions as [outputs][3][3][inputs].
struct Network {
    int blocks, side, hidden, classes, function;
    float parameter;  // of the activation function
    int channels[MOST_BLOCKS + 1];
    int64_t weights[MOST_BLOCKS + 2], biases[MOST_BLOCKS + 2];

    Block block(int i) const {
        return {channels[i], channels[i + 1], side >> i, !i, i + 1 < blocks};
    }
    int spots() const { return (side >> blocks) * (side >> blocks); }
    int features() const { return spots() * padded(channels[blocks]); }
};

// Rows of pooled units that are listed at a time: as many as leave PADDING channels of their inputs, and of these inputs'
// gradients, in the first cache.
INLINE int rows_together(const Block &b) {
    int rows = CACHED / (4 * 2 * 2 * (b.side + 2) * (b.first ? b.inputs : PADDING));
    return rows < 1 ? 1 : rows;
}

// Pieces of one block of memory. Under the address sanitizer there are gaps between them, which nobody may touch.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
constexpr int GAP = 64;
INLINE void forbid(uintptr_t from, uintptr_t to) { ASAN_POISON_MEMORY_REGION((void *)from, to - from); }
#else
constexpr int GAP = 0;
INLINE void forbid(uintptr_t, uintptr_t) {}
#endif

struct Pieces {
    uintptr_t next;
    bool there;  // whether there is memory; else it is only measured
    Pieces(char *memory) : next((uintptr_t)memory), there(memory) {}
    template <class T> T *take(size_t count) {
        T *piece = (T *)next;
        uintptr_t end = next + count * sizeof(T);
        next = (end + GAP + 63) / 64 * 64;
        if (there) forbid(end, next);
        return piece;
    }
};

// What one thread needs to look at some images.
struct Workspace {
    float *activations[MOST_BLOCKS + 1];  // of each block, what comes in; [0] is not its own
    float *gradients[MOST_BLOCKS + 1];    // of the loss, by these
    int8_t *choices[MOST_BLOCKS];
    float *slopes[MOST_BLOCKS + 2];
    long open[MOST_BLOCKS];
    float *hidden, *masked, *dhidden, *logits, *sums, *dw;
    Unit *units;  // open ones
    int *counts;  // of them, by output
    Sparse sparse;

    static size_t lay_out(const Network &n, int images, Workspace *w, char *memory) {
        Pieces p(memory);
        size_t sums = 0, lists = 0, units = images + 1, dw = 0, pixels = 0, counts = 0;
        for (int i = 0; i < n.blocks; i++) {
            Block b = n.block(i);
            w->activations[i + 1] = p.take<float>(images * b.out_image());
            w->gradients[i + 1] = p.take<float>(images * b.out_image());
            w->choices[i] = p.take<int8_t>(images * b.units());
            size_t all = (size_t)b.side * b.side, widest = b.columns() < WIDE ? b.columns() : WIDE;
            size_t together = ROOM / (all * widest) ? ROOM / (all * widest) : 1;
            size_t most[] = {(size_t)PIXELS * SLAB, together * all * widest};
            for (size_t m : most) sums = m > sums ? m : sums;
            if (i) lists = together * all * b.depth() > lists ? together * all * b.depth() : lists;
            if (i) pixels = together * all > pixels ? together * all : pixels;
            size_t listed = ((size_t)rows_together(b) * b.half() + 1) * b.columns();
            units = listed > units ? listed : units;
            size_t part = (size_t)b.columns() * (i ? b.patch() : 48);
            dw = part > dw ? part : dw;
            counts = (size_t)b.columns() > counts ? b.columns() : counts;
        }
        size_t hidden = padded(n.hidden), linear = hidden * n.features();
        dw = linear > dw ? linear : dw;
        dw = hidden * padded(n.classes) > dw ? hidden * padded(n.classes) : dw;
        w->hidden = p.take<float>(images * hidden);
        w->masked = p.take<float>(images * hidden);
        w->dhidden = p.take<float>(images * hidden);
        w->slopes[n.blocks] = p.take<float>(images * hidden);
        w->logits = p.take<float>((size_t)images * padded(n.classes));
        w->sums = p.take<float>(sums);
        w->sparse = {p.take<int>(pixels), p.take<int>(lists), p.take<float>(lists)};
        w->units = p.take<Unit>(units);
        w->counts = p.take<int>(counts);
        w->dw = p.take<float>(dw);
        // Last, so that members with another function share all the rest, borders of zeros among it.
        for (int i = 0; i < n.blocks; i++)
            w->slopes[i] = n.function == RELU ? nullptr : p.take<float>(images * n.block(i).units());
        return p.next - (uintptr_t)memory;
    }
};

// A layer's weights in the order of the kernels: `runs` runs of inputs per output, each padded from `inputs` to `stride`
// floats. A hidden layer's are [channel][spot] in torch and [spot][channel] here.
struct Layer {
    int outputs, runs, inputs, stride;
    bool transposed;

    int columns() const { return padded(outputs); }
    size_t row() const { return (size_t)runs * stride; }
    size_t torch_row() const { return (size_t)runs * inputs; }
    bool as_in_torch() const { return stride == inputs && !transposed; }
    // For each run of each output: where it begins in torch's weights and in ours, and the step between torch's floats.
    template <class Visit> void visit(Visit visit) const {
        for (int output = 0; output < outputs; output++)
            for (int run = 0; run < runs; run++)
                visit(output * torch_row() + (transposed ? run : (size_t)run * inputs), output * row() + run * stride,
                      transposed ? runs : 1);
    }
};

static Layer layer(const Network &n, int i) {
    if (i < n.blocks) return {n.channels[i + 1], 9, n.channels[i], n.block(i).depth(), false};
    if (i == n.blocks) return {n.hidden, n.spots(), n.channels[i], padded(n.channels[i]), true};
    return {n.classes, 1, n.hidden, padded(n.hidden), false};
}

// A member's weights as the kernels read them.
struct Packed {
    float *slabs[MOST_BLOCKS + 2];       // for products
    float *biases[MOST_BLOCKS + 2];      // padded
    const float *rows[MOST_BLOCKS + 2];  // for gradients: [outputs][runs][stride]
    float *own[MOST_BLOCKS + 2];         // room for these, where they are not as in torch

    static size_t lay_out(const Network &n, const float *row, Packed *w, char *memory) {
        Pieces p(memory);
        for (int i = 0; i < n.blocks + 2; i++) {
            Layer l = layer(n, i);
            w->slabs[i] = p.take<float>(l.row() * l.columns());
            w->biases[i] = p.take<float>(l.columns());
            w->own[i] = l.as_in_torch() ? nullptr : p.take<float>(l.row() * l.outputs);
            w->rows[i] = l.as_in_torch() && row ? row + n.weights[i] : w->own[i];
        }
        return p.next - (uintptr_t)memory;
    }
};

static void pack_member(const Network &n, const float *row, const Packed &to) {
    for (int i = 0; i < n.blocks + 2; i++) {
        Layer l = layer(n, i);
        const float *from = row + n.weights[i];
        if (!l.as_in_torch()) {
            memset(to.own[i], 0, sizeof(float) * l.row() * l.outputs);
            l.visit([&](size_t torch, size_t here, int step) {
                for (int j = 0; j < l.inputs; j++) to.own[i][here + j] = from[torch + (size_t)j * step];
            });
        }
        pack(to.slabs[i], to.rows[i], l.outputs, (int)l.row(), l.columns());
        memset(to.biases[i], 0, sizeof(float) * l.columns());
        memcpy(to.biases[i], row + n.biases[i], sizeof(float) * l.outputs);
    }
}

// out: [images][columns]
static void multiply_all(const float *x, int images, int inputs, const float *slabs, int columns, float *out) {
    const float *rows[64];
    for (int column = 0; column < columns; column += SLAB) {
        int wide = columns - column < SLAB ? columns - column : SLAB;
        for (int first = 0; first < images; first += 64) {
            int count = images - first < 64 ? images - first : 64;
            for (int i = 0; i < count; i++) rows[i] = x + (size_t)(first + i) * inputs;
            multiply(count, rows, {0, 1, 0, 1, 1, inputs}, slabs, wide, out + (size_t)first * columns + column, columns);
        }
        slabs += (size_t)inputs * wide;
    }
}

// Logits of images [images][side + 2][side + 2][3], to w.logits. mask: [images][hidden], or none.
static void forward(const Network &n, const Packed &packed, const float *x, int images, const float *mask,
                    Workspace &w) {
    w.activations[0] = (float *)x;
    for (int i = 0; i < n.blocks; i++) {
        Block b = n.block(i);
        Pooled to = {w.activations[i + 1], w.choices[i], w.slopes[i], 0};
        bool sparse = i && n.function == RELU && w.open[i - 1] < DENSE * images * n.block(i - 1).units();
        if (sparse)
            convolve_sparse(b, w.activations[i], images, packed.slabs[i], packed.biases[i], n.function, n.parameter,
                            w.sums, w.sparse, &to);
        else
            convolve_dense(b, w.activations[i], images, packed.slabs[i], packed.biases[i], n.function, n.parameter,
                           w.sums, &to);
        w.open[i] = to.open;
    }
    int columns = padded(n.hidden);
    multiply_all(w.activations[n.blocks], images, n.features(), packed.slabs[n.blocks], columns, w.hidden);
    for (int image = 0; image < images; image++)
        for (int j = 0; j < columns; j++) {
            size_t at = (size_t)image * columns + j;
            float slope, y = activate(n.function, n.parameter, w.hidden[at] + packed.biases[n.blocks][j], &slope);
            if (mask) {
                float m = j < n.hidden ? mask[(size_t)image * n.hidden + j] : 0;
                y *= m, slope *= m;
            }
            w.masked[at] = j < n.hidden ? y : 0;
            w.slopes[n.blocks][at] = j < n.hidden ? slope : 0;
        }
    int logits = padded(n.classes);
    multiply_all(w.masked, images, columns, packed.slabs[n.blocks + 1], logits, w.logits);
    for (int image = 0; image < images; image++)
        for (int c = 0; c < n.classes; c++) w.logits[(size_t)image * logits + c] += packed.biases[n.blocks + 1][c];
}

// The sum of the cross entropies with class probabilities [images][classes]; logits become their gradients, times
// `scale`.
static double cross_entropy(float *logits, int images, int classes, const float *targets, float scale) {
    double loss = 0;
    for (int image = 0; image < images; image++, logits += padded(classes), targets += classes) {
        double largest = logits[0], sum = 0, all = 0;
        for (int c = 1; c < classes; c++) largest = logits[c] > largest || logits[c] != logits[c] ? logits[c] : largest;
        for (int c = 0; c < classes; c++) sum += exp(logits[c] - largest);
        double total = largest + log(sum);
        for (int c = 0; c < classes; c++) {
            loss += targets[c] * (total - logits[c]);
            all += targets[c];
        }
        for (int c = 0; c < classes; c++) logits[c] = (float)((all * exp(logits[c] - largest) / sum - targets[c]) * scale);
    }
    return loss;
}

// A linear layer's gradients. gradient: [images][columns], zero where nothing flows; x, dx: [images][inputs];
// dw: [outputs][inputs] and db: [outputs], both added to; units: room for one per image and one more.
static void linear_backward(int images, const Layer &l, const float *gradient, const float *x, const float *rows,
                            float *dx, float *dw, float *db, Unit *units) {
    size_t inputs = l.row();
    memset(dx, 0, sizeof(float) * images * inputs);
    for (int output = 0; output < l.outputs; output++) {
        int count = 0;
        for (int image = 0; image < images; image++) {
            float g = gradient[(size_t)image * l.columns() + output];
            units[count] = {(int32_t)(image * inputs), g};
            count += g != 0;
            db[output] += g;
        }
        sweep_inputs({count, units}, (int)inputs, x, dx, rows + output * inputs, dw + output * inputs);
    }
}

// The gradients of block i. rows, dw: [outputs][patch]; those of the first block [outputs][3][16], of which 9 count.
static void block_backward(const Block &b, int i, int images, const float *rows, float *dw, float *db, Workspace &w) {
    size_t patch = i ? b.patch() : 48;
    Pooled pooled = {w.activations[i + 1], w.choices[i], w.slopes[i], 0};
    if (i) memset(w.gradients[i], 0, sizeof(float) * images * b.image());
    int rows_of_units = images * b.half(), together = rows_together(b), room = together * b.half() + 1;
    for (int first = 0; first < rows_of_units; first += together) {
        int count = rows_of_units - first < together ? rows_of_units - first : together;
        if (pooled.slopes)
            list_open<true>(b, first, count, pooled, w.gradients[i + 1], room, w.units, w.counts);
        else
            list_open<false>(b, first, count, pooled, w.gradients[i + 1], room, w.units, w.counts);
        for (int output = 0; output < b.outputs; output++) {
            float sum = db[output];
            for (int j = 0; j < w.counts[output]; j++) sum += w.units[(size_t)output * room + j].gradient;
            db[output] = sum;
        }
        size_t start = first / b.half() * b.image();
        const float *x = w.activations[i] + start;
        if (!i) {
            for (int output = 0; output < b.outputs; output++)
                sweep_image({w.counts[output], w.units + (size_t)output * room}, b.row(), x, dw + output * patch);
            continue;
        }
        float *dx = w.gradients[i] + start;
        Piece piece = {(size_t)b.row(), (size_t)b.stride(), (size_t)3 * b.depth(), (size_t)b.depth()};
        for (int channel = 0; channel < b.depth(); channel += SWEPT) {
            int channels = b.depth() - channel < SWEPT ? b.depth() - channel : SWEPT;
            for (int output = 0; output < b.outputs; output++)
                if (w.counts[output])
                    sweep_channels({w.counts[output], w.units + (size_t)output * room}, piece, channels, x + channel,
                                   dx + channel, rows + output * patch + channel, dw + output * patch + channel);
        }
    }
}

// Gradients of the images that `forward` has seen, from w.logits as `cross_entropy` left them, into a row.
static void backward(const Network &n, const Packed &packed, int images, Workspace &w, float *gradient) {
    int columns = padded(n.hidden);
    for (int i = n.blocks + 1; i >= 0; i--) {
        Layer l = layer(n, i);
        size_t patch = i ? l.row() : 48;
        float *dw = i && l.as_in_torch() ? gradient + n.weights[i] : w.dw, *db = gradient + n.biases[i];
        memset(dw, 0, sizeof(float) * l.outputs * patch);
        memset(db, 0, sizeof(float) * l.outputs);
        if (i > n.blocks) {
            linear_backward(images, l, w.logits, w.masked, packed.rows[i], w.dhidden, dw, db, w.units);
            for (size_t j = 0; j < (size_t)images * columns; j++) w.dhidden[j] *= w.slopes[n.blocks][j];
        } else if (i == n.blocks)
            linear_backward(images, l, w.dhidden, w.activations[i], packed.rows[i], w.gradients[i], dw, db, w.units);
        else
            block_backward(n.block(i), i, images, packed.rows[i], dw, db, w);
        if (!i)
            for (int run = 0; run < 3 * l.outputs; run++) memcpy(gradient + n.weights[0] + run * 9, dw + run * 16, 36);
        else if (!l.as_in_torch())
            l.visit([&](size_t torch, size_t here, int step) {
                for (int j = 0; j < l.inputs; j++) gradient[n.weights[i] + torch + (size_t)j * step] = dw[here + j];
            });
    }
}
