/* A libnvidia-ml.so.1 of GPUs that do not exist, whose joules are known.
 *
 * The file that FAKE_NVML names describes them, and is read anew with every call:
 *
 *     gpu INDEX NAME REST_W SLOPE_W LIMIT_W counter|power MIG APPEARS_NS VANISHES_NS
 *     use INDEX PID FROM_NS TO_NS PERCENT
 *     reset INDEX AT_NS                   the counter begins again at 0
 *     option NAME NUMBER                  see below
 *
 * Times are of CLOCK_MONOTONIC. A GPU draws REST_W + SLOPE_W * the sum of what its processes use. Its
 * counter moves every 100 ms and its processes are sampled every 200 ms, as real ones do about.
 *
 * Options: init (the code of nvmlInit_v2), slow_ms (how long each call takes), samples (0: no
 * utilisation of processes), rates (0: none of the device).
 *
 * FAKE_NVML_LOG names a file to which each initialisation and each look adds a line: what, pid, tid.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define UPDATE (NS / 10)
#define PERIOD (NS / 5)
#define MOST 32

typedef long long ns_t;
struct gpu {
    int there, mig, counts;
    char name[64];
    double rest, slope, limit;
    ns_t appears, vanishes;
};
struct use {
    int gpu, pid;
    ns_t from, to;
    double percent;
};
struct reset {
    int gpu;
    ns_t at;
};
struct scene {
    struct gpu gpus[MOST];
    struct use uses[MOST];
    struct reset resets[MOST];
    int uses_count, resets_count, init, slow_ms, samples, rates;
};

static pid_t initialised_by;

static ns_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void tell(const char *what) {
    const char *path = getenv("FAKE_NVML_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    fprintf(log, "%s %d %ld\n", what, getpid(), syscall(SYS_gettid));
    fclose(log);
}

static struct scene scene(void) {
    struct scene s;
    memset(&s, 0, sizeof s);
    s.samples = s.rates = 1;
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        int index, mig, number;
        char name[64], mode[16], option[16];
        struct gpu g = {0};
        struct use u;
        struct reset r;
        if (sscanf(line, "gpu %d %63s %lf %lf %lf %15s %d %lld %lld", &index, name, &g.rest, &g.slope,
                   &g.limit, mode, &mig, &g.appears, &g.vanishes) == 9 && index < MOST) {
            g.there = 1;
            g.mig = mig;
            g.counts = !strcmp(mode, "counter");
            strcpy(g.name, name);
            s.gpus[index] = g;
        } else if (sscanf(line, "use %d %d %lld %lld %lf", &u.gpu, &u.pid, &u.from, &u.to,
                          &u.percent) == 5 && s.uses_count < MOST) {
            s.uses[s.uses_count++] = u;
        } else if (sscanf(line, "reset %d %lld", &r.gpu, &r.at) == 2 && s.resets_count < MOST) {
            s.resets[s.resets_count++] = r;
        } else if (sscanf(line, "option %15s %d", option, &number) == 2) {
            if (!strcmp(option, "init")) s.init = number;
            if (!strcmp(option, "slow_ms")) s.slow_ms = number;
            if (!strcmp(option, "samples")) s.samples = number;
            if (!strcmp(option, "rates")) s.rates = number;
        }
    }
    if (file) fclose(file);
    if (s.slow_ms) usleep(1000 * s.slow_ms);
    return s;
}

/* Percent of the time from FROM to TO that PID used a GPU; of all processes where PID is 0. */
static double used(const struct scene *s, int gpu, int pid, ns_t from, ns_t to) {
    double sum = 0;
    for (int i = 0; i < s->uses_count; i++) {
        const struct use *u = &s->uses[i];
        ns_t a = u->from > from ? u->from : from, b = u->to < to ? u->to : to;
        if (u->gpu == gpu && (!pid || u->pid == pid) && b > a)
            sum += u->percent * (double)(b - a) / (double)(to - from);
    }
    return sum;
}

static double joules(const struct scene *s, int gpu, ns_t from, ns_t to) {
    if (to <= from) return 0;
    const struct gpu *g = &s->gpus[gpu];
    return (g->rest + g->slope * used(s, gpu, 0, from, to) / 100) * (double)(to - from) / NS;
}

/* Whether the device answers; its index in *GPU. */
static int fault(const struct scene *s, void *handle, int *gpu) {
    *gpu = (int)(size_t)handle - 1;
    if (initialised_by != getpid()) return 1;
    if (*gpu < 0 || *gpu >= MOST || !s->gpus[*gpu].there) return 2;
    ns_t t = now();
    return t < s->gpus[*gpu].appears || t >= s->gpus[*gpu].vanishes ? 15 : 0;
}

int nvmlInit_v2(void) {
    struct scene s = scene();
    if (s.init) return s.init;
    initialised_by = getpid();
    tell("init");
    return 0;
}

/* The indices that are there now, in order. */
static int present(const struct scene *s, int *indices) {
    int count = 0;
    ns_t t = now();
    for (int i = 0; i < MOST; i++)
        if (s->gpus[i].there && t >= s->gpus[i].appears && t < s->gpus[i].vanishes)
            indices[count++] = i;
    return count;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (initialised_by != getpid()) return 1;
    struct scene s = scene();
    int indices[MOST];
    *count = present(&s, indices);
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (initialised_by != getpid()) return 1;
    struct scene s = scene();
    int indices[MOST];
    if ((int)index >= present(&s, indices)) return 2;
    *handle = (void *)(size_t)(indices[index] + 1);
    return 0;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (!code) snprintf(name, length, "%s", s.gpus[gpu].name);
    return code;
}

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (!code) snprintf(uuid, length, "GPU-%d", gpu);
    return code;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    tell("look");
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (code) return code;
    if (!s.gpus[gpu].counts) return 3;
    ns_t t = now() / UPDATE * UPDATE, from = 0;
    for (int i = 0; i < s.resets_count; i++)
        if (s.resets[i].gpu == gpu && s.resets[i].at <= t) from = s.resets[i].at;
    *millijoules = (unsigned long long)(1e3 * joules(&s, gpu, from, t));
    return 0;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    tell("look");
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    ns_t t = now();
    if (!code) *milliwatts = (unsigned)(1e3 * joules(&s, gpu, t - UPDATE, t) * NS / UPDATE);
    return code;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (!code) *milliwatts = (unsigned)(1e3 * s.gpus[gpu].limit);
    return code;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (!code) *current = *pending = s.gpus[gpu].mig;
    return code;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (code) return code;
    if (!s.rates) return 3;
    ns_t end = now() / PERIOD * PERIOD;
    double percent = used(&s, gpu, 0, end - PERIOD, end);
    rates[0] = percent > 100 ? 100 : (unsigned)(percent + 0.5);
    rates[1] = 0;
    return 0;
}

struct sample {
    unsigned pid;
    unsigned long long time_stamp;
    unsigned sm, memory, encoder, decoder;
};

int nvmlDeviceGetProcessUtilization(void *handle, struct sample *samples, unsigned *count,
                                    unsigned long long last_seen) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (code) return code;
    if (!s.samples || s.gpus[gpu].mig) return 3;
    ns_t end = now() / PERIOD * PERIOD, from = last_seen ? (ns_t)last_seen * 1000 : end - PERIOD;
    unsigned found = 0;
    struct sample all[MOST];
    memset(all, 0, sizeof all);
    for (int i = 0; i < s.uses_count && from < end; i++) {
        int known = 0;
        for (unsigned j = 0; j < found; j++) known |= (int)all[j].pid == s.uses[i].pid;
        double percent = used(&s, gpu, s.uses[i].pid, from, end);
        if (known || percent <= 0) continue;
        all[found].pid = s.uses[i].pid;
        all[found].time_stamp = end / 1000;
        all[found++].sm = (unsigned)(percent + 0.5);
    }
    if (!found) return 6;
    if (!samples || *count < found) {
        *count = found;
        return 7;
    }
    memcpy(samples, all, found * sizeof *all);
    *count = found;
    return 0;
}

struct process {
    unsigned pid;
    unsigned long long memory;
    unsigned instance, compute_instance;
};

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process *processes) {
    struct scene s = scene();
    int gpu, code = fault(&s, handle, &gpu);
    if (code) return code;
    unsigned found = 0;
    for (int i = 0; i < s.uses_count && found < *count; i++) {
        int known = s.uses[i].gpu != gpu;
        for (unsigned j = 0; j < found; j++) known |= (int)processes[j].pid == s.uses[i].pid;
        if (known) continue;
        memset(&processes[found], 0, sizeof *processes);
        processes[found++].pid = s.uses[i].pid;
    }
    *count = found;
    return 0;
}
