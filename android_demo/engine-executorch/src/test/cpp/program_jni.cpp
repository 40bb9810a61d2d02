// gemmaedge.executorch.LibraryProgram over edge_executorch.h, so that a JVM runs a program by the libraries of Python's package.
#include <jni.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "edge_executorch.h"

static edge_executorch *program(jlong handle) { return reinterpret_cast<edge_executorch *>(handle); }

static void raise(JNIEnv *jvm, char *problem) {
  jvm->ThrowNew(jvm->FindClass("java/lang/RuntimeException"), problem);
  free(problem);
}

// Direct buffers, their shapes one after the other, and how many sizes each has.
static std::vector<edge_executorch_array> arrays(JNIEnv *jvm, jobjectArray buffers, jbooleanArray longs,
                                                 jobjectArray shapes) {
  std::vector<edge_executorch_array> found(jvm->GetArrayLength(buffers));
  for (size_t at = 0; at < found.size(); at++) {
    auto shape = static_cast<jintArray>(jvm->GetObjectArrayElement(shapes, at));
    jboolean is_int64;
    jvm->GetBooleanArrayRegion(longs, at, 1, &is_int64);
    found[at].data = jvm->GetDirectBufferAddress(jvm->GetObjectArrayElement(buffers, at));
    found[at].is_int64 = is_int64;
    found[at].rank = jvm->GetArrayLength(shape);
    jvm->GetIntArrayRegion(shape, 0, found[at].rank, found[at].shape);
  }
  return found;
}

extern "C" {

JNIEXPORT jlong JNICALL Java_gemmaedge_executorch_LibraryProgram_open(JNIEnv *jvm, jobject, jstring path) {
  const char *name = jvm->GetStringUTFChars(path, nullptr);
  char *problem = nullptr;
  auto *opened = edge_executorch_open(name, &problem);
  jvm->ReleaseStringUTFChars(path, name);
  if (!opened) raise(jvm, problem);
  return reinterpret_cast<jlong>(opened);
}

JNIEXPORT void JNICALL Java_gemmaedge_executorch_LibraryProgram_execute(JNIEnv *jvm, jobject, jlong handle,
                                                                        jstring method, jobjectArray buffers,
                                                                        jbooleanArray longs, jobjectArray shapes,
                                                                        jint inputs) {
  auto all = arrays(jvm, buffers, longs, shapes);
  const char *name = jvm->GetStringUTFChars(method, nullptr);
  char *problem = nullptr;
  int failed = edge_executorch_run(program(handle), name, all.data(), inputs, all.data() + inputs,
                                   static_cast<int32_t>(all.size()) - inputs, &problem);
  jvm->ReleaseStringUTFChars(method, name);
  if (failed) raise(jvm, problem);
}

JNIEXPORT jobject JNICALL Java_gemmaedge_executorch_LibraryProgram_state(JNIEnv *jvm, jobject, jlong handle,
                                                                         jstring name) {
  const char *wanted = jvm->GetStringUTFChars(name, nullptr);
  char *problem = nullptr;
  void *data = nullptr;
  int64_t bytes = 0;
  int failed = edge_executorch_state(program(handle), wanted, &data, &bytes, &problem);
  jvm->ReleaseStringUTFChars(name, wanted);
  if (!failed) return jvm->NewDirectByteBuffer(data, bytes);
  raise(jvm, problem);
  return nullptr;
}

JNIEXPORT void JNICALL Java_gemmaedge_executorch_LibraryProgram_close(JNIEnv *, jobject, jlong handle) {
  edge_executorch_close(program(handle));
}
}
