"""``tfpes evaluate``."""

import pathlib
from typing import Annotated

import typer

from tfpes.cli import options
from tfpes.cli.options import known_to
from tfpes.data import read_or_load
from tfpes.evaluation import evaluate
from tfpes.files import listing, made_folder
from tfpes.inference import load_potential
from tfpes.terminal import PlainConsole
from tfpes.training.config import TRAINED_ON, trained_on


def evaluate_command(
    model: options.Model,
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files of structures that ASE reads, a folder by 'tfpes convert', or "
            "an embedded data set: 'molecules' or 'alloys'."
        ),
    ],
    energy_key: options.EnergyKey = "energy",
    forces_key: options.ForcesKey = "forces",
    stress_key: options.StressKey = "stress",
    virial_key: options.VirialKey = "virial",
    batch_size: options.BatchSize = 16,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Compare a potential with labels: overall, by size, element and config_type.

    Neighbour lists have the cutoff of the model; structures with elements that it does
    not know are left out. Writes errors.csv, errors.json and
    parity.png.
    """
    console = PlainConsole()
    name = f"{pathlib.Path(data[0]).stem}-errors"
    with made_folder(output, overwrite, name) as folder:
        potential = load_potential(model)
        structures = read_or_load(
            data,
            potential.cutoff,
            energy_key=energy_key,
            forces_key=forces_key,
            stress_key=stress_key,
            virial_key=virial_key,
        )
        console.print(f"{structures}", highlight=False)
        structures = structures[known_to(potential, structures, console)]
        known = trained_on(model, structures)
        if known is not None and known.any():
            console.print(TRAINED_ON.format(known.sum()))
        evaluation = evaluate(
            potential, structures, batch_size=batch_size, trained_on=known
        )
        console.print()
        console.print(
            evaluation.table(f"Errors of {model} on {len(structures)} structures")
        )
        evaluation.to_csv(folder / "errors.csv")
        evaluation.to_json(folder / "errors.json")
        evaluation.plot_parity(folder / "parity.png")
        console.print(f"\n{listing(folder)}", highlight=False)
        if said := evaluation.overall.nothing_learned:
            console.print(f"\n{said}")
