"""What `prefrl bench speed` computes and tells, without runs."""

import json
import os

from prefrl_benchmarks.measure import speed
from prefrl_benchmarks.measure.profile import REST

from prefrl.runs.metrics import MetricsFile


def test_the_steady_rate_leaves_out_what_comes_before_the_first_round(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step, seconds in ((1000, 50.0), (2000, 52.0), (5000, 58.0)):
        metrics.append({"step": step, "time_seconds": seconds})
    assert speed.steady_rate(tmp_path / "metrics.csv") == 4000 / 8


def test_rates_count_only_a_run_s_own_turns(tmp_path):
    """It trained from 100 to 120, stopped for half of that, and for a quarter of the time between its rounds."""
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step, seconds in ((1000, 4.0), (5000, 12.0)):
        metrics.append({"step": step, "time_seconds": seconds})
    (tmp_path / "summary.json").write_text(json.dumps({"steps": 5000, "wall_seconds": 20.0}))
    os.utime(tmp_path / "summary.json", (120.0, 120.0))
    summary = speed._summary(tmp_path, [(90.0, 102.0), (106.0, 114.0), (121.0, 130.0)])
    assert summary["steps_per_second"] == 5000 / 10
    assert summary["steady_steps_per_second"] == 4000 / 6


STEPS_A_SECOND = {"plain": (1000, 2000), "sync": (800, 1000), "async": (900, 2400)}
STEADY = {"plain": (2000.0, 4000.0), "sync": (1000.0, None), "async": (1500.0, 2000.0)}
"""Of the rounds; the second synchronous run had one only."""


def test_ratios_are_taken_within_an_alternation_and_told(tmp_path, monkeypatch, capsys):
    profiled = {"shares": {"scoring": 0.25, REST: 0.75}, "agent_rss_mb": 300.4, "fitted_per_second": None}
    profiles = {
        "true": profiled | {"learner_share": None, "learner_rss_mb": 0},
        "sync": profiled | {"learner_share": None, "learner_rss_mb": 0, "fitted_per_second": 1234.4},
        "async": profiled | {"learner_share": 0.5, "learner_rss_mb": 200.4},
    }

    def run(timed, seconds):
        assert seconds is None
        ((kind, seed),) = timed
        figures = {"true_return_mean": 10.0 * seed, "peak_rss_mb": 100.0 + seed}
        figures |= {} if kind == "plain" else {"reward_correlation": 0.5 + 0.25 * seed}
        rates = {"steps_per_second": STEPS_A_SECOND[kind][seed], "steady_steps_per_second": STEADY[kind][seed]}
        return [figures | rates | ({"fitted_per_second": 77.0} if kind == "async" else {})]

    def profile(kind, cell, folder, threads):
        assert (kind, cell.seed, cell.settings["agent.gamma"], threads) == ("profile", 2, 0.5, 3)
        name = "true" if cell.teacher == "none" else cell.mode
        (tmp_path / name).mkdir()
        (tmp_path / name / "profile.json").write_text(json.dumps(profiles[name]))
        return tmp_path / name

    monkeypatch.setattr(speed, "prepare", lambda kind, cell, *_: (kind, cell.seed))
    monkeypatch.setattr(speed, "_run", run)
    monkeypatch.setattr(speed, "run_module", profile)
    asked = {"algo": "ppo", "steps": 3000, "labels": 20, "alternations": 2, "threads": 3}
    result = speed.measure("reacher", **asked, settings={"agent.gamma": 0.5})
    assert result["ratios"] == {"sync": [0.8, 0.5], "async": [0.9, 1.2]}
    assert result["steady_ratios"] == {"sync": [0.5, None], "async": [0.75, 0.5]}
    assert result["split"] == profiles
    told = {"task": "reacher", "algo": "ppo", "steps": 3000, "labels": 20, "threads": 3, "against": "plain"}
    assert result["settings"] == told | {"turns": None, "set": {"agent.gamma": 0.5}}
    assert capsys.readouterr().out.splitlines()[2:5] == [
        "1/2 async: 900 steps/s",
        "2/2 plain: 2000 steps/s",
        "2/2 sync: 1000 steps/s",
    ]
    assert speed.report_lines(result) == [
        "plain     median    1500 steps/s, 101 MB, true return 5.0",
        "sync      median     900 steps/s, 101 MB, true return 5.0, ratio median 0.650 (0.500 to 0.800), "
        "from the first round on 0.500, reward correlation 0.62",
        "async     median    1650 steps/s, 101 MB, true return 5.0, ratio median 1.050 (0.900 to 1.200), "
        "from the first round on 0.625, reward correlation 0.62, 77 comparisons fitted a second",
        f"true: scoring 25.0%, {REST} 75.0%; 300 MB",
        f"sync: scoring 25.0%, {REST} 75.0%; 300 MB; 1234 comparisons fitted a second",
        f"async: scoring 25.0%, {REST} 75.0%; 300 MB; the learner 50% of a core, 200 MB",
    ]


def test_runs_in_turns_keep_their_number_of_checkpoints(monkeypatch):
    """Runs that are paused keep ageing; each of three has a third of the time."""
    prepared = []
    rates = {"steps_per_second": 1.0, "steady_steps_per_second": 1.0}
    monkeypatch.setattr(speed, "prepare", lambda kind, cell, *_: prepared.append(cell))
    monkeypatch.setattr(speed, "_run", lambda timed, seconds: [rates | {"seconds": seconds}] * len(timed))
    asked = {"algo": "ppo", "steps": 3000, "labels": 20, "alternations": 1, "profile": False}
    result = speed.measure("reacher", **asked, interleave=2.0, settings={"checkpoint_seconds": 7.0})
    assert [cell.settings for cell in prepared] == [{"evaluation.episodes": 0, "checkpoint_seconds": 21.0}] * 3
    assert result["settings"]["turns"] == result["runs"]["sync"][0]["seconds"] == 2.0
    speed.check_count("alternations", 1)
