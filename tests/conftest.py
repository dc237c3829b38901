"""What every test file shares: jgrid before Jittor, a fixed seed, the apps on the path, and where
real data may lie."""

import os
import signal
import sys
from pathlib import Path

from jgrid.field import DecoderConfig, HashGridConfig  # jgrid prepares Jittor: it comes first

import jittor as jt
import numpy as np
import pytest

# the apps' and the tests'; test_ops.py runs the suite with "cuda"
DEVICE = os.environ.get("JGRID_TEST_DEVICE", "cpu")
# of scenes, small
SCENE_FIELD = HashGridConfig(
    finest=16,
    coarsest=4,
    levels=2,
    channels=4,
    table_size=2000,
    decoder=DecoderConfig(width=16, depth=1),
    lr_features=3e-2,
    lr_network=1e-2,
)
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "apps"))


def drawn_on_the_cpu(build, *arguments):
    """build(*arguments), a module, with the random weights that the seed gives on the CPU: CUDA
    draws others, with which a short fit ends elsewhere."""
    with jt.flag_scope(use_cuda=0):
        module = build(*arguments)
        jt.sync(list(module.state_dict().values()))
    return module


def alike(a, b):
    """Whether two trainings have the same numbers: to the bit, but for CUDA, whose atomic sums have
    no fixed order."""
    return np.array_equal(a, b) if DEVICE == "cpu" else np.allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers and finds the same signal handlers, in whatever order the
    tests run."""
    # random numbers that an earlier test asked for and nobody has drawn yet would be drawn from
    # this test's
    jt.sync_all()
    jt.flags.use_cuda = int(DEVICE == "cuda")
    jt.set_global_seed(0)
    np.random.seed(0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():  # the apps' own stay for the process
        signal.signal(number, handler)


@pytest.fixture
def repository():
    return REPOSITORY


@pytest.fixture(scope="session")
def data_folder():
    """The folder of real data sets; tests that want it are skipped where it is not."""
    folder = Path(os.environ.get("JGRID_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; set JGRID_DATA")
    return folder
