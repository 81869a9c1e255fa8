/* Scaled dot-product attention in C, forward and backward:
 *
 *     cc -O2 -o kernel examples/kernel.c -lm && attention-ref check --command ./kernel
 *
 * The header is searched for the few things that this program knows; everything else is refused. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *header;
static unsigned char *data;

static void refuse(const char *sentence) {
    char text[256];
    int n = snprintf(text, sizeof text, "{\"__metadata__\": {\"unsupported\": \"%s\"}}", sentence);
    uint64_t length = (uint64_t)n;
    fwrite(&length, 8, 1, stdout);
    fwrite(text, 1, n, stdout);
    exit(0);
}

static void receive(void) {
    size_t size = 0, room = 1 << 16, got;
    unsigned char *bytes = malloc(room);
    while ((got = fread(bytes + size, 1, room - size, stdin)) > 0) {
        size += got;
        if (size == room) bytes = realloc(bytes, room *= 2);
    }
    uint64_t length;
    if (size < 8) exit(1);
    memcpy(&length, bytes, 8);
    header = calloc(length + 1, 1);
    memcpy(header, bytes + 8, length);
    data = bytes + 8 + length;
}

typedef struct {
    int axes;
    long shape[8], size;
    float *x;
} Array;

/* The array of a name, of which there must be one if it is needed. */
static int find(const char *name, Array *a) {
    char key[64], dtype[8];
    long start;
    snprintf(key, sizeof key, "\"%s\": {\"dtype\"", name);
    char *at = strstr(header, key);
    if (!at) return 0;
    at += strlen(key);
    sscanf(at, ": \"%7[A-Z0-9]\"", dtype);
    if (strcmp(dtype, "F32")) refuse("float32 only");
    at = strchr(at, '[') + 1;
    a->axes = 0;
    a->size = 1;
    while (*at != ']') {
        a->shape[a->axes] = strtol(at, &at, 10);
        a->size *= a->shape[a->axes++];
        while (*at == ',' || *at == ' ') at++;
    }
    at = strchr(at, '[') + 1;
    start = strtol(at, NULL, 10);
    a->x = malloc(a->size * sizeof(float) + 1);
    memcpy(a->x, data + start, a->size * sizeof(float));
    return 1;
}

static int count(const char *text) {
    int n = 0;
    for (char *at = header; (at = strstr(at, text)); at++) n++;
    return n;
}

static Array like(const Array *a, int axes, long last) {
    Array b = *a;
    b.axes = axes;
    b.size = 1;
    if (last >= 0) b.shape[axes - 1] = last;
    for (int n = 0; n < axes; n++) b.size *= b.shape[n];
    b.x = calloc(b.size + 1, sizeof(float));
    return b;
}

static void answer(const char *names[], Array *arrays, int n) {
    char text[2048] = "{";
    long at = 0;
    for (int m = 0; m < n; m++) {
        sprintf(text + strlen(text), "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", m ? ", " : "", names[m]);
        for (int a = 0; a < arrays[m].axes; a++) sprintf(text + strlen(text), "%s%ld", a ? ", " : "", arrays[m].shape[a]);
        sprintf(text + strlen(text), "], \"data_offsets\": [%ld, %ld]}", at, at + 4 * arrays[m].size);
        at += 4 * arrays[m].size;
    }
    strcat(text, "}");
    uint64_t length = strlen(text);
    fwrite(&length, 8, 1, stdout);
    fwrite(text, 1, length, stdout);
    for (int m = 0; m < n; m++) fwrite(arrays[m].x, 4, arrays[m].size, stdout);
}

int main(void) {
    Array q, k, v, done, dlse;
    receive();
    int back = strstr(header, "\"role\": \"backward\"") != NULL;
    int causal = strstr(header, "\"option.causal\": \"true\"") != NULL;
    if (count("\"option.") > causal) refuse("no option but causal");
    if (!find("q", &q) || !find("k", &k) || !find("v", &v)) return 1;
    if (k.axes != q.axes || v.axes != q.axes) refuse("as many axes in q, k and v only");
    int n = q.axes;
    long heads = 1, I = q.shape[n - 2], D = q.shape[n - 1], J = k.shape[n - 2], E = v.shape[n - 1];
    for (int a = 0; a < n - 2; a++) {
        if (k.shape[a] != q.shape[a] || v.shape[a] != q.shape[a]) refuse("a key head for every query head only");
        heads *= q.shape[a];
    }
    if (causal && I != J) refuse("causal for as many queries as keys only");

    Array o = like(&q, n, E), lse = like(&q, n - 1, -1), dq = like(&q, n, -1), dk = like(&k, n, -1), dv = like(&v, n, -1);
    int has_do = back && find("do", &done), has_dlse = back && find("dlse", &dlse);
    int given = 3 + has_do + has_dlse + (back && strstr(header, "\"o\": {")) + (back && strstr(header, "\"lse\": {"));
    if (count("\"dtype\"") != given) refuse("no option but causal");
    double *alpha = malloc((J + 1) * sizeof(double)), *dalpha = malloc((J + 1) * sizeof(double)), scale = 1 / sqrt(D);
    if (back && !has_do) return 1;
    for (long h = 0; h < heads; h++)
        for (long i = 0; i < I; i++) {
            float *qi = q.x + (h * I + i) * D;
            long open = causal ? i + 1 : J;
            double top = -INFINITY, sum = 0, dot = 0;
            for (long j = 0; j < open; j++) {
                alpha[j] = 0;
                for (long d = 0; d < D; d++) alpha[j] += (double)qi[d] * k.x[(h * J + j) * D + d];
                alpha[j] *= scale;
                top = fmax(top, alpha[j]);
            }
            for (long j = 0; j < open; j++) sum += alpha[j] = exp(alpha[j] - top);
            lse.x[h * I + i] = top + log(sum);
            for (long j = 0; j < open; j++) alpha[j] /= sum;
            for (long e = 0; e < E; e++) {
                double total = 0;
                for (long j = 0; j < open; j++) total += alpha[j] * v.x[(h * J + j) * E + e];
                o.x[(h * I + i) * E + e] = total;
            }
            if (!back) continue;
            float *doi = done.x + (h * I + i) * E;
            for (long j = 0; j < open; j++) {
                dalpha[j] = 0;
                for (long e = 0; e < E; e++) {
                    dalpha[j] += (double)doi[e] * v.x[(h * J + j) * E + e];
                    dv.x[(h * J + j) * E + e] += alpha[j] * doi[e];
                }
                dot += alpha[j] * dalpha[j];
            }
            for (long j = 0; j < open; j++) {
                double ds = alpha[j] * (dalpha[j] - dot + (has_dlse ? dlse.x[h * I + i] : 0)) * scale;
                for (long d = 0; d < D; d++) {
                    dq.x[(h * I + i) * D + d] += ds * k.x[(h * J + j) * D + d];
                    dk.x[(h * J + j) * D + d] += ds * qi[d];
                }
            }
        }
    if (back) {
        Array found[] = {dq, dk, dv};
        answer((const char *[]){"dq", "dk", "dv"}, found, 3);
    } else {
        Array found[] = {o, lse};
        answer((const char *[]){"o", "lse"}, found, 2);
    }
    return 0;
}
