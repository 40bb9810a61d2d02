// The part of onnxruntime's C interface that OnnxEngine uses, over a library that is loaded at run time.
#pragma once
#include <stdint.h>

typedef struct edge_onnx edge_onnx;

// Names of element types, as onnxruntime numbers them.
enum { EDGE_FLOAT32 = 1, EDGE_UINT8 = 2, EDGE_INT8 = 3, EDGE_INT32 = 6, EDGE_INT64 = 7, EDGE_BOOL = 9, EDGE_FLOAT16 = 10 };

typedef struct {
  const char *name;
  int32_t dtype;
  int32_t rank;
  int64_t shape[4];
  void *data;
  int64_t bytes;
} edge_tensor;

// Load a graph.  NULL and `problem`, to be released with `free`, if that fails.
edge_onnx *edge_onnx_open(const char *library, const char *model, int32_t threads, char **problem);
void edge_onnx_close(edge_onnx *engine);

// Last size of an input or output; -1 if it varies, -2 if there is none of that name.
int64_t edge_onnx_width(edge_onnx *engine, const char *name);

// Run the graph on arrays of the caller's.  0, or -1 and `problem`; -2 if `edge_onnx_terminate` ended it.
int32_t edge_onnx_run(edge_onnx *engine, const edge_tensor *inputs, int32_t input_count, const edge_tensor *outputs,
                      int32_t output_count, char **problem);

// Stop the running call, from any thread; and forget a stop that came when none was running.
void edge_onnx_terminate(edge_onnx *engine);
void edge_onnx_resume(edge_onnx *engine);
