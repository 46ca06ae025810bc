import html.parser
import itertools
import re

import ase
import numpy as np
import pytest
import tensorflow as tf
import typer
from ase.build import bulk
from scipy import stats

import tfpes
from tfpes.cli import app
from tfpes.diagnostics import KINDS, diagnose, geometry, outliers, to_html
from tfpes.diagnostics.model_advice import _balance
from tfpes.diagnostics.shape import _find_gap, _fit_tail, shape, size_slope
from tfpes.evaluation import compositions

MU, SIGMA, ETA = {29: -3.0, 79: -2.5}, {29: 0.3, 79: 0.6}, {29: 1.0, 79: 0.4}
SCRIPT = "<script>alert('1')</script> & co"


def simulate(number, seed=0):
    """Return frames of random crystals whose labels follow the model exactly."""
    rng = np.random.default_rng(seed)
    frames, labels = [], []
    for _ in range(number):
        atoms = bulk("Cu", a=3.9, cubic=True) * (1, 1, int(rng.integers(1, 5)))
        atoms.numbers[rng.random(len(atoms)) < 0.5] = 79
        atoms.rattle(0.05, rng=rng)
        z = atoms.numbers
        scale = np.sqrt(sum(SIGMA[int(n)] ** 2 for n in z))
        forces = rng.normal(size=(len(z), 3)) * np.array([[ETA[int(n)]] for n in z])
        atoms.info["config_type"] = SCRIPT if rng.random() < 0.3 else "bulk"
        frames.append(atoms)
        labels.append(
            {
                "energy": sum(MU[int(n)] for n in z) + scale * rng.normal(),
                "forces": forces - forces.mean(axis=0),
                "stress": rng.normal(size=6) * 0.01,
            }
        )
    return frames, labels


@pytest.fixture(scope="module")
def read(labelled):
    def make(frames, labels):
        atoms = [
            labelled(a, **values) for a, values in zip(frames, labels, strict=True)
        ]
        return tfpes.data.read(atoms, 5.0, verbose=False)

    return make


@pytest.fixture(scope="module")
def clean(read):
    found = diagnose(read(*simulate(300)))
    assert found.outliers == []
    assert found.shape.gap is None
    assert found.shape.structures_without_force == 0
    return found


@pytest.fixture(scope="module")
def planted(read):
    """Return a diagnosis of the same set with one mistake of each kind."""
    frames, labels = simulate(300)
    labels[5]["energy"] += 40.0
    labels[17]["forces"][:2] = [[30.0, 0, 0], [-30.0, 0, 0]]
    frames[30].positions[1] = frames[30].positions[0] + [0, 0, 1.0]
    frames[44], labels[44] = frames[43].copy(), dict(labels[43])
    labels[44]["energy"] += 0.25
    frames[46], labels[46] = frames[45].copy(), dict(labels[45])
    labels[60]["forces"] = labels[60]["forces"] + [0.8, 0, 0]
    frames[71], labels[71] = ase.Atoms("Cu"), {"energy": 0.0, "forces": [[0.0] * 3]}
    del labels[80]["energy"]
    labels[90]["forces"][2] = np.nan
    del labels[95]["stress"]
    return diagnose(read(frames, labels))


@pytest.fixture(scope="module")
def page(planted):
    """Return that page, with names that must be escaped."""
    return to_html(planted, f"Set {SCRIPT}", lambda index: f"{SCRIPT} #{index}")


EXPECTED = {
    (5, "energy"): "robust standard deviations",
    (17, "force"): "|F| = 30 eV/Å",
    (30, "contact"): "1.000 Å",
    (44, "two energies"): "as structure 43; energies differ by 0.25 eV",
    (46, "duplicate"): "as structure 45; energies differ by 0 eV",
    (60, "net force"): "|Σ F| = ",
    (71, "isolated atom"): "one Cu atom, nothing within 5 Å",
    (80, "no energy"): "no energy",
    (90, "no forces"): "1 of ",
    (71, "no virial"): "not periodic in three directions",
    (95, "no virial"): "periodic, but no stress",
}


def test_planted_mistakes_are_found_with_their_reasons(planted):
    found = {(o.structure, o.kind): o.why for o in planted.outliers}
    assert found.keys() == EXPECTED.keys()
    assert len(found) == len(planted.outliers)
    for key, text in EXPECTED.items():
        assert text in found[key]
    assert {kind for _, kind in found} == set(KINDS)
    assert [o.kind for o in planted.outliers] == sorted(
        (o.kind for o in planted.outliers), key=list(KINDS).index
    )


def test_each_kind_of_outlier_is_advised_on(planted):
    text = "\n".join(planted.advice)
    for index in (5, 17, 30, 44, 46, 60, 71, 80, 90):
        assert f"1 structure ({index})" in text
    assert "2 structures (95, 71)" in text
    assert "1 of them periodic" in text
    assert planted.to_do[0].startswith("The same geometry has two energies, up to 0.25")


# -- limits --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [30, 400])
def test_false_alarms_of_energies_come_at_the_stated_rate(number):
    rng = np.random.default_rng(1)
    sets = 4000
    draws = rng.normal(scale=3.0, size=(sets, number))
    alarms = sum(bool(outliers.unlikely_energies(values)) for values in draws)
    # 40 are expected, with a standard deviation of 6.
    assert 15 <= alarms <= 65


def test_false_alarms_of_forces_come_at_the_stated_rate():
    rng = np.random.default_rng(2)
    size = np.linalg.norm(rng.normal(size=(4000, 200, 3)), axis=2).max(axis=1)
    assert 20 <= np.count_nonzero(size > outliers._force_limit(200)) <= 62


def test_gross_outliers_do_not_hide_behind_their_own_spread():
    rng = np.random.default_rng(3)
    values = rng.normal(size=200)
    values[:15] += 30.0
    values /= values.std()
    values[50] = np.nan
    found = outliers.unlikely_energies(values)
    assert sorted(o.structure for o in found) == list(range(15))
    # By the standard deviation, most of them pass.
    assert np.count_nonzero(np.abs(values[:15]) > stats.norm.isf(0.005 / 199)) < 5
    for none in (np.zeros(10), np.full(3, np.nan)):
        assert outliers.unlikely_energies(none) == []


# -- geometry ------------------------------------------------------------------------


def test_duplicates_agree_with_a_comparison_of_all_pairs(read):
    frames, labels = simulate(12, seed=4)
    frames += [a.copy() for a in frames[3:9]] + [frames[3].copy()]
    labels += labels[3:9] + labels[3:4]
    frames[12].positions += [5.0, 1.0, 0.0]
    frames[13].positions[0] += 2e-4
    frames[14].positions[0] += 1e-2
    frames[15].cell[2, 2] += 0.1
    frames[16].numbers[0] = 47
    structures = read(frames, labels)
    expected = set()
    for j, i in itertools.product(range(len(frames)), repeat=2):
        if i < j and len(frames[i]) == len(frames[j]):
            a, b = (
                x.positions - x.positions.mean(axis=0) for x in (frames[i], frames[j])
            )
            same = (frames[i].numbers == frames[j].numbers).all()
            cells = np.abs(frames[i].cell - frames[j].cell)
            if same and max(np.abs(a - b).max(), cells.max()) < 1e-3:
                expected.add(j)
    found = geometry.duplicates(structures)
    assert {o.structure for o in found} == expected == {12, 13, 17, 18}
    assert all("structure 3;" in o.why for o in found if o.structure in (12, 18))


def test_close_contacts_agree_with_ase(read):
    frames, labels = simulate(6, seed=5)
    frames[1].positions[0] = frames[1].positions[2] + [0.9, 0, 0]
    # Its own image, through the cell.
    frames[4], labels[4] = ase.Atoms("Au", cell=[1.5, 4, 4], pbc=True), {"energy": 0.0}
    found = {o.structure: o for o in geometry.close_contacts(read(frames, labels))}
    radii = ase.data.covalent_radii
    for s, atoms in enumerate(frames):
        i, j, d = ase.neighborlist.neighbor_list("ijd", atoms, 3.0)
        ratio = d / (radii[atoms.numbers[i]] + radii[atoms.numbers[j]])
        assert (s in found) == bool((ratio < geometry._CLOSE).any())
        if s in found:
            assert found[s].value == pytest.approx(1 / ratio.min(), rel=1e-5)
            pairs = np.count_nonzero(ratio < geometry._CLOSE) // 2
            assert f"pairs this close: {pairs}" in found[s].why
    assert set(found) == {1, 4}


# -- tables, shape, shares ------------------------------------------------------------


def test_standardized_labels_and_tables_agree_with_loops(clean, close):
    s, norm = clean.structures, clean.normalization
    mean, variance = norm.energy_mean.numpy(), norm.energy_variance.numpy()
    kappa = norm.collective_variance.numpy()
    atoms = np.split(s.atomic_numbers, s.atom_offsets[1:-1])
    energy = [
        (e - mean[z].sum()) / np.sqrt(variance[z].sum() + kappa * len(z) ** 2)
        for e, z in zip(s.energy, atoms, strict=True)
    ]
    close(clean.energy, energy, scale=1e2)
    close(clean.forces, s.forces / norm.force_scale.numpy()[s.atomic_numbers, None])
    labels = clean.labels
    row = next(r for r in labels.by_size if r.name == "5-16")
    inside = [i for i, z in enumerate(atoms) if 5 <= len(z) <= 16]
    assert row.structures == row.energies == len(inside)
    inside = np.array(energy)[inside]
    close(row.standardized_energy_rmse, np.sqrt(np.mean(inside**2)), scale=1e2)
    # The error of a model that says 0 is minus the label.
    close(row.standardized_energy_mean, -np.mean(inside), scale=1e2)
    gold = next(r for r in labels.by_element if r.name == "Au")
    assert gold.structures == sum(79 in z for z in atoms)
    expected = np.sqrt(np.mean(clean.forces[s.atomic_numbers == 79] ** 2))
    close(gold.standardized_force_rmse, expected)
    text = page_text(to_html(clean))
    shown = f"{mean[79]:.6g} {np.sqrt(variance[79]):.4g} {norm.force_scale[79]:.4g}"
    assert shown in text
    assert f"{np.mean(inside):+.2f} {row.standardized_energy_rmse:.2f}" in text
    for rows in (labels.by_size, labels.by_config_type):
        assert sum(r.structures for r in rows) == len(s)
        assert sum(r.atoms for r in rows) == len(s.positions)
    assert sum(r.atoms for r in labels.by_element) == len(s.positions)


def test_balance_is_that_of_the_labels(clean, close):
    s = clean.structures
    counts = compositions(s)
    error = s.energy - counts @ clean.normalization.energy_mean.numpy()
    values = {b.name: b for b in clean.balances}
    size = counts.sum(axis=1)
    forces = np.mean(s.forces.astype(float) ** 2)
    for name, power in (("raw", 0), ("per √N", 0.5), ("per atom", 1)):
        close(values[name].energy, np.mean((error / size**power) ** 2), scale=1e2)
        close(values[name].forces, forces)
    assert values["standardized"].ratio == pytest.approx(1.0, abs=0.1)


def test_shape_of_distributions(clean):
    s = clean.structures
    energy = np.concatenate([clean.energy, -clean.energy])
    assert clean.shape.energy_kurtosis == pytest.approx(
        stats.kurtosis(clean.energy, fisher=False), rel=1e-12
    )
    # About 0, which is the mean of a symmetrized sample.
    forces = clean.forces.ravel()
    expected = stats.kurtosis(np.concatenate([forces, -forces]), fisher=False)
    assert clean.shape.force_kurtosis == pytest.approx(expected, rel=1e-12)
    one = np.zeros_like(clean.forces)
    one[7] = [1.0, 2.0, 2.0]
    found = shape(s, energy, one)
    assert found.top_share == 1.0
    assert found.half_of_forces == 1
    ordered = sorted(energy**2, reverse=True)
    sums = [sum(ordered[: k + 1]) for k in range(len(ordered))]
    expected = next(k + 1 for k, value in enumerate(sums) if value >= sums[-1] / 2)
    assert found.half_of_energies == expected


def test_the_tail_of_forces_is_fitted(read):
    """Heavy only where the data say so: neither normal forces nor a few of a tail."""
    rng = np.random.default_rng(2)
    normal = np.linalg.norm(rng.normal(size=(20_000, 3)), axis=1)
    assert _fit_tail(np.sort(normal), 200).exponent > 8
    covered = 0
    for _ in range(1000):
        tail = _fit_tail(np.sort(rng.pareto(2.5, 300) + 1), 30)
        covered += tail.high > 2.5
    assert 957 <= covered <= 990  # 975 expected, standard deviation 5
    assert _fit_tail(np.zeros(300), 3) is None
    assert _fit_tail(np.ones(300), 3) is None
    assert _fit_tail(np.ones(3), 1) is None


@pytest.mark.slow
def test_tails_of_real_forces(shared):
    """What the page on `diagnose` says of them."""
    names = ("nbmotaw_mvl", "mlearn6", "mptrj_random_1k", "acac_botnet")
    sets = {name: shared(name) for name in names}
    sets |= {name: tfpes.data.load(name) for name in ("alloys", "molecules")}
    heavy = []
    for name, structures in sets.items():
        norm = tfpes.layers.PESNormalization()
        norm.adapt(tfpes.data.packed_labels(structures))
        numbers = structures.atomic_numbers
        forces = norm.standardize_forces(structures.forces, numbers).numpy()
        found = shape(structures, np.arange(len(structures)) % 3.0, forces)
        assert found.force_kurtosis > 3
        if found.force_tail.high < 4:
            heavy.append(name)
    assert heavy == ["mptrj_random_1k"]


@pytest.mark.slow
def test_advice_on_the_tail_of_forces(read):
    frames, labels = simulate(100, seed=3)
    said = "|F'| has the tail of a power law"
    assert said not in "\n".join(diagnose(read(frames, labels)).advice)
    rng = np.random.default_rng(4)
    for values in labels:
        values["forces"] = values["forces"] / np.sqrt(rng.chisquare(1.5))
    found = diagnose(read(frames, labels))
    assert said in "\n".join(found.advice)
    assert f"Exponent of the tail of |F'|: {found.shape.force_tail.exponent:.2f}" in (
        page_text(to_html(found))
    )


def test_one_frame_with_the_forces_of_an_element_is_named(read):
    frames, labels = simulate(30, seed=5)
    gold = np.flatnonzero(frames[11].numbers == 79)
    labels[11]["forces"][gold[:2], 0] = [200.0, -200.0]
    found = diagnose(read(frames, labels))
    squares = [
        np.sum(np.square(values["forces"])[atoms.numbers == 79])
        for atoms, values in zip(frames, labels, strict=True)
    ]
    share = squares[11] / sum(squares)
    assert f"from Au ({share:.1%} of it from structure 11)" in "\n".join(found.advice)


def test_share_of_the_pressure(clean, close):
    raw, own = clean.pressure
    w = clean.structures.virial.astype(float)
    pressure = np.trace(w, axis1=1, axis2=2) / 3
    parts = (
        3 * np.sum(pressure**2),
        np.sum((w - pressure[:, None, None] * np.eye(3)) ** 2),
    )
    close(raw, parts[0] / sum(parts))
    assert 0.1 < own < 0.25  # one of six
    assert f"pressure is {raw:.1%} of the squared virials" in "\n".join(clean.advice)
    assert f"squared virials: {raw:.1%}, standardized {own:.1%}" in page_text(
        to_html(clean)
    )


def test_elements_without_any_energy(read):
    """In isolated atoms alone, or in structures without energy: nothing is made up."""
    frames, labels = simulate(20, seed=6)
    frames[3].numbers[0] = 47
    del labels[3]["energy"]
    frames.append(ase.Atoms("H"))
    labels.append({"energy": -13.6, "forces": [[0.0] * 3]})
    found = diagnose(read(frames, labels))
    assert np.isnan(found.energy[[3, 20]]).all()
    assert np.isfinite(found.energy).sum() == 19
    assert np.isfinite(found.forces).all()
    assert not found.normalization.seen.numpy()[[1, 47]].any()
    assert "the mean energy of H, Ag: `tfpes train` leaves" in "\n".join(found.advice)
    # Weights for others are those of what has a scale.
    for weights in found.peers:
        assert np.isfinite([weights.energy, weights.forces]).all()
        assert np.isnan(weights.forces_off["Ag"])
    parse(to_html(found))


def test_two_lots_of_energies_are_told_from_one():
    rng = np.random.default_rng(6)
    assert all(_find_gap(rng.normal(size=300)) is None for _ in range(300))
    mixed = np.concatenate([rng.normal(-1, 0.2, 270), rng.normal(3, 0.2, 30)])
    gap = _find_gap(mixed)
    assert (gap.below, gap.above) == (270, 30)
    assert gap.low == mixed[:270].max()
    assert gap.high == mixed[270:].min()
    # A few stragglers are outliers, not a second lot.
    assert (
        _find_gap(np.concatenate([rng.normal(size=296), [8.0, 8.1, 8.2, 8.3]])) is None
    )


# -- the law and the advice ------------------------------------------------------------


def numbers(text):
    return re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)


# Constants of the sentences, not findings.
CONSTANTS = {"0", "1", "2", "3", "10", "0.6", "1.5"}


def shown_below_advice(content):
    """Return the text of all sections but the first, the advice."""
    head, mark, rest = content.partition('<section id="statistics">')
    assert mark
    assert '<section id="advice">' in head
    return re.sub("<[^>]*>", " ", html.unescape(rest))


def test_advice_is_ranked_and_names_options(planted, page):
    """What may be wrong comes first; options are those of the command."""
    assert any("repeated by" in sentence for sentence in planted.to_do)
    assert any("standardized: start there" in sentence for sentence in planted.to_know)
    assert planted.advice == planted.to_do + planted.to_know
    text = page_text(page)
    places = [text.index(word) for word in ("To do", "To know")]
    assert places == sorted(places)
    options = set(re.findall(r"`(--[a-z-]+)", " ".join(planted.advice)))
    offered = {
        option
        for command in typer.main.get_command(app).commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    assert options
    assert options <= offered


def test_navigation_can_break_between_links(page):
    """Links side by side without a space have no place to break a line at."""
    assert re.search(r"nav {[^}]*flex-wrap: wrap", page)


def test_advice_rests_on_numbers_shown(planted, page):
    known = set(numbers(shown_below_advice(page))) | CONSTANTS
    assert len(planted.advice) > 8
    for sentence in planted.advice:
        assert not set(numbers(sentence)) - known, sentence


def test_advice_on_sizes_losses_and_elements(read):
    alloys = diagnose(tfpes.data.load("alloys"))
    text = "\n".join(alloys.advice)
    exponent = alloys.report["standardized_energy"]["size_exponent"]["exponent"]
    assert f"p = {exponent:.2f}" in text
    assert "collective. Use `--size-law collective`" in text
    shares = alloys.shares["energy"]["losses"]["raw"]["gradient"]["by_size"]
    assert f"{shares['65-256']:.1%} of its squared gradient from structures of" in text
    frames, labels = simulate(40, seed=7)
    for atoms in frames[:3]:
        atoms.numbers[0] = 47
    rare = diagnose(read(frames, labels))
    assert any(
        "1 element is in fewer than 10" in a and "Ag (3)" in a for a in rare.advice
    )
    sizes = diagnose(read(frames[5:6] * 3, labels[5:6] * 3))
    assert "every size law gives the same" in sizes.to_know[0]


def test_advice_on_energies_in_two_lots(read):
    frames, labels = simulate(60, seed=11)
    for atoms, values in zip(frames[:20], labels[:20], strict=True):
        values["energy"] += 5.0 * len(atoms)  # another reference of the atoms
    diagnosis = diagnose(read(frames, labels))
    gap = diagnosis.shape.gap
    assert (gap.below, gap.above) == (40, 20)
    text = f"No E' lies between {gap.low:.2f} and {gap.high:.2f}: 40 structures are"
    assert any(text in sentence for sentence in diagnosis.advice)
    assert text in page_text(to_html(diagnosis))


@pytest.mark.slow
@pytest.mark.parametrize("with_forces", [False, True])
def test_odd_sets(read, with_forces):
    frames, _ = simulate(12, seed=8)
    linear = [{"energy": -3.0 * len(a)} for a in frames]
    for atoms, values in zip(frames, linear, strict=True):
        if with_forces:
            values["forces"] = np.zeros((len(atoms), 3))
    for some in (slice(0, 1), slice(None)):
        diagnosis = diagnose(read(frames[some], linear[some]), composition_only)
        assert diagnosis.balances == []
        assert not [o for o in diagnosis.outliers if o.kind in ("energy", "force")]
        parse(to_html(diagnosis))


# -- with a model ----------------------------------------------------------------------


def composition_only(inputs):
    """A model that says -3 eV for each atom, and no force."""
    atoms = tf.math.bincount(
        tf.cast(inputs["structure_index"], tf.int32), minlength=len(inputs["cell"])
    )
    return {
        "energy": -3.0 * tf.cast(atoms, tf.float64),
        "forces": tf.zeros_like(inputs["positions"]),
    }


@pytest.mark.slow
def test_errors_of_a_model(planted, close):
    s = planted.structures
    diagnosis = diagnose(s, composition_only)
    errors, norm = diagnosis.errors, diagnosis.normalization
    scale = norm.energy_scale(compositions(s)).numpy()
    expected = (-3.0 * s.num_atoms - s.energy) / scale
    expected[71] = np.nan  # an isolated atom
    close(errors.energy, expected, scale=1e2)
    force = -planted.forces
    close(errors.forces, force, "float32")
    rms = [np.sqrt(np.nanmean(f**2)) for f in np.split(force, s.atom_offsets[1:-1])]
    close(errors.force_rms, rms, "float32")
    assert errors.worst_forces[0] == 17
    assert errors.worst_energies[0] == np.nanargmax(np.abs(errors.energy))
    overall = errors.evaluation.overall.standardized_energy_rmse
    close(overall, np.sqrt(np.nanmean(errors.energy**2)), scale=1e2)
    # That of forces is exactly the RMS of F', which is near 1.
    forces = errors.evaluation.overall.standardized_force_rmse
    assert (
        f"{overall:.3g} of the spread of the energies and {forces:.3g} of"
        in "\n".join(diagnosis.advice)
    )
    text = page_text(to_html(diagnosis))
    worst = errors.worst_energies[0]
    error = -3.0 - s.energy[worst] / s.num_atoms[worst]
    assert f"{1e3 * error:+.1f} {errors.energy[worst]:+.2f}" in text
    slope = errors.slope
    assert f"{slope.slope:.2f} [{slope.low:.2f}, {slope.high:.2f}]" in text
    known = set(numbers(shown_below_advice(to_html(diagnosis)))) | CONSTANTS
    for sentence in diagnosis.advice:
        if "model's RMSE" not in sentence:  # which has the ratio of two that are shown
            assert not set(numbers(sentence)) - known, sentence


@pytest.mark.parametrize(
    ("energy", "forces", "text"),
    [
        (0.4, 0.1, "energy term of the loss is 16 times the force term"),
        (0.1, 0.4, "force term of the loss is 16 times the energy term"),
        (0.2, 0.2, "two terms of the loss are 1 : 1, balanced"),
    ],
)
def test_advice_on_the_balance_of_errors(energy, forces, text):
    assert text in _balance(energy, forces)


def test_slope_and_the_coverage_of_its_interval():
    rng = np.random.default_rng(9)
    size = rng.integers(1, 200, 150)
    covered = 0
    for _ in range(600):
        error = size**0.25 * rng.normal(size=150)
        error[:2] = np.nan, 0.0
        slope = size_slope(error, size)
        covered += slope.low < 0.5 < slope.high
    assert 545 <= covered <= 592  # 570 expected, standard deviation 5.3
    used = slice(2, None)
    expected, _ = np.polyfit(np.log(size[used]), np.log(error[used] ** 2), 1)
    assert slope.slope == pytest.approx(expected, rel=1e-9)
    assert slope.structures == 148
    assert size_slope(np.ones(5), np.full(5, 4)) is None
    assert size_slope(np.array([1.0, np.nan, 2.0]), np.array([1, 2, 3])) is None


# -- the page --------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """Checks that tags are closed in order, and gathers what there is."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], [], []
        self.columns = None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def parse(content):
    page = Page()
    page.feed(content)
    page.close()
    assert page.open == []
    return page


def page_text(content):
    return " ".join(parse(content).text)


def test_page_is_whole_and_needs_nothing_else(planted, page):
    content, page = page, parse(page)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert page.tags.count("img") == 6
    ids = {value for _, name, value in page.attributes if name == "id"}
    for _, name, value in page.attributes:
        if name == "src":
            assert value.startswith("data:image/png;base64,")
        if name == "href":
            assert value.removeprefix("#") in ids
        assert not name.startswith("on")
    assert "http" not in content
    assert "url(" not in content
    text = " ".join(page.text)
    assert f"Set {SCRIPT}" in text
    assert f"{SCRIPT} #44" in text
    for why in (o.why for o in planted.outliers):
        assert why in text


def test_rows_of_tables_are_as_long_as_their_heads(page):
    found = re.findall(r"<table>(.*?)</table>", page, flags=re.DOTALL)
    assert len(found) > 8
    for table in found:
        columns = table.count("<th ")
        for row in table.split("<tr>")[2:]:
            assert row.count("<td ") == columns


def test_long_lists_are_given_by_index(read):
    frames, labels = simulate(2, seed=10)
    structures = read(frames[:1] * 40 + frames[1:], labels[:1] * 40 + labels[1:])
    text = page_text(to_html(diagnose(structures)))
    assert "Duplicates: 39 of 41, 95.1%" in text
    assert "27 more, by index" in text
    assert ", 38, 39" in text
