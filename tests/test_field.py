"""Fields and their configs: every argument counts, every config builds, descriptions go round."""

import dataclasses
import gc
import inspect
from typing import get_args, get_type_hints

from jgrid import checkpoint
from jgrid.config import ArgumentError
from jgrid.encoding import FREQUENCIES, FourierFeatures
from jgrid.field import (
    FIELDS,
    DecoderConfig,
    DenseGridConfig,
    Domain,
    Field,
    FilterConfig,
    FourierGridConfig,
    FourierNetConfig,
    HashGridConfig,
    LiteralMulFAGridConfig,
    MFNConfig,
    MulFAGridConfig,
    OptDNNConfig,
    OptDNNGridConfig,
    RadialGridConfig,
    SirenConfig,
    VMGridConfig,
    WireConfig,
    count_parameters,
    field_from_dict,
    field_to_dict,
)
from jgrid.grid import Grid, ProductGrid
from jgrid.index import FourierIndex, GridIndex, PointIndex, r_sequence
from jgrid.kernel import InterpolationKernel, MulFAGainKernel, MulFAKernel, RadialKernel
from jgrid.network import MFN, MLP, FourierFilter, GaborFilter, Siren, Wire
from jgrid.ops.basis import PROFILES
from jgrid.optdnn.blocks import ACTIVATIONS
from jgrid.optdnn.methods import METHODS

import jittor as jt
import numpy as np
import pytest

N_OUT = 3
SMALL = [
    DenseGridConfig(
        finest=9,
        coarsest=4,
        levels=2,
        channels=3,
        profile="linear",
        decoder=DecoderConfig(width=7, depth=1),
        lr_features=0.02,
        lr_network=0.003,
    ),
    HashGridConfig(
        finest=19,
        coarsest=7,
        levels=2,
        channels=3,
        table_size=23,
        profile="linear",
        decoder=DecoderConfig(width=7, depth=1),
        lr_features=0.02,
        lr_network=0.003,
    ),
    MulFAGridConfig(
        finest=9,
        coarsest=4,
        levels=2,
        channels=3,
        table_size=61,
        kernels=1,
        octaves=1,
        spread=0.8,
        constant=0.2,
        profile="linear",
        decoder=DecoderConfig(width=7, depth=1),
        filter=FilterConfig(width=5, depth=1, frequency=3.0),
        lr_features=0.02,
        lr_network=0.003,
    ),
    LiteralMulFAGridConfig(
        finest=9,
        coarsest=4,
        levels=2,
        channels=3,
        octaves=1,
        floor=0.5,
        filter=FilterConfig(width=5, depth=1, frequency=3.0),
        decoder=DecoderConfig(width=7, depth=1),
        lr_features=0.02,
        lr_network=0.003,
    ),
    SirenConfig(width=11, depth=1, omega=20.0, lr=0.002),
    FourierNetConfig(encoding="gaussian", features=7, sigma=2.0, width=11, depth=1, lr=0.002),
    MFNConfig(filters="gabor", width=11, depth=1, scale=20.0, alpha=5.0, beta=2.0, lr=0.002),
    WireConfig(width=5, depth=2, omega=5.0, scale=2.0, lr=0.002),
    FourierGridConfig(
        finest=5,
        octaves=1,
        channels=3,
        profile="linear",
        decoder=DecoderConfig(width=7, depth=1),
        lr_features=0.02,
        lr_network=0.003,
    ),
    RadialGridConfig(
        nodes=30,
        neighbours=3,
        channels=3,
        octaves=1,
        sharpness=2.0,
        decoder=DecoderConfig(width=7, depth=1),
        lr_features=0.02,
        lr_kernel=0.004,
        lr_network=0.003,
    ),
    VMGridConfig(
        finest=5,
        rank=4,
        profile="linear",
        decoder=DecoderConfig(width=7, depth=1),
        scale=0.3,
        lr_features=0.02,
        lr_network=0.003,
    ),
    OptDNNConfig(
        method="heavy-ball",
        width=7,
        hidden=9,
        depth=2,
        activation="tanh",
        features=5,
        sigma=2.0,
        lr_network=0.002,
    ),
    OptDNNGridConfig(
        method="heavy-ball",
        width=7,
        hidden=9,
        depth=2,
        activation="tanh",
        finest=9,
        coarsest=4,
        levels=2,
        channels=3,
        lr_features=0.02,
        lr_network=0.003,
    ),
]
every_field = pytest.mark.parametrize("config", SMALL, ids=lambda config: type(config).__name__)


def test_every_kind_of_field_is_tested():
    assert {type(config) for config in SMALL} == set(FIELDS.values())


def test_a_field_saved_before_there_were_lattices_and_gates_stays_as_it_was():
    saved = field_to_dict(MulFAGridConfig(decoder=DecoderConfig()))
    del saved["fold"], saved["decoder"]["gated"]
    found = field_from_dict(saved)
    assert found.fold == "hash" and not found.decoder.gated
    assert field_from_dict(field_to_dict(MulFAGridConfig())) == MulFAGridConfig()


def without_decoder(config):
    return dataclasses.replace(config, decoder=DecoderConfig(width=7, depth=0))


def inputs(dim, n=5):
    return np.random.default_rng(0).uniform(size=(n, dim)).astype(np.float32)


def start_over():
    jt.set_global_seed(0)
    np.random.seed(0)


def state(module):
    return {name: p.numpy() for name, p in module.state_dict().items()}


def facts(config, dim=2):
    """All that a config may decide: values, weights, learning rates."""
    start_over()
    model = config.build(Domain(dim, N_OUT))
    return {
        "value": model(jt.array(inputs(dim))).numpy(),
        **state(model),
        "rates": [g["lr"] for g in model.parameter_groups()],
    }


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def other_value(name, value):
    """Another value of the same type, sensible for any flag of that type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5
    if name == "fold":
        return {"hash": "lattice", "lattice": "hash"}[value]
    if isinstance(value, str):
        return {
            "profile": "smooth",
            "encoding": "positional",
            "filters": "fourier",
            "method": "optimistic",
            "activation": "relu",
        }[name]
    raise AssertionError(f"say here what another value of {name} = {value!r} could be")


def changed_configs(config):
    """The config with one field changed, for each field, also of configs inside it: (name,
    config)."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        inner = (
            changed_configs(value)
            if dataclasses.is_dataclass(value)
            else [("", other_value(f.name, value))]
        )
        for name, changed in inner:
            yield f"{f.name}.{name}".strip("."), dataclasses.replace(config, **{f.name: changed})


ONLY_WITH_DECODER = {
    "channels",
    "decoder.width",
    "decoder.gated",
    "lr_network",
    "kernels",
    "spread",
    "constant",
}
ONLY_WITHOUT_DECODER = {"filter.width", "filter.depth", "filter.frequency"}


@every_field
def test_every_flag_counts(config):
    """A flag that nothing reads fails here."""
    starts = [(config, ONLY_WITHOUT_DECODER)]
    if hasattr(config, "decoder"):
        starts.append((without_decoder(config), ONLY_WITH_DECODER))
    for start, unread in starts:
        base = facts(start)
        assert same(base, facts(start)), (
            "two builds of one config differ, so this test could not tell anything"
        )
        idle = {
            name for name, changed in changed_configs(start) if same(base, facts(changed))
        } - unread
        assert not idle, f"changing these changes nothing: {idle}"


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("depth", [0, 1])
@every_field
def test_builds_and_runs(config, dim, depth):
    if dataclasses.is_dataclass(getattr(config, "decoder", None)):
        config = dataclasses.replace(config, decoder=DecoderConfig(width=7, depth=depth))
    else:
        config = dataclasses.replace(config, depth=depth + 1)
    model = config.build(Domain(dim, N_OUT))
    value = model(jt.array(inputs(dim))).numpy()
    assert value.shape == (5, N_OUT) and np.isfinite(value).all()
    trained = [id(p) for group in model.parameter_groups() for p in group["params"]]
    free = {id(p): p for p in model.parameters() if not p.is_stop_grad()}
    assert sorted(trained) == sorted(set(trained)) == sorted(free)
    assert count_parameters(model) == sum(p.numel() for p in free.values())


@every_field
def test_a_saved_field_comes_back_exactly(config):
    """Also its fixed arrays, which were drawn when it was built."""
    x = jt.array(inputs(2))
    model = config.build(Domain(2, N_OUT))
    other = config.build(Domain(2, N_OUT))
    other(x).sync()
    checkpoint.assign(other, state(model))
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())
    assert [g["name"] for g in other.parameter_groups()] == [
        g["name"] for g in model.parameter_groups()
    ]
    assert count_parameters(other) == count_parameters(model)


def test_parts_have_their_own_learning_rates():
    model = SMALL[2].build(Domain(2, N_OUT))
    assert {g["name"]: g["lr"] for g in model.parameter_groups()} == {
        "features": 0.02,
        "kernel": 0.003,
        "network": 0.003,
    }
    alone = without_decoder(SMALL[2]).build(Domain(2, N_OUT))
    assert {g["name"]: g["lr"] for g in alone.parameter_groups()} == {
        "features": 0.02,
        "kernel": 0.003,
    }
    features = [g["params"] for g in model.parameter_groups() if g["name"] == "features"][0]
    assert [tuple(p.shape) for p in features] == [(5 * 5 + 61, 3)]  # the finer level is hashed


def test_without_decoder_the_field_is_linear_in_its_features():
    model = without_decoder(SMALL[0]).build(Domain(2, N_OUT))
    assert model.network is None
    x = jt.array(inputs(2))
    value = model(x).numpy()
    model.grid.w.assign(model.grid.w.numpy() * 3)
    np.testing.assert_allclose(model(x).numpy(), 3 * value, rtol=1e-5, atol=1e-9)


def test_count_parameters_by_hand():
    """Levels 4 and 9 in 2D, 3 channels; MLP from 2 x 3 to 7 to 3."""
    assert count_parameters(SMALL[0].build(Domain(2, N_OUT))) == (5 * 5 + 10 * 10) * 3 + (
        6 * 7 + 7
    ) + (7 * 3 + 3)
    # a kernel of 1 + 4 waves for each of 3 channels at each of 2 levels
    assert count_parameters(SMALL[2].build(Domain(2, N_OUT))) == (5 * 5 + 61) * 3 + 2 * 3 * 5 + (
        6 * 7 + 7
    ) + (7 * 3 + 3)
    # filter network: 4 waves to 5, frequencies and phases of 5, last layer to 3
    assert count_parameters(without_decoder(SMALL[2]).build(Domain(2, N_OUT))) == (
        5 * 5 + 61
    ) * 3 + (4 * 5 + 5) + (2 * 5 + 5) + (5 * 3 + 3)
    assert count_parameters(SMALL[4].build(Domain(2, N_OUT))) == (2 * 11 + 11) + (11 * 3 + 3)


def test_aspect_makes_cells_square():
    """On a picture twice as wide as high the short axis gets half the cells, and the whole as many
    as a square picture."""
    model = SMALL[0].build(Domain(2, N_OUT, (1.0, 0.5)))
    assert model.grid.index.cells.tolist() == [[6, 3], [13, 6]]
    assert SMALL[0].build(Domain(2, N_OUT, (1.0, 1e-2))).grid.index.cells.tolist() == [
        [40, 1],
        [90, 1],
    ]


@every_field
def test_description_goes_round(config):
    assert field_from_dict(field_to_dict(config)) == config
    assert field_to_dict(config)["kind"] in FIELDS


def test_unknown_descriptions_are_refused():
    good = field_to_dict(SMALL[0])
    for bad, word in (
        ({**good, "kind": "grid:nope"}, "grid:nope"),
        ({**good, "bogus": 1}, "bogus"),
        ({"finest": 3}, "None"),
    ):
        with pytest.raises(ValueError, match=word):
            field_from_dict(bad)


BAD = [
    (DenseGridConfig, "finest", -3),
    (DenseGridConfig, "levels", 0),
    (HashGridConfig, "table_size", 0),
    (HashGridConfig, "channels", 0),
    (MulFAGridConfig, "octaves", 0),
    (MulFAGridConfig, "kernels", 0),
    (FilterConfig, "depth", 0),
    (FilterConfig, "frequency", -1.0),
    (DecoderConfig, "width", 0),
    (DecoderConfig, "depth", -1),
    (MulFAGridConfig, "constant", float("nan")),
    (DenseGridConfig, "profile", "cubist"),
    (SirenConfig, "width", 0),
    (SirenConfig, "omega", -30.0),
    (FourierNetConfig, "encoding", "morse"),
    (FourierNetConfig, "features", 0),
    (MFNConfig, "filters", "coffee"),
    (MFNConfig, "alpha", 0.0),
    (WireConfig, "depth", 0),
    (FourierGridConfig, "octaves", -1),
    (FourierGridConfig, "finest", 0),
    (RadialGridConfig, "neighbours", 30000),
    (RadialGridConfig, "octaves", -1),
    (RadialGridConfig, "lr_kernel", 0.0),
    (VMGridConfig, "rank", 0),
    (VMGridConfig, "profile", "cubist"),
    (OptDNNConfig, "method", "newton"),
    (OptDNNConfig, "hidden", 0),
    (OptDNNConfig, "activation", "swoosh"),
    (OptDNNConfig, "sigma", 0.0),
    (OptDNNGridConfig, "levels", 0),
    (OptDNNGridConfig, "lr_features", -1.0),
]


@pytest.mark.parametrize(
    "cls, name, value", BAD, ids=[f"{c.__name__}-{n}-{i}" for i, (c, n, _) in enumerate(BAD)]
)
def test_bad_values_are_refused_when_a_config_is_made(cls, name, value):
    with pytest.raises(ArgumentError, match=f"^`{name}` must be "):
        cls(**{name: value})


@pytest.mark.parametrize(
    "cls, name, choices",
    [
        (DenseGridConfig, "profile", PROFILES),
        (FourierNetConfig, "encoding", ["none", *FREQUENCIES]),
        (OptDNNConfig, "method", METHODS),
        (OptDNNConfig, "activation", ACTIVATIONS),
    ],
    ids=["profile", "encoding", "method", "activation"],
)
def test_the_choices_are_those_there_are(cls, name, choices):
    assert get_args(get_type_hints(cls)[name]) == tuple(choices)


def test_a_decoder_may_have_no_hidden_layer():
    assert DenseGridConfig(decoder=DecoderConfig(depth=0)).build(Domain(2, N_OUT)).network is None


# Constructors below the configs: for each the arguments it is built with, and another value for
# every one of them.


def value_and_ops(model, x):
    """The value and the number of operations its graph has: a fused form differs from its plain
    twin in nothing else."""
    gc.collect()
    jt.sync_all()
    x = jt.array(x)
    before = jt.liveness_info()["lived_ops"]
    value = model(x)
    ops = jt.liveness_info()["lived_ops"] - before
    return {"value": value.numpy(), "ops": ops}


def index_facts(**arguments):
    index = GridIndex(**arguments)
    node, offset = index(jt.array(inputs(index.dim)))
    return {"node": node.numpy(), "offset": offset.numpy(), "n_nodes": index.n_nodes}


def grid_facts(**arguments):
    index = GridIndex(2, arguments.pop("index"), None)
    grid = Grid(index, InterpolationKernel(arguments.pop("kernel")), **arguments)
    return {**value_and_ops(grid, inputs(2)), **state(grid)}


def gain_facts(**arguments):
    arguments["positions"] = GridIndex(2, arguments["positions"], None).positions()
    kernel = MulFAGainKernel(**arguments)
    kernel.last.weight.assign(np.ones(tuple(kernel.last.weight.shape), np.float32))
    index = GridIndex(2, [2], None)
    x = jt.array(inputs(2))
    return {"phi": kernel(x, *index(x)).numpy(), **state(kernel)}


def kernel_facts(cls):
    def kernel(**arguments):
        x = jt.array(inputs(2))
        return {"phi": cls(**arguments)(x, *GridIndex(2, [2], None)(x)).numpy()}

    return kernel


def mulfa_facts(**arguments):
    kernel = MulFAKernel(**arguments)
    dim = arguments["dim"]
    x = jt.array(inputs(dim))
    return {
        "phi": kernel(x, *GridIndex(dim, range(2, 2 + arguments["levels"]), None)(x)).numpy(),
        **state(kernel),
    }


def warp_facts(**arguments):
    index = FourierIndex(**arguments)
    node, offset = index(jt.array(inputs(index.dim)))
    return {"node": node.numpy(), "offset": offset.numpy(), "n_nodes": index.n_nodes}


def point_facts(nodes, k):
    node, offset = PointIndex(r_sequence(nodes, 2), k)(jt.array(inputs(2)))
    return {"node": node.numpy(), "offset": offset.numpy()}


def radial_facts(**arguments):
    kernel = RadialKernel(**arguments)
    dim = arguments["dim"]
    x = jt.array(inputs(dim))
    return {"phi": kernel(x, *PointIndex(r_sequence(9, dim), 3)(x)).numpy(), **state(kernel)}


def product_facts(modes):
    def grid(axes):
        return axes, Grid(GridIndex(len(axes), [2]), InterpolationKernel(), 2, scale=1.0)

    return network_facts(ProductGrid)(modes=[[grid(axes) for axes in mode] for mode in modes])


def network_facts(cls):
    def network(**arguments):
        model = cls(**arguments)
        return {
            **value_and_ops(model, inputs(arguments.get("n_in", arguments.get("dim", 2)))),
            **state(model),
        }

    return network


def mfn_facts(filters, n_out):
    return network_facts(MFN)(
        filters=[FourierFilter(2, 5, 3.0) for _ in range(filters)], n_out=n_out
    )


def field_facts(grid, network, rates):
    start_over()
    model = Field(
        Grid(GridIndex(2, [2], None), InterpolationKernel(), 2) if grid else None,
        Siren(2, N_OUT, 11, 1, network),
        rates,
    )
    x = jt.array(inputs(2))
    return {
        "value": model(x).numpy(),
        **state(model),
        "rates": [g["lr"] for g in model.parameter_groups()],
    }


BUILT = [
    (
        GridIndex,
        index_facts,
        dict(dim=2, cells=[3, 9], table_size=23, fold="lattice"),
        dict(dim=3, cells=[3, 8], table_size=100, fold="hash"),
    ),
    (
        Grid,
        grid_facts,
        dict(index=[3, 5], kernel="linear", channels=2, concat=False, fused=True, scale=1.0),
        dict(index=[3, 6], kernel="smooth", channels=3, concat=True, fused=False, scale=0.5),
    ),
    (
        InterpolationKernel,
        kernel_facts(InterpolationKernel),
        dict(profile="linear", parts=1),
        dict(profile="nearest", parts=2),
    ),
    (FourierIndex, warp_facts, dict(dim=2, cells=3, octaves=1), dict(dim=3, cells=4, octaves=2)),
    (PointIndex, point_facts, dict(nodes=9, k=3), dict(nodes=8, k=4)),
    (
        RadialKernel,
        radial_facts,
        dict(n_nodes=9, dim=2, channels=2, octaves=1, sharpness=2.0),
        dict(n_nodes=10, dim=1, channels=3, octaves=2, sharpness=3.0),
    ),
    (ProductGrid, product_facts, dict(modes=[[(0,), (1,)]]), dict(modes=[[(0, 1), (1,)], [(0,)]])),
    (
        MulFAKernel,
        mulfa_facts,
        dict(
            dim=2,
            levels=1,
            channels=2,
            kernels=1,
            octaves=1,
            profile="linear",
            spread=1.0,
            constant=0.0,
        ),
        dict(
            dim=3,
            levels=2,
            channels=3,
            kernels=2,
            octaves=2,
            profile="smooth",
            spread=0.5,
            constant=0.7,
        ),
    ),
    (
        MulFAGainKernel,
        gain_facts,
        dict(
            positions=[2], channels=3, octaves=1, width=5, depth=1, frequency=3.0, profile="linear"
        ),
        dict(
            positions=[3], channels=2, octaves=2, width=6, depth=2, frequency=4.0, profile="smooth"
        ),
    ),
    (
        MLP,
        network_facts(MLP),
        dict(n_in=4, n_out=2, width=5, depth=1, bias=0.1, gated=True, fused=True),
        dict(n_in=3, n_out=3, width=6, depth=2, bias=0.2, gated=False, fused=False),
    ),
    (
        Siren,
        network_facts(Siren),
        dict(dim=2, n_out=2, width=5, depth=1, omega=20.0),
        dict(dim=3, n_out=3, width=6, depth=2, omega=30.0),
    ),
    (
        FourierFeatures,
        network_facts(FourierFeatures),
        dict(frequencies=np.eye(2)),
        dict(frequencies=2 * np.eye(2)),
    ),
    (
        FourierFilter,
        network_facts(FourierFilter),
        dict(dim=2, width=5, scale=3.0),
        dict(dim=3, width=6, scale=4.0),
    ),
    (
        GaborFilter,
        network_facts(GaborFilter),
        dict(dim=2, width=5, scale=3.0, alpha=2.0, beta=1.0),
        dict(dim=3, width=6, scale=4.0, alpha=3.0, beta=2.0),
    ),
    (MFN, mfn_facts, dict(filters=2, n_out=2), dict(filters=3, n_out=3)),
    (
        Wire,
        network_facts(Wire),
        dict(dim=2, n_out=2, width=5, depth=2, omega=5.0, scale=2.0),
        dict(dim=3, n_out=3, width=6, depth=3, omega=6.0, scale=3.0),
    ),
    (
        Field,
        field_facts,
        dict(grid=True, network=20.0, rates={"features": 0.1, "network": 0.2}),
        dict(grid=False, network=30.0, rates={"features": 0.3, "network": 0.2}),
    ),
]


@pytest.mark.parametrize("cls, build, base, others", BUILT, ids=[cls.__name__ for cls, *_ in BUILT])
def test_every_constructor_argument_counts(cls, build, base, others):
    names = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    assert set(names) == base.keys() == others.keys(), (
        "a constructor has gained or lost an argument: give it values here"
    )
    start_over()
    first = build(**base)
    start_over()
    assert same(first, build(**base))
    idle = []
    for name in names:
        start_over()
        if same(first, build(**{**base, name: others[name]})):
            idle.append(name)
    # under CUDA the plain twin of the fused network serves
    excused = ["fused"] if cls is MLP and jt.flags.use_cuda else []
    assert idle == excused, f"changing these changes nothing: {idle}"


def test_siren_starts_as_published():
    """First weights uniform in +-1/D, the others in +-sqrt(6/width)/omega (Sitzmann et al. 2020,
    section 3.2)."""
    dim = 2
    width = 128
    omega = 20.0
    layers = list(Siren(dim, N_OUT, width, 2, omega).layers)
    assert len(layers) >= 3
    for n, layer in enumerate(layers):
        bound = 1 / dim if n == 0 else np.sqrt(6 / width) / omega
        weight = layer.weight.numpy()
        assert np.abs(weight).max() <= bound * (1 + 1e-6)
        assert np.abs(weight).max() > 0.95 * bound
        assert abs(weight.mean()) < 4 * bound / np.sqrt(3 * weight.size)
        assert np.isclose(
            weight.std(), bound / np.sqrt(3), rtol=0.12 if weight.size < 1000 else 0.03
        )


def test_siren_sees_coordinates_from_minus_one_to_one():
    """With zero biases the middle of the domain is the sine's zero."""
    siren = Siren(2, 1, 11, 1, 20.0)
    for layer in siren.layers:
        layer.bias.assign(np.zeros(tuple(layer.bias.shape), np.float32))
    middle, corner = siren(jt.array(np.array([[0.5, 0.5], [1.0, 1.0]], np.float32))).numpy()[:, 0]
    first, last = (layer.weight.numpy().astype(np.float64) for layer in siren.layers)
    assert abs(middle) < 1e-6
    assert np.isclose(corner, (last @ np.sin(20.0 * first.sum(1)))[0], rtol=1e-3, atol=1e-5)


def test_mlp_starts_he_uniform():
    """Hidden weights in +-sqrt(6/n_in), last ones in +-sqrt(3/n_in), biases zero but for the
    last."""
    layers = list(MLP(50, 40, 60, 2, 0.25).layers)
    for layer, bound, bias in zip(layers, np.sqrt([6 / 50, 6 / 60, 3 / 60]), [0, 0, 0.25]):
        weight = layer.weight.numpy()
        assert 0.95 * bound < np.abs(weight).max() <= bound * (1 + 1e-6)
        assert np.isclose(weight.std(), bound / np.sqrt(3), rtol=0.03)
        assert (layer.bias.numpy() == np.float32(bias)).all()


def test_a_gated_mlp_starts_near_a_plain_one():
    """Gates begin as ones, with small weights: within 2 % of the network without them."""
    start_over()
    gated = MLP(20, 3, 30, 2, gated=True)
    plain = MLP(20, 3, 30, 2)
    a, *layers = gated.layers
    for own, layer in zip(plain.layers, [*layers[0:-1:2], layers[-1]]):
        own.weight.assign(layer.weight)
    x = jt.array(np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32))
    difference = np.abs(gated(x).numpy() - plain(x).numpy()).max()
    assert 0 < difference < 0.02 * np.abs(plain(x).numpy()).max()
    assert [layer.bias.numpy().mean() for layer in (a, layers[1], layers[3])] == [1, 1, 1]


def mlp_case(depth, fused, n=37, width=13, gated=False):
    """An MLP whose sizes are no multiples of any vector width, its input and an upstream
    gradient."""
    start_over()
    network = MLP(5, 3, width, depth, 0.1, gated, fused)
    for layer in network.layers:
        layer.bias.assign(np.random.uniform(-0.5, 0.5, tuple(layer.bias.shape)).astype(np.float32))
        if gated:  # those of a start hardly gate
            layer.weight.assign(np.random.normal(size=layer.weight.shape).astype(np.float32) / 2)
    random = np.random.default_rng(1)
    return (
        network,
        random.normal(size=(n, 5)).astype(np.float32),
        random.normal(size=(n, 3)).astype(np.float32),
    )


# the last is wider than the fused op takes
@pytest.mark.parametrize("n, width", [(1, 13), (37, 13), (301, 77), (50, 130)])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_mlp_equals_numpy(depth, fused, n, width):
    """Values, and gradients by the chain rule written out."""
    network, x, upstream = mlp_case(depth, fused, n, width)
    layers = list(network.layers)
    weights = [
        (layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64))
        for layer in layers
    ]
    inputs_of = []
    z = x.astype(np.float64)
    for n, (weight, bias) in enumerate(weights):
        inputs_of.append(z)
        z = z @ weight.T + bias
        z = np.maximum(z, 0) if n < len(weights) - 1 else z
    wanted = []
    back = upstream.astype(np.float64)
    for n in reversed(range(len(weights))):
        wanted[:0] = [back.T @ inputs_of[n], back.sum(0)]
        back = back @ weights[n][0] * ((inputs_of[n] > 0) if n else 1)
    points = jt.array(x)
    value = network(points)
    found = jt.grad(
        (value * jt.array(upstream)).sum(),
        [points, *(p for layer in layers for p in (layer.weight, layer.bias))],
    )
    np.testing.assert_allclose(value.numpy(), z, rtol=1e-4, atol=1e-5)
    for a, b in zip(found, [back, *wanted]):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-5 * max(1, np.abs(b).max()))


# few enough that no hidden unit lies within rounding of its kink
@pytest.mark.parametrize("n, width", [(1, 13), (101, 17), (9, 130)])
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_gated_mlp_equals_numpy(depth, fused, n, width):
    """Values, and gradients by differences along a random direction of everything."""
    network, x, upstream = mlp_case(depth, fused, n, width, gated=True)
    parameters = [p for layer in network.layers for p in (layer.weight, layer.bias)]
    start = [x.astype(np.float64), *(p.numpy().astype(np.float64) for p in parameters)]

    def value(z, *parameters):
        layers = list(zip(parameters[::2], parameters[1::2]))
        (a, offset), *hidden, (last, bias) = layers
        z = (z @ a.T + offset) * z
        for (weight, of_weight), (gate, of_gate) in zip(hidden[::2], hidden[1::2]):
            z = np.maximum(z @ weight.T + of_weight, 0) * (z @ gate.T + of_gate)
        return z @ last.T + bias

    points = jt.array(x)
    found = network(points)
    np.testing.assert_allclose(found.numpy(), value(*start), rtol=1e-4, atol=1e-4)
    gradients = jt.grad((found * jt.array(upstream)).sum(), [points, *parameters])
    random = np.random.default_rng(2)
    for n, gradient in enumerate(gradients):
        way = random.normal(size=start[n].shape)
        ends = [
            (value(*(v + h * way if i == n else v for i, v in enumerate(start))) * upstream).sum()
            for h in (1e-6, -1e-6)
        ]
        slope = (ends[0] - ends[1]) / 2e-6
        scale = np.abs(gradient.numpy() * way).sum()
        assert abs((gradient.numpy() * way).sum() - slope) < 1e-4 * scale


@pytest.mark.parametrize("gated", [False, True])
def test_mlp_second_order_fused_equals_plain(gated):
    """The gradient of |dz/dx|^2: what an eikonal loss asks of the decoder."""
    found = []
    for fused in (True, False):
        network, x, upstream = mlp_case(2, fused, gated=gated)
        points = jt.array(x)
        slope = jt.grad((network(points) * jt.array(upstream)).sum(), points)
        weights = [layer.weight for layer in network.layers]
        found.append([g.numpy() for g in jt.grad((slope * slope).sum(), weights)])
    for fused, plain in zip(*found):
        assert np.abs(plain).max() > 0
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("n, width", [(1, 5), (300, 33)])
def test_squared_error_fused_equals_plain(n, width, gated):
    """The loss, its gradients scaled by what comes after it, and the gradient of a gradient."""
    found = []
    for fused in (True, False):
        network, x, _ = mlp_case(2, fused, n, width, gated)
        points = jt.array(x)
        target = jt.array(
            np.random.default_rng(1)
            .uniform(size=(n, network.layers[-1].weight.shape[0]))
            .astype(np.float32)
        ).stop_grad()
        wanted = [points, *(p for layer in network.layers for p in (layer.weight, layer.bias))]
        loss = network.squared_error(points, target)
        np.testing.assert_allclose(
            loss.item(), np.square(network(points).numpy() - target.numpy()).mean(), rtol=1e-5
        )
        first = jt.grad(loss * 3.0, wanted)
        second = jt.grad((first[0] * first[0]).sum(), wanted)
        found.append([g.numpy() for g in (*first, *second)])
    for fused, plain in zip(*found):
        np.testing.assert_allclose(fused, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())
    assert all(np.abs(plain).max() > 0 for plain in found[1][:-1])


def test_squared_error_of_a_target_that_wants_a_gradient():
    network, x, target = mlp_case(1, True, 9, 5)
    target = jt.array(target)
    slope = jt.grad(network.squared_error(jt.array(x), target), target).numpy()
    np.testing.assert_allclose(
        slope,
        2 * (target.numpy() - network(jt.array(x)).numpy()) / slope.size,
        rtol=1e-4,
        atol=1e-7,
    )


def test_plain_ops_compute_the_same_field():
    model = SMALL[2].build(Domain(2, N_OUT))
    x = jt.array(inputs(2))
    fused = value_and_ops(model, inputs(2))
    model.use_plain_ops()
    plain = value_and_ops(model, inputs(2))
    assert plain["ops"] > fused["ops"]
    np.testing.assert_allclose(plain["value"], fused["value"], rtol=1e-5)
    assert float(model.squared_error(x, jt.zeros((5, N_OUT))).item()) == pytest.approx(
        np.square(plain["value"]).mean(), rel=1e-4
    )


def test_frequencies_by_hand():
    """D = 2, m = 3 along each axis: the article's sigma^(j/m), the repository's 2^t - 1."""
    assert FREQUENCIES["basic"](2, 6, 8.0).tolist() == [[1, 0], [0, 1]]
    np.testing.assert_allclose(
        FREQUENCIES["positional"](2, 6, 8.0), [[1, 0], [2, 0], [4, 0], [0, 1], [0, 2], [0, 4]]
    )
    np.testing.assert_allclose(
        FREQUENCIES["log-linear"](2, 7, 4.0), [[0, 0], [3, 0], [15, 0], [0, 0], [0, 3], [0, 15]]
    )
    drawn = FREQUENCIES["gaussian"](2, 4000, 8.0)
    assert drawn.shape == (4000, 2) and abs(drawn.std() / 8 - 1) < 0.05 and abs(drawn.mean()) < 0.5
    with pytest.raises(ValueError, match="at least 3"):
        FREQUENCIES["positional"](3, 2, 8.0)


def test_fourier_features_equal_numpy():
    frequencies = np.random.default_rng(1).normal(size=(3, 2))
    x = inputs(2).astype(np.float64)
    angle = 2 * np.pi * x @ frequencies.T
    value = FourierFeatures(frequencies)(jt.array(inputs(2))).numpy()
    np.testing.assert_allclose(
        value, np.concatenate([np.sin(angle), np.cos(angle)], axis=1), atol=1e-5
    )


def test_an_encoding_of_none_is_a_network_on_the_coordinates():
    assert [
        tuple(p.shape)
        for p in FourierNetConfig(encoding="none", width=7, depth=1)
        .build(Domain(2, N_OUT))
        .parameters()
    ][0] == (7, 2)


def wide(module):
    return {name: p.astype(np.float64) for name, p in state(module).items()}


def filter_loop(p, prefix, x):
    """sin(Omega x + phi), under exp(-gamma |x - mu|^2 / 2) where the filter has a mu."""
    value = np.sin(x @ p[f"{prefix}linear.weight"].T + p[f"{prefix}linear.bias"])
    if f"{prefix}mu" in p:
        value = value * np.exp(
            -0.5 * p[f"{prefix}gamma"] * ((x[:, None] - p[f"{prefix}mu"]) ** 2).sum(-1)
        )
    return value


def mfn_loop(p, x):
    x = 2 * x - 1
    z = filter_loop(p, "filters.0.", x)
    for n in range(2):
        z = (z @ p[f"layers.{n}.weight"].T + p[f"layers.{n}.bias"]) * filter_loop(
            p, f"filters.{n + 1}.", x
        )
    return z @ p["layers.2.weight"].T + p["layers.2.bias"]


def wire_loop(p, x):
    """In complex numbers."""

    def paired(value):
        return value[: len(value) // 2] + 1j * value[len(value) // 2 :]

    z = 2 * x - 1
    for n in range(3):
        weight, bias = (
            p[f"{name}.{n}"] if n == 0 else paired(p[f"{name}.{n}"]) for name in ("weight", "bias")
        )
        v = z @ weight.T + bias
        z = np.exp(5j * v - np.abs(2 * v) ** 2)
    return (z @ paired(p["weight.3"]).T).real + p["bias.3"]


NETWORKS = {
    "fourier": (lambda: MFN([FourierFilter(2, 5, 3.0) for _ in range(3)], N_OUT), mfn_loop),
    "gabor": (lambda: MFN([GaborFilter(2, 5, 3.0, 2.0, 1.0) for _ in range(3)], N_OUT), mfn_loop),
    "wire": (lambda: Wire(2, N_OUT, 4, 3, 5.0, 2.0), wire_loop),
}


@pytest.mark.parametrize("make, loop", NETWORKS.values(), ids=NETWORKS)
def test_a_network_equals_numpy(make, loop):
    """Values, and gradients for the points and every parameter against central differences of the
    twin."""
    model = make()
    x = inputs(2).astype(np.float64)
    upstream = np.random.default_rng(2).normal(size=(5, N_OUT))
    points = jt.array(inputs(2))
    value = model(points)
    np.testing.assert_allclose(value.numpy(), loop(wide(model), x), atol=2e-5)
    parameters = model.state_dict()
    found = jt.grad(
        (value * jt.array(upstream.astype(np.float32))).sum(), [points, *parameters.values()]
    )
    start = {"x": x, **wide(model)}
    for (name, p), gradient in zip(start.items(), found):
        direction = np.random.default_rng(3).normal(size=p.shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**start, name: p + step * direction}
            ends.append((loop(moved, moved["x"]) * upstream).sum())
        slope = (ends[0] - ends[1]) / 2e-6
        gradient = gradient.numpy()
        assert abs((gradient * direction).sum() - slope) < 1e-4 * max(
            1, np.linalg.norm(gradient)
        ), name


def test_filter_networks_start_as_published():
    """Fathony et al.'s code: Omega in +-scale/sqrt(D), times sqrt(gamma) for Gabor; phi in +-pi; mu
    in +-1; gamma ~ Gamma(alpha, beta)."""
    fourier = FourierFilter(2, 2000, 8.0)
    gabor = GaborFilter(2, 2000, 8.0, 6.0, 2.0)
    gamma = gabor.gamma.numpy()
    assert abs(gamma.mean() / 3 - 1) < 0.1 and gamma.min() > 0
    bound = 8 / np.sqrt(2)
    for ratio in (
        fourier.linear.weight.numpy() / bound,
        gabor.linear.weight.numpy() / np.sqrt(gamma)[:, None] / bound,
        gabor.mu.numpy(),
        fourier.linear.bias.numpy() / np.pi,
        gabor.linear.bias.numpy() / np.pi,
    ):
        assert 0.95 < np.abs(ratio).max() <= 1 + 1e-5 and abs(ratio.std() * np.sqrt(3) - 1) < 0.05


def test_nodes_are_placed_by_the_subject_and_saved(tmp_path):
    """A field built again without the subject is the same once its file is read."""
    config = SMALL[9]
    places = np.random.default_rng(0).uniform(size=(30, 2))
    model = config.build(Domain(2, N_OUT, None, lambda n: places[:n]))
    np.testing.assert_array_equal(model.grid.index.positions(), places.astype(np.float32))
    checkpoint.save(tmp_path / "model.safetensors", state(model), field_to_dict(config))
    tensors, saved = checkpoint.read(tmp_path / "model.safetensors")
    other = field_from_dict(saved).build(Domain(2, N_OUT))
    x = jt.array(inputs(2))
    assert not np.array_equal(other(x).numpy(), model(x).numpy())
    checkpoint.assign(other, tensors)
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())


def test_count_parameters_of_factors_by_hand():
    """Two lines of 6 nodes in 2D, three planes and lines in 3D, rank 4; the MLP from 4 or 12 to 7
    to 3."""
    assert count_parameters(SMALL[10].build(Domain(2, N_OUT))) == 2 * 6 * 4 + (4 * 7 + 7) + (
        7 * 3 + 3
    )
    assert count_parameters(SMALL[10].build(Domain(3, N_OUT))) == 3 * (36 + 6) * 4 + (
        12 * 7 + 7
    ) + (7 * 3 + 3)


def test_values_are_the_fields_own_also_of_no_points():
    field = DenseGridConfig(finest=6, coarsest=3).build(Domain(2, 3))
    points = np.random.default_rng(0).uniform(size=(5, 2)).astype(np.float32)
    np.testing.assert_array_equal(field.values(points), field(jt.array(points)).numpy())
    assert field.values(points[:0]).shape == (0, 3)
