"""Memory is estimated and refused before it is allocated, with the number and the flag that lowers
it."""

import gc
import os
import shutil
import sys
from types import SimpleNamespace

from jgrid import cli, memory
from jgrid.field import (
    DecoderConfig,
    DenseGridConfig,
    Domain,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MulFAGridConfig,
    RadialGridConfig,
    SirenConfig,
    VMGridConfig,
    budget,
    check_memory,
    count_parameters,
)
from jgrid.image.files import load_image
from jgrid.index import GridIndex
from jgrid.scene.files import load_views

import fit_image
import fit_sdf
import fit_views
import fuzz
import numpy as np
import pytest
from fuzz_cases import pictures, to_bytes, transforms

GIB = 2**30


@pytest.fixture(autouse=True)
def forget():
    """Jittor would otherwise compute, at some later time, the weights of the models that are only
    built here."""
    yield
    gc.collect()


def test_what_is_there_is_no_more_than_the_machine_has():
    with open("/proc/meminfo") as lines:
        total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    assert 0 < memory.available() <= total


def group(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(str(value))


@pytest.mark.parametrize(
    "version, names", [(1, ("limit_in_bytes", "usage_in_bytes")), (2, ("max", "current"))]
)
def test_a_control_group_may_leave_less(tmp_path, monkeypatch, version, names):
    """The least of a group and those above it; file cache that can be dropped does not count."""
    root = tmp_path / "memory" if version == 1 else tmp_path
    line = "7:memory:/job/part" if version == 1 else "0::/job/part"
    limit, used = (f"memory.{name}" for name in names)
    group(
        root / "job" / "part",
        {limit: 5000, used: 3000, "memory.stat": "anon 1\ninactive_file 700\nactive_file 5"},
    )
    group(
        root / "job",
        {
            limit: 2**63 - 4096 if version == 1 else "max",
            used: 9000,
            "memory.stat": "inactive_file 0",
        },
    )
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    read_text = memory.Path.read_text
    monkeypatch.setattr(
        memory.Path,
        "read_text",
        lambda self: line if str(self) == "/proc/self/cgroup" else read_text(self),
    )
    assert memory.available() == 2700
    group(root / "job", {limit: 9100})
    assert memory.available() == 100
    group(root / "job", {limit: 8000})
    assert memory.available() == 0


@pytest.fixture
def gpu(monkeypatch):
    """A GPU with 3 GiB free, 2 of them after Jittor has given back what it keeps, beside a main
    memory with 100 GiB; none of it is real."""
    free = [GIB]

    def info(given, total):
        given._obj.value = free[0]
        return 0

    def gc():
        free[0] = 3 * GIB

    jittor = SimpleNamespace(flags=SimpleNamespace(use_cuda=1), gc=gc)
    for module in (memory, budget):
        monkeypatch.setattr(module, "jt", jittor)
    runtime = SimpleNamespace(cudaMemGetInfo=info)
    monkeypatch.setattr(
        memory, "ctypes", SimpleNamespace(**{**vars(memory.ctypes), "CDLL": lambda name: runtime})
    )
    monkeypatch.setattr(memory, "available", lambda: 100 * GIB)


def test_the_gpus_memory_is_for_what_lies_on_it(gpu):
    assert memory.available_to_jittor() == 3 * GIB
    model = DenseGridConfig(finest=20, coarsest=10).build(Domain(2, 3))
    assert check_memory(model, 1, 50 * GIB) > 50 * GIB  # pictures stay in main memory
    memory.require(50 * GIB, "a picture", "its size")
    for arguments, words in (
        ((1, 101 * GIB), r"101\.\d GiB of memory, and 100.0 GiB are free"),
        ((10**8,), "of the GPU's memory, and 3.0 GiB are free: lower `batch`"),
        ((1, 4 * GIB, "`layers`", False), "4.0 GiB of the GPU's memory.*lower `layers`"),
    ):
        with pytest.raises(memory.NotEnough, match=words):
            check_memory(model, *arguments)
    with pytest.raises(memory.NotEnough, match="of the GPU's memory"):
        DenseGridConfig(finest=7000).build(Domain(2, 3))


def test_a_bound_ends_with_its_block():
    with pytest.raises(MemoryError), memory.bounded(2**28):
        np.zeros(2**27)
    with memory.bounded(2**30):
        np.zeros(2**24)
    np.zeros(2**27)


# what is refused, on a machine with 4 GiB, and words of the message
REFUSED = [
    (
        DenseGridConfig(finest=40000),
        (
            r"1,600,\d+,\d+ nodes .* about 28\d\.\d GiB of (the GPU's )?memory, and 4.0 GiB are"
            r" free: lower `finest`"
        ),
    ),
    (
        DenseGridConfig(finest=3000, decoder=DecoderConfig(width=16000, depth=20)),
        "a network of .* lower its width",
    ),
    (HashGridConfig(table_size=10**8, finest=10**5), "`table_size`"),
    (
        MulFAGridConfig(finest=30000, table_size=2**31 - 1, decoder=DecoderConfig(depth=0)),
        "a grid of 912,.* nodes .*`finest`",
    ),
    (LiteralMulFAGridConfig(finest=30000), "a grid of 900,.* nodes .*`finest`"),
    (RadialGridConfig(nodes=10**8), "placing 100,000,000 nodes .*`nodes`"),
    (SirenConfig(width=16000, depth=60), "a network of .* weights .*`width`"),
    (VMGridConfig(finest=10**7), "`rank`"),
    (DenseGridConfig(finest=2 * 10**9), "32-bit indices; lower `finest`"),
]


@pytest.mark.parametrize(
    "config, words",
    REFUSED,
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_fields_that_are_too_large_are_refused_before_they_are_made(monkeypatch, config, words):
    for of_what in ("available", "available_to_jittor"):
        monkeypatch.setattr(memory, of_what, lambda: 4 * GIB)
    with pytest.raises(ValueError, match=words), memory.bounded(GIB):
        check_memory(config.build(Domain(2, 3)), 2**10)


def test_more_nodes_than_64_bits_count_are_no_few():
    """(2^32)^2 is 0 in 64 bits."""
    with pytest.raises(ValueError, match="32-bit"):
        GridIndex(2, [2**32 - 1])
    assert GridIndex(3, [2**31], table_size=8).folded.all()


def test_the_estimate_grows_with_what_it_is_of():
    def needed(batch=1, data=0, **flags):
        model = DenseGridConfig(**{"finest": 20, "coarsest": 10, **flags}).build(Domain(2, 3))
        return check_memory(model, batch, data), count_parameters(model)

    least, parameters = needed()
    assert least > 24 * parameters
    assert needed(data=10**6)[0] - least == 10**6
    # features, hidden units and values, and their gradients
    assert needed(batch=1001)[0] - least > 1000 * 4 * 2 * (16 + 64 + 3)
    more, many = needed(finest=40)
    assert more - least >= 24 * (many - parameters)


def test_the_message_names_what_takes_the_most(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: GIB)
    model = DenseGridConfig(finest=20, coarsest=10).build(Domain(2, 3))
    for arguments, words in (
        ((10**9,), "lower `batch`"),
        ((1, 2 * GIB, "--scale"), "lower --scale"),
    ):
        with pytest.raises(memory.NotEnough, match=words):
            check_memory(model, *arguments)


COMMANDS = [
    (fit_image, ["grid:dense", "--field.finest", "40000"], "--field.finest"),
    (fit_image, ["--scale", "64"], "--scale"),
    (fit_sdf, ["grid:dense", "--field.finest", "1200"], "--field.finest"),
    (fit_sdf, ["--sdf.pool", "1000000000"], "--sdf.pool"),
    (
        fit_views,
        ["--scene", "{scene}", "--box", "1", "grid:dense", "--field.finest", "1200"],
        "--field.finest",
    ),
    (
        fit_views,
        ["--scene", "{scene}", "--box", "1", "--train.batch", "100000000"],
        "--train.batch",
    ),
]


@pytest.fixture
def scene(tmp_path):
    png = pictures()[0]
    folder = tmp_path / "scene"
    files = {f"{split}/r_{n}.png": png for split in ("train", "test") for n in range(2)}
    fuzz.place(
        folder,
        {
            **files,
            **{
                f"transforms_{split}.json": to_bytes(transforms(split))
                for split in ("train", "test")
            },
        },
    )
    return folder


@pytest.mark.parametrize(
    "app, flags, words",
    COMMANDS,
    ids=lambda value: value.__name__ if hasattr(value, "__name__") else "",
)
def test_an_app_says_so_in_one_line_at_once(scene, tmp_path, monkeypatch, capfd, app, flags, words):
    monkeypatch.setattr(memory, "available", lambda: 8 * GIB)
    monkeypatch.setattr(
        sys,
        "argv",
        ["app", "--out", str(tmp_path / "out"), *(flag.format(scene=scene) for flag in flags)],
    )
    with pytest.raises(SystemExit) as ended:
        cli.run(app.Config, app.main)
    lines = capfd.readouterr().err.strip().splitlines()
    assert (
        ended.value.code == 2
        and len(lines) == 1
        and " GiB are free: lower " in lines[0]
        and words in lines[0]
    )
    assert not (tmp_path / "out").exists()


def test_a_picture_or_a_scene_that_is_too_large_is_refused(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 700)
    with pytest.raises(memory.NotEnough, match="r_0.png: a picture of 7 x 9 pixels"):
        load_image(scene / "train" / "r_0.png")
    monkeypatch.setattr(memory, "available", lambda: 4000)
    read = transforms("train")
    read["frames"] = [{**read["frames"][0], "file_path": f"./train/n_{n}"} for n in range(20)]
    for n in range(20):
        shutil.copy(scene / "train" / "r_0.png", scene / "train" / f"n_{n}.png")
    (scene / "transforms_train.json").write_bytes(to_bytes(read))
    with pytest.warns(UserWarning, match="20 pictures of 7 x 9 pixels .* a file in"):
        on_disk = load_views(scene, "train")
    names = os.listdir(scene)
    disk = shutil.disk_usage(scene)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=4000))
    with pytest.raises(memory.NotEnough, match="20 pictures of 7 x 9 .* raise `shrink`"):
        load_views(scene, "train")
    monkeypatch.undo()
    in_memory = load_views(scene, "train")
    assert isinstance(on_disk.pixels, np.memmap) and not isinstance(in_memory.pixels, np.memmap)
    assert (on_disk.pixels == in_memory.pixels).all()
    assert on_disk.n_bytes == 0 and in_memory.n_bytes == 20 * 7 * 9 * 4
    assert names == os.listdir(scene)
    some = on_disk.chosen(np.array([3, 5]))
    assert all(isinstance(picture, np.memmap) for picture in some.pixels)
    assert (some.pixels[1] == in_memory.pixels[5]).all()


CUDA_ERROR = "[f 1130 05:23:44 96 helper_cuda.h:128] CUDA error at a.cc:3  code={}  f(x)"


@pytest.mark.parametrize(
    "error, message",
    [
        (MemoryError("Unable to allocate 8 GiB"), "out of memory: Unable to allocate 8 GiB"),
        (RuntimeError("Unable to alloc cuda device memory for size 8"), "out of the GPU's memory"),
        (RuntimeError(CUDA_ERROR.format("2( cudaErrorMemoryAllocation )")), "out of the GPU's"),
        (RuntimeError(CUDA_ERROR.format("3( CUBLAS_STATUS_ALLOC_FAILED )")), "out of the GPU's"),
        (RuntimeError(CUDA_ERROR.format("46( cudaErrorDevicesUnavailable )")), "the GPU is busy"),
        (RuntimeError(CUDA_ERROR.format("100( cudaErrorNoDevice )")), "the GPU cannot be found"),
    ],
)
def test_memory_or_a_gpu_that_runs_out_is_one_line(monkeypatch, capfd, error, message):
    def main(config):
        raise error

    monkeypatch.setattr(sys, "argv", ["app"])
    with pytest.raises(SystemExit) as ended:
        cli.run(fit_image.Config, main)
    said = capfd.readouterr().err
    assert ended.value.code == 2 and len(said.splitlines()) == 1
    assert said.startswith(f"error: {message}")


def test_other_errors_keep_their_traceback(monkeypatch):
    def main(config):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(sys, "argv", ["app"])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.run(fit_image.Config, main)
