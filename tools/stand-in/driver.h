// The functions of CUDA's driver, NVRTC, cuBLAS and cuRAND that this program calls, on memory of the processor. Kernels are
// those of the rehearsal, found by name. What a GPU would take for granted is checked: that copies and factors lie within
// what was allocated, and that memory is freed once; fresh memory holds NaN, and freed memory other nonsense.
#include <cstdio>
#include <map>
#include <mutex>

#define API extern "C" __attribute__((visibility("default"))) int

typedef unsigned long long Pointer;
static std::mutex guard;
static std::map<Pointer, size_t> allocated;
static size_t taken, most;
static long launched, downloads, uploads;

__attribute__((noreturn)) static void fail(const char* what, const char* which, long long number) {
    fprintf(stderr, "stand-in for a GPU: %s: %s (%lld)\n", which, what, number);
    abort();
}

static void within(Pointer at, size_t bytes, const char* which) {
    if (!bytes) return;
    std::lock_guard<std::mutex> locked(guard);
    auto after = allocated.upper_bound(at);
    bool inside = after != allocated.begin() && at + bytes <= std::prev(after)->first + std::prev(after)->second;
    if (!inside) fail("not within what was allocated", which, (long long)bytes);
}

// The device: one, of compute capability 9.0, with a memory pool.
enum { THREADS_OF_BLOCK = 1, MAJOR = 75, MINOR = 76, MEMORY_POOLS = 115 };
static int context, pool;
static thread_local void* current;
API cuInit(unsigned) { return 0; }
API cuDriverGetVersion(int* version) { return *version = 13000, 0; }
API cuDeviceGetCount(int* count) { return *count = 1, 0; }
API cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
API cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "a stand-in for a GPU"), 0; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == THREADS_OF_BLOCK ? MOST : attribute == MAJOR ? 9 : attribute == MEMORY_POOLS;
    return 0;
}
API cuDevicePrimaryCtxRetain(void** out, int) { return *out = &context, 0; }
API cuDevicePrimaryCtxRelease_v2(int) { return 0; }
API cuCtxSetCurrent(void* given) { return current = given, 0; }
API cuCtxGetCurrent(void** out) { return *out = current, 0; }
API cuCtxSynchronize() { return 0; }
API cuStreamCreate(void** stream, unsigned) { return *stream = malloc(1), 0; }
API cuStreamDestroy_v2(void* stream) { return free(stream), 0; }
API cuStreamSynchronize(void*) { return 0; }
API cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
API cuEventCreate(void** event, unsigned) { return *event = malloc(1), 0; }
API cuEventRecord(void*, void*) { return 0; }
API cuEventDestroy_v2(void* event) { return free(event), 0; }
API cuGetErrorName(int, const char** text) { return *text = "an error of the stand-in", 0; }
API cuGetErrorString(int, const char** text) { return *text = "an error of the stand-in", 0; }

// Memory.
API cuMemAllocAsync(Pointer* out, size_t bytes, void*) {
    void* memory;
    if (posix_memalign(&memory, 256, bytes ? bytes : 1)) return 2;
    memset(memory, 0xff, bytes);
    std::lock_guard<std::mutex> locked(guard);
    allocated[*out = (Pointer)memory] = bytes;
    taken += bytes;
    most = std::max(most, taken);
    return 0;
}
API cuMemFreeAsync(Pointer at, void*) {
    if (!at) return 0;
    std::lock_guard<std::mutex> locked(guard);
    auto found = allocated.find(at);
    if (found == allocated.end()) fail("not allocated, or freed before", "free", (long long)at);
    memset((void*)at, 0xee, found->second);
    taken -= found->second;
    allocated.erase(found);
    return free((void*)at), 0;
}
API cuMemAlloc_v2(Pointer* out, size_t bytes) { return cuMemAllocAsync(out, bytes, nullptr); }
API cuMemFree_v2(Pointer at) { return cuMemFreeAsync(at, nullptr); }
API cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, void*) {
    within(to, bytes, "upload");
    ++uploads;
    return memcpy((void*)to, from, bytes), 0;
}
API cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, void*) {
    within(from, bytes, "download");
    ++downloads;
    return memcpy(to, (void*)from, bytes), 0;
}
API cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void*) {
    within(from, bytes, "copy");
    within(to, bytes, "copy");
    return memmove((void*)to, (void*)from, bytes), 0;
}
API cuMemsetD8Async(Pointer at, unsigned char value, size_t bytes, void*) {
    within(at, bytes, "set");
    return memset((void*)at, value, bytes), 0;
}
API cuDeviceGetMemPool(void** out, int) { return *out = &pool, 0; }
API cuMemPoolSetAttribute(void*, int, void*) { return 0; }
API cuMemPoolGetAttribute(void*, int, unsigned long long* value) { return *value = most, 0; }

// Kernels: whatever a module is made of, its functions are those of the rehearsal.
API cuModuleLoadData(void** module, const void*) { return *module = malloc(1), 0; }
API cuModuleUnload(void* module) { return free(module), 0; }
API cuModuleGetFunction(void** function, void*, const char* name) {
    for (const Kernel* kernel = kernels; kernel->name; ++kernel) {
        if (!strcmp(kernel->name, name)) return *function = (void*)kernel, 0;
    }
    fail("no such kernel", name, 0);
}
API cuLaunchKernel(
    void* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned, void*,
    void** arguments, void**
) {
    static std::mutex one_at_a_time;
    std::lock_guard<std::mutex> locked(one_at_a_time);
    const Kernel* kernel = (const Kernel*)function;
    unsigned grid[3] = {x, y, z};
    ++launched;
    if (int code = rehearse(kernel->name, grid, threads, arguments, kernel->count)) {
        fail("not as it is declared", kernel->name, code);
    }
    return 0;
}

// NVRTC, whose PTX is a word.
API nvrtcCreateProgram(void** out, const char*, const char*, int, const char* const*, const char* const*) {
    return *out = malloc(1), 0;
}
API nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
API nvrtcGetPTXSize(void*, size_t* bytes) { return *bytes = sizeof "PTX", 0; }
API nvrtcGetPTX(void*, char* out) { return strcpy(out, "PTX"), 0; }
API nvrtcDestroyProgram(void** program) { return free(*program), 0; }

// cuBLAS, whose matrices are stored column by column.
enum { F32 = 0, BF16 = 14 };
static size_t width_of(int type) {
    if (type != F32 && type != BF16) fail("elements of another type", "product", type);
    return type == F32 ? 4 : 2;
}
static float element(const void* matrix, int type, size_t at) {
    if (type == F32) return ((const float*)matrix)[at];
    return __int_as_float((int)((unsigned)((const unsigned short*)matrix)[at] << 16));
}
API cublasCreate_v2(void** handle) { return *handle = malloc(1), 0; }
API cublasDestroy_v2(void* handle) { return free(handle), 0; }
API cublasSetStream_v2(void*, void*) { return 0; }
API cublasGemmEx(
    void*, int a_transposed, int b_transposed, int m, int n, int k, const float* alpha, const void* a, int a_type,
    int lda, const void* b, int b_type, int ldb, const float* beta, void* c, int c_type, int ldc, int, int
) {
    int a_columns = a_transposed ? m : k, a_rows = a_transposed ? k : m;
    int b_columns = b_transposed ? k : n, b_rows = b_transposed ? n : k;
    if (lda < a_rows || ldb < b_rows || ldc < m) fail("columns overlap", "product", m);
    if (a_type != b_type || (a_type == F32 && c_type != F32)) fail("types that do not go together", "product", c_type);
    within((Pointer)a, ((size_t)(a_columns - 1) * lda + a_rows) * width_of(a_type), "left factor");
    within((Pointer)b, ((size_t)(b_columns - 1) * ldb + b_rows) * width_of(b_type), "right factor");
    within((Pointer)c, ((size_t)(n - 1) * ldc + m) * width_of(c_type), "product");
    for (size_t j = 0; j < (size_t)n; ++j) {
        for (size_t i = 0; i < (size_t)m; ++i) {
            float sum = 0;
            for (size_t l = 0; l < (size_t)k; ++l) {
                sum += element(a, a_type, a_transposed ? i * lda + l : l * lda + i)
                    * element(b, b_type, b_transposed ? l * ldb + j : j * ldb + l);
            }
            size_t at = j * ldc + i;
            sum = *alpha * sum + (*beta ? *beta * element(c, c_type, at) : 0.0f);
            if (c_type == F32) ((float*)c)[at] = sum;
            else ((unsigned short*)c)[at] = rounded(sum);
        }
    }
    return 0;
}
API cublasGemmStridedBatchedEx(
    void* handle, int a_transposed, int b_transposed, int m, int n, int k, const float* alpha, const char* a, int a_type,
    int lda, long long a_stride, const char* b, int b_type, int ldb, long long b_stride, const float* beta, char* c,
    int c_type, int ldc, long long c_stride, int count, int, int
) {
    for (int i = 0; i < count; ++i) {
        cublasGemmEx(
            handle, a_transposed, b_transposed, m, n, k, alpha, a + i * a_stride * width_of(a_type), a_type, lda,
            b + i * b_stride * width_of(b_type), b_type, ldb, beta, c + i * c_stride * width_of(c_type), c_type, ldc, 0, 0
        );
    }
    return 0;
}

// cuRAND, which candle opens and nothing draws from.
API curandCreateGenerator(void** generator, int) { return *generator = malloc(1), 0; }
API curandDestroyGenerator(void* generator) { return free(generator), 0; }
API curandSetPseudoRandomGeneratorSeed(void*, unsigned long long) { return 0; }
API curandSetStream(void*, void*) { return 0; }

__attribute__((destructor)) static void sum_up() {
    if (!launched) return;
    fprintf(stderr, "stand-in for a GPU: %ld kernels, %ld downloads, %ld uploads\n", launched, downloads, uploads);
}
