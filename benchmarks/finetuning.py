"""What to do about the statistics when a potential is fine-tuned.

    python benchmarks/finetuning.py [DATA.xyz]

Trains a potential on half of the structures. The labels of the other half are then
changed as another level of theory would change them: the energy of each element by a
few electronvolts, deviations and forces by 5 %. A part of it is fine-tuned on with each
``baseline``, and from a fresh network; the rest tests.
"""

import argparse
import dataclasses

import keras
import numpy as np
from rich.console import Console

import tfpes
from tfpes.evaluation import compositions, predict
from tfpes.finetuning import BASELINES, prepare
from tfpes.models import Potential
from tfpes.training.options import Options
from tfpes.training.potential import compile_potential, new_potential

SILENT = Console(quiet=True)


def other_theory(structures, mean):
    """Shift the energies of elements, and scale deviations and forces."""
    rng = np.random.default_rng(0)
    counts = compositions(structures)
    shift = counts @ rng.uniform(-5, 5, size=counts.shape[1])
    deviation = structures.energy - counts @ mean
    return dataclasses.replace(
        structures,
        energy=structures.energy + shift + 0.05 * deviation,
        forces=1.05 * structures.forces,
    )


def errors(model, test):
    predictions = predict(model, test)
    per_atom = (predictions.energy - test.energy) / test.num_atoms
    forces = predictions.forces - test.forces
    return 1e3 * np.abs(per_atom).mean(), 1e3 * np.sqrt((forces**2).mean())


def fit(model, structures, test, epochs, rate, after=()):
    """Train, and return the errors before and after some of the epochs."""
    budget, _ = compile_potential(model, Options(learning_rate=rate, epochs=epochs))
    table = [errors(model, test)]
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (
            table.append(errors(model, test)) if epoch + 1 in after else None
        )
    )
    model.fit(
        structures.batches(8, shuffle=True, seed=0),
        epochs=epochs, shuffle=False, verbose=0,
        callbacks=[budget, note],
    )  # fmt: skip
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?")
    parser.add_argument("--epochs", type=int, default=15, help="of the first training")
    parser.add_argument("--structures", type=int, default=40, help="to fine-tune on")
    parser.add_argument("--seed", type=int, default=0, help="of the networks")
    parser.add_argument("--rate", type=float, default=4e-3, help="of fine-tuning")
    arguments = parser.parse_args()
    if arguments.data is None:
        structures = tfpes.data.load("alloys")
    else:
        structures = tfpes.data.read(arguments.data, 5.0, verbose=False)
    old, new = structures.split((0.5, 0.5), cover_elements=True)
    fraction = arguments.structures / len(new)
    print("errors on the test set: E MAE meV/atom, F RMSE meV/Å")
    print(f"{'baseline':>9}{'before':>18}{'1 epoch':>18}{'10 epochs':>18}")
    keras.utils.set_random_seed(arguments.seed)
    first = new_potential(Options(), old, SILENT)
    fit(first, old, old, arguments.epochs, 4e-3)
    mean = first.normalization.energy_mean.numpy()
    part, test = other_theory(new, mean).split(
        (fraction, 1 - fraction), cover_elements=True
    )
    for baseline in (*BASELINES, "fresh"):
        keras.utils.set_random_seed(arguments.seed + 1)
        if baseline == "fresh":
            model = new_potential(Options(), part, SILENT)
        else:
            model = Potential.from_config(first.get_config())
            model.build()
            model.set_weights(first.get_weights())
            prepare(model, part, baseline)
        table = fit(model, part, test, 10, arguments.rate, after=(1, 10))
        cells = "".join(f"{e:>10.1f}{f:>8.1f}" for e, f in table)
        print(f"{baseline:>9}{cells}", flush=True)


if __name__ == "__main__":
    main()
