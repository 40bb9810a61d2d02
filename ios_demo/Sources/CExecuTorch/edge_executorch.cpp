#include "edge_executorch.h"

#include <cstring>
#include <string>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

using executorch::aten::ScalarType;
using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;

struct edge_executorch {
  // Methods share one arena for what they change: the caches.
  explicit edge_executorch(const char *path)
      : module(path, Module::LoadMode::Mmap, nullptr, nullptr, nullptr, true) {}
  Module module;
};

static void say(char **problem, const std::string &words) { *problem = strdup(words.c_str()); }

static std::string code(Error error) { return "error " + std::to_string(static_cast<int>(error)); }

edge_executorch *edge_executorch_open(const char *path, char **problem) {
  auto *program = new edge_executorch(path);
  Error error = program->module.load();
  if (error == Error::Ok) error = program->module.load_method("decode");
  if (error == Error::Ok) return program;
  say(problem, code(error));
  delete program;
  return nullptr;
}

void edge_executorch_close(edge_executorch *program) { delete program; }

static TensorPtr tensor(const edge_executorch_array &array) {
  std::vector<executorch::aten::SizesType> sizes(array.shape, array.shape + array.rank);
  return from_blob(array.data, sizes, array.is_int64 ? ScalarType::Long : ScalarType::Float);
}

static int64_t count(const edge_executorch_array &array) {
  int64_t values = 1;
  for (int32_t at = 0; at < array.rank; at++) values *= array.shape[at];
  return values;
}

int32_t edge_executorch_run(edge_executorch *program, const char *method, const edge_executorch_array *inputs,
                            int32_t input_count, const edge_executorch_array *outputs, int32_t output_count,
                            char **problem) {
  std::vector<TensorPtr> held;
  std::vector<EValue> values;
  for (int32_t at = 0; at < input_count; at++) {
    held.push_back(tensor(inputs[at]));
    values.emplace_back(*held.back());
  }
  auto found = program->module.execute(method, values);
  if (!found.ok()) return say(problem, code(found.error())), -1;
  if (static_cast<int32_t>(found->size()) != output_count) return say(problem, "another number of outputs"), -1;
  for (int32_t at = 0; at < output_count; at++) {
    if (!found->at(at).isTensor()) return say(problem, "an output that is no tensor"), -1;
    const auto output = found->at(at).toTensor();
    if (output.scalar_type() != ScalarType::Float || output.numel() != count(outputs[at]))
      return say(problem, "an output of another size"), -1;
    memcpy(outputs[at].data, output.const_data_ptr<float>(), output.nbytes());
  }
  return 0;
}

int32_t edge_executorch_state(edge_executorch *program, const char *name, void **data, int64_t *bytes,
                              char **problem) {
  auto method = program->module.method("decode");
  if (!method.ok()) return say(problem, code(method.error())), -1;
  auto found = (*method)->get_attribute(name);
  if (!found.ok()) return say(problem, code(found.error())), -1;
  *data = found->mutable_data_ptr();
  *bytes = static_cast<int64_t>(found->nbytes());
  return 0;
}
