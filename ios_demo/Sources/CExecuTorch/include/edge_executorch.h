// A program of ExecuTorch with methods that share their state, for Swift.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edge_executorch edge_executorch;

// A float32 or int64 array of the caller's.
typedef struct {
  void *data;
  int32_t is_int64;
  int32_t rank;
  int32_t shape[4];
} edge_executorch_array;

// Load a program and its method `decode`.  NULL and `problem`, to be released with `free`, if that fails.
edge_executorch *edge_executorch_open(const char *path, char **problem);
void edge_executorch_close(edge_executorch *program);

// Run a method.  Its outputs are copied to float32 arrays, which must be of their sizes.  0, or -1 and `problem`.
int32_t edge_executorch_run(edge_executorch *program, const char *method, const edge_executorch_array *inputs,
                            int32_t input_count, const edge_executorch_array *outputs, int32_t output_count,
                            char **problem);

// A buffer of the program by its name: its bytes, which stay where they are.  0, or -1 and `problem`.
int32_t edge_executorch_state(edge_executorch *program, const char *name, void **data, int64_t *bytes,
                              char **problem);

#ifdef __cplusplus
}
#endif
