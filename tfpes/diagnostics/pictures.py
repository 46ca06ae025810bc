"""Pictures of a diagnosis, as text to put into a page."""

import base64
import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from tfpes.diagnostics.findings import Diagnosis
from tfpes.diagnostics.loss_pictures import plot_loss_shares
from tfpes.diagnostics.statistics_pictures import plot_standardized, plot_statistics
from tfpes.evaluation.pictures import plot_error_by_size, plot_parity
from tfpes.plotting import STYLE, save_figure


def draw(diagnosis: Diagnosis) -> dict[str, str]:
    """Draw everything.

    Returns:
        ``data:`` addresses of PNG pictures by name: ``standardized_energy``,
        ``size_law``, ``elements``, ``loss_weights_energy``; with forces
        ``standardized_forces`` and ``loss_weights_forces``; with errors of a model
        ``parity``, ``error_by_size`` and ``standardized_energy_errors``.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        plot_statistics(folder, diagnosis.structures, diagnosis.normalization)
        plot_loss_shares(folder, diagnosis.shares)
        _plot_normal(
            folder, diagnosis.forces, "forces", "standardized force F'", "components"
        )
        if diagnosis.errors is not None:
            comparison = diagnosis.errors.evaluation.comparison
            plot_parity(folder / "parity.png", comparison)
            plot_error_by_size(folder / "error_by_size.png", comparison)
            error = diagnosis.errors.energy[np.isfinite(diagnosis.errors.energy)]
            if error.any():
                error = error / np.sqrt(np.mean(error**2))
                _plot_normal(
                    folder, error, "energy_errors", "energy error ΔE'/RMS", "structures"
                )
        return {path.stem: _as_address(path) for path in sorted(folder.iterdir())}


def _plot_normal(
    folder: pathlib.Path, values: NDArray, stem: str, name: str, counted: str
) -> None:
    present = values[np.isfinite(values)]
    if not present.size:
        return
    with plt.rc_context(STYLE):
        figure = plot_standardized(present, name, counted)
        save_figure(figure, folder / f"standardized_{stem}.png")


def _as_address(path: pathlib.Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:image/png;base64,{data}"
