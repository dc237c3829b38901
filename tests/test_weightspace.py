"""Weight spaces: exact symmetry, the complete basis, fused ops and their twins, zoos, what is
learned from them, and the app."""

import gzip
import itertools
import json
import sys
from dataclasses import replace

import jgrid
from jgrid import checkpoint, cli
from jgrid.field import DecoderConfig, Domain, MulFAGridConfig
from jgrid.ops.norm import fused_norm_relu, norm_relu
from jgrid.ops.siren import fused_siren_errors, fused_sirens, siren_errors, sirens
from jgrid.trainer import TrainConfig
from jgrid.weightspace import adapt as adapt_module
from jgrid.weightspace import classifiers as classifiers_module
from jgrid.weightspace import zoo as zoo_module
from jgrid.weightspace.adapt import AdaptTask, DomainConfig, FlatWeights, corrupt
from jgrid.weightspace.baselines import FlatMLP, align
from jgrid.weightspace.classifiers import Classifiers, Pairs, classify
from jgrid.weightspace.edit import ChangeConfig, EditTask
from jgrid.weightspace.fits import FitConfig, fit_sirens, siren_start
from jgrid.weightspace.foreign import load_foreign
from jgrid.weightspace.forward import Descent, states
from jgrid.weightspace.grids import GridPictures
from jgrid.weightspace.jobs import StockConfig
from jgrid.weightspace.layers import (
    Dropout,
    DWSNet,
    Equivariant,
    EquivariantLinear,
    to_features,
    to_weights,
)
from jgrid.weightspace.models import FIELD_EDITORS, READERS, NetConfig
from jgrid.weightspace.signed import OddNorm, SignedLinear
from jgrid.weightspace.space import WeightSpace, cnn_space, mlp_space
from jgrid.weightspace.study import StudyConfig
from jgrid.weightspace.subjects import (
    ReductionConfig,
    Sines,
    SinesConfig,
    load_pictures,
    load_split,
)
from jgrid.weightspace.symmetry import canonical, canonical_signs, flip, shift
from jgrid.weightspace.tasks import (
    EmbedTask,
    ForwardTask,
    ReadTask,
    field_values,
)
from jgrid.weightspace.weights import ViewConfig, Weights, moved, random_moves
from jgrid.weightspace.zoo import Zoo, fit_zoo

import jittor as jt
import numpy as np
import pytest
import weightspace
from conftest import DEVICE
from jittor import nn
from PIL import Image
from safetensors.numpy import save_file
from scipy.ndimage import correlate

WIDTHS = [(2, 5, 7, 1), (3, 4, 3, 5, 2)]
RNG = np.random.default_rng


def random_weights(space, n, rng):
    return {
        name: rng.normal(size=(n, *(size for _, size in axes))).astype(np.float32)
        for name, axes in space.tensors
    }


def variables(weights):
    return {name: jt.array(value) for name, value in weights.items()}


def arrays(weights):
    return {name: value.numpy() for name, value in weights.items()}


def distance(a, b):
    return max(np.abs(a[name] - b[name]).max() for name in a)


# The complete basis


@pytest.mark.parametrize(
    "widths, size", [((2, 3, 3, 1), 75), ((2, 3, 2, 3), 163), ((1, 3, 4, 2, 2), 136)]
)
def test_as_many_maps_as_there_are(widths, size):
    space = mlp_space(widths)
    assert (
        sum(int(np.prod(m.shape)) for m in EquivariantLinear(space, 1, 1).matrices)
        == size
        == dimension(space)
    )
    assert sum(int(np.prod(m.shape)) for m in EquivariantLinear(space, 2, 3).matrices) == 6 * size


def dimension(space):
    """dim Hom_G(V, V) = mean over the group of trace(g)^2, by enumeration."""
    labels = list(space.sizes)
    sizes = list(space.sizes.values())
    total = 0
    order = 0
    for group_element in itertools.product(
        *(itertools.permutations(range(size)) for size in sizes)
    ):
        fixed = {
            label: sum(i == j for i, j in enumerate(p)) for label, p in zip(labels, group_element)
        }
        trace = sum(
            int(np.prod([fixed.get(label, size) for label, size in axes]))
            for _, axes in space.tensors
        )
        total = total + trace**2
        order = order + 1
    return total // order


def test_the_maps_are_independent():
    """75 matrices that commute with the group, of full rank."""
    space = mlp_space((2, 3, 3, 1))
    layer = EquivariantLinear(space, 1, 1)
    rows = []
    basis = np.eye(space.dim, dtype=np.float32)
    first = 0
    weights = {}
    for name, axes in space.tensors:
        n = int(np.prod([size for _, size in axes]))
        weights[name] = basis[:, first : first + n].reshape(-1, *(size for _, size in axes))
        first += n
    features = to_features(space, variables(weights))
    for chosen in range(len(layer.matrices)):
        for entry in range(int(np.prod(layer.matrices[chosen].shape))):
            for m, matrix in enumerate(layer.matrices):
                unit = np.zeros(matrix.shape, np.float32)
                if m == chosen:
                    unit.flat[entry] = 1
                matrix.assign(unit)
            rows.append(space.flat(arrays(to_weights(space, layer(features)))).ravel())
    assert np.linalg.matrix_rank(np.stack(rows)) == len(rows) == 75


# Exact symmetry


@pytest.mark.parametrize(
    "widths, pool",
    [(WIDTHS[0], "mean"), (WIDTHS[1], "mean"), (WIDTHS[0], "sum"), (WIDTHS[0], "max")],
)
def test_equivariance(widths, pool):
    rng = RNG(1)
    space = mlp_space(widths)
    weights = random_weights(space, 3, rng)
    permutations = space.random_permutations(rng)
    net = Equivariant(space, 1, 6, 1, depth=3, pool=pool)
    for biases in (layer.biases for layer in net.modules() if isinstance(layer, EquivariantLinear)):
        for bias in biases:
            bias.assign(rng.normal(size=bias.shape).astype(np.float32))
    result = arrays(to_weights(space, net(to_features(space, variables(weights)))))
    moved = arrays(
        to_weights(space, net(to_features(space, variables(space.permute(weights, permutations)))))
    )
    scale = max(np.abs(value).max() for value in result.values())
    assert distance(space.permute(result, permutations), moved) < 1e-5 * max(1, scale)
    assert distance(result, moved) > 0.1  # the control: without the permutation they differ


@pytest.mark.parametrize("widths", WIDTHS)
def test_invariance(widths):
    rng = RNG(2)
    space = mlp_space(widths)
    weights = random_weights(space, 3, rng)
    permutations = space.random_permutations(rng)
    features, moved = (
        to_features(space, variables(w)) for w in (weights, space.permute(weights, permutations))
    )
    net = DWSNet(space, 4, channels=6, depth=3)
    flat = FlatMLP(space, 4, width=16)
    assert np.abs(net(features).numpy() - net(moved).numpy()).max() < 1e-5
    assert np.abs(flat(features).numpy() - flat(moved).numpy()).max() > 0.1
    # it does see the weights
    assert np.abs(net(features).numpy()[0] - net(features).numpy()[1]).max() > 1e-3


def test_a_permuted_field_is_the_same_field():
    rng = RNG(3)
    space = mlp_space((2, 5, 7, 1))
    weights = siren_start((2, 5, 7, 1), 3, 30.0, rng)
    weights["b1"] = rng.normal(size=(3, 5)).astype(np.float32)
    weights["b2"] = rng.normal(size=(3, 7)).astype(np.float32)
    moved = space.permute(weights, space.random_permutations(rng))
    x = jt.array(rng.uniform(-1, 1, (40, 2)).astype(np.float32))
    values, again = (
        fused_sirens(x, 30.0, *variables(w).values()).numpy() for w in (weights, moved)
    )
    np.testing.assert_allclose(values, again, atol=1e-5)
    assert distance(weights, moved) > 0.1


def test_features_and_weights_are_inverse():
    space = mlp_space((3, 4, 3, 5, 2))
    weights = random_weights(space, 2, RNG(0))
    features = to_features(space, variables(weights))
    assert [tuple(v.shape) for v in features[:4]] == [(2, 4, 3), (2, 4, 1), (2, 4, 3, 1), (2, 3, 1)]
    assert distance(arrays(to_weights(space, features)), weights) == 0


def test_a_space_is_checked():
    with pytest.raises(ValueError, match="two axes of one hidden layer"):
        WeightSpace((("W", (("h", 3), ("h", 3))),))
    with pytest.raises(ValueError, match="entries"):
        WeightSpace((("W", (("h", 3), (None, 2))), ("b", (("h", 4),))))
    with pytest.raises(ValueError, match="input and an output"):
        mlp_space((3,))


def test_the_variance_is_kept():
    """Of features that agree along hidden axes, through five layers without a norm, for several
    widths and pools."""
    for widths in WIDTHS:
        space = mlp_space(widths)
        for pool in ("mean", "sum"):
            features = [
                jt.randn([500] + [1] * (v.ndim - 2) + [v.shape[-1] * 8]).expand(
                    500, *v.shape[1:-1], v.shape[-1] * 8
                )
                for v in to_features(space, variables(random_weights(space, 1, RNG(0))))
            ]
            for _ in range(5):
                features = EquivariantLinear(space, 8, 8, pool)(features)
                jt.sync(features)
            assert 0.3 < np.sqrt(np.mean([v.numpy().var() for v in features])) < 3


def test_dropout_is_for_training():
    drop = Dropout(0.4)
    features = [jt.ones((2000,))]
    found = drop(features)[0].numpy()
    assert abs((found == 0).mean() - 0.4) < 0.05 and abs(found.mean() - 1) < 0.1
    drop.eval()
    np.testing.assert_array_equal(drop(features)[0].numpy(), 1)
    with pytest.raises(ValueError, match="dropout"):
        Dropout(1.0)


# Signs and phases of sines


def sine_weights(n, rng):
    """SIRENs with two outputs whose phases are anywhere."""
    space = mlp_space((2, 5, 7, 2))
    weights = siren_start((2, 5, 7, 2), n, 30.0, rng)
    for name in ("b1", "b2"):
        weights[name] = rng.normal(scale=0.2, size=weights[name].shape).astype(np.float32)
    return space, weights


def neurons(values, n, rng):
    return {m: rng.choice(np.array(values, np.float32), (n, size)) for m, size in ((1, 5), (2, 7))}


def test_flipped_and_shifted_fields_are_the_same_fields():
    rng = RNG(0)
    _, weights = sine_weights(4, rng)
    x = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
    truth = field_values(weights, x, 30.0)
    moved = {
        "signs": flip(weights, neurons([-1, 1], 4, rng)),
        "phases": shift(weights, neurons([-2, -1, 0, 1, 2, 3], 4, rng), 30.0),
        "canonical": canonical(weights, 30.0),
    }
    for other in moved.values():
        np.testing.assert_allclose(field_values(other, x, 30.0), truth, atol=1e-5)
        assert distance(other, weights) > 0.05
    phases = moved["canonical"]["b1"] * 30
    assert np.abs(phases).max() <= np.pi / 2 + 1e-5 < np.abs(weights["b1"] * 30).max()
    wrong = {**moved["signs"], "W3": weights["W3"]}  # a control
    assert np.abs(field_values(wrong, x, 30.0) - truth).max() > 0.1


def test_one_form_for_all_signs_and_phases():
    rng = RNG(1)
    space, weights = sine_weights(6, rng)
    form = canonical(weights, 30.0)
    for _ in range(3):
        moved = shift(weights, neurons([-1, 0, 1, 2], 6, rng), 30.0)
        moved = flip(moved, neurons([-1, 1], 6, rng))
        assert distance(canonical(moved, 30.0), form) < 1e-5
        # without the phases they differ: a control
        assert distance(canonical_signs(moved), canonical_signs(weights)) > 0.05
        order = space.random_permutations(rng)
        again = canonical(space.permute(moved, order), 30.0)
        assert distance(again, space.permute(form, order)) < 1e-5


def test_signed_layers_are_equivariant():
    rng = RNG(2)
    space = mlp_space((2, 5, 7, 2))
    weights = random_weights(space, 3, rng)
    signs = neurons([-1, 1], 3, rng)
    order = space.random_permutations(rng)
    net = nn.Sequential(SignedLinear(space, 1, 6), OddNorm(space, 6), SignedLinear(space, 6, 1))
    net[2].bias.assign(rng.normal(size=net[2].bias.shape).astype(np.float32))

    def result(of, layers=net):
        return arrays(to_weights(space, layers(to_features(space, variables(of)))))

    found = result(weights)
    scale = max(1, *(np.abs(value).max() for value in found.values()))
    flipped = result(flip(weights, signs))
    assert distance(flip(found, signs), flipped) < 1e-5 * scale
    assert distance(found, flipped) > 0.1
    permuted = result(space.permute(weights, order))
    assert distance(space.permute(found, order), permuted) < 1e-5 * scale
    assert distance(found, permuted) > 0.1
    plain = EquivariantLinear(space, 1, 1)  # knows permutations only
    assert distance(flip(result(weights, plain), signs), result(flip(weights, signs), plain)) > 0.1
    # every block counts: with the signs undone, all tensors reach all others
    for name, value in weights.items():
        other = result({**weights, name: value * 1.5})
        assert all(np.abs(other[n] - found[n]).max() > 1e-4 for n in found), name


@pytest.mark.parametrize("name", ["dwsnet-signed", "forward", "probes", "dwsnet"])
def test_readers_of_sines_are_invariant(name):
    """To permutations, signs and phases, as far as each promises."""
    rng = RNG(3)
    space, raw = sine_weights(8, rng)
    moved = {
        "permutations": space.permute(raw, space.random_permutations(rng)),
        "signs": flip(raw, neurons([-1, 1], 8, rng)),
        "phases": shift(raw, neurons([-1, 0, 1, 2], 8, rng), 30.0),
    }
    promised = {"dwsnet": 1, "dwsnet-signed": 2}.get(name, 3)
    weights = Weights(space, raw, np.arange(8), omega=30.0)
    net = READERS[name](weights, 4, NetConfig(channels=6, states=9, probes=7), 1)

    def read(values):
        scaled = {n: (v - weights.mean[n]) / weights.deviation[n] for n, v in values.items()}
        return net(to_features(space, variables(scaled))).numpy()

    found = read(raw)
    assert np.abs(found[0] - found[1]).max() > 1e-2
    for number, other in enumerate(moved.values()):
        difference = np.abs(read(other) - found).max()
        assert difference < 1e-5 * max(1, np.abs(found).max()) or number >= promised
        assert difference > 1e-3 or number < promised


def test_probes_ask_the_field():
    space, raw = sine_weights(3, RNG(4))
    x = RNG(5).uniform(-1, 1, (2, 9)).astype(np.float32)
    values = states(variables(raw), 30.0, jt.array(x)).numpy()
    wanted = sirens(jt.array(x.T.copy()), 30.0, *variables(raw).values()).numpy()
    np.testing.assert_allclose(values, wanted.transpose(0, 2, 1), atol=1e-5)
    mixed = states(variables(raw), 30.0, jt.array(x), [jt.randn(9, 9)]).numpy()
    assert np.abs(mixed - values).max() > 0.05


# The fused ops and their twins


@pytest.mark.parametrize("widths", [(2, 16, 16, 1), (1, 5, 3)])
def test_sirens_fused_and_plain(widths):
    rng = RNG(0)
    parameters = [
        jt.array(v + 0.02 * rng.normal(size=v.shape).astype(np.float32))
        for v in siren_start(widths, 7, 30.0, rng).values()
    ]
    x, target = (
        jt.array(v.astype(np.float32))
        for v in (rng.uniform(-1, 1, (50, widths[0])), rng.uniform(size=(7, 50, widths[-1])))
    )
    np.testing.assert_allclose(
        fused_sirens(x, 30.0, *parameters).numpy(), sirens(x, 30.0, *parameters).numpy(), atol=1e-5
    )
    fused, plain = (f(x, target, 30.0, *parameters) for f in (fused_siren_errors, siren_errors))
    np.testing.assert_allclose(fused.numpy(), plain.numpy(), rtol=1e-5)
    cotangent = jt.array(rng.normal(size=7).astype(np.float32))
    for a, b in zip(
        jt.grad((fused * cotangent).sum(), parameters),
        jt.grad((plain * cotangent).sum(), parameters),
    ):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5 * np.abs(b.numpy()).max())


@pytest.mark.skipif(DEVICE == "cuda", reason="the plain twin serves there")
def test_siren_errors_have_no_second_derivatives():
    parameters = [jt.array(v) for v in siren_start((1, 4, 1), 2, 30.0, RNG(0)).values()]
    errors = fused_siren_errors(jt.ones((3, 1)), jt.ones((2, 3, 1)), 30.0, *parameters)
    gradient = jt.grad((errors * errors).sum(), parameters[0])
    with pytest.raises(Exception, match="siren_errors"):
        jt.sync(jt.grad((gradient * gradient).sum(), parameters[0]))


@pytest.mark.parametrize("rows, channels", [(57, 11), (57, 16), (7, 24), (1000, 32)])
def test_norm_relu_fused_and_plain(rows, channels):
    """Rows of any length, of lengths the compiler knows, and fewer than there are chunks."""
    x, gain, shift, c = (
        jt.randn(*shape) for shape in ((rows, channels), (channels,), (channels,), (rows, channels))
    )
    fused = fused_norm_relu(x, gain, shift)
    plain = norm_relu(x, gain, shift)
    np.testing.assert_allclose(fused.numpy(), plain.numpy(), atol=1e-5)

    def second(y):
        return jt.grad(
            sum((g * g).sum() for g in jt.grad((y * c).sum(), [x, gain, shift])), [x, gain]
        )

    for values in (lambda y: jt.grad((y * c).sum(), [x, gain, shift]), second):
        for a, b in zip(values(fused), values(plain)):
            np.testing.assert_allclose(
                a.numpy(), b.numpy(), atol=1e-5 * max(1, np.abs(b.numpy()).max())
            )


# Zoos

SMALL = FitConfig(hidden=(6, 6), steps=20, seed=3)


def test_fields_are_fitted():
    subject = Sines(points=24, lowest=0.5)
    targets, labels = subject.draw(5, RNG(0))
    np.testing.assert_allclose(
        targets[:, :, 0], np.sin(labels[:, 1:] * np.pi * subject.points[:, 0]), atol=1e-5
    )
    weights, psnr = fit_sirens(
        subject.points, targets, replace(SMALL, hidden=(16, 16), steps=200), RNG(1)
    )
    values = sirens(jt.array(subject.points), 30.0, *variables(weights).values()).numpy()
    np.testing.assert_allclose(
        psnr, -10 * np.log10(((values - targets) ** 2).mean((1, 2))), rtol=1e-3
    )
    assert psnr.mean() > 20


def test_an_interrupted_zoo_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo_module, "CHUNK", 3)
    whole = fit_zoo(Sines(points=8), 7, SMALL, tmp_path / "whole", progress=False)
    subject = Sines(points=8)
    fitted = []
    fit = Sines.fit

    def interrupted(self, first, *rest):
        fitted.append(first)
        if fitted == [0, 3]:
            raise KeyboardInterrupt
        return fit(self, first, *rest)

    monkeypatch.setattr(Sines, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_zoo(subject, 7, SMALL, tmp_path / "parts", progress=False)
    assert [path.name for path in (tmp_path / "parts").rglob("*.safetensors")] == [
        "0000000.safetensors"
    ]
    zoo = fit_zoo(subject, 7, SMALL, tmp_path / "parts", progress=False)
    assert fitted == [0, 3, 3, 6] and zoo.config["seconds"] > 0
    assert distance(zoo.weights, whole.weights) == 0 and np.array_equal(zoo.labels, whole.labels)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["zoo.safetensors"]
    fitted[:] = []  # interrupted once more, it leaves a chunk that is of no use to another config
    with pytest.raises(KeyboardInterrupt):
        fit_zoo(subject, 7, SMALL, tmp_path / "parts", progress=False)
    other = fit_zoo(subject, 3, replace(SMALL, seed=4), tmp_path / "parts", progress=False)
    assert fitted == [0, 3, 0] and not np.array_equal(other.labels, whole.labels[:3])


def test_a_zoo_is_kept_whole(tmp_path):
    zoo = fit_zoo(Sines(points=8, amplitude=10.0), 4, SMALL, tmp_path, progress=False)
    again = Zoo.load(tmp_path / "zoo.safetensors")
    assert (
        distance(zoo.weights, again.weights) == 0
        and again.config == zoo.config
        and again.space == mlp_space((1, 6, 6, 1))
    )
    assert (
        np.array_equal(again.quality, zoo.quality)
        and again.labels.shape == (4, 2)
        and len(set(zoo.labels[:, 0])) == 4
    )
    checkpoint.save(
        tmp_path / "other.safetensors",
        {"a": np.zeros(2), "labels": np.zeros(2), "quality": np.zeros(2)},
        {"space": []},
    )
    with pytest.raises(ValueError, match="other.safetensors: not a zoo"):
        Zoo.load(tmp_path / "other.safetensors")


def test_starts_are_independent_unless_shared():
    own, shared = (siren_start((2, 5, 1), 3, 30.0, RNG(0), shared=s)["W1"] for s in (False, True))
    assert np.array_equal(shared[0], shared[2]) and not np.array_equal(own[0], own[2])
    assert 0.5 * np.sqrt(3) / 30 < np.abs(own).max() < np.sqrt(3) / 30


def write_idx(path, values):
    header = bytes([0, 0, 8, values.ndim]) + b"".join(
        int(n).to_bytes(4, "big") for n in values.shape
    )
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


@pytest.fixture
def digits(tmp_path):
    """idx files of 60 pictures of three classes: a bright column, row or corner, with noise."""
    rng = RNG(0)
    labels = np.arange(60) % 3
    pixels = rng.integers(0, 60, (60, 8, 8))
    pixels[labels == 0, :, 3:5] += 180
    pixels[labels == 1, 3:5] += 180
    pixels[labels == 2, :4, :4] += 180
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pixels)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", labels)
    return tmp_path / "t10k-images-idx3-ubyte.gz"


def test_pictures_of_an_idx_file(digits):
    pictures = load_pictures(digits, side=4, crop=0)
    assert pictures.pixels.shape == (60, 4, 4, 1) and list(pictures.labels[:4]) == [0, 1, 2, 0]
    assert pictures.pixels[2, 0, 0, 0] > 0.6 > 0.3 > pictures.pixels[2, 3, 3, 0]
    np.testing.assert_allclose(pictures.points[[0, 3, 12]], [[-1, -1], [1, -1], [-1, 1]])
    # sides that do not divide
    assert load_pictures(digits, side=3, crop=7).pixels.shape == (60, 3, 3, 1)
    for arguments, words in (
        ((digits, 9), "no 8 x 8"),
        ((digits, 4, 20), "no 20 x 20"),
        ((digits.with_name("no.gz"), 4), "no such file"),
        ((digits.with_name("t10k-labels-idx1-ubyte.gz"), 4), "3 axes"),
    ):
        with pytest.raises(ValueError, match=words):
            load_pictures(*arguments)


def test_pictures_of_a_folder(tmp_path):
    for n, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 255, 0))):
        (tmp_path / "ab"[min(n, 1)]).mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 8, 3), colour, np.uint8)).save(
            tmp_path / "ab"[min(n, 1)] / f"{n}.png"
        )
    pictures = load_pictures(tmp_path, side=3)
    assert sorted(pictures.labels) == [0, 1, 1] and pictures.pixels.shape == (3, 3, 3, 3)
    assert (pictures.pixels.mean((1, 2)).argmax(1) == pictures.labels).all()
    assert np.array_equal(pictures.labels, load_pictures(tmp_path, side=3).labels)
    assert set(map(tuple, pictures.pixels[:, 1, 1].round(6))) == {(1, 0, 0), (0, 1, 0)}
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        load_pictures(tmp_path / "empty", side=3)


def test_real_digits_are_read(data_folder):
    pictures = load_pictures(data_folder / "mnist" / "t10k-images-idx3-ubyte.gz", side=10, crop=20)
    assert pictures.pixels.shape == (10000, 10, 10, 1) and pictures.labels[:5].tolist() == [
        7,
        2,
        1,
        0,
        4,
    ]


def test_a_zoo_of_grids_holds_jgrids_fields(digits, tmp_path):
    """The many grids fitted at once are what a MulFAGrid of the same weights computes, and its
    channels may be permuted."""
    pictures = load_pictures(digits, side=4)
    zoo = fit_zoo(
        GridPictures(pictures, cells=3, channels=2),
        4,
        FitConfig(hidden=(5,), steps=60),
        tmp_path,
        progress=False,
    )
    field = MulFAGridConfig(
        finest=3, levels=1, channels=2, kernels=1, decoder=DecoderConfig(width=5, depth=1)
    ).build(Domain(2, 1))
    moved = zoo.space.permute(
        zoo.weights, {"channel": np.array([1, 0]), "h01": np.array([2, 0, 1, 4, 3])}
    )
    assert (
        distance(moved, zoo.weights) > 0.1
        and zoo.space == Zoo.load(tmp_path / "zoo.safetensors").space
    )
    for weights in (zoo.weights, moved):
        field.grid.w.assign(weights["features"][1])
        field.grid.kernel.mix.assign(weights["kernel"][1][None, None])
        for layer, m in zip(field.network.layers, (1, 2)):
            layer.weight.assign(weights[f"W{m}"][1])
            layer.bias.assign(weights[f"b{m}"][1])
        error = (
            (
                field(jt.array((pictures.points + 1) / 2)).numpy()
                + 0.5
                - pictures.pixels[1].reshape(-1, 1)
            )
            ** 2
        ).mean()
        assert (
            -10 * np.log10(error) == pytest.approx(zoo.quality[1], abs=0.01) and zoo.quality[1] > 15
        )


def test_the_face_has_what_it_says(tmp_path, monkeypatch, capsys):
    """All names, and the example of its docstring, with fewer fields."""
    face = jgrid.weightspace
    assert all(getattr(face, name) is not None for name in face.__all__)
    example = "\n".join(line[4:] for line in face.__doc__.splitlines() if line.startswith("    "))
    monkeypatch.chdir(tmp_path)
    for many, few in (("1000", "10"), ("900", "8"), ("FitConfig()", "FitConfig(steps=3)")):
        assert many in example
        example = example.replace(many, few)
    exec(example, {"jgrid": jgrid, "np": np})
    assert "[2,2,]" in capsys.readouterr().out


# Zoos at the published size, and of others


@pytest.fixture
def whole_digits(tmp_path):
    """A folder of idx files of 28 x 28 pixels: 36 pictures to train on, 6 to test on."""
    folder = tmp_path / "digits"
    folder.mkdir()
    rng = RNG(0)
    for kind, n, first in (("train", 36, 0), ("t10k", 6, 100)):
        labels = np.arange(n) % 3
        pixels = rng.integers(0, 60, (n, 28, 28)) + 60 * labels[:, None, None]
        pixels[:, 0, 0] = first + np.arange(n)  # which it is
        write_idx(folder / f"{kind}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{kind}-labels-idx1-ubyte.gz", labels)
    return folder


def test_pictures_to_test_on_are_mixed_in(whole_digits):
    pictures = load_split(whole_digits, 28)
    number = np.round(pictures.pixels[:, 0, 0, 0] * 255)
    assert len(pictures) == 42 and pictures.test.sum() == 6
    assert np.array_equal(pictures.test, number >= 100)
    assert sorted(number[~pictures.test]) == list(range(36))
    assert [pictures.test[:n].sum() for n in (7, 14, 21)] == [1, 2, 3]
    assert np.array_equal(number[pictures.test] % 100 % 3, pictures.labels[pictures.test])
    (whole_digits / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(ValueError, match="no train-images-idx3-ubyte"):
        load_split(whole_digits, 28)


def test_the_published_size(whole_digits, tmp_path):
    """Its own pictures to test on, in chunks as in one, and what scripts read."""
    fit = FitConfig(steps=3)
    config = weightspace.ClassifyConfig(
        subject=str(whole_digits),
        size=28,
        models=("dwsnet", "forward", "probes"),
        out=tmp_path / "out",
        **{**TINY, "stock": StockConfig(fields=21, held_out=8, fit=fit)},
    )
    result = weightspace.main(config)
    zoo = Zoo.load(tmp_path / "out" / "zoo.safetensors")
    assert zoo.space == mlp_space((2, 32, 32, 1)) and zoo.test.sum() == 3
    train, test = zoo.split(8)
    assert len(train) == 18 and np.array_equal(test, np.flatnonzero(zoo.test))
    for model in config.models:
        assert {"accuracy", "parameters", "seconds", "asks_field"} <= result[model].keys()
        assert result[model]["asks_field"] == (model == "probes")
    assert result["weights"]["W2"]["deviation"] == pytest.approx(zoo.weights["W2"].std(), rel=1e-5)
    edit = weightspace.EditConfig(
        subject=str(whole_digits),
        size=28,
        models=("probes", "forward"),
        out=tmp_path / "edit",
        **{**TINY, "stock": StockConfig(zoo=tmp_path / "out" / "zoo.safetensors")},
    )
    edited = weightspace.main(edit)
    assert edited["probes"]["asks_field"] and not edited["forward"]["asks_field"]
    assert edited["fitted"]["fields"] == 3 and edited["unchanged"]["mse"] > 0
    with pytest.raises(ValueError, match="none to test on"):
        replace(config.stock, fields=3).take(
            tmp_path / "few", lambda: load_split(whole_digits, 28), ()
        )
    for hidden in ((16, 16), (5,)):
        given = replace(config, stock=StockConfig(fit=replace(fit, hidden=hidden)))
        assert weightspace.sized(given).stock.fit.hidden == hidden
    one = fit_zoo(
        load_split(whole_digits, 28),
        9,
        replace(fit, hidden=(32, 32)),
        tmp_path / "one",
        progress=False,
    )
    assert np.array_equal(one.test, zoo.test[:9])


def test_chunks_know_their_pictures_to_test_on(whole_digits, tmp_path, monkeypatch):
    subject = load_split(whole_digits, 28)
    monkeypatch.setattr(zoo_module, "CHUNK", 4)
    zoo = fit_zoo(subject, 11, SMALL, tmp_path / "zoo", progress=False)
    assert np.array_equal(zoo.test, subject.test[:11]) and 0 < zoo.test.sum() < 11
    none = replace(zoo, test=np.zeros(11, np.uint8))
    with pytest.raises(ValueError, match="none to train on or none to test on"):
        none.split(3)


def foreign_state(n, rng):
    weights = siren_start((2, 5, 3, 1), n, 30.0, rng)
    order = ("seq.10.weight", "seq.10.bias", "seq.2.weight", "seq.2.bias")  # 10 comes after 2
    names = ("seq.0.weight", "seq.0.bias", *order[2:], *order[:2])
    return weights, dict(zip(names, weights.values()))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_zoos_of_others(tmp_path, suffix):
    """In one file, in a folder with labels inside, and in one with a list as DWSNets has it."""
    weights, state = foreign_state(6, RNG(0))
    labels = np.arange(6) % 3

    def write(path, values):
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".npz":
            np.savez(path.with_suffix(suffix), **values)
        else:
            save_file(
                {n: np.ascontiguousarray(v) for n, v in values.items()}, path.with_suffix(suffix)
            )

    test = np.array([0, 0, 1, 0, 0, 1])
    write(tmp_path / "all", {**state, "labels": labels, "test": test})
    for n in range(6):
        one = {name: value[n] for name, value in state.items()}
        write(tmp_path / "inside" / f"{n}", {**one, "label": labels[n : n + 1]})
        write(tmp_path / "listed" / f"{n}" / "model", one)
    rows = {"train": [5, 0], "val": [3], "test": [1, 4]}
    listed = {
        part: {"path": [f"{n}/model.pth" for n in ns], "label": [str(labels[n]) for n in ns]}
        for part, ns in rows.items()
    }
    (tmp_path / "listed" / "splits.json").write_text(json.dumps(listed))
    order = [5, 0, 3, 1, 4]
    for path, chosen, wanted in (
        (tmp_path / f"all{suffix}", np.arange(6), test),
        (tmp_path / "inside", np.arange(6), None),
        (tmp_path / "listed", order, np.array([0, 0, 0, 1, 1])),
    ):
        zoo = load_foreign(path, 20.0)
        assert distance(zoo.weights, {n: v[chosen] for n, v in weights.items()}) == 0
        assert zoo.labels.tolist() == labels[chosen].tolist() and zoo.kind == "pictures"
        assert zoo.config["omega"] == 20.0 and zoo.space == mlp_space((2, 5, 3, 1))
        assert zoo.test is None if wanted is None else np.array_equal(zoo.test, wanted)
    solid = siren_start((3, 4, 1), 2, 30.0, RNG(1))  # of three coordinates: no picture
    write(tmp_path / "solid", {**solid, "labels": labels[:2]})
    config = weightspace.ZooConfig(
        import_=tmp_path / f"solid{suffix}", out=tmp_path / "solid", device=DEVICE
    )
    weightspace.main(config)
    assert not (tmp_path / "solid" / "fields.png").exists()
    out = tmp_path / "zoo"
    result = weightspace.main(
        weightspace.ZooConfig(import_=tmp_path / "inside", out=out, device=DEVICE)
    )
    assert (out / "fields.png").exists()
    assert result["fields"] == 6 and "mean_unknown" not in result
    saved = {"stock": StockConfig(zoo=out / "zoo.safetensors", held_out=2)}
    read = weightspace.main(
        weightspace.ClassifyConfig(models=("forward",), out=tmp_path / "out", **{**TINY, **saved})
    )
    assert 0 <= read["forward"]["accuracy"] <= 1


def test_pickles_and_what_is_no_zoo_are_refused(tmp_path):
    _, state = foreign_state(2, RNG(0))
    labels = np.arange(2)
    (tmp_path / "a.pth").write_bytes(b"x")
    np.savez(tmp_path / "nameless.npz", **state)
    np.savez(tmp_path / "broken.npz", labels=labels, **{**state, "seq.2.bias": np.zeros((2, 4))})
    np.savez(tmp_path / "float.npz", labels=labels * 0.5, **state)
    np.savez(tmp_path / "few.npz", labels=labels[:1], **state)
    objects = np.array([{"a": 1}, None], dtype=object)
    np.savez(tmp_path / "objects.npz", labels=objects, **state)
    (tmp_path / "b.npz").write_bytes(b"not a zip")
    (tmp_path / "c.safetensors").write_bytes(b"1234567890")
    for name, kept in (("pickles", "1.pt"), ("empty", None), ("unlabelled", "1.npz")):
        (tmp_path / name).mkdir()
        if kept == "1.pt":
            (tmp_path / name / kept).write_bytes(b"x")
        elif kept:
            np.savez(tmp_path / name / kept, **{n: v[0] for n, v in state.items()})
    for name, words in {
        "a.pth": "pickles can run any program",
        "pickles": "1.pt: pickles can run any program",
        "nowhere": "no such file or folder",
        "empty": "no networks in this folder",
        "unlabelled": "1.npz: has no entry `label`",
        "nameless.npz": "no entry `labels`",
        "broken.npz": "no MLP",
        "float.npz": "labels must be whole numbers",
        "few.npz": "its tensors are not those",
        "objects.npz": "cannot be read",
        "b.npz": "cannot be read",
        "c.safetensors": "cannot be read",
    }.items():
        with pytest.raises(ValueError, match=words) as raised:
            load_foreign(tmp_path / name, 30.0)
        assert str(raised.value).startswith(str(tmp_path / name))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "train, words",
    [
        ({"path": ["0.pth", "1.pth"], "label": [0]}, "train has 2 paths and 1 labels"),
        ({"path": ["0.pth", "1.pth"], "label": ["cat", "dog"]}, "whole numbers .*, got 'cat'"),
        ({"path": ["0.pth", "1.pth"], "label": [0, 1.5]}, "whole numbers .*, got 1.5"),
        ({"path": ["0.pth", "1.pth"]}, "train needs a list `path` and a list `label`"),
        ({"path": [], "label": []}, "lists no networks"),
    ],
)
def test_a_wrong_list_of_networks_is_named(tmp_path, train, words):
    _, state = foreign_state(2, RNG(0))
    for n in range(2):
        one = {name: value[n] for name, value in state.items()}
        np.savez(tmp_path / f"{n}.npz", label=n, **one)
    for name, other in (("a", "no JSON"), ("b", "[1]"), ("c", '{"train": {"steps": 3}}')):
        (tmp_path / f"{name}.json").write_text(other)
    assert load_foreign(tmp_path, 30.0).labels.tolist() == [0, 1]
    (tmp_path / "splits.json").write_text(json.dumps({"train": train}))
    with pytest.raises(ValueError, match=words) as raised:
        load_foreign(tmp_path, 30.0)
    assert str(raised.value).startswith(str(tmp_path / "splits.json"))


# Learning from weights


@pytest.fixture
def sines(tmp_path):
    return fit_zoo(Sines(points=16), 30, SMALL, tmp_path / "sines", progress=False)


def test_weights_are_standardised_and_varied(sines):
    known = np.arange(20)
    x = jt.array(np.linspace(-1, 1, 9, dtype=np.float32)[:, None])
    plain = Weights(sines.space, sines.weights, known, omega=30.0)
    assert (
        abs(np.concatenate([v.numpy().ravel() for v in plain.features(known)[:1]]).std() - 1) < 1e-3
    )
    index = np.arange(20, 30)
    truth = sirens(x, 30.0, *variables(plain.raw(index)).values()).numpy()
    for options in (
        {"permute": True},
        {"signs": "vary"},
        {"permute": True, "signs": "vary"},
    ):
        varied = Weights(sines.space, sines.weights, known, ViewConfig(**options), omega=30.0)
        moved = varied.raw(index, RNG(0))
        np.testing.assert_allclose(
            sirens(x, 30.0, *variables(moved).values()).numpy(), truth, atol=1e-4
        )
        assert (
            distance(moved, plain.raw(index)) > 0.01
            and distance(varied.raw(index), plain.raw(index)) == 0
        )
    canonical = [
        canonical_signs(
            Weights(sines.space, sines.weights, known, ViewConfig(signs="vary"), omega=30.0).raw(
                index, RNG(n)
            )
        )
        for n in range(2)
    ]
    assert distance(*canonical) < 1e-6  # one for all signs, and still the same fields
    np.testing.assert_allclose(
        sirens(x, 30.0, *variables(canonical[0]).values()).numpy(), truth, atol=1e-4
    )
    order = sines.space.random_permutations(RNG(5))
    assert (
        distance(
            canonical_signs(sines.space.permute(plain.raw(index), order)),
            sines.space.permute(canonical[0], order),
        )
        < 1e-6
    )
    for options in ({"noise": 0.3}, {"drop": 0.5}):
        varied = Weights(sines.space, sines.weights, known, ViewConfig(**options), omega=30.0)
        assert (
            np.abs(
                varied.features(index, RNG(0))[2].numpy() - plain.features(index)[2].numpy()
            ).max()
            > 0.01
        )
        np.testing.assert_array_equal(
            varied.features(index)[2].numpy(), plain.features(index)[2].numpy()
        )


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_moved_field_is_the_field_at_the_moved_point(dim):
    rng = RNG(0)
    widths = (dim, 5, 7, 2)
    weights = siren_start(widths, 6, 30.0, rng)
    weights["b1"], weights["b2"] = (
        rng.normal(size=weights[name].shape).astype(np.float32) for name in ("b1", "b2")
    )
    x = rng.uniform(-1, 1, (6, dim)).astype(np.float32)
    turn = 45.0 * (dim > 1)
    for strengths in ((turn, 0.2, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.25), (turn, 0.2, 0.25)):
        matrix, offset = random_moves(6, dim, *strengths, RNG(1))
        there = np.einsum("fij,fj->fi", matrix, x) + offset
        assert np.abs(there - x).max() > 0.05  # a control: they do move
        np.testing.assert_allclose(
            field_values(moved(weights, matrix, offset), x, 30.0),
            field_values(weights, there, 30.0),
            atol=1e-4,
        )


def test_random_moves_are_as_strong_as_asked():
    matrix, offset = random_moves(2000, 2, 45.0, 0.2, 0.25, RNG(0))
    factor = np.sqrt(np.linalg.det(matrix))
    angle = np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    np.testing.assert_allclose(
        matrix @ matrix.transpose(0, 2, 1), factor[:, None, None] ** 2 * np.eye(2), atol=1e-6
    )
    for values, middle, reach in ((angle, 0, 45), (factor, 1, 0.2), (offset, 0, 0.25)):
        assert (
            middle - reach <= values.min() < middle - 0.95 * reach
            and middle + 0.95 * reach < values.max() <= middle + reach + 1e-6
        )
    assert np.array_equal(random_moves(3, 1, 0.0, 0.0, 0.0, RNG(0))[0], np.ones((3, 1, 1)))


def test_moved_fields_are_trained_on():
    """In training alone, before they are standardised, and with canonical signs where these are
    wanted."""
    space = mlp_space((2, 5, 7, 1))
    known = np.arange(20)
    zoo = siren_start((2, 5, 7, 1), 20, 30.0, RNG(0))
    plain, views = (
        Weights(space, zoo, known, ViewConfig(signs="canonical", **options), omega=30.0)
        for options in ({}, {"turn": 90.0, "scale": 0.2, "shift": 0.25})
    )
    rng = RNG(0)
    # without moves nothing is drawn
    assert (
        distance(plain.raw(known, rng), plain.raw(known)) == 0 and rng.random() == RNG(0).random()
    )
    assert (
        distance(views.raw(known), plain.raw(known)) == 0
        and views.mean == plain.mean
        and views.deviation == plain.deviation
    )
    raw = views.raw(known, RNG(0))
    signless = moved(plain.raw(known), *random_moves(20, 2, 90.0, 0.2, 0.25, RNG(0)))
    assert (
        distance(canonical(raw, 30.0), raw) < 1e-6
        and (raw["W1"][:, :, 0] >= 0).all()
        and (raw["W3"].sum(1) >= 0).all()
    )
    assert (signless["W1"][:, :, 0] < 0).any()  # what the rule is applied to once more
    x = RNG(1).uniform(-1, 1, (20, 2)).astype(np.float32)
    np.testing.assert_allclose(
        field_values(raw, x, 30.0), field_values(signless, x, 30.0), atol=1e-4
    )
    for name, value in to_weights(space, views.features(known, RNG(0))).items():
        np.testing.assert_allclose(
            value.numpy(), (raw[name] - plain.mean[name]) / plain.deviation[name], atol=1e-5
        )


def test_held_out_fields_are_not_trained_on(sines):
    train, test = sines.split(6)
    assert sorted([*train, *test]) == list(range(30)) and len(test) == 6
    task = ReadTask(
        Weights(sines.space, sines.weights, train, omega=30.0), sines.labels[:, 1:], train, test
    )
    seen = np.concatenate([task.sample(step, 8)["labels"].numpy() for step in range(3)])
    truth = (sines.labels[train, 1:] - task.mean) / task.deviation
    np.testing.assert_allclose(np.sort(seen, axis=0), np.sort(truth, axis=0), rtol=1e-5)


def test_alignment_undoes_permutations():
    rng = RNG(4)
    space = mlp_space((2, 5, 7, 3))
    reference = random_weights(space, 1, rng)
    for name in ("W1", "W3"):
        # one axis after the other can end in a local maximum; here each is beyond doubt by itself
        reference[name] *= 20
    moved = [space.permute(reference, space.random_permutations(rng)) for _ in range(4)]
    moved = {name: np.concatenate([m[name] for m in moved]) for name in reference}
    found = align(space, moved, {name: value[0] for name, value in reference.items()})
    assert (
        distance(found, {name: np.repeat(value, 4, axis=0) for name, value in reference.items()})
        == 0
    )
    assert (
        distance(moved, {name: np.repeat(value, 4, axis=0) for name, value in reference.items()})
        > 0.1
    )


@pytest.mark.parametrize("name", READERS)
def test_every_model_reads_weights(name):
    space = mlp_space((2, 5, 7, 1))
    features = to_features(space, variables(random_weights(space, 3, RNG(0))))
    weights = Weights(space, random_weights(space, 3, RNG(0)), np.arange(3), omega=30.0)
    net = READERS[name](weights, 4, NetConfig(channels=6, depth=3, width=16, states=9, probes=7), 1)
    found = net(features)
    assert found.shape == [3, 4]
    gradients = jt.grad((found * jt.randn(3, 4)).sum(), net.parameters())
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients)


def test_readers_of_weights_alone_say_so():
    """And no network passes over an argument that is not of it."""
    space = mlp_space((2, 5, 7, 1))
    weights = Weights(space, random_weights(space, 3, RNG(0)), np.arange(3), omega=30.0)
    for name in READERS.keys() - {"dwsnet", "mlp", "mlp-permuted", "mlp-aligned"}:
        with pytest.raises(ValueError, match="`c_in` must be 1 for this model, got 3"):
            READERS[name](weights, 4, NetConfig(), 3)
    for unheeded in ({"pool": "max"}, {"dropout": 0.1}):
        with pytest.raises(ValueError, match=f"`{next(iter(unheeded))}` is of dwsnet"):
            READERS["dwsnet-signed"](weights, 4, NetConfig(**unheeded), 1)
    with pytest.raises(TypeError, match="omega"):
        Weights(space, weights.weights, np.arange(3))  # those of signs and phases are wrong by it


class Known:
    """A model that knows the answer."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, features):
        return jt.array(self.answer(features))

    def eval(self):
        pass

    def train(self):
        pass


def test_reading_is_scored(sines):
    train, test = sines.split(10)
    w = Weights(sines.space, sines.weights, train, omega=30.0)
    values = ReadTask(w, sines.labels[:, 1:], train, test)
    assert values.evaluate(Known(lambda f: np.zeros((f[0].shape[0], 1), np.float32)))[
        "mse"
    ] == pytest.approx(values.predict_mean, rel=1e-4)
    classes = ReadTask(w, (np.arange(30) % 3).astype(np.int32), train, test)
    always = Known(lambda f: np.tile(np.float32([0, 1, 0]), (f[0].shape[0], 1)))
    assert classes.n_out == 3 and classes.evaluate(always)["accuracy"] == pytest.approx(
        (test % 3 == 1).mean()
    )


def test_contrast_is_simclrs_loss(sines):
    train, test = sines.split(10)
    task = EmbedTask(
        Weights(sines.space, sines.weights, train, ViewConfig(noise=0.2), omega=30.0),
        sines.labels,
        train,
        test,
    )
    views = [RNG(n).normal(size=(5, 3)).astype(np.float32) for n in range(2)]

    class Model:
        class network:
            project = jt.array

    z = np.concatenate(views)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    likeness = np.exp(z @ z.T / 0.1)
    np.fill_diagonal(likeness, 0)
    wanted = np.mean([-np.log(likeness[i, (i + 5) % 10] / likeness[i].sum()) for i in range(10)])
    assert task.loss(Model, {"views": views})["contrast"].item() == pytest.approx(wanted, rel=1e-4)
    a, b = task.sample(0, 5)["views"]
    assert np.abs(a[0].numpy() - b[0].numpy()).max() > 0.01


def test_values_of_fields(sines):
    raw = {name: value[:6] for name, value in sines.weights.items()}
    x = RNG(0).uniform(-1, 1, (6, 1)).astype(np.float32)
    everywhere = sirens(jt.array(x), 30.0, *variables(raw).values()).numpy()
    np.testing.assert_allclose(
        field_values(raw, x, 30.0)[:, 0], everywhere[np.arange(6), np.arange(6), 0], atol=1e-5
    )
    train, test = sines.split(10)
    task = ForwardTask(Weights(sines.space, sines.weights, train, omega=30.0), 30.0, 1, train, test)
    features = task._features(test, np.full((10, 1), 0.25, np.float32))
    assert features[0].shape == [10, 6, 2] and (features[0].numpy()[..., 1] == 0.25).all()
    zero = task.evaluate(Known(lambda f: np.zeros((f[0].shape[0], 1), np.float32)))
    assert abs(zero["r2"]) < 0.2


def test_values_of_colour_fields_have_three_numbers():
    space = mlp_space((2, 5, 3))
    raw = {
        name: RNG(1).normal(size=(12, *(size for _, size in axes))).astype(np.float32)
        for name, axes in space.tensors
    }
    task = ForwardTask(
        Weights(space, raw, np.arange(8), omega=30.0), 30.0, 2, np.arange(8), np.arange(8, 12)
    )
    assert task.n_out == 3 and task.sample(0, 4)["values"].shape == [4, 3]


def test_classifiers_and_their_adaptation(digits, monkeypatch):
    pictures = load_pictures(digits, side=4)
    weights, labels, accuracy = Classifiers(pictures, n=20).fit(
        0, 6, FitConfig(hidden=(12,), steps=60), RNG(0), lambda: None
    )
    assert (
        accuracy.mean() > 0.9
        and all(a != b for a, b in labels)
        and weights["W1"].shape == (6, 12, 16)
    )
    space = mlp_space((16, 12, 2))
    pairs = Pairs(pictures.pixels, pictures.labels)
    x, y = pairs.sample(labels, 10, RNG(0))
    z = np.maximum(
        np.einsum("fnd,fhd->fnh", x.reshape(6, 10, 16), weights["W1"]) + weights["b1"][:, None], 0
    )
    logits = np.einsum("fnh,fch->fnc", z, weights["W2"]) + weights["b2"][:, None]
    np.testing.assert_allclose(
        classify(jt.array(x), *variables(weights).values()).numpy(), logits, atol=1e-4
    )
    task = AdaptTask(
        Weights(space, weights, np.arange(4), omega=30.0),
        labels,
        np.arange(4),
        np.arange(4, 6),
        pairs,
        pairs,
    )
    assert task.accuracy(None) > 0.9
    model = FlatWeights(space, width=8)
    adapted = arrays(task.adapted(model, np.arange(2)))
    raw = task.weights.raw(np.arange(2))
    change = arrays(to_weights(space, model(task.weights.features(np.arange(2)))))
    for name in raw:
        np.testing.assert_allclose(
            adapted[name], raw[name] - task.weights.deviation[name] * change[name], atol=1e-6
        )
    hard = Pairs(
        corrupt(pictures.pixels, DomainConfig(rotation=0.0, noise=0.6), RNG(0)), pictures.labels
    )
    together = task.accuracy(model, hard)
    monkeypatch.setattr(adapt_module, "TOGETHER", 1)  # one at a time
    assert task.accuracy(model, hard) == together < 0.99
    assert (
        distance(adapted, raw) > 0
        and task.loss(model, task.sample(0, 4))["cross_entropy"].item() < 0.7
    )
    with pytest.raises(ValueError, match="two classes"):
        Pairs(pictures.pixels[:1], pictures.labels[:1])


@pytest.mark.parametrize("side", [5, 4])
def test_convolutional_classifiers(side):
    """Many at once are as one at a time, and their channels may be permuted."""
    rng = RNG(0)
    space = cnn_space((2, 3, 4), 2)
    assert (
        space.shared() == mlp_space((2, 3, 4, 2)).shared()
        and space.dim == 3 * 2 * 9 + 3 + 4 * 3 * 9 + 4 + 2 * 4 + 2
    )
    weights = random_weights(space, 5, rng)
    x = rng.normal(size=(5, 6, side, side, 2)).astype(np.float32)
    logits = classify(jt.array(x), *variables(weights).values()).numpy()
    for f, n in itertools.product(range(5), range(6)):
        z = x[f, n].transpose(2, 0, 1)
        one = {name: value[f] for name, value in weights.items()}
        for m in (1, 2):
            z = np.stack(
                [
                    sum(
                        correlate(plane, taps.reshape(3, 3), mode="constant")[::2, ::2]
                        for plane, taps in zip(z, row)
                    )
                    + bias
                    for row, bias in zip(one[f"W{m}"], one[f"b{m}"])
                ]
            )
            z = np.maximum(z, 0)
        np.testing.assert_allclose(logits[f, n], one["W3"] @ z.mean((1, 2)) + one["b3"], atol=1e-4)
    moved = space.permute(weights, space.random_permutations(rng))
    again = classify(jt.array(x), *variables(moved).values()).numpy()
    scale = np.abs(logits).max()
    assert distance(moved, weights) > 0.1 and np.abs(again - logits).max() < 1e-5 * max(1, scale)


def test_corruption_turns_and_disturbs():
    pixels = np.zeros((2, 5, 5, 1), np.float32)
    pixels[:, 2, 0] = 1
    np.testing.assert_allclose(
        corrupt(pixels, DomainConfig(rotation=90.0, noise=0.0), RNG(0)),
        np.rot90(pixels, axes=(1, 2)),
        atol=1e-6,
    )
    noisy = corrupt(pixels, DomainConfig(rotation=0.0, noise=0.1), RNG(0))
    assert 0 < np.abs(noisy - pixels).max() < 1 and noisy.min() >= 0 and noisy.max() <= 1


def test_corruption_mirrors_and_changes_colours(monkeypatch):
    pixels = RNG(0).uniform(0.4, 0.6, (400, 3, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        corrupt(pixels, DomainConfig(0.0, 0.0, flip=1.0), RNG(0)), pixels[:, :, ::-1]
    )
    mirrored = (corrupt(pixels, DomainConfig(0.0, 0.0, flip=0.5), RNG(0)) != pixels).any((1, 2, 3))
    assert 0.4 < mirrored.mean() < 0.6
    found = corrupt(pixels, DomainConfig(0.0, 0.0, jitter=0.4), RNG(0))
    brightness = found.mean((1, 2, 3)) / pixels.mean((1, 2, 3))
    grey = (found.mean(3), pixels.mean(3))
    contrast = (
        np.divide(*((value - value.mean((1, 2), keepdims=True)).std((1, 2)) for value in grey))
        / brightness
    )
    saturation = (
        np.divide(*(value.std(3).mean((1, 2)) for value in (found, pixels))) / brightness / contrast
    )
    for factor in (brightness, contrast, saturation):
        assert 0.599 < factor.min() < 0.65 and 1.35 < factor.max() < 1.401
    # drawn for themselves
    assert abs(np.corrcoef([brightness, contrast, saturation]) - np.eye(3)).max() < 0.2
    domain = DomainConfig(rotation=30.0, noise=0.1)
    whole = corrupt(pixels, domain, RNG(0))
    monkeypatch.setattr(adapt_module, "CHUNK", 150)
    np.testing.assert_array_equal(corrupt(pixels, domain, RNG(0)), whole)


# Editing


def test_pictures_are_changed():
    pixels = RNG(0).random((3, 6, 6, 1)).astype(np.float32)
    wide = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    near = [wide[:, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
    assert np.array_equal(ChangeConfig().apply(pixels), np.max(near, axis=0))
    assert np.array_equal(ChangeConfig(change="erode").apply(pixels), np.min(near, axis=0))
    turned = ChangeConfig(change="turn", angle=90.0).apply(pixels)
    np.testing.assert_allclose(turned, np.rot90(pixels, axes=(1, 2)), atol=1e-5)
    assert turned.dtype == np.float32


def edit_task(fields=6):
    """Fields of two outputs that nobody fitted, and pictures of 4 x 4 pixels to make of them."""
    space, weights = sine_weights(fields, RNG(0))
    line = np.linspace(-1, 1, 4, dtype=np.float32)
    points = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    pictures = RNG(1).random((fields, 4, 4, 2)).astype(np.float32)
    held = Weights(space, weights, np.arange(fields), omega=30.0)
    return EditTask(held, pictures, points, np.arange(2, fields), np.arange(2))


@pytest.mark.parametrize("name", FIELD_EDITORS)
def test_an_edit_is_one_of_the_function(name):
    """Of fields whose neurons stand in another order, and for those that know them, with other
    signs and phases: the same pictures."""
    task = edit_task()
    np.random.seed(0)
    model = FIELD_EDITORS[name](task.weights, NetConfig(channels=6, states=9, probes=9, rounds=2))
    for parameter in model.parameters():
        parameter.assign(parameter + 0.05 * jt.randn(parameter.shape))
    index = np.arange(6)
    before = task.rendered(model, index)
    assert np.abs(before - task.rendered(None, index)).max() > 1e-2
    weights = task.weights.weights
    rng = RNG(2)
    permuted = task.weights.space.permute(weights, task.weights.space.random_permutations(rng))
    task.weights.weights = permuted
    error = np.abs(task.rendered(model, index) - before).max()
    assert error > 1e-2 if name == "mlp" else error < 1e-4
    if name in ("forward", "probes"):
        signs = neurons((-1, 1), 6, rng)
        task.weights.weights = flip(permuted, signs)
        np.testing.assert_allclose(task.rendered(model, index), before, atol=1e-4)


@pytest.mark.parametrize("ask", [True, False])
def test_a_descent_steps_down_the_gradient(ask):
    task = edit_task()
    np.random.seed(0)
    model = Descent(task.weights, states=5, width=4, rounds=1, ask=ask)
    fields = variables(task.weights.weights)
    h, slopes, z = model._pass(fields)
    error = jt.randn(z.shape).stop_grad()
    moves = model._step(fields, 0, h, slopes, error)
    gradients = jt.grad((error * z).sum(), list(fields.values()))
    for (name, move), gradient in zip(moves.items(), gradients):
        ratio = move.numpy() / gradient.numpy()
        assert np.median(ratio) > 0
        np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-2, err_msg=name)
    if ask:
        values = field_values(
            {n: v[:1] for n, v in task.weights.weights.items()}, model.first.numpy().T[:1], 30.0
        )
        np.testing.assert_allclose(z.numpy()[0, :, 0], values[0], atol=1e-4)


def test_edits_are_scored():
    task = edit_task()
    shown = task.rendered(None, task.test)
    error = ((shown - task.values[task.test] - 0.5) ** 2).mean()
    assert task.score(None, task.test) == pytest.approx(error, rel=1e-4)
    model = FIELD_EDITORS["probes"](task.weights, NetConfig(probes=9, rounds=2))
    found = task.evaluate(model)
    assert found["mse"] == pytest.approx(task.score(model, task.test)) and model.is_training()
    loss = task.loss(model, task.sample(0, 4))["mse"].item()
    assert loss == pytest.approx(task.score(model, task.train), rel=1e-4)


# The app

FIT = FitConfig(hidden=(5, 5), steps=10)
STOCK = StockConfig(fields=24, held_out=8, fit=FIT)
STUDY = StudyConfig(
    seeds=1,
    net=NetConfig(channels=6, depth=3, width=16),
    train=TrainConfig(steps=4, batch=8, warmup=1, eval_every=2),
)
TINY = {"stock": STOCK, "study": STUDY, "device": DEVICE}
SMALLER = ReductionConfig(side=4, crop=0)


@pytest.mark.parametrize(
    "job, metric, picture",
    [
        ("classify", "accuracy", None),
        ("regress", "mse", "frequencies.png"),
        ("embed", "mse", "embedding.png"),
        ("adapt", "accuracy", "domains.png"),
        ("forward", "r2", None),
        ("edit", "mse", "edits.png"),
    ],
)
def test_a_job_leaves_everything_behind(digits, tmp_path, job, metric, picture, capsys):
    subject = {}
    if job in ("classify", "adapt", "edit"):
        subject = {"subject": str(digits), "reduction": SMALLER}
    out = tmp_path / "out"
    config = replace(
        weightspace.COMMANDS[job], out=out, models=("dwsnet", "mlp"), **TINY, **subject
    )
    weightspace.main(config)
    result = json.loads((out / "result.json").read_text())
    for model in ("dwsnet", "mlp"):
        assert (
            np.isfinite(result[model][metric])
            and result[model]["parameters"] > 0
            and result[model][f"{metric}_seeds"]
        )
        assert {"metrics.jsonl", "model.safetensors"} <= {
            path.name for path in (out / f"{model}-0").iterdir()
        }
    quality = "accuracy" if job == "adapt" else "psnr"
    assert (
        result["fields"] == 24 and result["seconds"] > 0 and np.isfinite(result[f"mean_{quality}"])
    )
    names = {path.name for path in out.iterdir()}
    pictures = {picture} - {None} | (set() if job == "adapt" else {"fields.png"})
    assert names == {
        "config.json",
        "result.json",
        "zoo.safetensors",
        "dwsnet-0",
        "mlp-0",
        *pictures,
    }
    assert metric in capsys.readouterr().out
    if job == "regress":
        again = weightspace.main(
            replace(
                weightspace.COMMANDS[job],
                out=tmp_path / "again",
                **{**TINY, "stock": StockConfig(zoo=out / "zoo.safetensors", held_out=8)},
            )
        )
        assert (
            again["mlp"]["mse"] == pytest.approx(result["mlp"]["mse"])
            and not (tmp_path / "again" / "zoo.safetensors").exists()
        )


@pytest.fixture
def cifar(tmp_path):
    """The files of CIFAR-10's binary version, with 60 pictures each of three classes: bright red,
    green or blue, with noise."""
    folder = tmp_path / "cifar"
    rng = RNG(0)
    labels = np.arange(60, dtype=np.uint8) % 3
    folder.mkdir()
    for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]:
        pixels = rng.integers(0, 60, (60, 3, 32, 32), np.uint8)
        pixels[np.arange(60), labels] += 150
        np.concatenate([labels[:, None], pixels.reshape(60, -1)], axis=1).tofile(folder / name)
    return folder


def two_classes(cifar, tmp_path):
    """A folder like `cifar`'s whose pictures are all of the first two classes."""
    folder = tmp_path / "two"
    folder.mkdir()
    for path in cifar.iterdir():
        rows = np.fromfile(path, np.uint8).reshape(60, -1)
        rows[:, 0] %= 2
        rows.tofile(folder / path.name)
    return folder


def test_the_cifar_preset(cifar, digits, tmp_path, monkeypatch, capsys):
    """On made pictures, small: reading, a zoo of convolutional classifiers in two chunks, their
    adaptation."""
    pictures = load_pictures(cifar, side=4)
    assert pictures.pixels.shape == (360, 4, 4, 3) and pictures.labels[:4].tolist() == [0, 1, 2, 0]
    assert (pictures.pixels.mean((1, 2)).argmax(1) == pictures.labels).all()
    monkeypatch.setattr(classifiers_module, "MOST_VALUES", 16 * 20 * 4 * 4 * 3)
    chunks = []
    fit = Classifiers.fit
    monkeypatch.setattr(
        Classifiers,
        "fit",
        lambda self, first, last, *rest: (
            chunks.append((first, last)) or fit(self, first, last, *rest)
        ),
    )
    small = {**TINY, "stock": replace(STOCK, fit=FitConfig(hidden=(5, 5), steps=30))}
    out = tmp_path / "out"
    result = weightspace.main(
        replace(
            weightspace.COMMANDS["adapt-cifar"],
            subject=str(cifar),
            reduction=replace(weightspace.ADAPT_CIFAR.reduction, side=4),
            pictures=20,
            out=out,
            **small,
        )
    )
    assert chunks == [(0, 16), (16, 24)] and result["mean_accuracy"] > 0.8
    assert result["no adaptation"]["accuracy"] > 0.5 and np.isfinite(result["dwsnet"]["accuracy"])
    zoo = Zoo.load(out / "zoo.safetensors")
    assert (
        zoo.space == cnn_space((3, 5, 5), 2)
        and zoo.config["made"]["last"] == 24
        and (out / "domains.png").exists()
    )
    again = replace(
        weightspace.COMMANDS["adapt"],
        reduction=SMALLER,
        **{**TINY, "stock": StockConfig(zoo=out / "zoo.safetensors", held_out=8)},
    )
    for subject, words in (
        (digits, "do not go with pictures of 4 x 4 pixels and 1 channels"),
        (two_classes(cifar, tmp_path), "2"),
    ):
        with pytest.raises(SystemExit):
            weightspace.main(replace(again, subject=str(subject)))
        assert words in capsys.readouterr().err


def test_reading_kernels_and_decoders(digits, tmp_path):
    subject = {"subject": str(digits), "reduction": SMALLER, "kind": "mulfa", **TINY}
    whole = weightspace.main(
        replace(weightspace.COMMANDS["classify"], out=tmp_path / "whole", **subject)
    )
    saved = {
        **TINY,
        "stock": StockConfig(zoo=tmp_path / "whole" / "zoo.safetensors", held_out=8),
    }
    part = weightspace.main(
        replace(
            weightspace.COMMANDS["classify"],
            out=tmp_path / "part",
            read=("kernel", "decoder"),
            **saved,
        )
    )
    assert whole["dwsnet"]["parameters"] > part["dwsnet"]["parameters"] > 0
    for job, models in (("forward", ("dwsnet",)), ("classify", ("inr2vec",))):
        with pytest.raises(SystemExit):
            weightspace.main(
                replace(
                    weightspace.COMMANDS[job],
                    models=models,
                    **saved,
                )
            )


def test_the_zoo_job(digits, tmp_path):
    weightspace.main(
        weightspace.ZooConfig(
            subject=str(digits),
            reduction=SMALLER,
            fields=9,
            fit=replace(FIT, seed=1),
            out=tmp_path / "zoo",
            device=DEVICE,
        )
    )
    result = json.loads((tmp_path / "zoo" / "result.json").read_text())
    assert {"fields", "seconds", "mean_psnr"} <= result.keys() and result["fields"] == 9
    assert Zoo.load(tmp_path / "zoo" / "zoo.safetensors").labels.tolist() == [0, 1, 2] * 3


def test_what_the_sines_are_like(tmp_path):
    config = weightspace.ZooConfig(
        sines=SinesConfig(lowest=2.0, highest=3.0, amplitude=5.0),
        fields=9,
        fit=FIT,
        out=tmp_path / "zoo",
        device=DEVICE,
    )
    weightspace.main(config)
    amplitude, frequency = Zoo.load(tmp_path / "zoo" / "zoo.safetensors").labels.T
    assert 2 <= frequency.min() < frequency.max() <= 3 and 1 < amplitude.max() <= 5


def test_embeddings_are_drawn_where_scikit_learn_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(SystemExit) as ended:
        weightspace.main(weightspace.EmbedConfig(out=tmp_path / "out", device=DEVICE))
    assert ended.value.code == 2 and "pip install scikit-learn" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # before anything was fitted


def pictures_zoo(n):
    """A zoo of n fields that nobody fitted."""
    weights = siren_start((2, 5, 1), n, 30.0, RNG(0))
    about = {
        "space": [["W1", [["h01", 5], [None, 2]]], ["b1", [["h01", 5]]]]
        + [["W2", [[None, 1], ["h01", 5]]], ["b2", [[None, 1]]]],
        "activation": "sine",
        "omega": 30.0,
        "quality": "psnr",
        "made": {},
        "seconds": 1.0,
    }
    return Zoo(weights, np.zeros(n, np.int32), np.ones(n, np.float32), about)


WRONG = {
    "unknown job": (["bake"], "bake"),
    "unknown subject": (["classify", "--subject", "cats"], "cats"),
    "missing zoo": (
        ["regress", "--zoo", "nowhere.safetensors"],
        "nowhere.safetensors: no such file",
    ),
    "not a zoo": (["regress", "--zoo", "{tmp}/other.safetensors"], "other.safetensors: not a zoo"),
    "too few to hold out": (["regress", "--fields", "10", "--held-out", "10"], "held-out"),
    "no fields": (["zoo", "--fields", "0"], "fields"),
    "more than there are": (
        ["zoo", "--subject", "{digits}", "--side", "4", "--crop", "0", "--fields", "61"],
        "--fields must be at most 60",
    ),
    "sines have no classes": (["classify", "--subject", "sines"], "sines: no such file"),
    "pictures have no frequency": (["regress", "--subject", "{digits}"], "--subject"),
    "wrong order": (["embed", "--lowest", "3", "--highest", "2"], "--lowest must be less than"),
    "no models": (["regress", "--models"], "--models needs one at least"),
    "another kind of zoo": (["regress", "--zoo", "{tmp}/pictures.safetensors"], "are pictures"),
    "too small a zoo": (
        ["classify", "--zoo", "{tmp}/pictures.safetensors", "--held-out", "2"],
        "--held-out must be less than the number of networks, 2",
    ),
    "no pictures to adapt to": (["adapt", "--subject", "sines"], "sines: no such file"),
    "crop too large": (["zoo", "--subject", "{digits}", "--fields", "3"], "20 x 20"),
    "unknown model": (["classify", "--models", "oracle"], "oracle"),
    "a model that cannot": (["forward", "--models", "transformer"], "transformer"),
    "grids of sines": (["zoo", "--kind", "mulfa"], "--kind mulfa needs a --subject of pictures"),
    "rows of grids": (["classify", "--kind", "mulfa", "--models", "inr2vec"], "rows"),
    "moved kernels": (["classify", "--kind", "mulfa", "--view-shift", "0.1"], "not grids"),
    "moved labels": (["regress", "--view-scale", "0.1"], "--view-scale"),
    "turned lines": (["embed", "--view-turn", "45"], "--view-turn"),
    "too much scale": (["classify", "--view-scale", "1"], "--view-scale must be at least 0"),
    "classifiers of another kind": (["adapt", "--kind", "siren"], "siren"),
    "fields of another kind": (["classify", "--kind", "cnn"], "cnn"),
    "no CIFAR-10": (["adapt-cifar"], "cifar-10: no such file or folder"),
    "parts of a SIREN": (["classify", "--read", "kernel"], "--kind mulfa"),
    "noise that is not to be learned": (["forward", "--view-noise", "0.1"], "--view-noise"),
    "no pictures to fit to": (["adapt", "--pictures", "0"], "--pictures must be at least 1"),
    "too much colour": (["adapt-cifar", "--jitter", "1.5"], "--jitter"),
    "no channels": (["regress", "--net.channels", "0"], "--net.channels must be at least 1"),
    "pickles of others": (["zoo", "--import", "{tmp}/other.pth"], "pickles can run any program"),
    "nothing to import": (["zoo", "--import", "nowhere"], "nowhere: no such file or folder"),
    "another size": (["zoo", "--subject", "{digits}", "--size", "27"], "--size"),
    "import and fit": (["zoo", "--import", "{tmp}", "--fields", "9"], "leave out --fields"),
    "sines of a size": (["zoo", "--size", "28"], "--size 28 needs a --subject of pictures"),
    "cut at full size": (
        ["classify", "--size", "28", "--crop", "0"],
        "leave out --side",
    ),
    "forward through grids": (["classify", "--kind", "mulfa", "--models", "forward"], "not grids"),
    "no points": (["classify", "--net.probes", "0"], "--net.probes must be at least 1"),
    "no states": (["classify", "--net.states", "0"], "--net.states must be at least 1"),
    "size of a zoo": (["classify", "--zoo", "z", "--size", "28"], "leave it out beside --zoo"),
    "no hidden layers": (["zoo", "--fit.hidden"], "--fit.hidden needs one layer at least"),
    "pooled signs": (
        ["classify", "--models", "dwsnet-signed", "--net.pool", "max"],
        "--net.pool is of dwsnet: leave it out with dwsnet-signed",
    ),
    "signs dropped out": (
        ["regress", "--models", "dwsnet", "dwsnet-signed", "--net.dropout", "0.1"],
        "--net.dropout is of dwsnet",
    ),
    "subject of a zoo": (
        ["classify", "--zoo", "z", "--subject", "fashion-mnist"],
        "--subject is of a zoo to be fitted: leave it out beside --zoo",
    ),
    "kind of a zoo": (["classify", "--zoo", "z", "--kind", "mulfa"], "leave it out beside --zoo"),
    "side of a zoo": (["classify", "--zoo", "z", "--side", "5"], "--side is of a zoo to be"),
    "number of a zoo": (["embed", "--zoo", "z", "--fields", "9"], "--fields is of a zoo to be"),
    "fit of a zoo": (["edit", "--zoo", "z", "--fit.lr", "1"], "--fit.lr is of a zoo to be"),
    "sines of a zoo": (["regress", "--zoo", "z", "--highest", "5"], "--highest is of a zoo to be"),
    "pictures of a zoo": (["adapt", "--zoo", "z", "--pictures", "5"], "--pictures is of a zoo"),
    "kind of a preset's zoo": (["adapt-cifar", "--zoo", "z", "--pictures", "5"], "--pictures is"),
    "lines of a zoo": (["forward", "--zoo", "z", "--subject", "mnist"], "--subject is of a zoo"),
    "no rounds": (["edit", "--net.rounds", "0"], "--net.rounds must be at least 1"),
    "an angle of no turn": (["edit", "--angle", "5"], "--angle is of --change turn"),
    "an unknown change": (["edit", "--change", "shrink"], "--change"),
    "fields of other pictures": (
        ["edit", "--zoo", "{tmp}/pictures.safetensors", "--subject", "{digits}", "--side", "4"]
        + ["--crop", "0", "--held-out", "1"],
        "its fields are of other pictures",
    ),
    "no steps": (["zoo", "--fit.steps", "0"], "--fit.steps must be at least 1"),
}


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_line_and_exit_code_2(
    digits, tmp_path, monkeypatch, capfd, arguments, words
):
    checkpoint.save(tmp_path / "other.safetensors", {"a": np.zeros(2, np.float32)}, {})
    pictures_zoo(2).save(tmp_path / "pictures.safetensors")
    (tmp_path / "other.pth").write_bytes(b"")
    arguments = [a.format(tmp=tmp_path, digits=digits) for a in arguments]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["weightspace.py", *arguments])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        cli.run(weightspace.Command, weightspace.main)
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and words in lines[0]
    assert sorted(tmp_path.iterdir()) == before
