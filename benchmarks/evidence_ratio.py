"""One ratio of energies to forces: where is the best one, and how far from 1 : 1?

    python benchmarks/evidence_ratio.py [SET ...] [--quick] [--output FOLDER]

Trains with each ratio from 1e-3 to 1e3 on each set, with raw, per-atom and standardized
losses; farther by decades where the validation error is least at an end. The error is
``√(RMSE(E/N) / SD(E/N) · RMSE(F) / RMS(F))`` on the test set. Runs are kept: what is
there is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from evidence.show import COLORS, STYLE, save, table, write
from evidence.study import LOSSES, Study, arguments

NEAR = 1.1
"""Ratios whose error is within this factor of the least are called good."""


def lowest(ratios, errors):
    """Return the minimum of the parabola through the three points around the best.

    Returns:
        log10 of the ratio; that of the point itself at an end.
    """
    x, y = np.log10(ratios), np.log(errors)
    i = int(np.argmin(y))
    if i in (0, len(x) - 1):
        return x[i]
    curve = np.polyfit(x[i - 1 : i + 2], y[i - 1 : i + 2], 2)
    return x[i] if curve[0] <= 0 else -curve[1] / (2 * curve[0])


def analyse(runs, key):
    """Return the numbers of one loss on one set."""
    runs = [run for run in runs if run["result"].get(key)]
    ratios = np.array([run["run"]["ratio"] for run in runs])
    errors = np.array([run["result"][key] for run in runs])
    good = ratios[errors <= NEAR * errors.min()]
    at_one = errors[np.isclose(ratios, 1.0)]
    return {
        "ratios": ratios,
        "errors": errors,
        "best": lowest(ratios, errors),
        "least": errors.min(),
        "at 1:1": at_one[0] / errors.min() if len(at_one) else None,
        "good": [np.log10(good.min()), np.log10(good.max())],
        "at the end of the sweep": bool(errors.argmin() in (0, len(errors) - 1)),
    }


def rows(found):
    for name, losses in found.items():
        for loss, n in losses.items():
            at_one = n["at 1:1"]
            yield (
                name, loss, f"{n['best']:+.1f}" + "*" * n["at the end of the sweep"],
                f"{n['good'][0]:+.0f} … {n['good'][1]:+.0f}", f"{n['least']:.3f}",
                "diverged" if at_one is None else f"{at_one:.2f}",
            )  # fmt: skip


def movement(found):
    """Yield, for each loss, how much the best ratio moves from set to set."""
    for loss in LOSSES:
        best = np.array([losses[loss]["best"] for losses in found.values()])
        worst = [losses[loss]["at 1:1"] or np.inf for losses in found.values()]
        common = common_ratio([losses[loss] for losses in found.values()])
        yield (
            loss, f"{best.min():+.1f} … {best.max():+.1f}", f"{np.ptp(best):.1f}",
            f"{max(worst):.2f}", f"{common[0]:+.0f}", f"{common[1]:.2f}",
        )  # fmt: skip


def common_ratio(sets):
    """Return the single ratio (log10) that is best for all sets, and what it costs.

    The cost is the largest factor, over the sets, by which its error exceeds the least.
    """
    ratios = sets[0]["ratios"]
    cost = np.full(len(ratios), 1.0)
    for n in sets:
        for i, ratio in enumerate(ratios):
            error = n["errors"][np.isclose(n["ratios"], ratio)]
            cost[i] = max(cost[i], error[0] / n["least"] if len(error) else np.inf)
    return np.log10(ratios[cost.argmin()]), cost.min()


def draw(found, path):
    with plt.rc_context(STYLE):
        columns = min(2, len(found))
        lines = -(-len(found) // columns)
        figure, grid = plt.subplots(
            lines, columns, squeeze=False, sharex=True, figsize=(8, 0.4 + 2.9 * lines)
        )
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (name, losses) in zip(grid.flat, found.items(), strict=False):
            for loss, n in losses.items():
                axes.loglog(n["ratios"], n["errors"], "o-", ms=4, color=COLORS[loss],
                            label=loss)  # fmt: skip
            axes.axvline(1.0, color="black", lw=0.8, ls=":")
            axes.set_title(name)
            axes.minorticks_off()
            marks = [0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0]
            low, high = axes.get_ylim()
            axes.set_yticks([m for m in marks if low <= m <= high])
            axes.yaxis.set_major_formatter("{x:g}")
        for axes in grid[-1]:
            axes.set_xlabel("energy : forces")
        for axes in grid[:, 0]:
            axes.set_ylabel("combined test error")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, ncols=len(labels), loc="outside upper center",
                      fontsize=9, columnspacing=1.2)  # fmt: skip
        save(figure, path)


def main():
    options = arguments(__doc__.splitlines()[0])
    found, totals = {}, {}
    for name in options.sets:
        study = Study(name, options.output, options.settings, options.ratios,
                      options.seeds)  # fmt: skip
        sweep = study.sweep(LOSSES)
        found[name] = {loss: analyse(runs, "test") for loss, runs in sweep.items()}
        totals[name] = {
            loss: analyse(runs, "test_total") for loss, runs in sweep.items()
        }
    columns = ("set", "loss", "log10 best", f"log10 within {NEAR - 1:.0%}",
               "least error", "1:1 / least")  # fmt: skip
    moves = ("loss", "log10 best", "decades", "worst 1:1 / least", "log10 of one ratio",
             "its worst error / least")  # fmt: skip
    tables = [
        table("Best ratio of energies to forces (* at the end of the sweep)", columns,
              rows(found)),
        table("From set to set", moves, movement(found)),
        table("From set to set, with E' in place of E/N in the error", moves,
              movement(totals)),
    ]  # fmt: skip
    draw(found, options.output / "ratio.png")
    write(options.output / "ratio.json", options.settings, tables, sets=found,
          sets_with_total_energies=totals)  # fmt: skip


if __name__ == "__main__":
    main()
