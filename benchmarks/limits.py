"""The machine's limits: copies, random reads and additions, matrix products, each in one op that
repeats itself."""

import jgrid  # noqa: F401  it prepares Jittor's installation, so it comes first

import jittor as jt
import numpy as np

HEADER = "#include <cstring>\n#include <omp.h>\n"
# in0: source or table, in1: target or indices, in2: repetitions; out0: one number, so that nothing
# is optimised away
COPY = """
    const int64_t n = in0->size;
    for (int r = 0; r < in2_p[0]; r++) {
        #pragma omp parallel
        {
            const int64_t t = omp_get_thread_num(), threads = omp_get_num_threads();
            const int64_t from = n * t / threads / 64 * 64;
            const int64_t to = t + 1 == threads ? n : n * (t + 1) / threads / 64 * 64;
            memcpy((char*)in1_p + from, (const char*)in0_p + from, to - from);
        }
    }
    out0_p[0] = in1_p[0];
"""
# one chain of dependent additions would measure their latency, so there are eight
GATHER = """
    struct Row { float a, b; };
    const Row* table = (const Row*)in0_p;
    const int64_t n = in1_shape0 / 8 * 8;
    float total = 0.f;
    for (int r = 0; r < in2_p[0]; r++) {
        #pragma omp parallel reduction(+:total)
        {
            float a[8] = {0.f}, b[8] = {0.f};
            #pragma omp for schedule(static)
            for (int64_t i = 0; i < n; i += 8)
                for (int k = 0; k < 8; k++) {
                    const Row& row = table[in1_p[i + k]];
                    a[k] += row.a;
                    b[k] += row.b;
                }
            for (int k = 0; k < 8; k++) total += a[k] + b[k];
        }
    }
    out0_p[0] = total;
"""
# every thread adds to its own part of the table: no atomics; tables and threads are powers of two,
# so a mask spreads over a part
SCATTER = """
    struct Row { float a, b; };
    Row* table = (Row*)in0_p;
    const int64_t n = in1_shape0, rows = in0_shape0;
    for (int r = 0; r < in2_p[0]; r++) {
        #pragma omp parallel
        {
            const int64_t t = omp_get_thread_num(), threads = omp_get_num_threads();
            const int64_t part = rows / threads;
            for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++) {
                Row& row = table[t * part + (in1_p[i] & (part - 1))];
                row.a += 1.f; row.b += 1.f;
            }
        }
    }
    out0_p[0] = table[0].a;
"""


def measure(copy_mib, table_mib, rows, products):
    """Runs named "kind size"; info: the work of one step, in bytes, rows or floating-point
    operations."""
    runs = {}
    work = {}

    def add(name, source, first, second, amount):
        first = jt.array(first)
        second = jt.array(second)

        def run(steps):
            jt.sync(
                [
                    jt.code(
                        [1],
                        "float32",
                        [first, second, jt.array(np.int32([steps]))],
                        cpu_header=HEADER,
                        cpu_src=source,
                    )
                ],
                True,
            )

        runs[name] = run
        work[name] = amount

    for mib in copy_mib:
        n = mib * 2**20 // 4
        # read and written
        add(f"copy {mib} MiB", COPY, np.ones(n, np.float32), np.zeros(n, np.float32), 2 * 4 * n)
    rng = np.random.default_rng(0)
    for mib in table_mib:
        n = mib * 2**20 // 8
        index = rng.integers(0, n, rows).astype(np.uint32)
        add(f"gather {mib} MiB", GATHER, np.ones((n, 2), np.float32), index, rows)
        add(f"scatter {mib} MiB", SCATTER, np.zeros((n, 2), np.float32), index, rows)
    for n, k, m in products:
        a = jt.random((n, k))
        b = jt.random((k, m))

        def product(steps, a=a, b=b):
            for _ in range(steps):
                jt.sync([a @ b], True)

        name = f"product {n}x{k}x{m}"
        runs[name] = product
        work[name] = 2 * n * k * m
    jt.sync_all(True)
    return runs, {"work": work}
