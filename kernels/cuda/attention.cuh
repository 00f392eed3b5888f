// What both families of attention kernels take, and how a score is masked.

#define WARPS 4
#define OTHERS 32
#define NOWHERE 0xffffffffu

struct Mask {
    const u32* hidden;
    const float* added;
    int causal, keys, by_example, by_query;
    // The bias of one head, the places of one example's rows, and how many places keys have.
    const float* bias;
    const u32 *query_places, *key_places;
    int others;
};

#define ROWS                                                                                                           \
    In q, In k, In v, int q_stride, int k_stride, int v_stride, int heads, int columns,  \
        float scale, const u32 *queries, const u32 *keys
#define SEEN                                                                                                           \
    const u32 *hidden, const float *added, int causal, int mask_keys, int by_example, int by_query, const float *bias, \
        const u32 *query_places, const u32 *key_places, int places, int others
#define MASK                                                                                                           \
    Mask {                                                                                                             \
        hidden, added, causal, mask_keys, by_example, by_query, bias ? bias + (u64)head * places * others : bias,      \
            query_places + start, key_places + key_start, others                                                       \
    }

// A score with its bias, as the mask leaves it; minus infinity beyond the last key.
__device__ inline float seen(float score, const Mask& mask, int example, int query, int queries, int key, int keys) {
    if (key >= keys || query >= queries || (mask.causal && key >= keys + query + 1 - queries)) return -INF;
    if (mask.hidden && mask.hidden[(u64)example * mask.keys + key]) return -INF;
    if (mask.bias) score += mask.bias[(u64)mask.query_places[query] * mask.others + mask.key_places[key]];
    if (mask.added) score += mask.added[(u64)example * mask.by_example + (u64)query * mask.by_query + key];
    return score;
}

#define GIVEN_ROWS q, k, v, q_stride, k_stride, v_stride, heads, columns, scale, queries, keys
#define GIVEN_SEEN                                                                                                     \
    hidden, added, causal, mask_keys, by_example, by_query, bias, query_places, key_places, places, others
#define GIVEN_DROPOUT p, rest, k0, k1, s0, s1
