"""Size and composition: five energy losses, each with its own best ratio.

    python benchmarks/evidence_size.py [SET ...] [--quick] [--output FOLDER]

For the energy error Δ of N atoms, the losses are Δ² (raw), (Δ/N)² (per atom), Δ²/N
(per √N), and (Δ/s)² with the independent law and with the size law auto. The first
three come with raw forces, the others with F/η. Each has the ratio with the least
validation error of its own sweep, and then the best of three learning rates; the
standardized ones are shown at 1 : 1 too. Runs
are kept and shared with evidence_ratio.py: what is there is not repeated.
"""

import matplotlib.pyplot as plt
import numpy as np
from evidence.show import COLORS, STYLE, mean_and_spread, save, table, write
from evidence.study import LOSSES, RATES, Study, arguments, best_rate

ONE_TO_ONE = ("standardized", "standardized, auto")


def label(loss, ratio, best):
    return f"{loss}, 1:1" if ratio == 1.0 and best[loss] != 1.0 else loss


def usable(runs):
    return [run["result"] for run in runs if "diverged" not in run["result"]]


def averages(results, kind, key):
    """Return the mean over seeds for each group, and the names of the groups."""
    names = results[0]["errors"][kind]["name"]
    values = [r["errors"][kind][key] for r in results]
    return names, np.mean(np.array(values, float), axis=0)


def overall(finals, best):
    for (loss, ratio), runs in finals.items():
        results = usable(runs)
        if not results:
            yield label(loss, ratio, best), f"{np.log10(ratio):+.1f}", *["diverged"] * 6
            continue

        def all_of(key, factor=1.0, results=results):
            found = [r["errors"]["overall"][key][0] for r in results]
            return mean_and_spread(found, factor)

        yield (
            label(loss, ratio, best), f"{np.log10(ratio):+.1f}",
            all_of("energy_mae", 1e3), all_of("energy_rmse", 1e3),
            all_of("total_energy_rmse"), all_of("standardized_energy_rmse"),
            all_of("force_rmse", 1e3),
            mean_and_spread([r["test"] for r in results]),
        )  # fmt: skip


def by_rate(rates, best):
    for pair, runs in rates.items():
        errors = [run["result"].get("valid") for run in runs]
        yield (
            label(*pair, best),
            *("diverged" if e is None else f"{e:.3f}" for e in errors),
        )


def slopes(finals, best):
    for (loss, ratio), runs in finals.items():
        results = usable(runs)
        if results:
            cells = []
            for key in ("slope", "slope_auto"):
                found = np.array([r[key] for r in results])
                cells += [
                    mean_and_spread(found[:, 0], form="+.2f"),
                    f"±{found[:, 1].mean():.2f}",
                ]
            yield label(loss, ratio, best), *cells


def groups(finals, best, kind, key, factor):
    """Return the columns and rows of a table of one error by group."""
    rows, names = [], []
    for (loss, ratio), runs in finals.items():
        if results := usable(runs):
            names, values = averages(results, kind, key)
            rows.append(
                [label(loss, ratio, best), *(f"{factor * v:.3g}" for v in values)]
            )
    return ["loss", *names], rows


def gradients(finals, best, kind):
    """Return the columns and rows of a table of shares, at the start and the end."""
    rows, names = [], []
    for (loss, ratio), runs in finals.items():
        for result in usable(runs):
            for when in ("start", "end") if "gradient" in result else ():
                part = result["gradient"][when][kind]
                names = part["name"]
                if not rows:
                    share = [f"{v:.0%}" for v in part["structures"]]
                    rows.append(["share of the structures", "", *share])
                shown = [f"{v:.0%}" for v in part["share"]]
                rows.append([label(loss, ratio, best), when, *shown])
    return ["loss", "", *names], rows


def draw(name, finals, best, path):
    with plt.rc_context(STYLE):
        figure, (left, middle, right) = plt.subplots(
            1, 3, figsize=(8, 3.6), width_ratios=(1.3, 1.3, 1)
        )
        chosen = {loss: usable(finals[loss, best[loss]]) for loss in LOSSES}
        chosen = {loss: results for loss, results in chosen.items() if results}
        bars = []
        for i, (loss, results) in enumerate(chosen.items()):
            names, values = averages(results, "by_size", "energy_rmse")
            left.semilogy(range(len(names)), 1e3 * values, "o-", ms=4, label=loss,
                          color=COLORS[loss])  # fmt: skip
            left.set_xticks(range(len(names)), names, fontsize=8)
            found = np.array([r["slope_auto"] for r in results])
            right.errorbar(found[:, 0].mean(), -i, xerr=found[:, 1].mean(), fmt="o",
                           color=COLORS[loss], capsize=3)  # fmt: skip
            ends = [r["gradient"]["end"]["by_size"] for r in results if "gradient" in r]
            if ends:
                bars.append((loss, ends[0]))
        _stack(middle, bars)
        left.set(xlabel="atoms", ylabel="E/N RMSE, meV/atom", title=name)
        left.set_yticks(*_ticks(left))
        left.minorticks_off()
        right.axvline(0, color="black", lw=0.8, ls=":")
        right.set_yticks([])
        right.set(
            xlabel="slope of ln(ΔE/s)² on\nln N, s of the auto law",
            title="size slope, 95 %",
        )
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, ncols=5, loc="outside lower center", fontsize=9,
                      columnspacing=1.2)  # fmt: skip
        save(figure, path)


def _ticks(axes):
    low, high = axes.get_ylim()
    marks = [a * 10.0**b for b in range(-1, 4) for a in (1, 2, 5)]
    marks = [m for m in marks if low <= m <= high]
    return marks, [f"{m:g}" for m in marks]


def _stack(axes, bars):
    """Draw the shares of the gradient as bars, structures first."""
    if not bars:
        return
    names = bars[0][1]["name"]
    colors = plt.get_cmap("viridis")(np.linspace(0.05, 0.95, len(names)))
    rows = [("structures", bars[0][1]["structures"])]
    rows += [(loss, part["share"]) for loss, part in bars]
    for i, (_, shares) in enumerate(rows):
        start = 0.0
        for share, color, size in zip(shares, colors, names, strict=True):
            axes.barh(-i, share, left=start, color=color, height=0.7,
                      label=size if i == 0 else None)  # fmt: skip
            start += share
    axes.set_yticks(
        [-i for i in range(len(rows))], [row[0] for row in rows], fontsize=8
    )
    axes.set(xlim=(0, 1), title="gradient at the end", xlabel="share by atoms")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.24),
                handlelength=1, columnspacing=0.8)  # fmt: skip


def main():
    options = arguments(__doc__.splitlines()[0])
    tables, numbers = [], {}
    for name in options.sets:
        study = Study(name, options.output, options.settings, options.ratios,
                      options.seeds)  # fmt: skip
        best = study.best(LOSSES)
        pairs = list(best.items())
        pairs += [(loss, 1.0) for loss in ONE_TO_ONE if best[loss] != 1.0]
        rates = study.rates(pairs)
        chosen = [(*pair, best_rate(runs)) for pair, runs in rates.items()]
        finals = dict(zip(pairs, study.repeat(chosen), strict=True))
        columns = ("loss", "log10 ratio", "E/N MAE meV", "E/N RMSE meV", "E RMSE eV",
                   "E' RMSE", "F RMSE meV/Å", "combined")  # fmt: skip
        tables += [
            table(f"{name}: validation error by learning rate, at the best ratio",
                  ("loss", *(f"{rate:g}" for rate in RATES)), by_rate(rates, best)),
            table(f"{name}: test errors, mean ± half the range of the seeds", columns,
                  overall(finals, best)),
            table(f"{name}: slope of ln(ΔE/s)² on ln N and its 95 % interval",
                  ("loss", "s independent", "", "s auto", ""), slopes(finals, best)),
        ]  # fmt: skip
        for title, *what in (
            ("E/N RMSE by size, meV/atom", "by_size", "energy_rmse", 1e3),
            ("E' RMSE by size", "by_size", "standardized_energy_rmse", 1),
            ("E' RMSE of structures that hold an element", "by_element",
             "standardized_energy_rmse", 1),
            ("F RMSE by element, meV/Å", "by_element", "force_rmse", 1e3),
        ):  # fmt: skip
            tables.append(table(f"{name}: {title}", *groups(finals, best, *what)))
        for kind in ("by_size", "by_element"):
            title = f"{name}: share of the gradient of the energies {kind}"
            tables.append(
                table(title.replace("_", " "), *gradients(finals, best, kind))
            )
        numbers[name] = {"best": best}
        draw(name, finals, best, options.output / f"size_{name}.png")
    write(options.output / "size.json", options.settings, tables, sets=numbers)


if __name__ == "__main__":
    main()
