/* Back end for NVIDIA's Triton core that lets a Python process compute: real_triton.py.

   Each call sends the inputs of all requests of a batch, states included, over the socket that SHRIKE_SHIM names. It
   receives outputs and next states, and hands them to Triton as Triton's own back ends do. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef void Any; /* every object of Triton's C interface is opaque */
typedef Any *Error;
Error TRITONBACKEND_ModelInstanceModel(Any *instance, Any **model);
Error TRITONBACKEND_ModelName(Any *model, const char **name);
Error TRITONBACKEND_RequestInputCount(Any *request, uint32_t *count);
Error TRITONBACKEND_RequestInputByIndex(Any *request, uint32_t index, Any **input);
Error TRITONBACKEND_InputProperties(Any *input, const char **name, int *type, const int64_t **shape, uint32_t *dims,
                                    uint64_t *bytes, uint32_t *buffers);
Error TRITONBACKEND_InputBuffer(Any *input, uint32_t index, const void **buffer, uint64_t *bytes, int *memory,
                                int64_t *device);
Error TRITONBACKEND_ResponseNew(Any **response, Any *request);
Error TRITONBACKEND_ResponseOutput(Any *response, Any **output, const char *name, int type, const int64_t *shape,
                                   uint32_t dims);
Error TRITONBACKEND_OutputBuffer(Any *output, void **buffer, uint64_t bytes, int *memory, int64_t *device);
Error TRITONBACKEND_StateNew(Any **state, Any *request, const char *name, int type, const int64_t *shape,
                             uint32_t dims);
Error TRITONBACKEND_StateBuffer(Any *state, void **buffer, uint64_t bytes, int *memory, int64_t *device);
Error TRITONBACKEND_StateUpdate(Any *state);
Error TRITONBACKEND_ResponseSend(Any *response, uint32_t flags, Error error);
Error TRITONBACKEND_RequestRelease(Any *request, uint32_t flags);

enum { FINAL = 1, ALL = 1, CPU = 0, LONGEST = 256, DIMS = 8 };
static __thread int link_ = -1; /* Triton runs each model instance in a thread of its own */

static void put(const void *data, size_t size) {
  for (ssize_t sent; size; data = (const char *)data + sent, size -= (size_t)sent)
    if ((sent = write(link_, data, size)) <= 0) abort();
}
static void get(void *data, size_t size) {
  for (ssize_t came; size; data = (char *)data + came, size -= (size_t)came)
    if ((came = read(link_, data, size)) <= 0) abort();
}
static void put32(uint32_t value) { put(&value, 4); }
static uint32_t get32(void) { uint32_t value; get(&value, 4); return value; }

static void connect_once(Any *instance) {
  if (link_ >= 0) return;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, getenv("SHRIKE_SHIM"), sizeof address.sun_path - 1);
  link_ = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(link_, (struct sockaddr *)&address, sizeof address)) abort();
  Any *model;
  const char *name;
  TRITONBACKEND_ModelInstanceModel(instance, &model);
  TRITONBACKEND_ModelName(model, &name);
  put32((uint32_t)strlen(name)), put(name, strlen(name));
}

static void send_inputs(Any *request) {
  uint32_t count, dims, buffers, length;
  TRITONBACKEND_RequestInputCount(request, &count);
  put32(count);
  for (uint32_t index = 0; index < count; index++) {
    Any *input;
    const char *name;
    const int64_t *shape;
    uint64_t bytes;
    int type, memory = CPU;
    int64_t device = 0;
    TRITONBACKEND_RequestInputByIndex(request, index, &input);
    TRITONBACKEND_InputProperties(input, &name, &type, &shape, &dims, &bytes, &buffers);
    length = (uint32_t)strlen(name);
    put32(length), put(name, length), put32((uint32_t)type), put32(dims), put(shape, 8 * dims), put32((uint32_t)bytes);
    for (uint32_t part = 0; part < buffers; part++) {
      const void *buffer;
      TRITONBACKEND_InputBuffer(input, part, &buffer, &bytes, &memory, &device);
      put(buffer, bytes);
    }
  }
}

static void answer(Any *request) {
  Any *response;
  Error error = TRITONBACKEND_ResponseNew(&response, request);
  for (uint32_t count = get32(); count; count--) {
    char name[LONGEST] = "";
    int64_t shape[DIMS], device = 0;
    int is_state = (int)get32(), memory = CPU;
    get(name, get32());
    int type = (int)get32();
    uint32_t dims = get32();
    get(shape, 8 * dims);
    uint32_t bytes = get32();
    void *data = malloc(bytes), *buffer = NULL;
    get(data, bytes);
    Any *tensor = NULL;
    if (!error)
      error = is_state ? TRITONBACKEND_StateNew(&tensor, request, name, type, shape, dims)
                       : TRITONBACKEND_ResponseOutput(response, &tensor, name, type, shape, dims);
    if (!error)
      error = is_state ? TRITONBACKEND_StateBuffer(tensor, &buffer, bytes, &memory, &device)
                       : TRITONBACKEND_OutputBuffer(tensor, &buffer, bytes, &memory, &device);
    if (!error) memcpy(buffer, data, bytes);
    if (!error && is_state) error = TRITONBACKEND_StateUpdate(tensor);
    free(data);
  }
  TRITONBACKEND_ResponseSend(response, FINAL, error);
  TRITONBACKEND_RequestRelease(request, ALL);
}

__attribute__((visibility("default"))) Error TRITONBACKEND_ModelInstanceExecute(Any *instance, Any **requests,
                                                                              uint32_t count) {
  connect_once(instance);
  put32(count);
  for (uint32_t index = 0; index < count; index++) send_inputs(requests[index]);
  for (uint32_t index = 0; index < count; index++) answer(requests[index]);
  return NULL;
}
