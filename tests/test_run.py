"""The protocol of a run: what is saved when, what is forgotten, what is said."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Optional

from jgrid import checkpoint
from jgrid.field import DenseGridConfig, field_to_dict
from jgrid.run import CHECKPOINT, cost, make_folder, to_json
from jgrid.run import Run as NamedRun
from jgrid.trainer import TrainConfig, TrainingStopped

import numpy as np
import pytest

SUBJECT = {"pixels": np.zeros((2, 3, 3), np.float32)}
OTHER = {"pixels": np.ones((2, 3, 3), np.float32)}


@dataclass(frozen=True)
class Config:
    out: Optional[Path] = None
    resume: bool = False
    from_: Optional[Path] = None
    train: TrainConfig = TrainConfig(steps=3)
    field: DenseGridConfig = DenseGridConfig()


def Run(app, name, config, arrays=SUBJECT):
    return NamedRun(app, name, arrays, config)


def ending(error):
    """A trainer that ends with an error, or with a result."""

    def fit():
        if error is not None:
            raise error
        return {"psnr": 30.0}

    return SimpleNamespace(fit=fit)


def test_a_run_has_a_folder_of_its_own_or_the_users(tmp_path):
    assert Run("fit_image", "cat", Config()).folder == Path("out/fit_image-cat-grid-dense")
    assert Run("fit_image", "cat", Config(out=tmp_path)).folder == tmp_path


def test_the_model_is_saved_at_the_end_and_where_training_stops(tmp_path):
    run = Run("fit_image", "cat", Config(out=tmp_path))
    saved = []
    assert run.fit(ending(None), lambda: saved.append("end")) == {"psnr": 30.0}
    for error in (TrainingStopped("not finite"), KeyboardInterrupt(2)):
        with pytest.raises(type(error)):
            run.fit(ending(error), lambda error=error: saved.append(type(error)))
    assert saved == ["end", TrainingStopped, KeyboardInterrupt]
    with pytest.raises(ZeroDivisionError):  # a mistake of the program: who knows what there is
        run.fit(ending(ZeroDivisionError()), lambda: saved.append("mistake"))
    assert len(saved) == 3


def test_the_end_of_a_run_is_written_and_its_checkpoint_forgotten(tmp_path):
    run = Run("fit_image", "cat", config := Config(out=tmp_path))
    (tmp_path / CHECKPOINT).write_bytes(b"")
    run.finish({"psnr": 30.0})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "result.json"]
    written = json.loads((tmp_path / "config.json").read_text())
    assert len(written.pop("subject")) == 64 and written == to_json(config)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["psnr"] == 30.0 and result["versions"].keys() == {"python", "jittor", "numpy"}


def test_a_config_as_data_has_the_fields_kind(tmp_path):
    data = to_json(Config(out=tmp_path))
    assert data["out"] == str(tmp_path) and data["from"] is None and data["train"]["steps"] == 3
    assert data["field"] == field_to_dict(DenseGridConfig()) and "kind" in data["field"]


def test_only_what_lies_in_the_folder_is_shown(tmp_path, capsys):
    run = Run("fit_image", "cat", Config(out=tmp_path))
    run.show("PSNR 30 dB", [tmp_path / "a.png", tmp_path / "test" / "b.png"])
    assert capsys.readouterr().out == f"PSNR 30 dB\n{tmp_path / 'a.png'}\n"


def test_the_cost_of_a_fit():
    result = {"parameters": 12345, "seconds_train": 1.26, "device": "cpu"}
    assert cost(result) == "12,345 parameters, 1.3 s of training on cpu"


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        make_folder(tmp_path / "file" / "deeper")
    assert make_folder(tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a/b").iterdir())


def finished(name, arrays, config=None):
    run = Run("fit_image", name, config or Config(), arrays)
    run.make_folder()
    run.finish({})
    return run.folder


def unfinished(name, arrays, config=None):
    run = Run("fit_image", name, config or Config(), arrays)
    run.make_folder()
    progress = {"run": run._entries, "step": 1, "seconds": 1.0, "loss": 1.0, "history": []}
    checkpoint.save(run.folder / CHECKPOINT, {}, progress)
    return run.folder


def test_namesakes_have_folders_of_their_own(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    usual = Path("out/fit_image-cat-grid-dense")
    assert finished("cat", SUBJECT) == usual == finished("cat", SUBJECT)  # the same again
    assert not recwarn
    second = Path("out/fit_image-cat-grid-dense-2")
    assert finished("cat", OTHER) == second == finished("cat", OTHER)
    assert str(recwarn.pop(UserWarning).message) == (
        f"{usual} holds results of another subject of that name; those of this one go to {second}"
    )
    third = {"pixels": OTHER["pixels"].reshape(3, 2, 3)}
    assert finished("cat", third) == Path("out/fit_image-cat-grid-dense-3")
    assert finished("cat", SUBJECT) == usual and finished("dog", OTHER).name.endswith("dense")


def test_a_folder_that_the_user_names_is_for_one_subject(tmp_path):
    config = Config(out=tmp_path)
    assert finished("cat", SUBJECT, config) == finished("cat", SUBJECT, config) == tmp_path
    with pytest.raises(ValueError, match="another subject.*choose another `out`"):
        Run("fit_image", "cat", config, OTHER)


def test_a_run_does_not_go_on_with_another_subject(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    on = Config(resume=True)
    folder = unfinished("cat", SUBJECT)
    with pytest.raises(ValueError, match=f"{folder} holds a run of another subject"):
        Run("fit_image", "cat", on, OTHER)
    assert Run("fit_image", "cat", on, SUBJECT).folder == folder
    # a namesake's own unfinished run is found beside it
    assert unfinished("cat", OTHER).name == f"{folder.name}-2"
    assert Run("fit_image", "cat", on, OTHER).folder.name == f"{folder.name}-2"
    out = Config(out=tmp_path / "mine", resume=True)
    unfinished("cat", SUBJECT, Config(out=tmp_path / "mine"))
    with pytest.raises(ValueError, match="another subject"):
        Run("fit_image", "cat", out, OTHER)


def test_results_that_say_nothing_of_their_subject_are_anybodys(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    assert Run("fit_image", "cat", Config(out=tmp_path)).folder == tmp_path


def test_a_deleted_namesake_loses_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = finished("cat", SUBJECT)
    second = unfinished("cat", OTHER)
    shutil.rmtree(first)
    assert Run("fit_image", "cat", Config(resume=True), OTHER).folder == second
