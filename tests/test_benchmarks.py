"""The benchmarks in their quick form: what they write, that the peers compute the same models, and
what they say when one cannot."""

import importlib.util
import json

from benchmarks import __main__ as benchmarks
from benchmarks import problem, suite
from benchmarks.race import race, summary
from jgrid import GridIndex, optimizer
from jgrid.field import Domain, field_from_dict

import numpy as np
import pytest
import tyro

PEERS = {
    "torch_eager": "torch",
    "torch_eager_naive": "torch",
    "jax": "jax",
    "jgrid_plain": "jittor",
}


def test_quick_form_fills_every_entry(tmp_path, capsys):
    names = ("step", "mulfa", "ops", "scaling", "sdf", "views", "zoo")
    benchmarks.main(benchmarks.Config(names, tmp_path / "speed.json", quick=True))
    results = json.loads((tmp_path / "speed.json").read_text())
    assert set(results) == {"machine", "limits", *names}
    assert all(
        rate > 0
        for kind in suite.UNITS
        for size, rate in results["limits"][kind].items()
        if size != "unit"
    )
    few = {"torch_eager": "torch", "jgrid_plain": "jittor"}
    for name, peers in (
        ("step", PEERS),
        ("mulfa", few),
        ("zoo", few),
        ("views", {"torch_eager": "torch"}),
    ):
        entry = results[name]
        assert entry["jgrid_ms"] > 0
        # a ratio wherever the peer is installed, which needs jgrid's losses
        for key, package in peers.items():
            if importlib.util.find_spec(package):
                assert entry[key] > 0 and key not in entry["reasons"], entry["reasons"]
            else:
                assert entry[key] is None and package in entry["reasons"][key]
    assert (
        results["step"]["torch_compile"] is None
        and "quick" in results["step"]["reasons"]["torch_compile"]
    )
    assert results["mulfa"]["linear"] > 0
    parts = results["ops"]["parts"]
    assert {name for name, part in parts.items() if "of_limit" in part} == {
        "gather",
        "mlp",
        "mlp_backward",
        "gather_backward",
        "adam",
    }
    assert sum(part["ms"] for part in parts.values()) == pytest.approx(results["ops"]["jgrid_ms"])
    assert results["scaling"]["ms"]["batch"].keys() == {"256", "512"}
    entry = results["sdf"]
    assert entry["jgrid_ms"] > 0 and entry["dense"] > 0 and entry["peak_mib"]["dense"] > 0, entry[
        "reasons"
    ]
    assert entry["faces"]["sparse"] == entry["faces"]["dense"] > 0
    assert "### step" in capsys.readouterr().out


def test_peers_have_the_trainers_adam():
    assert problem.BETAS == optimizer.BETAS


def test_peers_start_from_jgrids_grids():
    for field in (problem.HASH, problem.MULFA):
        layout = problem.Layout(field)
        index = field_from_dict(field).build(Domain(2, 3)).grid.index
        assert (
            isinstance(index, GridIndex)
            and layout.n_nodes == index.n_nodes
            and layout.n_dense == (~index.folded).sum()
        )
        assert np.array_equal(layout.first, index.first) and np.array_equal(
            layout.cells, index.cells[:, 0]
        )


def test_failed_competitor_leaves_the_reason():
    assert race({"peer": ("race", "nowhere", {})}, rounds=1, quick=True) == {
        "peer": {
            "ms": None,
            "reason": "AttributeError: module 'benchmarks.race' has no attribute 'nowhere'",
        }
    }


def test_another_model_has_no_ratio(monkeypatch):
    def runs(loss):
        return lambda *_: {
            "jgrid": {"ms": 2.0, "losses": [0.5, 0.4]},
            "peer": {"ms": 30.0, "losses": [0.5, loss]},
        }

    monkeypatch.setattr(suite, "race", runs(0.40001))
    assert suite.compare({}, True, {"torch_eager": "peer"})["torch_eager"] == 15.0
    monkeypatch.setattr(suite, "race", runs(0.4002))
    entry = suite.compare({}, True, {"torch_eager": "peer"})
    assert entry["torch_eager"] is None and "not the same model" in entry["reasons"]["torch_eager"]


def test_median_is_over_clean_samples():
    samples = [
        {"seconds": s, "cpu": 2 * s, "others": o, "steps": 10, "value": None}
        for s, o in ((1, 0.0), (9, 0.5), (3, 0.01), (2, 0.07), (8, 0.9))
    ]
    result = summary(samples)
    assert (result["ms"], result["range_ms"], result["cpu_ms"]) == (200.0, [100.0, 300.0], 400.0)
    assert (result["samples"], result["clean"], result["used"]) == (5, 3, "clean")
    assert summary(samples[:3])["used"] == "all" and summary(samples[:3])["ms"] == 300.0


def test_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        tyro.cli(benchmarks.Config, args=["stepp"])
    assert stop.value.code == 2 and "stepp" in capsys.readouterr().err
