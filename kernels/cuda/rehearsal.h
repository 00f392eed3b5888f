// Runs CUDA kernels on the processor: the threads of a block are fibres of one thread of the system, which take turns
// at barriers, and the lanes of a warp exchange values at barriers of their own. It knows what our kernels use and no
// more: static shared memory, __syncthreads, __syncwarp, __shfl_xor_sync with all lanes, products of tensor cores, and no
// atomics.
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <algorithm>

#define __global__
#define __device__
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define REHEARSAL
#define UNROLLED
using std::min;

struct Place {
    unsigned x, y, z;
};
static Place threadIdx, blockIdx, blockDim, gridDim;

static const int MOST = 1024, STACK = 1 << 16;

struct Barrier {
    unsigned members, arrived, round;
};
struct Fibre {
    jmp_buf at;
    bool begun, done;
};
static Fibre fibres[MOST];
static char* stacks;
static Barrier block, warps[MOST / 32];
static float exchanged[2][MOST];
static bool second[MOST];
static jmp_buf done;
static void (*body)(void**);
static void** given;
// Threads of the block that have not come to its end, and how far it is from one to the next.
static unsigned left, step;

static void fibre();

static void enter(unsigned t) {
    threadIdx.x = t;
    if (fibres[t].begun) _longjmp(fibres[t].at, 1);
    fibres[t].begun = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stacks + (size_t)t * STACK;
    context.uc_stack.ss_size = STACK;
    makecontext(&context, fibre, 0);
    setcontext(&context);
}

// Lets the others run, one after another, until it is this thread's turn again.
static void turn() {
    unsigned t = threadIdx.x;
    if (_setjmp(fibres[t].at)) return;
    do {
        t += step;
        if (t >= blockDim.x) t -= blockDim.x;
    } while (fibres[t].done);
    enter(t);
}

static void meet(Barrier& barrier) {
    unsigned round = barrier.round;
    if (++barrier.arrived == barrier.members) {
        barrier.arrived = 0;
        ++barrier.round;
    }
    while (barrier.round == round) turn();
}

static void leave(Barrier& barrier) {
    if (--barrier.members > 0 && barrier.arrived == barrier.members) {
        barrier.arrived = 0;
        ++barrier.round;
    }
}

static void __syncthreads() { meet(block); }
static void __syncwarp() { meet(warps[threadIdx.x / 32]); }

// Two places take turns, so that a value is read before the next but one is written.
static float __shfl_xor_sync(unsigned, float value, int other) {
    float* place = exchanged[second[threadIdx.x]];
    second[threadIdx.x] = !second[threadIdx.x];
    place[threadIdx.x] = value;
    __syncwarp();
    return place[threadIdx.x ^ other];
}

static float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static unsigned short rounded(float value) {
    unsigned bits = __float_as_uint(value);
    bool number = (bits & 0x7fffffffu) <= 0x7f800000u;
    return (unsigned short)((number ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u) >> 16);
}

struct uint4 {
    unsigned x, y, z, w;
};

// The fragments that the lanes of a warp bring to a product: four words of the left factor, two of the right.
static unsigned fragments[2][MOST][6];

// Where PTX (mma.m16n8k16) has element (row, column) of a factor: the lane, its word, and which half of it.
static float factor(unsigned (*lanes)[6], unsigned lane, unsigned word, unsigned half) {
    return __int_as_float((int)(half ? lanes[lane][word] & 0xffff0000u : lanes[lane][word] << 16));
}

static void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    unsigned lane = threadIdx.x % 32, turn = second[threadIdx.x];
    second[threadIdx.x] = !second[threadIdx.x];
    unsigned (*lanes)[6] = fragments[turn] + (threadIdx.x - lane);
    for (int word = 0; word < 4; ++word) lanes[lane][word] = a[word];
    lanes[lane][4] = b0;
    lanes[lane][5] = b1;
    __syncwarp();
    for (unsigned i = 0; i < 4; ++i) {
        unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; ++k) {
            float left = factor(lanes, row % 8 * 4 + k % 8 / 2, row / 8 + k / 8 * 2, k % 2);
            d[i] += left * factor(lanes, column * 4 + k % 8 / 2, 4 + k / 8, k % 2);
        }
    }
}

// A fibre lives on from block to block, since making one takes longer than most threads run.
static void fibre() {
    for (;;) {
        body(given);
        unsigned self = threadIdx.x;
        fibres[self].done = true;
        leave(block);
        leave(warps[self / 32]);
        if (--left > 0) turn();
        else if (!_setjmp(fibres[self].at)) _longjmp(done, 1);
    }
}

static void run_block() {
    unsigned count = blockDim.x;
    left = count;
    block = Barrier{count, 0, 0};
    for (unsigned warp = 0; warp < count / 32; ++warp) warps[warp] = Barrier{32, 0, 0};
    for (unsigned t = 0; t < count; ++t) fibres[t].done = false;
    // Every other block takes its threads backwards: what depends on their order shows itself.
    step = blockIdx.x % 2 ? count - 1 : 1;
    if (!_setjmp(done)) enter(0);
}

// A kernel that takes a plain pointer would misread what lies at the address of a bf16, which is odd.
template <class A>
static bool plain(void* argument) {
    if constexpr (std::is_pointer_v<A>) return *(uint64_t*)argument % 2 == 0;
    return true;
}

template <auto F>
struct Entry;
template <class... A, void (*F)(A...)>
struct Entry<F> {
    template <size_t... I>
    static bool check(void** arguments, std::index_sequence<I...>) {
        return (plain<A>(arguments[I]) && ...);
    }
    static bool takes(void** arguments) { return check(arguments, std::index_sequence_for<A...>{}); }
    template <size_t... I>
    static void with(void** arguments, std::index_sequence<I...>) {
        F(*(A*)arguments[I]...);
    }
    static void call(void** arguments) { with(arguments, std::index_sequence_for<A...>{}); }
    static const int count = sizeof...(A);
};

struct Kernel {
    const char* name;
    void (*call)(void**);
    bool (*takes)(void**);
    int count;
};
extern const Kernel kernels[];

// 0, or 1 where there is no such kernel, or 2 where it takes another number of arguments, or 3 where it takes f32 and is
// given bf16.
extern "C" int rehearse(const char* name, const unsigned* grid, unsigned threads, void** arguments, int count) {
    if (!stacks) stacks = (char*)malloc((size_t)MOST * STACK);
    for (const Kernel* kernel = kernels; kernel->name; ++kernel) {
        if (strcmp(kernel->name, name)) continue;
        if (kernel->count != count) return 2;
        if (!kernel->takes(arguments)) return 3;
        body = kernel->call;
        given = arguments;
        gridDim = Place{grid[0], grid[1], grid[2]};
        blockDim = Place{threads, 1, 1};
        for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
            for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block();
        return 0;
    }
    return 1;
}
