"""Symptoms of runs that do not learn; the thresholds hold for every published run."""

import dataclasses
import math
from pathlib import Path

import pytest

from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics
from prefrl.runs.symptoms import GUESS_LOSS, Stretch, guess_limit, longest_guess, most_ties, symptoms
from prefrl.storage.files import read_json

PUBLISHED = Path(__file__).parent.parent / "benchmarks" / "results"
CELLS = sorted(path.parent for path in PUBLISHED.glob("*/*_oracle-*/metrics.csv"))
STUCK = PUBLISHED / "guessed" / "pendulum_ppo_oracle-sync-700_s1"
"""The published run whose reward model guessed for nine tenths of its steps."""
UNFITTED = PUBLISHED / "guessed" / "walker-walk_sac_oracle-sync-100-qpa_s1"
"""The one that did not fit even its training labels, for a fifth of its steps."""
GUESSED = (STUCK, UNFITTED)


def config(**settings):
    return resolve("cheetah", settings={"steps": 100_000} | {k.replace("__", "."): v for k, v in settings.items()})


def rows(losses, every=5000):
    return [{"step": every * (i + 1), "validation_loss": loss, "training_loss": 0.1} for i, loss in enumerate(losses)]


def kinds(found):
    return [symptom.kind for symptom in found]


def labels(answered=100, equal=0):
    return {"answered": answered, "equal": equal}


def published(cell):
    summary = read_json(cell / "summary.json")
    counts = labels(summary["labels_answered"], summary["labels_equal"])
    return RunDirectory.open(cell).config, read_metrics(cell / "metrics.csv"), counts


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_of_the_published_runs_only_those_that_guessed_are_named(cell):
    expected = ["guessed"] if cell in GUESSED else []
    assert kinds(symptoms(*published(cell))) == expected


def test_all_published_runs_are_looked_at():
    assert len(CELLS) == 121


def test_the_limits_are_above_what_runs_that_learned_had():
    """The figures of the module's docstring."""
    worst = {True: (0.0, 0), False: (0.0, 0)}
    for cell in CELLS:
        about, figures, counts = published(cell)
        ties = counts["equal"] / counts["answered"]
        found = longest_guess(figures, guess_limit(about.reward.error, ties))
        if cell in GUESSED or about.images or found is None:
            continue
        fits_all = about.recipe in ("pebble", "qpa")
        worst[fits_all] = max(worst[fits_all], ((found.last - found.first) / about.steps, found.rows))
    assert {key: (round(share, 3), rows) for key, (share, rows) in worst.items()} == {
        False: (0.066, 9),
        True: (0.152, 7),
    }


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in GUESSED], ids=lambda cell: cell.name)
def test_no_run_that_learned_was_named_on_its_way(cell):
    about, figures, counts = published(cell)
    for end in range(1, len(figures)):
        assert not symptoms(about, figures[:end], labels(counts["answered"], counts["equal"]))


def test_the_one_that_guessed_is_named_early():
    about, figures, _ = published(STUCK)
    said = [kinds(symptoms(about, figures[:end], labels(300, 40))) for end in range(1, len(figures) + 1)]
    first = figures[said.index(["guesses"])]["step"]
    assert first == 74_000  # of 500,000
    assert "since step 20,000" in symptoms(about, figures[:60], labels(300, 40))[0].line
    assert "from step 20,000 to 470,000" in symptoms(about, figures, labels(300, 40))[0].line


def test_without_held_out_labels_the_training_loss_is_meant():
    (found,) = symptoms(*published(UNFITTED))
    assert found.line.startswith(
        "the reward model predicted its labels no better than a guess from step 15,104 to 55,552"
    )
    assert "predicted held-out labels" in symptoms(*published(STUCK))[0].line


def test_pong_was_slow_but_no_guess():
    path = PUBLISHED / "pong"
    about, figures = RunDirectory.open(path).config, read_metrics(path / "metrics.csv")
    assert about.images
    assert not any(symptoms(about, figures[:end], labels(500)) for end in range(1, len(figures) + 1))
    # Its first quarter would have been named where a reward model reads vectors.
    vectors = dataclasses.replace(about, reward=dataclasses.replace(about.reward, network="mlp"))
    assert symptoms(vectors, figures, labels(500))


def test_the_limit_of_a_guess():
    assert guess_limit(0.0, 0.0) == pytest.approx(0.9 * math.log(2))  # at best 0
    assert guess_limit(0.1, 0.0) == pytest.approx(0.9 * math.log(2) + 0.1 * -math.log(0.95))
    assert guess_limit(0.1, 0.5) == pytest.approx((guess_limit(0.1, 0.0) + math.log(2)) / 2)
    assert guess_limit(0.1, 1.0) == pytest.approx(GUESS_LOSS)


def test_the_longest_stretch_is_the_newest_of_equals():
    high, low = 0.7, 0.2
    assert longest_guess(rows([low, low]), 0.63) is None
    assert longest_guess(rows([high, low, high]), 0.63) == Stretch(15_000, 15_000, 1, True)
    assert longest_guess(rows([high, high, low, high]), 0.63) == Stretch(5000, 10_000, 2, False)
    assert longest_guess(rows([0.63, 0.6299]), 0.63) == Stretch(5000, 5000, 1, False)


def test_a_row_that_holds_nothing_out_counts_by_its_training_loss():
    assert longest_guess([{"step": 1, "validation_loss": None, "training_loss": 0.7}], 0.63).rows == 1
    assert longest_guess([{"step": 1, "validation_loss": None, "training_loss": None}], 0.63) is None


def test_a_guess_takes_a_tenth_of_the_steps_and_eight_rows():
    assert kinds(symptoms(config(), rows([0.7] * 8), labels())) == ["guesses"]
    assert not symptoms(config(), rows([0.7] * 7), labels())
    assert not symptoms(config(), rows([0.7] * 10, every=1000), labels())  # 9 % of the steps
    assert kinds(symptoms(config(), rows([0.7] * 11, every=1000), labels())) == ["guesses"]


def test_another_loss_is_not_measured_in_nats():
    assert not symptoms(config(reward__loss="true-reward"), rows([5.0] * 20), labels())


def test_a_run_on_the_true_reward_has_no_symptoms():
    assert not symptoms(resolve("cheetah", teacher="none"), rows([0.7] * 20), labels(0))


def test_ties_are_too_many_where_nearly_all_labels_are():
    late = rows([0.69] * 10)
    assert kinds(symptoms(config(), late, labels(100, 81))) == ["ties"]
    assert "81 of 100 labels are ties" in symptoms(config(), late, labels(100, 81))[0].line
    assert "ties" not in kinds(symptoms(config(), late, labels(100, 80)))
    assert "ties" not in kinds(symptoms(config(), late, labels(49, 48)))


def test_many_ties_are_no_symptom_where_the_reward_model_learns_from_the_others():
    limit = guess_limit(0.1, 0.81)
    assert kinds(symptoms(config(), rows([limit], every=100_000), labels(100, 81))) == ["ties"]
    assert not symptoms(config(), rows([limit - 1e-9], every=100_000), labels(100, 81))
    assert kinds(symptoms(config(), rows([0.1, limit], every=50_000), labels(100, 81))) == ["ties"]  # now it guesses
    # A loss in another unit says nothing about guessing.
    assert kinds(symptoms(config(reward__loss="true-reward"), rows([0.1], every=100_000), labels(100, 81))) == ["ties"]


def test_pong_was_learned_from_labels_that_are_mostly_ties():
    path = PUBLISHED / "pong-5500" / "s0"
    about, figures = RunDirectory.open(path).config, read_metrics(path / "metrics.csv")
    summary = read_json(path / "summary.json")
    counts = labels(summary["labels_answered"], summary["labels_equal"])
    assert counts["equal"] / counts["answered"] > most_ties(1.0)
    assert summary["true_return_mean"] > 19
    assert not any(symptoms(about, figures[:end], counts) for end in range(1, len(figures) + 1))


def test_a_few_labels_are_enough_where_all_are_ties_or_no_more_are_to_come():
    late = [{"step": 100_000}]
    assert kinds(symptoms(config(), late, labels(8, 8))) == ["ties"]
    assert kinds(symptoms(config(), late, labels(7, 7))) == []
    twelve = resolve("cheetah", settings={"queries.labels": 12})
    assert kinds(symptoms(twelve, late, labels(12, 11))) == ["ties"]
    assert kinds(symptoms(twelve, late, labels(11, 10))) == []


def test_early_in_a_run_more_ties_are_usual():
    assert [most_ties(done) for done in (0.0, 0.05, 0.1, 1.0)] == pytest.approx([1.0, 0.9, 0.8, 0.8])
    first = rows([0.69], every=1000)
    assert not symptoms(config(), first, labels(100, 94))  # a pendulum's, before it learns
    assert kinds(symptoms(config(), first, labels(100, 100))) == ["ties"]


def test_nothing_is_reported_before_the_first_row():
    assert symptoms(config(), [], labels(100, 100)) == []
