"""``tfpes stats``."""

import pathlib
from typing import Annotated

from tfpes.cli import options
from tfpes.cli.options import of_data, of_output, of_statistics, sample
from tfpes.data import read_or_load
from tfpes.data.packed import labelled
from tfpes.diagnostics.peers import peer_text, peer_weights
from tfpes.diagnostics.statistics_pictures import plot_statistics
from tfpes.files import listing, made_folder, new_file, write_json
from tfpes.terminal import PlainConsole
from tfpes.training.options import require_positive
from tfpes.training.potential import print_report
from tfpes.training.statistics import adapt


def stats_command(
    data: options.Data = None,
    cutoff: options.Cutoff = 5.0,
    energy_key: options.EnergyKey = "energy",
    forces_key: options.ForcesKey = "forces",
    stress_key: options.StressKey = "stress",
    virial_key: options.VirialKey = "virial",
    weight_key: options.WeightKey = "config_weight",
    size_law: options.SizeLaw = "auto",
    robust: Annotated[
        bool,
        of_statistics("--robust", help="Pull outliers in to 2.5 standard deviations."),
    ] = False,
    peers: Annotated[
        float | None,
        of_output(
            metavar="RATIO",
            help="Print weights for the losses of mace, grace, nequip, metatrain and "
            "deepmd-kit that bring them nearest to ours at this ratio of energies to "
            "forces.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        of_data(min=1, help="Processes that read files of DATA, one file at a time."),
    ] = 1,
    save: Annotated[
        str | None,
        of_output(help="File for the statistics (JSON), for 'tfpes train --stats'."),
    ] = None,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
    traceback: options.Traceback = False,
) -> None:
    """Estimate the statistics of a data set, report on them and draw them."""
    console = PlainConsole()
    data = data or options.DEFAULT_DATA
    require_positive(cutoff=cutoff, peers=1.0 if peers is None else peers)
    file = None if save is None else new_file(save, overwrite, "--save")
    with made_folder(
        output, overwrite, f"{pathlib.Path(data[0]).stem}-stats"
    ) as folder:
        structures = read_or_load(
            data,
            cutoff,
            energy_key=energy_key,
            forces_key=forces_key,
            stress_key=stress_key,
            virial_key=virial_key,
            weight_key=weight_key,
            neighbours=False,
            jobs=jobs,
        )
        atoms = structures.atom_offsets[-1]
        console.print(f"{len(structures)} structures, {atoms} atoms", highlight=False)
        normalization = adapt(
            structures, labelled(structures), size_law=size_law, robust=robust
        )
        print_report(normalization, console)

        some = sample(structures, 20_000, console)
        plot_statistics(folder, some, normalization)
        if peers is not None:
            text = peer_text(peer_weights(some, normalization, peers), peers)
            console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)
        write_json(folder / "report.json", normalization.report.as_dict())
        console.print(f"\n{listing(folder)}", highlight=False)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            normalization.to_json(file)
            console.print(
                f"\nTrain with these statistics:\n  tfpes train DATA --stats {file}",
                highlight=False,
                soft_wrap=True,
            )
