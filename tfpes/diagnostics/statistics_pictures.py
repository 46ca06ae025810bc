"""Pictures of the statistics of a data set."""

import pathlib
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray
from scipy import stats

from tfpes.data.structures import Structures
from tfpes.diagnostics.loss_shares import scale_of_each_law
from tfpes.elements import SYMBOLS
from tfpes.evaluation import compositions
from tfpes.layers import PESNormalization
from tfpes.plotting import STYLE, save_figure

# Both show where they agree.
_LAWS = {"independent": ("C1", "--", 2.6), "collective": ("C2", "-", 2.4)}
# More elements than this stand in two rows.
_MOST_ELEMENTS = 45


def plot_statistics(
    folder: pathlib.Path, structures: Structures, normalization: PESNormalization
) -> None:
    """Draw three pictures: E' against N(0, 1), the size law, and the elements.

    Args:
        folder: for ``standardized_energy.png``, ``size_law.png``, ``elements.png``.
        structures: that `normalization` was adapted on.
        normalization: with its report.
    """
    report = normalization.report.as_dict()
    used = ~np.isnan(structures.energy)
    if normalization.options.isolated_atoms == "exclude":
        used &= ~structures.isolated_atoms
    counts = compositions(structures)[used]
    energy = structures.energy[used]
    residual = energy - normalization.energy_baseline(counts).numpy()
    scale = normalization.energy_scale(counts).numpy()
    scales = {}
    if report["fit"]["laws"]:  # none if there is no spread to fit
        scales = scale_of_each_law(normalization, counts, energy)
    with plt.rc_context(STYLE):
        figure = plot_standardized(residual / scale)
        save_figure(figure, folder / "standardized_energy.png")
        figure = _plot_size_law(counts.sum(axis=1), residual, scales, report)
        save_figure(figure, folder / "size_law.png")
        save_figure(_plot_elements(report), folder / "elements.png")


def plot_standardized(
    standardized: NDArray,
    name: str = "standardized energy E'",
    counted: str = "structures",
) -> plt.Figure:
    """Draw a histogram and a Q-Q plot of standardized labels against the normal law.

    Args:
        standardized: of any shape, without NaN.
        name: of what was standardized; its last word is the symbol.
        counted: what there are as many of as values.
    """
    standardized, symbol = standardized.ravel(), name.split()[-1]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2))
    # Some far outliers would squeeze everything else into one bar.
    limit = min(max(np.abs(standardized).max(), 3.0), 6.0)
    beyond = np.count_nonzero(np.abs(standardized) > limit)
    number = int(np.clip(6 * standardized.size ** (1 / 3), 20, 100))
    left.hist(
        np.clip(standardized, -limit, limit),
        np.linspace(-limit, limit, number),
        density=True,
        color="C0",
        alpha=0.55,
        label=f"{standardized.size} {counted}",
    )
    x = np.linspace(-limit, limit, 300)
    left.plot(x, stats.norm.pdf(x), color="0.2", label="N(0, 1)")
    left.set(xlabel=name, ylabel="density", xlim=(-limit, limit))
    if beyond:
        left.set_title(f"{beyond} beyond ±{limit:g}, in the last bars", fontsize=9)
    left.legend(loc="upper right")

    ordered = np.sort(standardized)
    expected = stats.norm.ppf((np.arange(ordered.size) + 0.5) / ordered.size)
    ends = np.array([-1.05, 1.05]) * max(np.abs(expected).max(), 1.0)
    right.plot(ends, ends, color="0.2", linewidth=1, label="N(0, 1)")
    right.scatter(expected, ordered, s=8, color="C0", linewidths=0, rasterized=True)
    right.set(xlabel="quantile of N(0, 1)", ylabel=f"quantile of {symbol}", xlim=ends)
    right.legend(loc="upper left")
    root, middle = np.sqrt(np.mean(standardized**2)), np.median(np.abs(standardized))
    # The median of |E'| tells the bulk from the tails.
    right.set_title(
        f"RMS {root:.3g} (1), median |{symbol}| {middle:.3g} (0.674 if normal)",
        fontsize=9,
    )
    return figure


def _plot_size_law(
    size: NDArray,
    residual: NDArray,
    scales: dict[str, NDArray],
    report: dict[str, Any],
) -> plt.Figure:
    """Draw residual energies against size, with the fitted laws and the exponent.

    Args:
        size: atoms of each structure.
        residual: its energy less the baseline, eV.
        scales: fitted by each size law, eV.
        report: as a dict.
    """
    figure, axes = plt.subplots(figsize=(6.8, 4.8))
    absolute = np.abs(residual)
    area = np.clip(4000.0 / size.size, 4.0, 25.0)
    rng = np.random.default_rng(0)  # spreads equal sizes sidewards
    shaken = size * np.exp(rng.uniform(-0.02, 0.02, size.size))
    axes.scatter(
        shaken, absolute, area, color="0.6", alpha=0.5, linewidths=0, rasterized=True
    )
    middle, root, margin = _by_size(size, residual)
    axes.errorbar(
        middle,
        root,
        margin * root,
        color="k",
        fmt="o",
        markersize=4.5,
        capsize=2,
        zorder=3,
        label="RMS by size",
    )
    low, high = size.min() * 0.9, size.max() * 1.1
    x = np.geomspace(low, high, 200)
    for name, scale in scales.items():
        color, line, order = _LAWS[name]
        used = " (used)" if name == report["fit"]["size_law"] else ""
        formula = "√Σ n σ²" if name == "independent" else "√(Σ n σ² + N² κ²)"
        # Of the compositions that there are, not of an average one.
        place, predicted, _ = _by_size(size, scale)
        axes.plot(
            place,
            predicted,
            line,
            color=color,
            zorder=order,
            label=f"s, {name} law{used}: {formula}",
        )
    exponent = report["standardized_energy"]["size_exponent"]
    if exponent is not None:
        p = exponent["exponent"]
        # Through the data: the exponent is fitted, the factor follows.
        factor = np.mean(residual**2 / size**p)
        axes.plot(
            x,
            np.sqrt(factor * x**p),
            ":",
            color="C3",
            label=f"N^(p/2), p free: {p:.2f} "
            f"[{exponent['low']:.2f}, {exponent['high']:.2f}]",
        )
    axes.set(
        xscale="log",
        xlabel="atoms in the structure, N",
        ylabel="|E - Σ n μ|  [eV]",
        xlim=(low, high),
    )
    _plain_numbers(axes.xaxis)
    positive = absolute[absolute > 0]
    if positive.size:
        axes.set_yscale("log")
        # A few residuals near 0 would squeeze all others.
        axes.set_ylim(np.quantile(positive, 0.02) / 2, 2.5 * positive.max())
    axes.legend(loc="upper left", fontsize=8.5)
    return figure


def _by_size(size: NDArray, residual: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return size, RMS residual and its relative standard error, by octaves."""
    octave = np.floor(np.log2(size) + 1e-9)
    found = []
    for value in np.unique(octave):
        inside = octave == value
        square = residual[inside] ** 2
        mean, number = square.mean(), square.size
        if mean > 0:
            error = square.std() / mean / np.sqrt(number) / 2 if number > 2 else 0.0
            found.append((np.exp(np.log(size[inside]).mean()), np.sqrt(mean), error))
    middle, root, margin = np.array(found).reshape(-1, 3).T
    return middle, root, np.minimum(margin, 0.9)


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis 0.5, 1, 2 rather than with powers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def _plot_elements(report: dict[str, Any]) -> plt.Figure:
    """Draw σ_z and η_z of each element."""
    elements = report["elements"]
    symbols = sorted(elements, key=SYMBOLS.index)
    fit = report["fit"]
    panels = [("energy_deviation", "σ  [eV]", fit["pooled_deviation"], "C0")]
    if "forces" in report:
        panels.append(("force_scale", "η  [eV/Å]", report["forces"]["scale"], "C3"))
    lines = int(np.ceil(len(symbols) / _MOST_ELEMENTS))
    chunks = np.array_split(np.array(symbols), lines)
    width = float(np.clip(0.26 * len(chunks[0]) + 1.8, 6.4, 13.0))
    figure, grid = plt.subplots(
        lines * len(panels),
        1,
        figsize=(width, 2.1 * lines * len(panels) + 0.5),
        squeeze=False,
        sharey=False,
    )
    kappa = fit["collective_deviation"]
    for row, axes in enumerate(grid[:, 0]):
        name, label, pooled, color = panels[row // lines]
        chunk = chunks[row % lines]
        _element_panel(axes, elements, chunk, name, pooled, color)
        values = [elements[s].get(name, np.nan) for s in symbols] + [pooled]
        if name == "energy_deviation" and kappa > 0:
            total = [np.hypot(elements[s].get(name, np.nan), kappa) for s in chunk]
            axes.scatter(np.arange(len(chunk)), total, 30, facecolors="none",
                         edgecolors="C2", zorder=4)  # fmt: skip
            values += [kappa, *np.hypot(values, kappa)]
        axes.set_ylabel(label)
        axes.set_ylim(*_limits(values))
        _plain_numbers(axes.yaxis)
    title = "area: structures with the element; dashed: all elements together"
    if kappa > 0:
        title += f"\nopen: √(σ² + κ²), spread of one atom, κ = {kappa:.3g} eV"
    grid[0, 0].set_title(title, fontsize=8.5)
    return figure


def _element_panel(
    axes: Axes,
    elements: dict[str, Any],
    symbols: NDArray,
    name: str,
    pooled: float,
    color: str,
) -> None:
    values = np.array([elements[s].get(name, np.nan) for s in symbols])
    number = np.array([elements[s].get("structures", 0) for s in symbols])
    largest = max(entry.get("structures", 0) for entry in elements.values())
    area = 12 + 70 * number / max(largest, 1)
    place = np.arange(len(symbols))
    axes.vlines(place, np.minimum(values, pooled), np.maximum(values, pooled),
                color=color, alpha=0.35, linewidth=1.5)  # fmt: skip
    axes.scatter(place, values, area, color=color, linewidths=0, zorder=3)
    axes.axhline(pooled, color="0.4", linewidth=1, linestyle="--", zorder=0)
    axes.set_xticks(place, symbols, fontsize=9)
    axes.set_xlim(-0.7, len(symbols) - 0.3)
    axes.set_yscale("log")


def _limits(values: list[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis, at least a factor of 3 apart."""
    low, high = np.nanmin(values) / 1.3, np.nanmax(values) * 1.3
    middle = np.sqrt(low * high)
    return min(low, middle / 2), max(high, middle * 2)
