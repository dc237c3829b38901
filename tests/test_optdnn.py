"""OptDNN: methods against theory, networks against loops, implicit layers against unrolling; the
toy problems and the app."""

import json
import subprocess
import sys
from dataclasses import asdict

import jgrid
from jgrid import checkpoint, cli
from jgrid.labelled import load_labelled
from jgrid.optdnn import blocks, figures, implicit, toys
from jgrid.optdnn.blocks import (
    ACTIVATIONS,
    LIPSCHITZ,
    Affine,
    AttentionBlock,
    ConvBlock,
    ConvNeXtBlock,
    TwoLayer,
    bounded,
    spectral_norm,
)
from jgrid.optdnn.classifier import (
    ClassifierConfig,
    DenseStage,
    activations,
    dense_classifier,
    multiply_adds,
    optdnn_classifier,
    size,
)
from jgrid.optdnn.flow import VectorField, flow_errors, slope
from jgrid.optdnn.implicit import FixedPointSolver, anderson, unrolled
from jgrid.optdnn.labels import Classifier, LabelTask, load_classifier, train_classifier
from jgrid.optdnn.methods import (
    IMPLICIT,
    METHODS,
    Method,
    _tableau,
    analyse,
    apg2,
    clock,
    find_method,
    heavy_ball,
    nesterov,
    run,
)
from jgrid.optdnn.network import OptDNN, coordinate_network

import jittor as jt
import numpy as np
import optdnn
import pytest
from conftest import DEVICE
from jittor import nn
from scipy.signal import ss2tf
from test_labelled import idx_bytes

every_method = pytest.mark.parametrize("name", METHODS)
DIM = 3
LAYERS = 4


def direct(module, rest, d, iterations=200):
    """y = r + d T(y) by plain iteration."""
    y = rest
    for _ in range(iterations):
        y = rest + d * module(y)
    return y


# the methods as their papers write them, as loops: T[k] (or T[k][j]) are functions, x a point; the
# twin of `run`


def by_gd(T, x):
    for (t,) in T:
        x = x + t(x)
    return x


def by_heavy_ball(T, x):
    before = x
    for (t,) in T:
        x, before = x + 0.9 * (x - before) + t(x), x
    return x


def by_nesterov(T, x):
    before = x
    for k, (t,) in enumerate(T):
        y = x + k / (k + 3) * (x - before)
        x, before = y + t(y), x
    return x


def by_apg2(T, x):
    z = x
    for k, (t,) in enumerate(T):
        th = 2 / (k + 2)
        z_new = z + t((1 - th) * x + th * z)
        x = (1 - th) * x + th * z_new
        z = z_new
    return x


def by_two_gradients(now, before):
    def loop(T, x):
        old = None
        for (t,) in T:
            new = t(x)
            x = x + (new if old is None else now * new - before * old)
            old = new
        return x

    return loop


def by_dual_averaging(T, x):
    start = x
    total = 0
    for (t,) in T:
        total = total + t(x)
        x = start + total
    return x


def by_admm(T, x):
    z = x
    multiplier = 0 * x
    for f, g in T:
        x_new = x + f(x) - 0.5 * (multiplier + 0.5 * (x - z))
        z = z + g(z) + 0.5 * (multiplier + 0.5 * (x_new - z))
        x = x_new
        multiplier = multiplier + 0.5 * (x_new - z)
    return x


def by_proximal_point(T, x):
    for (t,) in T:
        x = direct(t, x, 1.0)
    return x


def by_proximal_gradient(T, x):
    for f, g in T:
        x = direct(g, x + f(x), 1.0)
    return x


def by_fista(T, x):
    before = x
    for k, (f, g) in enumerate(T):
        y = x + k / (k + 3) * (x - before)
        x, before = direct(g, y + f(y), 1.0), x
    return x


LOOPS = {
    "gd": by_gd,
    "heavy-ball": by_heavy_ball,
    "nesterov": by_nesterov,
    "apg2": by_apg2,
    "optimistic": by_two_gradients(2, 1),
    "ab2": by_two_gradients(1.5, 0.5),
    "dual-averaging": by_dual_averaging,
    "admm": by_admm,
    "proximal-point": by_proximal_point,
    "proximal-gradient": by_proximal_gradient,
    "fista": by_fista,
}


def contractions(method, seed=0):
    """A different smooth contraction for every module of a network of LAYERS layers."""
    rng = np.random.default_rng(seed)

    def module(y, W, b):
        return 0.5 * np.tanh(y @ W + b)

    matrices = [
        [(rng.normal(size=(DIM, DIM)) / 3, rng.normal(size=DIM)) for _ in method.tableau(k).U]
        for k in range(LAYERS)
    ]
    return [[lambda y, W=W, b=b: module(y, W, b) for W, b in layer] for layer in matrices]


@every_method
def test_a_network_is_its_method(name):
    method = find_method(name)
    T = contractions(method)
    x = np.random.default_rng(1).normal(size=(5, DIM))
    np.testing.assert_allclose(run(method, x, T, direct), LOOPS[name](T, x), rtol=1e-12)


def test_unknown_method():
    with pytest.raises(ValueError, match="`method` must be one of .*nesterov.*newton"):
        find_method("newton")


# theory


def textbook(method):
    """(consistent, zero-stable) of constant coefficients with one T by rho = det(z I - V) and sigma
    = U adj(z I - V) B + D rho."""
    tableau = method.tableau(1000)
    sigma, rho = ss2tf(tableau.V, tableau.B, tableau.U, tableau.D)
    roots = np.roots(rho)
    slope_at_1 = np.polyval(np.polyder(rho), 1)
    on_circle = roots[abs(abs(roots) - 1) < 1e-6]
    simple = all((abs(on_circle - r) < 1e-4).sum() == 1 for r in on_circle)
    consistent = abs(np.polyval(rho, 1)) < 1e-9 and np.polyval(sigma[0], 1) * slope_at_1 > 1e-9
    return consistent, bool((abs(roots) < 1 + 1e-6).all() and simple)


def two_step(a, b):
    """x+ = a x + (1 - a) x_prev + b T(x): rho = (z - 1)(z - a + 1)."""
    return Method((1, 1), lambda k: _tableau([1, 0], [[a, 1 - a], [1, 0]], [[b], [0]]))


CONSTANT = {
    "gd": METHODS["gd"](),
    "heavy ball": heavy_ball(),
    "0.5": heavy_ball(0.5),
    "-0.5": heavy_ball(-0.5),
    "1": heavy_ball(1.0),
    "1.1": heavy_ball(1.1),
    "ab2": METHODS["ab2"](),
    "optimistic": METHODS["optimistic"](),
    "ppa": METHODS["proximal-point"](),
    "leapfrog": two_step(0.0, 2.0),
    "root at 2": two_step(3.0, -1.0),
    "ascent": two_step(1.5, -1.0),
    "moves by itself": Method((1,), lambda k: _tableau([1], [1.1], [1])),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_analysis_is_linear_multistep_theory(name):
    found = analyse(CONSTANT[name])
    assert (found.consistent, found.zero_stable) == textbook(CONSTANT[name])
    assert found.universal == all(textbook(CONSTANT[name]))


def test_order_and_roots():
    assert {name: analyse(find_method(name)).order for name in METHODS} == {
        # half of f at both ends is the trapezoidal rule
        **dict.fromkeys(METHODS, 1),
        "ab2": 2,
        "proximal-gradient": 2,
    }
    assert analyse(heavy_ball(1.0)).order == 0
    np.testing.assert_allclose(sorted(analyse(heavy_ball(0.7)).roots), [0.7, 1.0])
    assert all(analyse(find_method(name)).universal for name in METHODS)


def test_momentum_without_bound_leaves_the_theory():
    assert not analyse(nesterov(1.0)).zero_stable
    assert not analyse(apg2(0.0)).consistent
    for a, b in ((nesterov(), nesterov(1.0)), (apg2(), apg2(0.0))):
        for k in (0, 1, 18):
            assert all(np.array_equal(m, n) for m, n in zip(a.tableau(k), b.tableau(k)))
        assert not np.array_equal(a.tableau(28).V, b.tableau(28).V)


def test_clock_tends_to_the_textbook_step():
    """rho'(1) / sigma(1) = 1 - beta of heavy ball, 1 of Adams and Bashforth."""
    np.testing.assert_allclose(clock(heavy_ball(0.9), 50)[1:] * 50, 0.1)
    np.testing.assert_allclose(clock(find_method("ab2"), 50) * 50, 1.0)
    assert (clock(heavy_ball(1.0), 10)[1:] < 1e-12).all()


@every_method
def test_flow(name):
    """The theorem: with T = h f the networks converge to the flow, at the method's order."""
    errors = flow_errors(
        find_method(name), depths=(80, 160) if name == "dual-averaging" else (320, 640)
    )
    wanted = analyse(find_method(name)).order
    assert wanted - 0.1 < slope(errors) < wanted + 0.1
    assert errors[-1] < 0.03


def test_flow_of_an_unstable_method_fails():
    errors = flow_errors(heavy_ball(1.0), (160, 320))
    assert slope(errors) < 0.1 and errors[-1] > 0.1


def test_the_flow_itself():
    f = VectorField(seed=3)
    np.testing.assert_allclose(f.flow(200), f.flow(400), atol=1e-8)
    assert np.abs(f.flow(200) - f.starts).max() > 0.3


# networks in Jittor


def numpy_module(module):
    def call(y):
        with jt.no_grad():
            return module(jt.array(y.astype(np.float32))).numpy().astype(np.float64)

    return call


@pytest.mark.parametrize("learnable", [False, True])
@every_method
def test_optdnn_runs_the_method(name, learnable):
    method = find_method(name)
    net = OptDNN(
        method,
        lambda contract=False: TwoLayer(DIM, 8, "tanh", contract=contract),
        LAYERS,
        learnable,
    )
    x = np.random.default_rng(0).normal(size=(6, DIM)).astype(np.float32)
    blocks = [numpy_module(block) for block in net.blocks]
    T = [blocks[k * net.stages : (k + 1) * net.stages] for k in range(LAYERS)]
    np.testing.assert_allclose(
        net(jt.array(x)).numpy(), LOOPS[name](T, x.astype(np.float64)), rtol=2e-4, atol=2e-5
    )
    assert any(name.startswith("coefficients") for name in net.state_dict()) == learnable


@pytest.mark.parametrize("name", ["nesterov", "dual-averaging"])
def test_learned_coefficients_get_gradients(name):
    net = OptDNN(
        find_method(name), lambda contract=False: TwoLayer(DIM, 8, "tanh"), 3, learnable=True
    )
    x = jt.randn((6, DIM))
    step = 1e-2
    coefficients = list(net.coefficients)
    found = [g.item() for g in jt.grad((net(x) ** 2).sum(), coefficients)]
    assert np.count_nonzero(found) > len(found) / 2
    for i in (0, len(found) // 2, len(found) - 1):
        start = coefficients[i].numpy()
        values = []
        for moved in (start + step, start - step):
            coefficients[i].assign(moved)
            values.append((net(x) ** 2).sum().item())
        coefficients[i].assign(start)
        assert found[i] == pytest.approx((values[0] - values[1]) / (2 * step), rel=2e-2, abs=1e-2)


def test_copies_are_independent_networks():
    """Also their learned coefficients."""
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    net = coordinate_network(
        4, 2, find_method("nesterov"), width=6, hidden=8, layers=2, learnable=True, copies=(2,)
    )
    for coefficient in net.state_dict().values():
        coefficient.assign(coefficient.numpy() + np.float32([0, 0.1])[:, None, None])
    both = net(jt.array(x)).numpy()
    for copy in range(2):
        alone = coordinate_network(
            4, 2, find_method("nesterov"), width=6, hidden=8, layers=2, learnable=True
        )
        for name, value in alone.state_dict().items():
            value.assign(net.state_dict()[name].numpy()[copy].reshape(value.shape))
        np.testing.assert_allclose(
            alone(jt.array(x[copy])).numpy(), both[copy], rtol=1e-4, atol=1e-5
        )


def test_reach_zero_is_homogeneous():
    """Without biases a network of relus scales with its input; with them it does not."""
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    for reach, homogeneous in ((0.0, True), (1.0, False)):
        net = coordinate_network(
            4, 2, find_method("nesterov"), width=6, hidden=8, layers=2, reach=reach, bias=0.5
        )
        once = net(jt.array(x)).numpy() - 0.5
        far = net(jt.array(100 * x)).numpy() - 0.5
        assert np.allclose(far, 100 * once, rtol=1e-3, atol=1e-3) == homogeneous


# implicit layers


def test_anderson_solves_linear_equations():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 6)) * 0.3
    b = rng.normal(size=(3, 6))
    y, evaluations, residual = anderson(
        lambda y: y @ A.T + b, np.zeros((3, 6)), tolerance=1e-12, memory=8
    )
    np.testing.assert_allclose(y, np.linalg.solve(np.eye(6) - A, b.T).T, rtol=1e-9)
    assert residual < 1e-12 and evaluations < 20  # by plain iteration 36
    assert np.abs(np.linalg.eigvals(A)).max() < 1.2


def test_anderson_says_when_it_fails():
    _, evaluations, residual = anderson(lambda y: 2 * y**2 + 5, np.ones((1, 1)), most=7)
    assert evaluations == 7 and residual > 1e-3


@pytest.mark.parametrize(
    "make",
    [lambda: TwoLayer(DIM, 16, "tanh", contract=True), lambda: ConvBlock(DIM, contract=True)],
    ids=["two-layer", "conv"],
)
def test_implicit_gradients_are_those_of_long_unrolling(make):
    module = make()
    solve = FixedPointSolver()
    for p in module.parameters():
        p.assign(p.numpy() * 3)
    shape = (4, DIM) if isinstance(module, TwoLayer) else (2, DIM, 5, 5)
    rest = jt.randn(shape)
    d = jt.array(np.float32([1.0]))
    target = jt.randn(shape)
    found = {}
    for name, solver in (("implicit", solve), ("unrolled", unrolled)):
        y = solver(module, rest, d)
        found[name] = [y.numpy()] + [
            g.numpy() for g in jt.grad(((y - target) ** 2).sum(), [rest, d, *module.parameters()])
        ]
    assert 0 < solve.residual < 1e-6 and 2 < solve.evaluations < 60
    for a, b in zip(found["implicit"], found["unrolled"]):
        assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()
    one_step = jt.grad(((rest + d * module(jt.array(y.numpy())) - target) ** 2).sum(), rest).numpy()
    # the test can tell
    assert np.abs(one_step - found["unrolled"][1]).max() > 1e-2 * np.abs(one_step).max()


def test_convolve_is_jittors_convolution():
    x = jt.randn((2, 3, 7, 7))
    w = jt.randn((4, 3, 3, 3))
    b = jt.randn(4)
    target = jt.randn((2, 4, 4, 4))
    found = []
    values = [v.numpy() for v in (x, w, b)]
    for function, use_cuda in ((blocks.convolve, jt.flags.use_cuda), (nn.conv2d, 0)):
        with jt.flag_scope(use_cuda=use_cuda):
            x, w, b = map(jt.array, values)
            y = function(x, w, b, stride=2, padding=1)
            slopes = jt.grad(((y - target) ** 2).sum(), [x, w, b])
            found.append([v.numpy() for v in (y, *slopes)])
    for ours, plain in zip(*found):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_a_backward_pass_through_implicit_layers_keeps_little(monkeypatch):
    """Of the explicit modules between them, whose derivatives by weights come last, no more than a
    few numbers per pixel."""
    held = []
    monkeypatch.setattr(
        implicit,
        "anderson",
        lambda *arguments: (held.append(jt.get_mem_info().total_cpu_used), anderson(*arguments))[1],
    )
    network = OptDNN(
        find_method("proximal-gradient"),
        lambda contract=False: ConvBlock(8, contract=contract),
        layers=2,
    )
    x = jt.randn((16, 8, 20, 20))
    loss = (network(x) ** 2).sum()
    jt.sync(jt.grad(loss, [p for p in network.parameters() if not p.is_stop_grad()]))
    assert len(held) == 4  # two solutions, two gradients
    per_tap = 9 * 8 * x.numel() * 4
    assert held[3] - held[2] < per_tap / 2  # with nn.conv2d: more than 4 per_tap


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_blocks_of_implicit_layers_are_contractions(activation):
    block = TwoLayer(1, 1, activation, contract=True)
    for layer in (block.first, block.second):
        layer.weight.assign(np.float32([[10.0]]))
        layer.bias.assign(np.float32([[0.0]]))
    x = np.linspace(-6, 6, 2001, dtype=np.float32)[:, None]
    slopes = np.diff(block(jt.array(x)).numpy()[:, 0].astype(float)) / np.diff(
        x[:, 0].astype(float)
    )
    assert 0.98 * LIPSCHITZ < slopes.max() < LIPSCHITZ + 1e-3


def test_bounded_maps_are_contractions():
    weight = jt.randn((6, 9))
    most = LIPSCHITZ**0.5 + 1e-6
    assert most - 1e-5 < np.linalg.norm(bounded(weight).numpy(), 2) <= most
    copies = bounded(jt.randn((3, 6, 9)) * jt.array(np.float32([[[1e-3]], [[1]], [[9]]])))
    assert [np.linalg.norm(w, 2) <= most for w in copies.numpy()] == [True] * 3
    small = jt.randn((6, 9)) * 1e-3
    np.testing.assert_array_equal(bounded(small).numpy(), small.numpy())
    block = ConvBlock(4, contract=True)
    block.first.weight.assign(block.first.weight.numpy() * 20)
    a = jt.randn((1, 4, 8, 8))
    b = jt.randn((1, 4, 8, 8))
    moved = (block(a) - block(b)).numpy()
    assert np.linalg.norm(moved) <= LIPSCHITZ * np.linalg.norm((a - b).numpy())
    kernel = bounded(jt.randn((4, 3, 3, 3)), taps=2)
    as_matrix = (
        nn.conv2d(jt.array(np.eye(75, dtype=np.float32).reshape(75, 3, 5, 5)), kernel, padding=1)
        .numpy()
        .reshape(75, -1)
    )
    assert 0.4 < np.linalg.norm(as_matrix, 2) <= most
    step = 1e-2
    direction = jt.randn((6, 9))
    slope = (jt.grad(spectral_norm(weight).sum(), weight) * direction).sum().item()
    above, below = (
        np.linalg.norm((weight + step * direction).numpy(), 2) for step in (step, -step)
    )
    assert slope == pytest.approx((above - below) / (2 * step), rel=2e-2, abs=1e-2)
    with pytest.raises(ValueError, match="`block` must be conv"):
        optdnn_classifier(find_method("fista"), 1, 10, 28, block="convnext")
    with pytest.raises(ValueError, match="leaves nothing"):
        optdnn_classifier(find_method("gd"), 1, 10, 28, patch=29)


# blocks and classifiers


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_two_layers_by_hand(name):
    block = TwoLayer(DIM, 5, name)
    x = np.random.default_rng(0).normal(size=(4, DIM)).astype(np.float32)
    W1, b1, W2, b2 = (
        p.numpy()
        for p in (block.first.weight, block.first.bias, block.second.weight, block.second.bias)
    )
    assert abs(b1).max() > 0.1
    by_hand = ACTIVATIONS[name](jt.array(x @ W1 + b1)).numpy() @ W2 + b2
    np.testing.assert_allclose(block(jt.array(x)).numpy(), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite_far_out(name):
    x = jt.array(np.float32([-500, -89, -46, -16, -1, 0, 1, 16, 46, 89, 500]))
    y = ACTIVATIONS[name](x)
    slope = jt.grad(y.sum(), x).numpy()
    assert np.isfinite(y.numpy()).all() and np.isfinite(slope).all()
    if name == "tanh":
        np.testing.assert_allclose(y.numpy(), np.tanh(x.numpy()), rtol=1e-6)
        np.testing.assert_allclose(slope, 1 - np.tanh(x.numpy()) ** 2, atol=1e-6)


def test_norms_and_gains_count():
    x = jt.randn((4, DIM))
    block = TwoLayer(DIM, 5, norm=True)
    np.testing.assert_allclose(block(x * 9).numpy(), block(x).numpy(), atol=1e-3)
    assert abs(TwoLayer(DIM, 5, gain=1e-3).second.weight.numpy()).max() < 1e-2
    with pytest.raises(ValueError, match="swoosh"):
        TwoLayer(DIM, 5, "swoosh")


def test_attention_by_hand():
    block = AttentionBlock(8, heads=2, ratio=1)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    normed = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
    q, k, v = np.split(
        normed @ block.queries.weight.numpy().T + block.queries.bias.numpy(), 3, axis=2
    )
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        scores = np.exp(q[..., h] @ k[..., h].transpose(0, 2, 1) / 2)
        heads.append(scores / scores.sum(2, keepdims=True) @ v[..., h])
    by_hand = np.concatenate(heads, axis=2) @ block.out.weight.numpy().T + block.out.bias.numpy()
    np.testing.assert_allclose(block.attend(jt.array(x)).numpy(), by_hand, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="heads"):
        AttentionBlock(9, heads=2)


@pytest.mark.parametrize("block", ["conv", "convnext", "attention"])
def test_classifiers_of_every_block(block):
    net = optdnn_classifier(find_method("apg2"), 1, 10, 11, channels=(4, 8), layers=2, block=block)
    x = jt.randn((2, 1, 11, 11))
    assert net(x).shape == [2, 10]
    gradients = jt.grad(net(x).sum(), [p for p in net.parameters() if not p.is_stop_grad()])
    assert sum(np.abs(g.numpy()).max() > 0 for g in gradients) > 0.8 * len(gradients)
    assert (net.positions is not None) == (block == "attention")


def test_multiply_adds_by_hand():
    net = optdnn_classifier(find_method("gd"), 1, 10, 8, channels=(4,), layers=1)
    assert (
        multiply_adds(net, jt.randn((1, 1, 8, 8))) == 4 * 4 * 4 * 9 + 2 * 4 * 4 * 4 * 4 * 9 + 4 * 10
    )
    assert (
        multiply_adds(AttentionBlock(4, heads=1, ratio=1), jt.randn((1, 4, 3, 3)))
        == 9 * (3 * 16 + 16 + 16 + 16) + 2 * 81 * 4
    )
    assert multiply_adds(TwoLayer(3, 5), jt.randn((7, 3))) == 7 * (15 + 15)
    assert multiply_adds(
        ConvBlock(2, hidden=3, contract=True), jt.randn((1, 2, 4, 4))
    ) == 16 * 9 * (6 + 6)
    assert multiply_adds(ConvNeXtBlock(2, kernel=3, ratio=2), jt.randn((1, 2, 4, 4))) == 16 * (
        2 * 9 + 8 + 8
    )


def test_activations_by_hand():
    net = optdnn_classifier(find_method("gd"), 1, 10, 8, channels=(4,), layers=1)
    # stem; norms, convolutions and block; norm, head
    assert activations(net, jt.randn((1, 1, 8, 8))) == 64 + 5 * 64 + 64 + 10
    assert activations(
        AttentionBlock(4, heads=2, ratio=1), jt.randn((1, 4, 3, 3))
    ) == 2 * 2 * 81 + 9 * (4 + 12 + 4 + 4 + 4 + 4)
    assert activations(ConvBlock(2, contract=True), jt.randn((1, 2, 4, 4))) == 3 * 32


def test_dense_stage_and_its_size():
    stage = DenseStage(4, layers=2, growth=3)
    assert stage(jt.randn((2, 4, 6, 6))).shape == [2, 4, 6, 6]
    assert [block.first.weight.shape[1] for block in stage.blocks] == [4, 7]
    like = optdnn_classifier(find_method("gd"), 1, 10, 28)
    assert abs(size(dense_classifier(1, 10, parameters=size(like))) / size(like) - 1) < 0.1


# data


def test_rings_alternate_and_do_not_touch():
    points, labels = toys.nested_rings(400, rings=4, seed=1)
    radius = np.linalg.norm(points, axis=1)
    for ring in range(1, 5):
        inside = (radius >= 1.5 * ring - 1e-4) & (radius <= 1.5 * ring + 0.6 + 1e-4)
        assert inside.sum() == 100 and (labels[inside] == ring % 2).all()
    assert not np.array_equal(points, toys.nested_rings(400, seed=2)[0])


def test_parity_and_saw_tooth():
    bits, label = toys.parity(3)
    assert len(np.unique(bits, axis=0)) == 8
    assert all(even == (np.prod(b) == 1) for b, even in zip(bits, label))
    x, y = toys.telgarsky(65, folds=3)
    assert y.ravel()[[0, 8, 16, 24, 32]].tolist() == [0, 1, 0, 1, 0]
    assert (np.diff(np.sign(np.diff(y.ravel()))) < 0).sum() == 4


def test_margins_of_a_known_classifier():
    """Class 1 right of x = 0.5, with logits +-2 (x - 0.5)."""

    def model(x):
        value = x[:, :, :1] - 0.5
        return jt.concat([-value, value], dim=2)

    points = np.array([[[1.5, 0], [2.5, 1], [0.0, 0]]], np.float32)
    labels = np.array([[1, 1, 0]])
    assert toys.logit_margins(model, points, labels) == pytest.approx(2.0)
    values = toys.decision_values(model, 1, reach=4.0, n=801)
    # rows along y, columns along x
    assert values[0, 3, 500] == pytest.approx(2 * (1.0 - 0.5), abs=1e-4)
    everywhere = np.repeat(points, 1, axis=0)
    assert toys.input_margins(values, everywhere, labels, 4.0)[0] == pytest.approx(
        np.percentile([1, 2, 0.5], 5), abs=0.02
    )
    assert toys.input_margins(values, everywhere, 1 - labels, 4.0)[0] == 0


def test_label_task_samples_every_picture_once_an_epoch():
    pictures = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) / 10
    task = LabelTask(pictures, np.arange(10), (pictures, np.arange(10)), seed=3)
    orders = [
        np.concatenate([task.sample(step, 5)["y"].numpy() for step in steps])
        for steps in ((0, 1), (2, 3))
    ]
    assert all(sorted(order) == list(range(10)) for order in orders) and list(orders[0]) != list(
        orders[1]
    )
    batch = task.sample(0, 5)
    np.testing.assert_allclose(
        batch["x"].numpy().ravel() * task.deviation + task.mean, batch["y"].numpy() / 10, atol=1e-6
    )
    whole = LabelTask(
        np.eye(9, dtype=np.float32).reshape(1, 1, 9, 9),
        np.zeros(1),
        (pictures, np.arange(10)),
        shift=2,
    )
    assert whole.sample(0, 1)["x"].shape == [1, 1, 9, 9]
    shifted = [whole.sample(step, 1)["x"].numpy() for step in range(9)]
    assert any(not np.array_equal(shifted[0], s) for s in shifted[1:])
    ramp = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    mirrored = LabelTask(ramp, np.zeros(1), (ramp, np.zeros(1)), flip=True)
    seen = [
        mirrored.sample(step, 1)["x"].numpy() * mirrored.deviation + mirrored.mean
        for step in range(20)
    ]
    straight = [np.allclose(x, ramp, atol=1e-5) for x in seen]
    assert 4 < sum(straight) < 16 and all(
        same or np.allclose(x, ramp[..., ::-1], atol=1e-5) for same, x in zip(straight, seen)
    )
    with pytest.raises(ValueError, match="do not go with"):
        LabelTask(pictures, np.arange(9), (pictures, np.arange(10)))


@pytest.fixture
def digits(tmp_path):
    """A folder like MNIST's: stripes that are upright (1) or level (0), with noise."""
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 20)):
        labels = rng.integers(0, 2, n)
        stripes = np.broadcast_to(np.arange(12) % 4 < 2, (n, 12, 12))
        pictures = np.where(
            labels[:, None, None] == 1, stripes, stripes.transpose(0, 2, 1)
        ) * 180 + rng.integers(0, 60, (n, 12, 12))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(pictures))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path


def test_loads_idx_and_cifar(digits, tmp_path):
    (pictures, labels), (test_pictures, _) = load_labelled(digits)
    assert (
        pictures.shape == (60, 1, 12, 12)
        and pictures.max() <= 1
        and test_pictures.shape[0] == 20
        and labels.dtype == np.int32
    )
    cifar = tmp_path / "cifar"
    cifar.mkdir()
    rows = np.random.default_rng(0).integers(0, 10, (2, 3073)).astype(np.uint8)
    for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]:
        rows.tofile(cifar / name)
    (pictures, labels), test = load_labelled(cifar)
    assert pictures.shape == (10, 3, 32, 32) and len(test[1]) == 2
    assert labels[1] == rows[1, 0] and pictures[1, 2, 31, 31] == pytest.approx(rows[1, -1] / 255)
    (cifar / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match="test_batch"):
        load_labelled(cifar)
    (cifar / "test_batch.bin").unlink()
    with pytest.raises(ValueError, match="no such file"):
        load_labelled(cifar)
    (digits / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(3)))
    with pytest.raises(ValueError, match="labels"):
        load_labelled(digits)


# the app


def result(out):
    return json.loads((out / "result.json").read_text())["methods"]


def test_app_flow(tmp_path, capsys):
    optdnn.main(
        optdnn.FlowConfig(out=tmp_path / "out", device=DEVICE, methods=("ab2", optdnn.UNSTABLE))
    )
    rows = result(tmp_path / "out")
    assert rows["ab2"]["slope"] > 1.8 and rows["ab2"]["order"] == 2
    assert rows[optdnn.UNSTABLE]["slope"] < 0.5 and not rows[optdnn.UNSTABLE]["zero_stable"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "flow.png",
        "result.json",
    ]


@pytest.mark.parametrize(
    "experiment, keys",
    [
        ("rings", {"accuracy", "logit_margin", "input_margin"}),
        ("parity", {"accuracy", "solved"}),
        ("telgarsky", {"mse"}),
    ],
)
def test_app_toys(tmp_path, experiment, keys):
    names = ("gd", "nesterov" + optdnn.LEARNABLE)
    optdnn.main(
        optdnn.ToyConfig(
            experiment, out=tmp_path / "out", device=DEVICE, methods=names, seeds=2, steps=2
        )
    )
    rows = result(tmp_path / "out")
    assert tuple(rows) == names and all(keys <= row.keys() for row in rows.values())
    assert rows[names[1]]["parameters"] > rows["gd"]["parameters"]
    assert (tmp_path / "out" / f"{experiment}.png").is_file()


def test_width_is_that_of_the_state(tmp_path):
    config = optdnn.ToyConfig(
        "telgarsky", out=tmp_path / "out", device=DEVICE, methods=("gd",), seeds=1, steps=1, width=3
    )
    optdnn.main(config)
    assert result(tmp_path / "out")["gd"]["parameters"] == (3 + 3) + 10 * (
        3 * 8 + 8 + 8 * 3 + 3
    ) + (3 + 1)


def test_app_images(digits, tmp_path):
    train = optdnn.TrainConfig(steps=30, batch=30, eval_every=30, warmup=0)
    names = ("apg2", "densenet", "proximal-gradient")
    optdnn.main(
        optdnn.ImagesConfig(
            out=tmp_path / "out",
            device=DEVICE,
            methods=names,
            data=digits,
            channels=(4,),
            layers=1,
            lr=2e-2,
            seeds=2,
            train=train,
        )
    )
    rows = result(tmp_path / "out")
    pictures, labels = load_labelled(digits)[1]
    for name in names:
        read = [
            load_classifier(tmp_path / "out" / f"{name}-{seed}.safetensors").logits(pictures)
            for seed in (0, 1)
        ]
        accuracies = [float((logits.argmax(1) == labels).mean()) for logits in read]
        assert accuracies == rows[name]["test_accuracy_of_seeds"]
        assert not np.array_equal(*read)
        assert (tmp_path / "out" / f"{name}-1-misread.png").is_file()
    assert rows["apg2"]["test_accuracy"] > 0.9 and len(rows["apg2"]["test_accuracy_of_seeds"]) == 2
    assert rows["proximal-gradient"]["multiply_adds"] > rows["apg2"]["multiply_adds"] > 0
    assert set(rows) == set(names) and all(row["parameters"] > 100 for row in rows.values())


@pytest.mark.parametrize("network", ["nesterov-learnable", "densenet", "fista"])
def test_a_classifier_comes_back_bit_for_bit(digits, tmp_path, network):
    """With what its norms have seen, and how pictures are standardised."""
    train, test = load_labelled(digits)
    task = LabelTask(*train, test)
    built = ClassifierConfig(network, 1, 2, 12, channels=(4, 6), layers=1, patch=1)
    trained = task.classifier(built.build())
    train_classifier(
        task, trained.network, 1e-2, optdnn.TrainConfig(steps=3, batch=20, eval_every=3)
    )
    trained.save(tmp_path / "model.safetensors", built)
    wanted = trained.logits(test[0])
    again = load_classifier(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.logits(test[0]), wanted)
    assert again[1:] == (task.mean, task.deviation) and np.ptp(wanted) > 0
    assert not np.array_equal(Classifier(again.network, 0.0, 1.0).logits(test[0]), wanted)


def test_no_classifier(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="model.safetensors: no such file"):
        load_classifier(path)
    checkpoint.save(path, {"w": np.zeros(3)}, {"field": {"kind": "grid:mulfa"}})
    with pytest.raises(ValueError, match="model.safetensors: no classifier .*'classifier'"):
        load_classifier(path)
    built = asdict(ClassifierConfig("newton", 1, 2, 12))
    checkpoint.save(path, {}, {"classifier": built, "mean": 0.0, "deviation": 1.0})
    with pytest.raises(ValueError, match="model.safetensors: .*newton"):
        load_classifier(path)
    built = asdict(ClassifierConfig("gd", 1, 2, 12))
    for changed, words in (
        ({"network": 3}, "network must be of type str, got 3"),
        ({"n_in": 10**9}, "`n_in` must be at least 1 and at most 16,384"),
        ({"classes": 2.5}, "classes must be of type int, got 2.5"),
        ({"side": 0}, "`side` must be at least 1"),
        ({"channels": []}, "`channels` needs a number for each stage"),
        ({"block": "dense"}, "`block` must be one of conv"),
        ({"depth": 2}, "classifier has no depth"),
    ):
        about = {"classifier": {**built, **changed}, "mean": 0.0, "deviation": 1.0}
        checkpoint.save(path, {}, about)
        with pytest.raises(ValueError, match=f"model.safetensors: no classifier .*{words}"):
            load_classifier(path)
    checkpoint.save(path, {"w": np.zeros(3)}, {"classifier": built, "mean": 0.0, "deviation": 1.0})
    with pytest.raises(ValueError, match="model.safetensors lacks"):
        load_classifier(path)


def test_what_is_misread_is_drawn():
    """The furthest astray first, no more than asked for; and where nothing is misread, nothing."""
    pictures = np.zeros((5, 1, 4, 4), np.float32)
    labels = np.array([0, 1, 2, 0, 1])
    logits = np.float32([[5, 0, 0], [1, 0, 0], [0, 3, 0], [0, 0, 2], [0, 1, 0]])
    figure = figures.misread(pictures, labels, logits, most=2)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["2 read as 1", "0 read as 2"]
    assert figure.get_suptitle() == "3 of 5 misread"
    coloured = np.zeros((5, 3, 4, 4), np.float32)
    right = np.eye(3, dtype=np.float32)[labels]
    figure = figures.misread(coloured, labels, right)
    assert figure.get_suptitle() == "0 of 5 misread" and not figure.axes[0].images


def test_the_preset_of_cifar_runs(tmp_path):
    """On pictures made for it; as it is, but for its length."""
    folder = tmp_path / "cifar-10"
    folder.mkdir()
    rows = np.random.default_rng(0).integers(0, 10, (2, 3073)).astype(np.uint8)
    for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]:
        rows.tofile(folder / name)
    flags = "--methods apg2 --train.steps 1 --train.batch 2 --train.warmup 0 --train.eval-every 1"
    out = tmp_path / "out"
    config = cli.parse(
        optdnn.Command,
        [
            "images-cifar",
            *flags.split(),
            "--device",
            DEVICE,
            "--data",
            str(folder),
            "--out",
            str(out),
        ],
    )
    assert config.channels == (64, 128, 256) and config.flip
    optdnn.main(config)
    row = result(out)["apg2"]
    assert 4e6 < row["parameters"] < 6e6 and 0 <= row["test_accuracy"] <= 1
    assert (out / "apg2-0-misread.png").is_file()


def test_cifar_size_is_a_network_for_its_pictures():
    config = optdnn.IMAGES_CIFAR
    net = optdnn_classifier(
        find_method("apg2"), 3, 10, 32, config.channels, config.layers, patch=config.patch
    )
    assert config.flip and config.shift == 4 and 4e6 < size(net) < 6e6


WRONG = {
    "no such method": (["rings", "--methods", "newton"], "newton"),
    "densenet on rings": (["rings", "--methods", "densenet"], "densenet"),
    "no such experiment": (["spirals"], "spirals"),
    "flow trains no coefficients": (["flow", "--methods", "gd-learnable"], "gd-learnable"),
    "the control of flow": (["parity", "--methods", "heavy-ball-1"], "heavy-ball-1"),
    "pictures of rings": (["rings", "--data", "mnist"], "--data"),
    "no methods": (["rings", "--methods"], "--methods needs one at least"),
    "negative seed": (["flow", "--train.seed", "-1"], "--train.seed must be at least 0"),
    "no seeds": (["rings", "--seeds", "0"], "--seeds must be at least 1"),
    "no steps": (["rings", "--steps", "0"], "steps"),
    "no channels": (["images", "--channels", "0"], "channels"),
    "negative shift": (["images", "--shift", "-1"], "shift"),
    "steps of images": (["images", "--steps", "5"], "--steps"),
    "no width": (["rings", "--width", "0"], "width"),
    "width of images": (["images", "--width", "5"], "--width"),
    "seeds of flow": (["flow", "--seeds", "3"], "--seeds"),
    "LISTA of gradient descent": (["lista", "--methods", "gd"], "gd"),
    "LISTA without layers": (["lista", "--layers", "0"], "layers"),
    "fewer steps than layers": (["lista", "--most", "8"], "--most must be at least --layers, 16"),
    "LISTA without a penalty": (["lista", "--penalty", "0"], "penalty"),
    "no CIFAR-10": (["images-cifar"], "cifar-10.*no such file"),
    "no data": (["images", "--data", "nowhere"], "nowhere.*no such file"),
}


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_a_user_error_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capfd, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "argv", ["optdnn.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(optdnn.Command, optdnn.main)
    assert ended.value.code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    # where a line of the message was broken
    assert all(word in lines[0] for word in words.split(".*")) and ",;" not in lines[0]
    assert not list(tmp_path.iterdir())


def test_affine_starts_as_it_says():
    affine = Affine(50, 40, gain=2.0, bias=0.5)
    assert affine.weight.numpy().std() == pytest.approx(2 / 50**0.5, rel=0.05)
    assert 0.3 < abs(affine.bias.numpy()).max() <= 0.5
    assert abs(Affine(5, 4).bias.numpy()).max() == 0


def test_methods_are_all_tested():
    assert set(LOOPS) == set(METHODS) and set(IMPLICIT) < set(METHODS)


def test_the_face_has_what_it_says(capsys):
    """All names, and the example of its docstring."""
    assert all(getattr(jgrid.optdnn, name) is not None for name in jgrid.optdnn.__all__)
    with pytest.raises(AttributeError, match="newton"):
        jgrid.optdnn.newton  # noqa: B018
    example = [line[4:] for line in jgrid.optdnn.__doc__.splitlines() if line.startswith("    ")]
    exec("\n".join(example), {"jgrid": jgrid})
    assert "order=1" in capsys.readouterr().out


def test_fields_need_no_task():
    """Methods and networks are below fields, and must not bring tasks and trainers with them."""
    code = "import sys, jgrid.optdnn.methods; print([m for m in sys.modules if 'toys' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
