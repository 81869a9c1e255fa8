/* Judge a naive attention, forward and backward, by one file of attention vectors.
   cc -O2 -o check check.c -lm && ./check scaled_dot.json
   Replace `attend` by a call of your own kernel. What it does not support is skipped and counted. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define MOST 8192

/* JSON, as much as is needed: the end of a value, and the value of a key of an object. */
static const char *space(const char *p) { while (*p == ' ' || *p == '\n' || *p == ',' || *p == ':') p++; return p; }
static const char *end(const char *p) {
    if (*p == '"') { for (p++; *p != '"'; p++) if (*p == '\\') p++; return p + 1; }
    if (*p == '{' || *p == '[') { for (p = space(p + 1); *p != '}' && *p != ']'; p = space(end(p))); return p + 1; }
    while (!strchr(",}] \n", *p)) p++;
    return p;
}
static const char *get(const char *object, const char *key) {
    size_t n = strlen(key);
    if (!object) return NULL;
    for (const char *p = space(object + 1); *p != '}'; p = space(end(p))) {
        int found = !strncmp(p + 1, key, n) && p[n + 1] == '"';
        p = space(end(p));
        if (found) return p;
    }
    return NULL;
}
static int is(const char *value, const char *text) { return value && !strncmp(value, text, strlen(text)); }
static int size(const char *list) { int n = 0; for (const char *p = space(list + 1); *p != ']'; p = space(end(p))) n++; return n; }
static int item(const char *list, int n) { const char *p = space(list + 1); while (n--) p = space(end(p)); return atoi(p); }

/* Arrays: float64 is 16 hexadecimal digits an element, bfloat16 4 (the upper half of a float32), bool 1. */
static int numbers(const char *bits, int digits, double *out) {
    int n = 0;
    for (bits++; *bits != '"'; bits += digits, n++) {
        char word[17] = {0};
        uint64_t x = strtoull(strncpy(word, bits, digits), NULL, 16);
        uint32_t upper = (uint32_t)x << 16;
        float single;
        memcpy(&single, &upper, 4);
        if (digits == 16) memcpy(out + n, &x, 8); else out[n] = digits == 4 ? single : (double)x;
    }
    return n;
}
static int decode(const char *entry, double *out) {
    const char *dtype = get(entry, "dtype");
    return numbers(get(entry, "bits"), is(dtype, "\"float64") ? 16 : is(dtype, "\"bool") ? 1 : 4, out);
}

static double q[MOST], k[MOST], v[MOST], allowed[MOST], bias[MOST], scale[1], cap[1], dout[MOST];
static double o[MOST], dq[MOST], dk[MOST], dv[MOST], want[MOST], limit[MOST];
static struct { const char *name; double *at; } ARRAYS[] = {{"q", q}, {"k", k}, {"v", v}, {"allowed", allowed},
    {"bias", bias}, {"scale", scale}, {"softcap", cap}};

static int supported(const char *test) {
    const char *inputs = get(test, "inputs"), *options = get(test, "options"), *given = get(test, "cotangents");
    const char *scalars[] = {"scale", "softcap"};
    int known = 0, total = 0, settled = 0;
    if (is(get(test, "result"), "\"invalid")) return 0;
    for (const char *p = space(inputs + 1); *p != '}'; p = space(end(space(end(p))))) total++;
    for (int n = 0; n < 7; n++) known += get(inputs, ARRAYS[n].name) != NULL;
    for (const char *p = space(options + 1); *p != '}'; p = space(end(space(end(p))))) settled++;
    settled -= !!get(options, "causal") + !!get(options, "window") + !!get(options, "align");
    for (int n = 0; n < 2; n++) if (get(inputs, scalars[n]) && size(get(get(inputs, scalars[n]), "shape"))) return 0;
    return known == total && !settled && size(get(get(inputs, "q"), "shape")) == 2 && get(given, "o") && !get(given, "alpha")
        && !get(given, "lse");
}

/* The kernel under test, in doubles: o, and the gradients of q, k and v for the cotangent `dout`. */
static void attend(const char *test, int scaled) {
    const char *inputs = get(test, "inputs"), *options = get(test, "options");
    const char *qs = get(get(inputs, "q"), "shape"), *vs = get(get(inputs, "v"), "shape"), *align = get(options, "align");
    const char *window = get(options, "window"), *may = get(inputs, "allowed"), *add = get(inputs, "bias");
    int L = item(qs, 0), d = item(qs, 1), S = item(vs, 0), e = item(vs, 1), causal = is(get(options, "causal"), "true");
    int offset = is(align, "\"bottom") ? S - L : align && *align != '"' ? atoi(align) : 0;
    int left = window && *space(window + 1) != 'n' ? item(window, 0) : S + L + abs(offset);
    int right = window && *space(end(space(window + 1))) != 'n' ? item(window, 1) : S + L + abs(offset);
    int mask_row = may && item(get(may, "shape"), 0) > 1, bias_row = add && item(get(add, "shape"), 0) > 1;
    double factor = get(inputs, "scale") ? scale[0] : scaled ? 1 / sqrt(d) : 1, s[MOST], p[MOST], slope[MOST], da[MOST];
    int softcap = get(inputs, "softcap") != NULL;
    memset(o, 0, sizeof o), memset(dq, 0, sizeof dq), memset(dk, 0, sizeof dk), memset(dv, 0, sizeof dv);
    for (int i = 0; i < L; i++) {
        double m = -INFINITY, z = 0, row = 0;
        for (int j = 0; j < S; j++) {
            int here = i + offset, out = (may && !allowed[mask_row * i * S + j]) || (causal && j > here);
            double x = 0, t;
            for (int n = 0; n < d; n++) x += q[i * d + n] * k[j * d + n];
            t = softcap ? tanh(x * factor / cap[0]) : 0;
            s[j] = (softcap ? cap[0] * t : x * factor) + (add ? bias[bias_row * i * S + j] : 0);
            slope[j] = factor * (1 - t * t);
            if (out || j < here - left || j > here + right) s[j] = -INFINITY;
            if (s[j] > m) m = s[j];
        }
        for (int j = 0; j < S; j++) z += p[j] = s[j] == -INFINITY ? 0 : exp(s[j] - m);
        for (int j = 0; j < S; j++) if (s[j] > -INFINITY) {
            p[j] /= z, da[j] = 0;
            for (int c = 0; c < e; c++) {
                o[i * e + c] += p[j] * v[j * e + c], dv[j * e + c] += p[j] * dout[i * e + c];
                da[j] += dout[i * e + c] * v[j * e + c];
            }
            row += p[j] * da[j];
        }
        for (int j = 0; j < S; j++) if (s[j] > -INFINITY) for (int n = 0; n < d; n++) {
            double ds = p[j] * (da[j] - row) * slope[j];
            dq[i * d + n] += ds * k[j * d + n], dk[j * d + n] += ds * q[i * d + n];
        }
    }
}

/* Within the bound, element by element; an infinite bound asks for nothing. */
static int within(const char *answer, const char *model, const char *kind, const char *name, const double *got) {
    int n = decode(get(get(get(answer, "expected"), kind), name), want);
    numbers(get(get(get(get(answer, "bounds"), model), kind), name), 4, limit);
    while (n--) if (!(got[n] == want[n] || fabs(got[n] - want[n]) <= limit[n] || limit[n] == INFINITY)) return 0;
    return 1;
}
static int matches(const char *answer, const char *model) {
    return within(answer, model, "results", "o", o) && within(answer, model, "gradients", "q", dq)
        && within(answer, model, "gradients", "k", dk) && within(answer, model, "gradients", "v", dv);
}

int main(int argc, char **argv) {
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    const char *model = argc > 2 ? argv[2] : "f64";
    int passed = 0, failed = 0, skipped = 0;
    if (!file) return fprintf(stderr, "usage: check FILE.json [MODEL]\n"), 2;
    char *text = calloc(1 << 24, 1);
    if (!fread(text, 1, (1 << 24) - 1, file)) return 2;
    for (const char *g = space(get(text, "testGroups") + 1); *g != ']'; g = space(end(g)))
        for (const char *t = space(get(g, "tests") + 1); *t != ']'; t = space(end(t))) {
            if (!supported(t) || !get(get(t, "bounds"), model)) { skipped++; continue; }
            for (int n = 0; n < 7; n++) if (get(get(t, "inputs"), ARRAYS[n].name)) decode(get(get(t, "inputs"), ARRAYS[n].name), ARRAYS[n].at);
            decode(get(get(t, "cotangents"), "o"), dout);
            attend(t, is(get(g, "rule"), "\"scaled_dot\""));
            int good = matches(t, model);
            const char *others = get(t, "alternatives");
            if (others) for (const char *p = space(others + 1); *p != '}' && !good; p = space(end(p)))
                p = space(end(p)), good = matches(p, model);
            if (good) passed++;
            else failed++, printf("FAILED %d: %.*s\n", atoi(get(t, "tcId")), (int)(end(get(t, "comment")) - get(t, "comment")), get(t, "comment"));
        }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed || !passed;
}
