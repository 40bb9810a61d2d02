#include "onnxruntime.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// onnxruntime's table of functions.  Entries are only ever added behind the last, so a place never changes.
enum {
  API_VERSION = 21,
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  RUN = 9,
  CREATE_SESSION_OPTIONS = 10,
  DISABLE_MEM_PATTERN = 17,
  SET_LOG_SEVERITY = 22,
  SET_THREADS = 24,
  INPUT_COUNT = 30,
  INPUT_TYPE = 33,
  INPUT_NAME = 36,
  CREATE_RUN_OPTIONS = 39,
  SET_TERMINATE = 46,
  UNSET_TERMINATE = 47,
  CREATE_TENSOR = 49,
  TENSOR_INFO = 55,
  DIMENSIONS_COUNT = 61,
  DIMENSIONS = 62,
  CREATE_CPU_MEMORY_INFO = 69,
  ALLOCATOR_FREE = 76,
  DEFAULT_ALLOCATOR = 78,
  RELEASE_ENV = 92,
  RELEASE_STATUS = 93,
  RELEASE_MEMORY_INFO = 94,
  RELEASE_SESSION = 95,
  RELEASE_VALUE = 96,
  RELEASE_RUN_OPTIONS = 97,
  RELEASE_TYPE_INFO = 98,
  RELEASE_SESSION_OPTIONS = 100,
  LOG_FATAL = 4
};

typedef void *function;
typedef struct {
  const function *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} api_base;

struct edge_onnx {
  void *library;
  const function *api;
  void *env, *options, *session, *run_options, *memory, *allocator;
  atomic_int terminated;
};

#define CALL(engine, place, ...) ((void *(*)(__VA_ARGS__))(engine)->api[place])

static void release(edge_onnx *engine, int place, void *object) {
  if (object) ((void (*)(void *))engine->api[place])(object);
}

// Whether a call went well; its sentence goes into `problem` if not.
static int fine(edge_onnx *engine, void *status, char **problem) {
  if (!status) return 1;
  *problem = strdup(CALL(engine, GET_ERROR_MESSAGE, void *)(status));
  release(engine, RELEASE_STATUS, status);
  return 0;
}

static int load(edge_onnx *engine, const char *library, char **problem) {
  // Since 1.29 it tells its maker of every process, and keeps an id of the device, unless this is set before it loads.
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  engine->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  api_base *(*get)(void) = engine->library ? (api_base * (*)(void)) dlsym(engine->library, "OrtGetApiBase") : NULL;
  if (!get) {
    const char *reason = dlerror();
    *problem = strdup(reason ? reason : "not onnxruntime");
    return 0;
  }
  engine->api = get()->get_api(API_VERSION);
  if (!engine->api) *problem = strdup("onnxruntime is older than 1.21");
  return engine->api != NULL;
}

static int start(edge_onnx *e, const char *model, int32_t threads, char **problem) {
  return fine(e, CALL(e, CREATE_ENV, int, const char *, void **)(LOG_FATAL, "edge", &e->env), problem) &&
         fine(e, CALL(e, CREATE_SESSION_OPTIONS, void **)(&e->options), problem) &&
         fine(e, CALL(e, SET_THREADS, void *, int)(e->options, threads), problem) &&
         fine(e, CALL(e, SET_LOG_SEVERITY, void *, int)(e->options, LOG_FATAL), problem) &&
         // A per-run memory plan would keep the largest chunk's activations for the life of the session.
         fine(e, CALL(e, DISABLE_MEM_PATTERN, void *)(e->options), problem) &&
         fine(e, CALL(e, CREATE_SESSION, void *, const char *, void *, void **)(e->env, model, e->options, &e->session),
              problem) &&
         fine(e, CALL(e, CREATE_RUN_OPTIONS, void **)(&e->run_options), problem) &&
         fine(e, CALL(e, CREATE_CPU_MEMORY_INFO, int, int, void **)(0, 0, &e->memory), problem) &&
         fine(e, CALL(e, DEFAULT_ALLOCATOR, void **)(&e->allocator), problem);
}

edge_onnx *edge_onnx_open(const char *library, const char *model, int32_t threads, char **problem) {
  edge_onnx *engine = calloc(1, sizeof *engine);
  if (load(engine, library, problem) && start(engine, model, threads, problem)) return engine;
  edge_onnx_close(engine);
  return NULL;
}

void edge_onnx_close(edge_onnx *engine) {
  if (engine->api) {
    release(engine, RELEASE_MEMORY_INFO, engine->memory);
    release(engine, RELEASE_RUN_OPTIONS, engine->run_options);
    release(engine, RELEASE_SESSION, engine->session);
    release(engine, RELEASE_SESSION_OPTIONS, engine->options);
    release(engine, RELEASE_ENV, engine->env);
  }
  // The library stays loaded: its threads may still be on their way out.
  free(engine);
}

static int64_t last_size(edge_onnx *e, void *type) {
  const void *info = NULL;
  size_t rank = 0;
  int64_t shape[8] = {0};
  void *status = CALL(e, TENSOR_INFO, const void *, const void **)(type, &info);
  if (!status && info) status = CALL(e, DIMENSIONS_COUNT, const void *, size_t *)(info, &rank);
  if (!status && info && rank >= 1 && rank <= 8)
    status = CALL(e, DIMENSIONS, const void *, int64_t *, size_t)(info, shape, rank);
  release(e, RELEASE_STATUS, status);
  return !status && rank >= 1 && rank <= 8 ? shape[rank - 1] : -2;
}

// Of the inputs, or one place further in the table of the outputs.
static int64_t width(edge_onnx *e, const char *wanted, int place) {
  size_t count = 0;
  void *status = CALL(e, INPUT_COUNT + place, void *, size_t *)(e->session, &count);
  release(e, RELEASE_STATUS, status);
  for (size_t at = 0; !status && at < count; at++) {
    char *name = NULL;
    void *type = NULL;
    int64_t found = -2;
    status = CALL(e, INPUT_NAME + place, void *, size_t, void *, char **)(e->session, at, e->allocator, &name);
    if (!status && !strcmp(name, wanted)) {
      status = CALL(e, INPUT_TYPE + place, void *, size_t, void **)(e->session, at, &type);
      found = status ? -2 : last_size(e, type);
    }
    release(e, RELEASE_TYPE_INFO, type);
    if (name) release(e, RELEASE_STATUS, CALL(e, ALLOCATOR_FREE, void *, void *)(e->allocator, name));
    release(e, RELEASE_STATUS, status);
    if (found != -2) return found;
  }
  return -2;
}

int64_t edge_onnx_width(edge_onnx *engine, const char *name) {
  int64_t found = width(engine, name, 0);
  return found != -2 ? found : width(engine, name, 1);
}

static int wrap(edge_onnx *e, const edge_tensor *tensors, int32_t count, const char **names, void **values,
                char **problem) {
  for (int32_t at = 0; at < count; at++) {
    const edge_tensor *one = &tensors[at];
    names[at] = one->name;
    void *status = CALL(e, CREATE_TENSOR, const void *, void *, size_t, const int64_t *, size_t, int, void **)(
        e->memory, one->data, (size_t)one->bytes, one->shape, (size_t)one->rank, one->dtype, &values[at]);
    if (!fine(e, status, problem)) return 0;
  }
  return 1;
}

int32_t edge_onnx_run(edge_onnx *e, const edge_tensor *inputs, int32_t input_count, const edge_tensor *outputs,
                      int32_t output_count, char **problem) {
  int32_t count = input_count + output_count;
  const char **names = calloc((size_t)count, sizeof *names);
  void **values = calloc((size_t)count, sizeof *values);
  int good = wrap(e, inputs, input_count, names, values, problem) &&
             wrap(e, outputs, output_count, names + input_count, values + input_count, problem) &&
             fine(e,
                  CALL(e, RUN, void *, void *, const char *const *, const void *const *, size_t, const char *const *,
                       size_t, void **)(e->session, e->run_options, names, (const void *const *)values,
                                        (size_t)input_count, names + input_count, (size_t)output_count,
                                        values + input_count),
                  problem);
  for (int32_t at = 0; at < count; at++) release(e, RELEASE_VALUE, values[at]);
  free(names);
  free(values);
  return good ? 0 : atomic_load(&e->terminated) ? -2 : -1;
}

void edge_onnx_terminate(edge_onnx *e) {
  atomic_store(&e->terminated, 1);
  release(e, RELEASE_STATUS, CALL(e, SET_TERMINATE, void *)(e->run_options));
}

void edge_onnx_resume(edge_onnx *e) {
  atomic_store(&e->terminated, 0);
  release(e, RELEASE_STATUS, CALL(e, UNSET_TERMINATE, void *)(e->run_options));
}
