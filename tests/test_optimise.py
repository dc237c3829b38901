"""Methods as optimisers, against their papers' loops; unrolled networks, which begin as their
methods and get better."""

import itertools
import json

from jgrid.optdnn.methods import METHODS, find_method, fista, nesterov
from jgrid.optdnn.optimise import gradient, iterates, minimise, soft_threshold
from jgrid.optdnn.unrolled import (
    SparseProblems,
    SparseTask,
    Unrolled,
    error_db,
    fewest,
    train_unrolled,
)
from jgrid.trainer import TrainConfig

import jittor as jt
import numpy as np
import optdnn
import pytest
from conftest import DEVICE

STEPS = 40
STEP = 0.1
rng = np.random.default_rng(0)
ROOT = rng.normal(size=(6, 6))
Q = ROOT @ ROOT.T / 3  # |x - CENTRE|^2_Q / 2 is to be minimised
CENTRE = rng.normal(size=6)
START = rng.normal(size=(5, 6))
PROBLEMS = SparseProblems(m=12, n=30)


def slope(y):
    return (y - CENTRE) @ Q


def by_gd(x):
    for _ in range(STEPS):
        x = x - STEP * slope(x)
    return x


def by_heavy_ball(x):
    before = x
    for _ in range(STEPS):
        x, before = x + 0.9 * (x - before) - STEP * slope(x), x
    return x


def by_nesterov(x):
    before = x
    for k in range(STEPS):
        y = x + min(k / (k + 3), 0.9) * (x - before)
        x, before = y - STEP * slope(y), x
    return x


def by_optimistic(x):
    before = x
    for k in range(STEPS):
        new = slope(x) if k == 0 else 2 * slope(x) - slope(before)
        x, before = x - STEP * new, x
    return x


@pytest.mark.parametrize(
    "name, loop",
    [
        ("gd", by_gd),
        ("dual-averaging", by_gd),
        ("heavy-ball", by_heavy_ball),
        ("nesterov", by_nesterov),
        ("optimistic", by_optimistic),
    ],
)
def test_methods_minimise_a_quadratic_as_their_loops(name, loop):
    found = minimise(find_method(name), [slope], START, STEP, STEPS)
    np.testing.assert_allclose(found, loop(START), rtol=1e-10)


def test_the_proximal_point_method_solves_for_its_step():
    def prox(r, h):
        return np.linalg.solve(np.eye(6) + h * Q, (r + h * CENTRE @ Q).T).T

    found = minimise(find_method("proximal-point"), [prox], START, STEP, STEPS)
    x = START
    for _ in range(STEPS):
        x = prox(x, STEP)
    np.testing.assert_allclose(found, x, rtol=1e-10)


def lasso(penalty=0.1):
    x, y = PROBLEMS.draw(4, 7)
    return PROBLEMS.terms(y.astype(float), penalty), np.zeros(x.shape)


def test_proximal_methods_are_ista_and_fista():
    (slope, prox), start = lasso()
    step = PROBLEMS.step
    threshold = step * 0.1
    for method, momentum in ((find_method("proximal-gradient"), 0), (fista(1.0), 1)):
        x = start
        before = start
        for k in range(STEPS):
            v = x + momentum * k / (k + 3) * (x - before)
            r = v - step * slope(v)
            x, before = np.sign(r) * np.maximum(np.abs(r) - threshold, 0), x
        found = minimise(method, [slope, prox], start, step, STEPS)
        np.testing.assert_allclose(found, x, atol=1e-12)
        assert 0 < (np.abs(found) > 1e-12).mean() < 1  # sparse


def test_lasso_is_solved():
    """The conditions of its minimum: a gradient of size `penalty` against every entry that is not
    0, and none larger."""
    x, y = PROBLEMS.draw(4, 7)
    found = PROBLEMS.solution(y.astype(float), 0.1)
    slope = (found @ PROBLEMS.dictionary.T - y) @ PROBLEMS.dictionary
    on = np.abs(found) > 1e-6
    np.testing.assert_allclose(slope[on], -0.1 * np.sign(found[on]), atol=1e-4)
    assert np.abs(slope).max() < 0.1 + 1e-4 and on.any()
    assert error_db(found, x) < -3


def test_admm_minimises_the_sum():
    """f + g of two quadratics, each known to one of the two modules alone."""
    other = rng.normal(size=6)
    terms = [slope, lambda z: z - other]
    found = minimise(find_method("admm"), terms, START, STEP, 2000)
    exact = np.linalg.solve(Q + np.eye(6), Q @ CENTRE + other)
    np.testing.assert_allclose(found, np.broadcast_to(exact, (5, 6)), atol=1e-8)


def test_convergence_orders():
    """Where the spectrum reaches down to 0, f - f* falls as 1 / k by gradient descent, and by
    Nesterov's method without a bound as 1 / k^2."""
    spectrum = (np.arange(20_000) + 0.5) / 20_000
    start = spectrum**-0.5
    for method, order in ((find_method("gd"), 1), (nesterov(1.0), 2)):
        found = iterates(method, [lambda x: spectrum * x], start, 1.0)
        values = [(spectrum * x**2).sum() for x in itertools.islice(found, 401)]
        slope = np.log(values[400] / values[100]) / np.log(4)
        assert -order - 0.1 < slope < -order + 0.1


def test_iterates_begin_at_the_start_and_do_not_end():
    found = iterates(find_method("admm"), [slope, slope], START, STEP)
    np.testing.assert_array_equal(next(found), START)
    assert all(x.shape == START.shape for x in itertools.islice(found, 50))


@pytest.mark.parametrize("name", METHODS)
def test_terms_are_counted(name):
    method = find_method(name)
    wanted = len(method.tableau(0).U)
    with pytest.raises(ValueError, match=f"`terms` must be {wanted} .* got {wanted + 1}"):
        iterates(method, [slope] * (wanted + 1), START, STEP)


def test_functions_in_jittor_are_minimised():
    x = jt.array(START.astype(np.float32))
    centre = jt.array(CENTRE.astype(np.float32))
    matrix = jt.array(Q.astype(np.float32))
    slope = gradient(lambda y: (jt.matmul(y - centre, matrix) * (y - centre)).sum() / 2)
    found = minimise(find_method("nesterov"), [slope], x, STEP, STEPS)
    np.testing.assert_allclose(found.numpy(), by_nesterov(START), rtol=1e-3, atol=1e-4)


def test_soft_threshold():
    r = np.float32([-3, -1, -0.2, 0, 0.5, 2])
    wanted = np.float32([-2, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(soft_threshold(r, 1.0), wanted)
    np.testing.assert_allclose(soft_threshold(jt.array(r), jt.ones(1)).numpy(), wanted)


# unrolled


def test_problems_are_as_they_say():
    problems = SparseProblems()
    x, y = problems.draw(2000, 3)
    assert (x.shape, y.shape) == ((2000, 256), (2000, 64)) and x.dtype == y.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(problems.dictionary, axis=0), 1, rtol=1e-5)
    assert (x != 0).mean() == pytest.approx(0.1, rel=0.02)
    assert x[x != 0].std() == pytest.approx(1, rel=0.02)
    assert (y - x @ problems.dictionary.T).std() == pytest.approx(0.01, rel=0.02)
    np.testing.assert_array_equal(problems.draw(2000, 3)[0], x)
    assert not np.array_equal(problems.draw(2000, 4)[0], x)
    assert not np.array_equal(SparseProblems(seed=1).dictionary, problems.dictionary)


@pytest.mark.parametrize("name", ["proximal-gradient", "fista"])
def test_an_untrained_network_is_its_method(name):
    x, y = PROBLEMS.draw(4, 7)
    network = Unrolled(find_method(name), PROBLEMS, 0.1, layers=7)
    terms = PROBLEMS.terms(y, 0.1)
    wanted = minimise(find_method(name), terms, np.zeros_like(x), PROBLEMS.step, 7)
    with jt.no_grad():
        np.testing.assert_allclose(network(jt.array(y)).numpy(), wanted, atol=1e-5)
        of_layers = [x.numpy() for x in network.outputs(jt.array(y))]
    assert len(of_layers) == 8 and not of_layers[0].any()
    assert np.abs(wanted).max() > 0.1


@pytest.mark.parametrize("name", ["gd", "nesterov", "proximal-point", "admm"])
def test_only_proximal_methods_unroll(name):
    with pytest.raises(ValueError, match="`method` needs two modules in a layer, the second"):
        Unrolled(find_method(name), PROBLEMS, 0.1)


@pytest.mark.parametrize("penalty", [None, 0.1])
def test_a_trained_network_needs_fewer_steps(penalty):
    """And all of it is trained."""
    task = SparseTask(PROBLEMS, penalty, test=100)
    network = Unrolled(find_method("proximal-gradient"), PROBLEMS, 0.1, layers=5)
    before = [p.numpy() for p in network.parameters() if not p.is_stop_grad()]
    untrained = task.evaluate(network)["nmse_db"]
    train = TrainConfig(steps=60, batch=100, clip=0.3, eval_every=60)
    result = train_unrolled(task, network, 5e-3, train)
    after = [p.numpy() for p in network.parameters() if not p.is_stop_grad()]
    assert len(before) == 11 and all((a != b).any() for a, b in zip(before, after))
    assert result["parameters"] == 12 * 30 + 2 * 5
    assert result["nmse_db"] == task.errors_of_layers(network)[5] < untrained - 0.3
    plain = task.errors_of_iterations(find_method("proximal-gradient"), 200)
    assert (fewest(plain, result["nmse_db"]) or 201) > 5  # None: more than were tried


def test_methods_are_tuned_on_other_problems():
    """At each number of steps the best of what is tried: no worse than any one of them, but for
    what differs between problems."""
    task = SparseTask(PROBLEMS, test=400)
    method = find_method("proximal-gradient")
    tuned = task.errors_of_iterations(method, 60, (1.0, 1.9))
    assert tuned[0] == 0 and tuned.shape == (61,)
    for penalty in (0.02, 0.2):
        one = task._curve(method, task.test, penalty, PROBLEMS.step, 60)
        assert (tuned < np.array(one) + 0.1).all()
    assert tuned[60] < task.errors_of_iterations(method, 60)[60] + 0.05


def test_fewest():
    assert fewest([3.0, 2.0, 1.0, 2.0], 2.0) == 1
    assert fewest([3.0, 2.0], 1.0) is None
    assert error_db(np.full(4, 1.1), np.ones(4)) == pytest.approx(-20)


@pytest.mark.parametrize("goal", ["code", "lasso"])
def test_app_lista(tmp_path, goal, capsys):
    config = optdnn.ListaConfig(
        out=tmp_path / "out",
        device=DEVICE,
        goal=goal,
        methods=("fista",),
        layers=3,
        most=20,
        train=TrainConfig(steps=3, batch=20, eval_every=3),
    )
    optdnn.main(config)
    row = json.loads((tmp_path / "out" / "result.json").read_text())["methods"]["fista"]
    assert len(row["nmse_db_of_layers"]) == 4 and row["nmse_db"] == row["nmse_db_of_layers"][3]
    assert row["fista_nmse_db"] < 0 and row["ista_nmse_db"] < 0
    assert row["fista_steps"] is None or row["fista_steps"] >= 1
    assert (tmp_path / "out" / "lista.png").is_file()
