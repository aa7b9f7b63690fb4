/* A TFLite delegate for tests: it takes the whole network and answers from a table that it is given, right and fast,
 * until its options say otherwise.
 *
 *   answers=FILE  int32 counts (cases, input bytes, outputs), for each output its tensor and size, then the cases
 *   mode=...      at the start: refuse, crash-start, hang-start; in a run: corrupt, repeat, crash, hang, fail, slow
 *   after=N       how many right runs come first
 *   times=N       how many wrong runs follow, before it is right again; without it, all that follow
 *
 * The structures are those of tensorflow/lite/core/c/common.h, as far as they are used. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct {
  int type; void *data; IntArray *dims; float scale; int32_t zero_point; int allocation; size_t bytes;
  const void *mapped; const char *name; void *delegate; int handle; bool stale, variable;
  struct { int type; void *params; } quantization; void *sparsity; const IntArray *signature;
} Tensor;
typedef struct { IntArray *inputs, *outputs, *intermediates, *temporaries; void *user_data; } Node;
struct Context;
typedef struct {
  void *(*init)(struct Context *, const char *, size_t); void (*free)(struct Context *, void *);
  int (*prepare)(struct Context *, Node *); int (*invoke)(struct Context *, Node *);
  const char *(*profile)(const struct Context *, const Node *); int32_t builtin; const char *name; int version;
  void *external, *async; uint64_t inplace;
} Registration;
typedef struct Delegate {
  void *data; int (*prepare)(struct Context *, struct Delegate *); void *from, *to, *free_handle;
  int64_t flags; void *builder;
} Delegate;
typedef struct Context {
  size_t count; int (*plan)(struct Context *, IntArray **); Tensor *tensors; void *impl, *resize, *report, *add, *node;
  int (*replace)(struct Context *, Registration, const IntArray *, Delegate *);
} Context;
typedef struct { Delegate *delegate; IntArray *nodes, *inputs, *outputs; } Params;

static char mode[32] = "works";
static int after, times = -1, runs, cases, input_bytes, outputs, places[16][2], case_bytes;
static char *table, *last;

static char *find(const void *input) {
  for (int i = 0; i < cases; i++)
    if (!memcmp(table + (size_t)i * case_bytes, input, input_bytes)) return table + (size_t)i * case_bytes;
  return NULL;
}

static void *init(Context *context, const char *buffer, size_t length) { return (void *)((const Params *)buffer)->inputs; }
static int prepare(Context *context, Node *node) { return 0; }

static int invoke(Context *context, Node *node) {
  char *answer = NULL;
  for (int i = 0; i < node->inputs->size; i++) {
    Tensor *tensor = &context->tensors[node->inputs->data[i]];
    if ((int)tensor->bytes == input_bytes && tensor->data) answer = find(tensor->data);
    if (answer) break;
  }
  if (!answer) return 1;
  bool act = runs >= after && (times < 0 || runs < after + times);
  runs++;
  if (act && !strcmp(mode, "crash")) raise(SIGSEGV);
  if (act && !strcmp(mode, "fail")) return 1;
  if (act && !strcmp(mode, "slow")) usleep(30000);
  while (act && !strcmp(mode, "hang")) pause();
  if (act && !strcmp(mode, "repeat") && last) answer = last;
  last = answer;
  char *from = answer + input_bytes;
  for (int i = 0; i < outputs; from += places[i++][1]) {
    char *to = context->tensors[places[i][0]].data;
    memcpy(to, from, places[i][1]);
    if (act && !strcmp(mode, "corrupt"))
      for (int j = 0; j < places[i][1]; j++) to[j] = ~to[j];
  }
  return 0;
}

static int take_all(Context *context, Delegate *delegate) {
  Registration registration = {.init = init, .prepare = prepare, .invoke = invoke, .name = "table", .version = 1};
  IntArray *plan;
  return context->plan(context, &plan) || context->replace(context, registration, plan, delegate);
}

static void read_answers(const char *path) {
  FILE *file = fopen(path, "rb");
  int head[3];
  if (!file || fread(head, 4, 3, file) != 3) abort();
  cases = head[0], case_bytes = input_bytes = head[1], outputs = head[2];
  if (fread(places, 8, outputs, file) != (size_t)outputs) abort();
  for (int i = 0; i < outputs; i++) case_bytes += places[i][1];
  table = malloc((size_t)cases * case_bytes);
  if (fread(table, case_bytes, cases, file) != (size_t)cases) abort();
  fclose(file);
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  for (size_t i = 0; i < count; i++) {
    if (!strcmp(keys[i], "mode")) snprintf(mode, sizeof mode, "%s", values[i]);
    if (!strcmp(keys[i], "after")) after = atoi(values[i]);
    if (!strcmp(keys[i], "times")) times = atoi(values[i]);
    if (!strcmp(keys[i], "answers")) read_answers(values[i]);
  }
  if (!strcmp(mode, "crash-start")) raise(SIGILL);
  while (!strcmp(mode, "hang-start")) pause();
  if (!strcmp(mode, "refuse")) {
    report("no such device on this board");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = take_all;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
