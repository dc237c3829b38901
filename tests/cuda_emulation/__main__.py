"""The tests on an emulated GPU: Jittor itself believes that it has CUDA 12.2 and one device.

    python -m tests.cuda_emulation [arguments of pytest]

The toolkit and Jittor's cache for it lie in out/emulated; the first run compiles Jittor's core,
which takes minutes. JGRID_CUDA_ORDER=backwards or shuffled is the order of blocks and threads.
`--run FILE` or `--run -m MODULE` in place of pytest's arguments runs a program. For sanitizers,
build what `tests.ops_alone` writes with out/emulated/bin/nvcc -fsanitize=address,undefined.
"""

import subprocess
import sys

from tests.cuda_emulation import toolkit

HOME = toolkit.HERE.parents[1] / "out/emulated"

if __name__ == "__main__":
    toolkit.build(HOME)
    (HOME / "home").mkdir(exist_ok=True)
    words = sys.argv[1:]
    words = words[1:] if words[:1] == ["--run"] else ["-m", "pytest", *words]
    environment = {**toolkit.environment(HOME), "JGRID_TEST_DEVICE": "cuda"}
    sys.exit(
        subprocess.run([sys.executable, "-X", "faulthandler", *words], env=environment).returncode
    )
