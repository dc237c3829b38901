"""Timings: jgrid beside the same models in PyTorch and JAX, and beside the limits of the machine.

    python -m benchmarks step ops --out speed.json

Each competitor runs in a process of its own on two threads and idles on a pipe while the others are
sampled in turn. A sample is several steps, waited for; it is clean where everybody else took less
than 8 % of the cores meanwhile. Medians are over clean samples (over all, where fewer than three
are clean: `used` says so), and ratios are between medians of one run. The peers come with the extra
`bench`; where one is missing its entry is null and `reasons` says why."""
