// What Python calls: functions of C, over memory that Python owns.

#include "draws.h"
#include "network.h"
#include "update.h"

extern "C" {

int lanes() { return LANES; }

int64_t workspace_bytes(const Network *n, int images) {
    Workspace w;
    return Workspace::lay_out(*n, images, &w, nullptr);
}

int64_t packed_bytes(const Network *n) {
    Packed p;
    return Packed::lay_out(*n, nullptr, &p, nullptr);
}

void pack_weights(const Network *n, const float *row, char *memory) {
    Packed packed;
    Packed::lay_out(*n, row, &packed, memory);
    pack_member(*n, row, packed);
}

// Loss and gradients of `count` images, of a batch in which each counts 1 / batch: gradients into a row like the
// weights', the sum of the losses is returned.
//
// packed: as pack_weights left it; memory: zeros at first, of `workspace_bytes` for `most` images, never used for another
// network or another `most`; images: [count][side + 2][side + 2][3] with a border of zeros, and seven floats behind the
// last one that are read and not used; targets: class probabilities [count][classes]; mask: what dropout multiplies
// [count][hidden] by, or none.
double learn(const Network *n, const float *row, char *packed, char *memory, int most, const float *images,
             const float *targets, const float *mask, int count, int batch, float *gradient) {
    Packed weights;
    Packed::lay_out(*n, row, &weights, packed);
    Workspace w;
    Workspace::lay_out(*n, most, &w, memory);
    forward(*n, weights, images, count, mask, w);
    double loss = cross_entropy(w.logits, count, n->classes, targets, 1.0f / batch);
    backward(*n, weights, count, w, gradient);
    return loss;
}

// Logits [count][classes] of images, without dropout; all else as `learn` has it.
void predict(const Network *n, const float *row, char *packed, char *memory, int most, const float *images, int count,
             float *logits) {
    Packed weights;
    Packed::lay_out(*n, row, &weights, packed);
    Workspace w;
    Workspace::lay_out(*n, most, &w, memory);
    forward(*n, weights, images, count, nullptr, w);
    for (int i = 0; i < count; i++)
        memcpy(logits + (size_t)i * n->classes, w.logits + (size_t)i * padded(n->classes), sizeof(float) * n->classes);
}

// One block alone, for tests: `sparse` says whether products with zeros are left out. x: [count] images as the block before
// leaves them; out, choices and slopes: as `Pooled` has them, out with zeros at its border. Returns the open units.
int64_t block_forward(const Network *n, int block, const float *row, char *packed, char *memory, int most,
                      const float *x, int count, int sparse, float *out, int8_t *choices, float *slopes) {
    Packed weights;
    Packed::lay_out(*n, row, &weights, packed);
    Workspace w;
    Workspace::lay_out(*n, most, &w, memory);
    Pooled to = {out, choices, slopes, 0};
    if (sparse)
        convolve_sparse(n->block(block), x, count, weights.slabs[block], weights.biases[block], n->function,
                        n->parameter, w.sums, w.sparse, &to);
    else
        convolve_dense(n->block(block), x, count, weights.slabs[block], weights.biases[block], n->function,
                       n->parameter, w.sums, &to);
    return to.open;
}

// Images [count][side][side][3] with a border of zeros.
void add_border(const float *images, int count, int side, float *out) {
    size_t row = (size_t)(side + 2) * 3;
    for (int i = 0; i < count; i++)
        for (int y = 0; y < side + 2; y++, out += row) {
            bool inside = y > 0 && y <= side;
            memset(out, 0, sizeof(float) * row);
            if (inside) memcpy(out + 3, images + ((size_t)i * side + y - 1) * side * 3, sizeof(float) * side * 3);
        }
}

// One step for `members` rows of `row` floats. steps: -rate / c1, roots: sqrt(c2), shrinkage: 1 - rate * decay, in the words
// of `ablations.update_rule`, one of each per member; second moments: of the adaptive
// ones, which come first; norms: of the gradients as they come in.
void update_fleet(int members, int64_t row, const Rule *rules, const float *steps, const float *roots,
                  const float *shrinkage, const float *gradients, float *weights, float *first, float *second,
                  double *norms) {
    for (int k = 0; k < members; k++) {
        const Rule &rule = rules[k];
        const float *g = gradients + k * row;
        norms[k] = norm(g, row);
        float scale = 1;
        if (rule.max_norm > 0) {
            float limit = rule.max_norm / ((float)norms[k] + 1e-6f);
            scale = limit > 1 ? 1 : limit;
        }
        float *w = weights + k * row, *m = first + k * row, *s = second + k * row;
        if (rule.adaptive && rule.nesterov)
            update<true, true>(rule, row, scale, steps[k], roots[k], shrinkage[k], g, w, m, s);
        else if (rule.adaptive)
            update<true, false>(rule, row, scale, steps[k], roots[k], shrinkage[k], g, w, m, s);
        else if (rule.nesterov)
            update<false, true>(rule, row, scale, steps[k], roots[k], shrinkage[k], g, w, m, s);
        else
            update<false, false>(rule, row, scale, steps[k], roots[k], shrinkage[k], g, w, m, s);
    }
}

void uniform(uint32_t low, uint32_t high, int64_t count, float *out) { draw(low, high, count, out); }
}
