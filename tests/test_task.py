"""The contract of a task, and the order of an epoch."""

from jgrid.field import DenseGridConfig, Domain
from jgrid.task import AbstractTask, Epochs

import numpy as np
import pytest


class Nothing(AbstractTask):
    dim = 2
    n_out = 3
    metric = "loss"

    def sample(self, step, n):
        return {}

    def loss(self, model, batch):
        return {}

    def evaluate(self, model):
        return {}


def test_what_a_task_need_not_have(tmp_path):
    task = Nothing()
    assert (task.state(), task.status(), task.export(None, tmp_path)) == ({}, {}, [])
    assert task.prepare(None, 0.5) is None and task.restore({}, "name") is None
    with pytest.raises(ValueError, match="Nothing has no list of all its points"):
        task.samples()


def test_a_task_builds_a_model_as_its_domain_does():
    config = DenseGridConfig(finest=8, coarsest=4, levels=2)
    shapes = [
        {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for model in (Nothing().build(config), config.build(Domain(2, 3)))
    ]
    assert shapes[0] == shapes[1] and shapes[0]


@pytest.mark.parametrize("rows", [10, np.arange(100, 110)], ids=["number", "rows"])
def test_an_epoch_is_a_permutation_by_seed_and_number(rows):
    epochs = Epochs(rows, seed=5)
    for step in (0, 1, 2, 3, 7, 1):  # back again, too
        order = np.random.default_rng((5, step // 3)).permutation(rows)
        assert np.array_equal(epochs.rows(step, 3), order[step % 3 * 3 :][:3])
    other = Epochs(rows, seed=6)
    assert any(not np.array_equal(epochs.rows(step, 3), other.rows(step, 3)) for step in range(3))


def test_more_rows_than_there_are_is_all_of_them_each_step():
    epochs = Epochs(4, seed=0)
    first = epochs.rows(0, 9)
    second = epochs.rows(1, 9)
    assert sorted(first) == sorted(second) == [0, 1, 2, 3]
    assert any(not np.array_equal(first, epochs.rows(step, 9)) for step in range(1, 9))
