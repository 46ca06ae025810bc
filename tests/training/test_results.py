"""The pictures that a run leaves."""

import json
import types

import numpy as np
import pytest
from rich.console import Console

from tfpes.callbacks import CosineBudget
from tfpes.evaluation.pictures import plot_error_by_size
from tfpes.training import Options, pictures
from tfpes.training import results as results_module
from tfpes.training.fit import Run

EPOCHS = 4
HISTORY = {
    f"{prefix}{key}": [8.0, 4.0, 2.0, 1.0]
    for prefix in ("", "val_")
    for key in ("loss", "energy_loss", "forces_loss", "energy_mae", "forces_rmse")
}


@pytest.fixture
def curves(monkeypatch):
    """Epochs of the curves of each panel, once a picture is drawn."""
    drawn = []

    def keep(figure, path):
        for axes in figure.axes:
            lines = axes.get_lines()
            drawn.append({line.get_label(): line.get_xdata() for line in lines})
        save(figure, path)

    save = pictures.save_figure
    monkeypatch.setattr(pictures, "save_figure", keep)
    return drawn


@pytest.mark.parametrize("done", [4, 3.25])
def test_training_curves_are_of_complete_epochs(curves, tmp_path, done):
    pictures.plot_learning_curves(tmp_path / "curves.png", HISTORY, done, 2)
    assert len(curves) == 4
    for panel in curves:
        np.testing.assert_array_equal(panel["training"], 1 + np.arange(int(done)))
        np.testing.assert_array_equal(panel["validation"], [1, 2, 3, done])
        np.testing.assert_array_equal(panel["best"], [3, 3])


@pytest.mark.parametrize("error", [np.nan, 0.0])
def test_nothing_to_take_the_logarithm_of(tmp_path, error):
    """A test part without energies, or a perfect model, must not end a run."""
    history = HISTORY | {f"{part}energy_loss": [error] * 4 for part in ("", "val_")}
    pictures.plot_learning_curves(tmp_path / "curves.png", history, 4, 2)
    comparison = types.SimpleNamespace(
        num_atoms=np.array([4, 8]),
        isolated=np.zeros(2, bool),
        standardized_errors=lambda key: (np.full(2, error), np.full(2, error == 0)),
    )
    plot_error_by_size(tmp_path / "sizes.png", comparison)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("steps", "complete"), [(16, 4), (15, 3), (13, 3)])
def test_an_epoch_cut_by_the_budget(
    curves, structures, tmp_path, monkeypatch, steps, complete
):
    """15 structures in batches of 4 are 4 steps an epoch."""
    assert len(structures) == 15
    stub = types.SimpleNamespace(
        comparison=None,
        as_dict=dict,
        plot_parity=lambda path, title: path.touch(),
        table=lambda title: title,
        overall=types.SimpleNamespace(nothing_learned=""),
    )
    monkeypatch.setattr(results_module, "evaluate", lambda *a, **options: stub)
    monkeypatch.setattr(
        results_module, "plot_error_by_size", lambda path, _: path.touch()
    )
    budget = CosineBudget(0.1, minutes=1.0)
    budget.set_state({"step": steps, "seconds": 60.0})
    checkpoint = types.SimpleNamespace(
        history=HISTORY,
        budget=budget,
        report=None,
        path=tmp_path / "checkpoint.npz",
        best=types.SimpleNamespace(best_epoch=1),
    )
    run = Run(
        Options(batch_size=4),
        types.SimpleNamespace(export=lambda path: None),
        budget,
        {"train": structures, "test": structures},
        tmp_path,
        Console(quiet=True),
    )
    results_module.write_results(run, checkpoint, finished=True)
    assert len(curves[0]["training"]) == complete
    assert (tmp_path / "learning_curves.png").stat().st_size > 5000
    # The numbers are all there.
    assert json.loads((tmp_path / "metrics.json").read_text())["history"] == HISTORY
