/* Run an ONNX model in onnxruntime from plain C, with or without a library of custom operators.
 *
 *     gcc -std=c11 -O2 run.c -o run -ldl -lm
 *     ./run LIBONNXRUNTIME MODEL [--library LIBRARY] [--threads N] [--runs N] [--seed N]
 *           [--shape NAME=2,3]... [--input NAME=FILE]... [--expect NAME=FILE]... [--tolerance T] [--save NAME=FILE]...
 *
 * --library  a shared object with RegisterCustomOps, as `sparse-rt library MODEL -o LIBRARY` writes it
 * --shape    of an input with unknown dimensions; those that nobody gives are 1
 * --input    raw little-endian values of an input; without it they are made from the seed
 * --expect   raw values that an output must have
 * --save     where to write the raw values of an output
 * --tolerance  the largest difference from them, relative to the largest finite magnitude expected (default 0)
 *
 * The exit status is 0; 1 if onnxruntime refuses something or a file does; 2 if an output differs.
 */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What this program needs of onnxruntime's C API. OrtApi is a table of functions that only ever grows: the place of a
 * function is the same in every version, so no header of a certain version is needed. */
typedef struct OrtStatus OrtStatus;
typedef void (*Function)(void);
typedef struct {
    const Function *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
} OrtApiBase;

static const Function *api;

#define CALL(place, result, ...) ((result(*)(__VA_ARGS__))api[place])
#define GET_ERROR_MESSAGE CALL(2, const char *, const OrtStatus *)
#define CREATE_ENV CALL(3, OrtStatus *, int, const char *, void **)
#define CREATE_SESSION CALL(7, OrtStatus *, void *, const char *, const void *, void **)
#define RUN                                                                                                           \
    CALL(9, OrtStatus *, void *, const void *, const char *const *, void *const *, size_t, const char *const *,       \
         size_t, void **)
#define CREATE_SESSION_OPTIONS CALL(10, OrtStatus *, void **)
#define SET_INTRA_OP_THREADS CALL(24, OrtStatus *, void *, int)
#define SESSION_GET_COUNT(outputs) CALL((outputs) ? 31 : 30, OrtStatus *, const void *, size_t *)
#define SESSION_GET_TYPE_INFO CALL(33, OrtStatus *, const void *, size_t, void **)
#define SESSION_GET_NAME(outputs) CALL((outputs) ? 37 : 36, OrtStatus *, const void *, size_t, void *, char **)
#define CREATE_TENSOR CALL(49, OrtStatus *, const void *, void *, size_t, const int64_t *, size_t, int, void **)
#define GET_TENSOR_DATA CALL(51, OrtStatus *, void *, void **)
#define CAST_TO_TENSOR_INFO CALL(55, OrtStatus *, const void *, const void **)
#define GET_ELEMENT_TYPE CALL(60, OrtStatus *, const void *, int *)
#define GET_RANK CALL(61, OrtStatus *, const void *, size_t *)
#define GET_DIMENSIONS CALL(62, OrtStatus *, const void *, int64_t *, size_t)
#define GET_TYPE_AND_SHAPE CALL(65, OrtStatus *, const void *, void **)
#define CREATE_CPU_MEMORY_INFO CALL(69, OrtStatus *, int, int, void **)
#define GET_ALLOCATOR CALL(78, OrtStatus *, void **)
#define RELEASE_ENV CALL(92, void, void *)
#define RELEASE_MEMORY_INFO CALL(94, void, void *)
#define RELEASE_SESSION CALL(95, void, void *)
#define RELEASE_VALUE CALL(96, void, void *)
#define RELEASE_TYPE_INFO CALL(98, void, void *)
#define RELEASE_TYPE_AND_SHAPE CALL(99, void, void *)
#define RELEASE_SESSION_OPTIONS CALL(100, void, void *)
#define REGISTER_CUSTOM_OPS_LIBRARY CALL(228, OrtStatus *, void *, const char *)

enum { OLDEST_API = 14, MOST_DIMENSIONS = 8, MOST_GIVEN = 32, MOST_TENSORS = 64 };
enum { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, INT64 = 7, BOOL = 9, FLOAT16 = 10, DOUBLE = 11 };

typedef struct {
    const char *names[MOST_GIVEN];
    const char *values[MOST_GIVEN];
    size_t count;
} Given;

typedef struct {
    const char *runtime, *model, *library;
    int threads, runs;
    uint64_t seed;
    double tolerance;
    Given shapes, inputs, expected, saved;
} Options;

typedef struct {
    char *name;
    int type;
    int64_t dimensions[MOST_DIMENSIONS];
    size_t rank, count, bytes;
    void *data, *value;
} Tensor;

static void fail(const char *where, const char *what)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", where, what);
    exit(1);
}

static void check(const char *where, OrtStatus *status)
{
    if (status)
        fail(where, GET_ERROR_MESSAGE(status));
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static size_t item_size(const char *name, int type)
{
    switch (type) {
    case UINT8: case INT8: case BOOL: return 1;
    case FLOAT16: return 2;
    case FLOAT: case INT32: return 4;
    case INT64: case DOUBLE: return 8;
    }
    fail(name, "has a type that this program does not know");
    return 0;
}

/* Options */

static void give(Given *given, const char *argument)
{
    const char *equals = strchr(argument, '=');
    if (!equals || given->count == MOST_GIVEN)
        fail(argument, "expected NAME=VALUE, and not too many of them");
    char *name = malloc((size_t)(equals - argument) + 1);
    if (!name)
        fail(argument, "no memory");
    memcpy(name, argument, (size_t)(equals - argument));
    name[equals - argument] = 0;
    given->names[given->count] = name;
    given->values[given->count++] = equals + 1;
}

static const char *find(const Given *given, const char *name)
{
    for (size_t i = 0; i < given->count; i++)
        if (!strcmp(given->names[i], name))
            return given->values[i];
    return NULL;
}

static Options parse(int count, char **arguments)
{
    Options options = {.threads = 1, .runs = 20, .seed = 1};
    if (count < 3 || count % 2 == 0) {
        fprintf(stderr, "usage: run LIBONNXRUNTIME MODEL [--library FILE] [--threads N] [--runs N] [--seed N]\n"
                        "           [--shape NAME=2,3] [--input NAME=FILE] [--expect NAME=FILE] [--tolerance T]\n"
                        "           [--save NAME=FILE]\n");
        exit(1);
    }
    options.runtime = arguments[1];
    options.model = arguments[2];
    for (int i = 3; i < count; i += 2) {
        const char *key = arguments[i], *value = arguments[i + 1];
        if (!strcmp(key, "--library"))
            options.library = value;
        else if (!strcmp(key, "--threads"))
            options.threads = atoi(value);
        else if (!strcmp(key, "--runs"))
            options.runs = atoi(value);
        else if (!strcmp(key, "--seed"))
            options.seed = strtoull(value, NULL, 10);
        else if (!strcmp(key, "--tolerance"))
            options.tolerance = strtod(value, NULL);
        else if (!strcmp(key, "--shape"))
            give(&options.shapes, value);
        else if (!strcmp(key, "--input"))
            give(&options.inputs, value);
        else if (!strcmp(key, "--expect"))
            give(&options.expected, value);
        else if (!strcmp(key, "--save"))
            give(&options.saved, value);
        else
            fail(key, "is no option of this program");
    }
    if (options.threads < 1 || options.runs < 1)
        fail("--threads, --runs", "expected at least 1");
    return options;
}

/* Tensors */

static void *read_values(const char *path, size_t bytes)
{
    FILE *file = fopen(path, "rb");
    void *data = malloc(bytes + 1);
    if (!file || !data)
        fail(path, "cannot be read");
    if (fread(data, 1, bytes + 1, file) != bytes)
        fail(path, "has not the size of the tensor");
    fclose(file);
    return data;
}

/* Floats in [-1, 1); bits for every other type, which are valid indexes, masks and quantised values alike. */
static void *make_values(const Tensor *tensor, uint64_t seed)
{
    unsigned char *data = calloc(tensor->count + 1, tensor->bytes / (tensor->count ? tensor->count : 1));
    if (!data)
        fail(tensor->name, "no memory");
    uint64_t state = seed;
    for (size_t i = 0; i < tensor->count; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const double value = (double)(state >> 11) / 4503599627370496.0 - 1.0;
        if (tensor->type == FLOAT)
            ((float *)data)[i] = (float)value;
        else if (tensor->type == DOUBLE)
            ((double *)data)[i] = value;
        else /* little-endian: the first byte is the lowest one */
            data[i * (tensor->bytes / tensor->count)] = value > 0;
    }
    return data;
}

static void read_shape(Tensor *tensor, const void *info)
{
    check(tensor->name, GET_ELEMENT_TYPE(info, &tensor->type));
    check(tensor->name, GET_RANK(info, &tensor->rank));
    if (tensor->rank > MOST_DIMENSIONS)
        fail(tensor->name, "has too many dimensions");
    check(tensor->name, GET_DIMENSIONS(info, tensor->dimensions, tensor->rank));
}

static void measure(Tensor *tensor)
{
    tensor->count = 1;
    for (size_t i = 0; i < tensor->rank; i++)
        tensor->count *= (size_t)tensor->dimensions[i];
    tensor->bytes = tensor->count * item_size(tensor->name, tensor->type);
}

static Tensor make_input(const Options *options, void *session, size_t index, void *allocator, void *memory)
{
    Tensor tensor = {0};
    void *type;
    const void *info;
    check(options->model, SESSION_GET_NAME(false)(session, index, allocator, &tensor.name));
    check(tensor.name, SESSION_GET_TYPE_INFO(session, index, &type));
    check(tensor.name, CAST_TO_TENSOR_INFO(type, &info));
    if (!info)
        fail(tensor.name, "is no tensor");
    read_shape(&tensor, info);
    RELEASE_TYPE_INFO(type);
    const char *shape = find(&options->shapes, tensor.name);
    for (size_t i = 0; i < tensor.rank; i++) {
        if (shape)
            tensor.dimensions[i] = strtoll(shape, (char **)&shape, 10);
        if (shape && *shape == ',')
            shape++;
        if (tensor.dimensions[i] < 0)
            tensor.dimensions[i] = 1;
    }
    measure(&tensor);
    const char *file = find(&options->inputs, tensor.name);
    tensor.data = file ? read_values(file, tensor.bytes) : make_values(&tensor, options->seed + index);
    check(tensor.name, CREATE_TENSOR(memory, tensor.data, tensor.bytes, tensor.dimensions, tensor.rank, tensor.type,
                                     &tensor.value));
    return tensor;
}

static void read_output(Tensor *tensor)
{
    void *info;
    check(tensor->name, GET_TYPE_AND_SHAPE(tensor->value, &info));
    read_shape(tensor, info);
    RELEASE_TYPE_AND_SHAPE(info);
    measure(tensor);
    check(tensor->name, GET_TENSOR_DATA(tensor->value, &tensor->data));
}

static double half(uint16_t bits)
{
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                             : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                            : ldexp(fraction, -24);
    return bits >> 15 ? -magnitude : magnitude;
}

static double item(const void *data, int type, size_t i)
{
    switch (type) {
    case FLOAT: return ((const float *)data)[i];
    case FLOAT16: return half(((const uint16_t *)data)[i]);
    case DOUBLE: return ((const double *)data)[i];
    case INT8: return ((const int8_t *)data)[i];
    case INT32: return ((const int32_t *)data)[i];
    case INT64: return (double)((const int64_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

/* FNV-1a, 64 bits */
static uint64_t checksum(const unsigned char *data, size_t bytes)
{
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ data[i]) * UINT64_C(1099511628211);
    return sum;
}

static void print_output(const Tensor *tensor)
{
    printf("output %s, shape", tensor->name);
    for (size_t i = 0; i < tensor->rank; i++)
        printf("%s%" PRId64, i ? "x" : " ", tensor->dimensions[i]);
    printf(", checksum %016" PRIx64 ", values", checksum(tensor->data, tensor->bytes));
    for (size_t i = 0; i < tensor->count && i < 4; i++)
        printf(" %.7g", item(tensor->data, tensor->type, i));
    puts("");
}

/* Return whether an output is what a file says; a NaN on either side is a difference. */
static bool as_expected(const Tensor *tensor, const char *path, double tolerance)
{
    void *expected = read_values(path, tensor->bytes);
    double largest = 0, difference = 0;
    for (size_t i = 0; i < tensor->count; i++) {
        const double want = item(expected, tensor->type, i), got = item(tensor->data, tensor->type, i);
        const double apart = got == want ? 0 : fabs(got - want);
        if (isfinite(want))
            largest = fmax(largest, fabs(want));
        difference = apart <= difference ? difference : apart;
        if (isnan(apart))
            difference = INFINITY;
    }
    free(expected);
    const double relative = difference == 0 ? 0 : difference / largest;
    const bool good = relative <= tolerance;
    printf("output %s: differs from %s by %.3g of the largest magnitude, %s\n", tensor->name, path, relative,
           good ? "as expected" : "MORE THAN EXPECTED");
    return good;
}

static void write_values(const Tensor *tensor, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(tensor->data, 1, tensor->bytes, file) != tensor->bytes || fclose(file))
        fail(path, "cannot be written");
}

/* A model */

static void load_runtime(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail(path, dlerror());
    const OrtApiBase *(*get_base)(void);
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    if (!get_base)
        fail(path, "has no OrtGetApiBase");
    api = get_base()->get_api(OLDEST_API);
    if (!api)
        fail(path, "is older than 1.14");
    printf("onnxruntime %s\n", get_base()->get_version());
}

static void *open_session(const Options *options, void *env)
{
    void *session_options, *session;
    check("options", CREATE_SESSION_OPTIONS(&session_options));
    check("--threads", SET_INTRA_OP_THREADS(session_options, options->threads));
    if (options->library)
        check(options->library, REGISTER_CUSTOM_OPS_LIBRARY(session_options, options->library));
    const double start = seconds();
    check(options->model, CREATE_SESSION(env, options->model, session_options, &session));
    printf("load %.2f ms, with %s\n", 1e3 * (seconds() - start), options->library ? options->library : "no library");
    RELEASE_SESSION_OPTIONS(session_options);
    return session;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static long peak_kilobytes(void)
{
    char line[256];
    long peak = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &peak) == 1)
            break;
    if (file)
        fclose(file);
    return peak;
}

/* Run once into new outputs and then `runs` times, timed; the outputs of the last run stay. */
static void run(const Options *options, void *session, const Tensor *inputs, size_t n_inputs, Tensor *outputs,
                size_t n_outputs)
{
    const char *input_names[MOST_TENSORS], *output_names[MOST_TENSORS];
    void *input_values[MOST_TENSORS], *output_values[MOST_TENSORS] = {NULL};
    for (size_t i = 0; i < n_inputs; i++)
        input_names[i] = inputs[i].name, input_values[i] = inputs[i].value;
    for (size_t i = 0; i < n_outputs; i++)
        output_names[i] = outputs[i].name;
    double *times = malloc(sizeof(double) * (size_t)(options->runs + 1));
    if (!times)
        fail("--runs", "no memory");
    for (int i = 0; i <= options->runs; i++) {
        for (size_t j = 0; i && j < n_outputs; j++) {
            RELEASE_VALUE(output_values[j]);
            output_values[j] = NULL;
        }
        const double start = seconds();
        check("run", RUN(session, NULL, input_names, input_values, n_inputs, output_names, n_outputs, output_values));
        times[i] = 1e3 * (seconds() - start);
    }
    printf("first run %.3f ms\n", times[0]);
    qsort(times + 1, (size_t)options->runs, sizeof *times, by_value);
    printf("median %.3f ms of %d runs, %d threads\n", times[1 + options->runs / 2], options->runs, options->threads);
    free(times);
    for (size_t i = 0; i < n_outputs; i++)
        outputs[i].value = output_values[i];
}

int main(int count, char **arguments)
{
    const Options options = parse(count, arguments);
    void *env, *memory, *allocator;
    Tensor inputs[MOST_TENSORS], outputs[MOST_TENSORS] = {{0}};
    size_t n_inputs, n_outputs;
    load_runtime(options.runtime);
    check("env", CREATE_ENV(3, "run", &env));
    void *session = open_session(&options, env);
    check("memory", CREATE_CPU_MEMORY_INFO(0, 0, &memory));
    check("allocator", GET_ALLOCATOR(&allocator));
    check(options.model, SESSION_GET_COUNT(false)(session, &n_inputs));
    check(options.model, SESSION_GET_COUNT(true)(session, &n_outputs));
    if (n_inputs > MOST_TENSORS || n_outputs > MOST_TENSORS)
        fail(options.model, "has too many inputs or outputs");
    for (size_t i = 0; i < n_inputs; i++)
        inputs[i] = make_input(&options, session, i, allocator, memory);
    for (size_t i = 0; i < n_outputs; i++)
        check(options.model, SESSION_GET_NAME(true)(session, i, allocator, &outputs[i].name));
    run(&options, session, inputs, n_inputs, outputs, n_outputs);
    bool good = true;
    for (size_t i = 0; i < n_outputs; i++) {
        read_output(&outputs[i]);
        print_output(&outputs[i]);
        const char *expected = find(&options.expected, outputs[i].name);
        if (expected)
            good = as_expected(&outputs[i], expected, options.tolerance) && good;
        const char *saved = find(&options.saved, outputs[i].name);
        if (saved)
            write_values(&outputs[i], saved);
    }
    printf("peak %.1f MB\n", (double)peak_kilobytes() / 1024);
    for (size_t i = 0; i < n_outputs; i++)
        RELEASE_VALUE(outputs[i].value);
    for (size_t i = 0; i < n_inputs; i++)
        RELEASE_VALUE(inputs[i].value), free(inputs[i].data);
    RELEASE_SESSION(session);
    RELEASE_MEMORY_INFO(memory);
    RELEASE_ENV(env);
    return good ? 0 : 2;
}
