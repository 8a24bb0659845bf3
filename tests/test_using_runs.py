"""A suite whose cells take something from each other's runs, from its first cell to its report."""

import json

import pytest
from prefrl_benchmarks.cells import fingerprint, fingerprint_of
from prefrl_benchmarks.executors.nodes import take_along, unpack
from prefrl_benchmarks.publish import without_folders
from prefrl_benchmarks.suites import find_suite
from runs import prefrl

from prefrl.runs.directory import RunDirectory

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
    weights = [runs[name].weights.read_bytes() for name in ("held", "frozen")]
    assert weights[0] == weights[1]
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
