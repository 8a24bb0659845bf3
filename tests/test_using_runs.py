"""A suite whose cells take something from each other's runs, from its first cell to its report."""

import dataclasses
import json
from pathlib import Path

import pytest
from helpers import same_tree
from prefrl_benchmarks.cells import fingerprint, fingerprint_of
from prefrl_benchmarks.executors.nodes import take_along, unpack
from prefrl_benchmarks.publish import without_folders
from prefrl_benchmarks.suites import find_suite
from runs import prefrl

from prefrl import recipes
from prefrl.errors import UsageError
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree

SUITE = """
tasks = ["reacher"]
seeds = [0]
steps = 1024
labels = 12

[settings]
"agent.n_envs" = 2
"agent.n_steps" = 64
"round_steps" = 256
"evaluation.episodes" = 1
"reward.pretrain_comparisons" = 64
"queries.initial_fraction" = 0.5
"demonstrations.batches" = 10

[variants.true]
teacher = "none"

[variants.held]
uses = { reference = "true", demonstrations = "true" }
settings = { "kl.beta" = 0.1 }

[variants.frozen]
teacher = "none"
uses = { reward = "held", reference = "held" }
settings = { "kl.policy" = "initial" }

[variants.judged]
teacher = "judge+oracle"
uses = { judge = "held" }
settings = { "judge.share" = 0.5 }
"""


@pytest.mark.slow
def test_runs_of_a_suite_use_each_other(tmp_path):
    path, out = tmp_path / "using.toml", tmp_path / "out"
    path.write_text(SUITE)
    done = prefrl("bench", "run", path, "--out", out)
    assert (done.code, "4 cells finished" in done.out) == (0, True), done.err
    cells = {cell.variant: cell for cell in find_suite(str(path)).cells()}
    for cell in cells.values():
        assert fingerprint_of(out / cell.name) == fingerprint(cell.config)
    runs = {name: RunDirectory.open(out / cell.name) for name, cell in cells.items()}
    summaries = {name: json.loads((run.root / "summary.json").read_text()) for name, run in runs.items()}
    assert summaries["held"]["labels_answered"] == 12
    assert runs["held"].demonstrations.exists()
    assert summaries["held"]["kl_to_reference"] is not None
    assert (summaries["frozen"]["teacher"], summaries["frozen"]["labels_answered"]) == ("none", 0)
    # Not the files: safetensors writes metadata in any order.
    assert same_tree(load_tree(runs["held"].weights), load_tree(runs["frozen"].weights))
    assert summaries["judged"]["labels_by_teacher"] == {"judge": 6, "oracle": 6}
    again = prefrl("bench", "run", path, "--out", out)
    assert "4 of 4 cells are already finished" in again.err
    copy = tmp_path / "copy"
    assert prefrl("bench", "publish", out, copy).code == 0
    assert not [file for file in copy.rglob("*") if file.is_file() and str(tmp_path) in file.read_text()]
    for cell in cells.values():
        assert fingerprint_of(copy / cell.name) == fingerprint(cell.config)
    report = prefrl("bench", "report", copy)
    assert report.code == 0, report.err
    assert "other settings" not in report.err


def test_a_published_command_says_nothing_about_a_machine():
    words = "prefrl bench run kl --out /home/ada/my runs/kl --jobs 2"
    assert without_folders("prefrl bench run kl --out '/home/ada/my runs/kl' --jobs 2") == words.replace(
        "/home/ada/my ", ""
    )
    assert without_folders("prefrl bench run ./own.toml --out kl") == "prefrl bench run ./own.toml --out kl"


def test_a_cell_s_run_on_another_machine_has_what_it_uses(tmp_path):
    path, out = tmp_path / "using.toml", tmp_path / "out"
    path.write_text(SUITE)
    true, held, *_ = find_suite(str(path)).cells()
    out.mkdir()
    assert prefrl(*true.arguments(out)).code == 0
    unpack(take_along(held, out), tmp_path / "elsewhere")
    run = RunDirectory.open(tmp_path / "elsewhere")
    assert run.demonstrations.exists()
    assert (run.reference / "policy.safetensors").exists()
    assert fingerprint_of(run.root) == fingerprint(held.config)


# -- planned cells ----------------------------------------------------------------------------------------------------

USING = """
tasks = ["reacher"]
seeds = [0, 1]
steps = 1024
labels = 20

[variants.held]
uses = { reference = "true", demonstrations = "true" }
settings = { "kl.beta" = 0.5 }
later = true

[variants.true]
teacher = "none"
steps = 2048

[variants.frozen]
teacher = "none"
uses = { reward = "held" }

[variants.judged]
teacher = "judge+oracle"
uses = { judge = "held" }
"""


def using(tmp_path, text=USING):
    path = tmp_path / "using.toml"
    path.write_text(text)
    return find_suite(str(path))


def test_a_variant_may_use_the_runs_of_others_which_come_first(tmp_path):
    cells = using(tmp_path).cells()
    assert [(cell.variant, cell.seed) for cell in cells] == [
        ("true", 0), ("held", 0), ("frozen", 0), ("judged", 0),
        ("true", 1), ("held", 1), ("frozen", 1), ("judged", 1),
    ]  # fmt: skip
    true, held, frozen, judged = cells[4:]
    assert held.uses == {"reference": true.name, "demonstrations": true.name}
    assert frozen.name == "reacher_ppo_none-frozen_s1"
    assert [cell.is_baseline for cell in (true, held, frozen, judged)] == [True, False, False, False]
    assert (true.labels, held.labels, frozen.labels) == (0, 20, 20)  # those that its reward model has learned
    assert (frozen.config.reward_model, frozen.config.takes_labels) == (held.name, False)
    assert (judged.config.teacher, judged.config.judge.source) == ("judge+oracle", held.name)
    folder = Path("some/suite")
    words = held.arguments(folder)
    assert (
        words[words.index("--reference") + 1] == words[words.index("--demonstrations") + 1] == f"{folder / true.name}"
    )
    assert frozen.request_in(folder).reward == folder / held.name
    assert judged.request_in(folder).teacher == f"judge:{folder / held.name}+oracle"


def test_the_hash_of_a_cell_that_uses_runs_is_that_of_its_run_wherever_these_are(tmp_path):
    true, held, frozen, judged = using(tmp_path).cells()[:4]
    for cell in (held, judged):
        config = recipes.resolve(dataclasses.replace(cell.request_in(tmp_path / "elsewhere")))
        assert fingerprint(config) == fingerprint(cell.config)
    frozen_at = dataclasses.replace(frozen.request_in(tmp_path), settings={"reward.members": 2})
    assert fingerprint(recipes.resolve(frozen_at)) == fingerprint(frozen.config)
    again = using(tmp_path).cells()[5]
    assert (again.variant, again.seed, again.seedless.uses) == ("held", 1, held.uses)
    assert fingerprint(again.seedless.config) == fingerprint(held.seedless.config) == fingerprint(held.config)
    other = dataclasses.replace(held, uses={"reference": judged.name, "demonstrations": true.name})
    assert fingerprint(other.config) != fingerprint(held.config)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('judge = "held"', 'judge = "hold"', "did you mean held?"),
        ('judge = "held"', 'jugde = "held"', "did you mean judge?"),
        ('judge = "held"', 'judge = "judged"', "use each other's runs: judged"),
        ('reference = "true"', 'reference = "judged"', "use each other's runs: "),
        ("steps = 2048", 'tasks = ["cheetah"]', "unknown"),
        ('teacher = "judge+oracle"', "", 'variants.judged.uses.judge needs teacher = "judge"'),
        ('teacher = "none"\nuses', "uses", 'variants.frozen.uses.reward needs teacher = "none"'),
    ],
)
def test_a_variant_that_uses_what_is_not_there_is_refused_in_a_line(tmp_path, old, new, said):
    text = USING.replace('tasks = ["reacher"]\nseeds', 'tasks = ["reacher", "cheetah"]\nseeds')
    with pytest.raises(UsageError, match=said) as error:
        using(tmp_path, text.replace(old, new))
    assert "\n" not in str(error.value)
