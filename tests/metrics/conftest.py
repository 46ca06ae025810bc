"""Batches, and every metric with its definition in plain float64 Python."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import pytest

from tfpes import metrics
from tfpes.layers import PESNormalization

ELEMENTS = (1, 29)
MEAN = {1: -13.6, 29: -1640.5}
VARIANCE = {1: 0.04, 29: 0.5}
FORCE = {1: 0.5, 29: 2.5}
VIRIAL = {1: 0.3, 29: 2.1}
KAPPA2 = 0.0625


@dataclasses.dataclass(frozen=True)
class Case:
    """A metric, the key it belongs to, and what it adds up.

    ``rows(target row, prediction row)`` yields (number, whether it is labelled).
    """

    key: str
    make: Callable
    rows: Callable
    finish: Callable = float

    @property
    def kind(self):
        """Forces are float32, all else is float64."""
        return "float32" if self.key == "forces" else "float64"


def per_atom(error, row):
    return error / max(row[-119:].sum(), 1.0)


def spread(row, values):
    return np.sqrt(sum(row[-119 + z] * value for z, value in values.items()))


def virial_scale(row):
    return spread(row, {z: value**2 for z, value in VIRIAL.items()})


def energy_scale(row):
    return np.sqrt(spread(row, VARIANCE) ** 2 + row[-119:].sum() ** 2 * KAPPA2)


def six(virial):
    """Return pressure, two differences and three shears of (..., 9), orthonormal."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = np.moveaxis(virial, -1, 0)
    parts = xx + yy + zz, xx - yy, 2 * zz - xx - yy, yz + zy, xz + zx, xy + yx
    return np.stack(parts, axis=-1) / np.sqrt([3, 2, 6, 2, 2, 2])


def components(width, change, function):
    """Return rows that compare each labelled component."""

    def rows(row, pred):
        for label, value in zip(row[:width], np.ravel(pred), strict=True):
            if not np.isnan(label):
                yield function(change(float(value) - float(label), row))

    return rows


def of_element(number, function):
    def rows(row, pred):
        if row[3] == number:
            yield from components(3, lambda e, row: e, function)(row, pred)

    return rows


def cosine(row, pred):
    true, pred = np.float64(row[:3]), np.float64(pred)
    norms = np.sqrt(np.sum(true**2)), np.sqrt(np.sum(pred**2))
    if norms[0] > 1e-3 and norms[1] > 1e-3:
        yield np.sum(true * pred) / (norms[0] * norms[1])


def standardized_virial(row, pred):
    errors = (six(np.ravel(pred)) - six(row[:9])) / virial_scale(row)
    yield from (square(error) for error in errors if not np.isnan(error))


def square(x):
    return x * x


def identity(error, row):
    return error


def norm():
    return PESNormalization(
        energy_mean=MEAN,
        energy_variance=VARIANCE,
        collective_variance=KAPPA2,
        force_scale=FORCE,
        virial_scale=VIRIAL,
    )


def _cases():
    cases = {}
    for name, mae, rmse, width, scale in (
        ("energy", metrics.EnergyMAE, metrics.EnergyRMSE, 1, energy_scale),
        ("virial", metrics.VirialMAE, metrics.VirialRMSE, 9, virial_scale),
    ):
        for total, error in (("", per_atom), ("-total", identity)):
            options = {"per_atom": False} if total else {}
            cases |= {
                f"{name}-mae{total}": Case(
                    name, partial(mae, **options), components(width, error, abs)
                ),
                f"{name}-rmse{total}": Case(
                    name,
                    partial(rmse, **options),
                    components(width, error, square),
                    np.sqrt,
                ),
            }
        rows = components(width, lambda e, row, s=scale: e / s(row), square)
        cases[f"{name}-standardized"] = Case(
            name,
            lambda n=name: metrics.StandardizedRMSE(norm(), n),
            rows if name == "energy" else standardized_virial,
            np.sqrt,
        )
    rows = {
        "mae": (metrics.ForceMAE, components(3, identity, abs)),
        "rmse": (metrics.ForceRMSE, components(3, identity, square), np.sqrt),
        "mae-Cu": (partial(metrics.ForceMAE, element="Cu"), of_element(29, abs)),
        "rmse-H": (partial(metrics.ForceRMSE, 1), of_element(1, square), np.sqrt),
        "cosine": (metrics.ForceCosine, cosine),
        "standardized": (
            lambda: metrics.StandardizedRMSE(norm(), "forces"),
            components(3, lambda e, row: e / FORCE[int(row[3])], square),
            np.sqrt,
        ),
    }
    return cases | {
        f"forces-{name}": Case("forces", *row) for name, row in rows.items()
    }


CASES = _cases()


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request):
    return request.param


@pytest.fixture(scope="session")
def norm_():
    return norm()


@pytest.fixture(scope="session")
def batch():
    """Return a function that makes targets, predictions and weights of a key.

    The last row is padding; labels of the second are missing, one of the third is.
    """

    def make(key, seed=0, rows=10):
        rng = np.random.default_rng(seed)
        weights = rng.uniform(0.1, 2.0, rows)
        # The weight of a row without labels does not matter.
        weights[[1, -1]] = np.nan
        width = {"energy": 1, "forces": 3, "virial": 9}[key]
        labels = rng.normal(size=(rows, width))
        pred = labels + rng.normal(size=(rows, width))
        if key == "forces":
            labels[3] = 1e-4
            pred[4] = 0.0
            numbers = rng.choice(ELEMENTS, rows)
            numbers[-1] = 0
            context = np.stack([numbers, np.arange(rows) // 3], axis=1)
        else:
            context = np.zeros((rows, 119))
            context[:, ELEMENTS] = rng.integers(1, 50, (rows, 2))
            context[-1] = 0
            shift = context[:, ELEMENTS] @ [MEAN[z] for z in ELEMENTS]
            if key == "energy":
                context = np.insert(context, 0, 0.0, axis=1)
                labels, pred = labels + shift[:, None], pred + shift[:, None]
        labels[[1, -1]] = np.nan
        labels[2, 1:2] = np.nan
        dtype = np.float32 if key == "forces" else np.float64
        shape = {"energy": (), "forces": (3,), "virial": (3, 3)}[key]
        target = np.hstack([labels, context]).astype(dtype)
        return target, pred.astype(dtype).reshape(rows, *shape), weights

    return make


@pytest.fixture(scope="session")
def naive():
    """Return a metric by one loop over all labels of all batches."""

    def compute(case, batches):
        total = count = 0.0
        for target, pred, weights in batches:
            weights = np.ones(len(target)) if weights is None else weights
            for row, guess, weight in zip(target, pred, weights, strict=True):
                for number in case.rows(row, guess):
                    total += weight * number
                    count += weight
        return case.finish(total / count)

    return compute


@pytest.fixture(scope="session")
def copy_by_config():
    def copy(metric):
        config = json.loads(json.dumps(keras.metrics.serialize(metric)))
        return keras.metrics.deserialize(config)

    return copy
