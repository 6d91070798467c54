/* A stand-in for NVIDIA's libcuda.so.1 on machines without a GPU: device memory is host memory, and a stream runs at
 * once. It has the ABI of the functions that runtime.engines calls through PyCUDA and cuda-python, so that both
 * libraries run unchanged. Functions that are missing here end the process when they are called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t pointer;
enum { NOT_SUPPORTED = 801, INVALID = 1, NOT_FOUND = 500 };
static long live;  /* allocations, streams, events and graphs that were not released */
static int depth, capturing;
static void *current;
static float clock_ms;
struct copy { void *to; const void *from; size_t size; };
static struct copy captured[64];
static int count;

static int failing(const char *name) {
    const char *wanted = getenv("FAKE_CUDA_FAILS");
    return wanted && !strcmp(wanted, name) ? NOT_SUPPORTED : 0;
}
#define CALL(name) if (failing(name)) return failing(name)

int cuInit(unsigned flags) { CALL("cuInit"); return flags ? INVALID : 0; }
int cuDriverGetVersion(int *version) { *version = 12020; return 0; }
int cuDeviceGetCount(int *devices) { *devices = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal ? INVALID : 0; }
int cuDeviceGetName(char *name, int size, int device) { (void)device; snprintf(name, size, "Fake Orin"); return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : 0;
    return 0;
}
int cuDeviceComputeCapability(int *major, int *minor, int device) { (void)device; *major = 8; *minor = 7; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; live++; *context = &live; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    live--;
    if (getenv("FAKE_CUDA_REPORT")) { printf("live %ld depth %d\n", live, depth); fflush(stdout); }
    return 0;
}
int cuCtxSetCurrent(void *context) { current = context; return 0; }
int cuCtxGetCurrent(void **context) { *context = current; return 0; }
int cuCtxPushCurrent_v2(void *context) { depth++; current = context; return 0; }
int cuCtxPopCurrent_v2(void **context) { depth--; *context = current; current = 0; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return current ? 0 : 201; }
int cuCtxGetFlags(unsigned *flags) { *flags = 1 | 8; return 0; }  /* CU_CTX_SCHED_SPIN, CU_CTX_MAP_HOST */
int cuStreamCreate(void **stream, unsigned flags) {
    CALL("cuStreamCreate");
    live++;
    *stream = &count;
    return current && flags == 1 ? 0 : INVALID;
}
int cuStreamDestroy_v2(void *stream) { (void)stream; live--; return 0; }
int cuStreamSynchronize(void *stream) { return stream == &count && !capturing ? 0 : INVALID; }
int cuMemAlloc_v2(pointer *address, size_t size) {
    CALL("cuMemAlloc_v2");
    live++;
    *address = (pointer)malloc(size);
    return current ? 0 : INVALID;
}
int cuMemFree_v2(pointer address) { live--; free((void *)address); return 0; }
int cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    (void)flags;
    CALL("cuMemHostAlloc");
    live++;
    *address = malloc(size);
    return 0;
}
int cuMemAllocHost_v2(void **address, size_t size) { return cuMemHostAlloc(address, size, 0); }
int cuMemFreeHost(void *address) { live--; free(address); return 0; }
static int queue(void *to, const void *from, size_t size, void *stream) {
    if (stream != &count) return INVALID;
    if (capturing) captured[count++] = (struct copy){to, from, size};
    else memcpy(to, from, size), clock_ms += 1;
    return 0;
}
int cuMemcpyHtoDAsync_v2(pointer to, const void *from, size_t size, void *stream) {
    return queue((void *)to, from, size, stream);
}
int cuMemcpyDtoHAsync_v2(void *to, pointer from, size_t size, void *stream) {
    return queue(to, (void *)from, size, stream);
}
int cuStreamBeginCapture_v2(void *stream, int mode) {
    CALL("cuStreamBeginCapture_v2");
    count = 0;
    capturing = 1;
    return stream == &count && mode == 1 ? 0 : INVALID;
}
int cuStreamEndCapture(void *stream, void **graph) { (void)stream; capturing = 0; live++; *graph = captured; return 0; }
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    live++;
    *executable = graph;
    return flags ? INVALID : 0;
}
int cuGraphLaunch(void *executable, void *stream) {
    struct copy *copies = executable;
    for (int i = 0; i < count; i++) if (queue(copies[i].to, copies[i].from, copies[i].size, stream)) return INVALID;
    return 0;
}
int cuGraphExecDestroy(void *executable) { (void)executable; live--; return 0; }
int cuGraphDestroy(void *graph) { (void)graph; live--; return 0; }
int cuEventCreate(void **event, unsigned flags) { (void)flags; live++; *event = calloc(1, 4); return 0; }
int cuEventRecord(void *event, void *stream) { *(float *)event = clock_ms; return stream == &count ? 0 : INVALID; }
int cuEventElapsedTime(float *ms, void *before, void *after) { *ms = *(float *)after - *(float *)before; return 0; }
int cuEventElapsedTime_v2(float *ms, void *before, void *after) { return cuEventElapsedTime(ms, before, after); }
int cuEventDestroy_v2(void *event) { live--; free(event); return 0; }
int cuGetErrorString(int code, const char **words) { (void)code; *words = "fake error"; return 0; }
int cuGetErrorName(int code, const char **words) { (void)code; *words = "FAKE_ERROR"; return 0; }

static int missing(void) { fprintf(stderr, "a function that libcuda.c lacks was called\n"); abort(); }

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    char newer[128];
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    (void)version, (void)flags;
    snprintf(newer, sizeof newer, "%s_v2", symbol);
    *function = dlsym(self, newer);
    if (!*function) *function = dlsym(self, symbol);
    if (!*function) *function = (void *)missing;
    if (status) *status = 0;
    return 0;
}
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, 0);
}
