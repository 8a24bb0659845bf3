"""One request: the command line, Python and suites ask for a run with the same names and defaults."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st
from prefrl_benchmarks.cells import Cell
from runs import prefrl

import prefrl as package
from prefrl.commands import cli
from prefrl.config import replace
from prefrl.config.request import Budget, Request
from prefrl.errors import UsageError
from prefrl.recipes import resolve
from prefrl.trained.playing import play

FIELDS = {each.name: each for each in dataclasses.fields(Request)}


def default(name):
    each = FIELDS[name]
    return each.default_factory() if each.default is dataclasses.MISSING else each.default


def test_python_s_train_takes_a_request_s_fields_with_their_defaults_and_types():
    parameters = dict(inspect.signature(package.train).parameters)
    assert parameters.pop("report").default is None
    assert parameters.keys() == FIELDS.keys()
    del parameters["task"]
    for name, each in parameters.items():
        assert each.default == (default(name) if default(name) != {} else None), name
        ours, theirs = (text.replace("str | Path", "Path") for text in (each.annotation, FIELDS[name].type))
        # A source of demonstrations is a path or the name of a data set.
        assert ours in (theirs, theirs.replace("str", "Path")) or theirs in ("Settings", "EnvKwargs"), name


def test_every_argument_of_python_s_train_is_explained():
    text = inspect.getdoc(package.train)
    assert not [name for name in FIELDS if f"\n    {name}: " not in text]


def test_playing_has_the_same_defaults_in_both():
    ours, theirs = (inspect.signature(function).parameters for function in (play, cli.play))
    assert [ours[name].default for name in ("episodes", "seed", "video")] == [
        theirs[name].default for name in ("episodes", "seed", "video")
    ]


def parsed(words):
    return tyro.cli(tyro.conf.OmitArgPrefixes[Request], args=words)


VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-1, 1) | st.sampled_from(["a", "a=b", "1", "[]"])
NAMES = st.sampled_from(["reward.members", "agent.gamma", "level"])
REQUESTS = st.builds(
    Request,
    st.sampled_from(["hopper", "module:Env-v0"]),
    teacher=st.sampled_from(["oracle", "none", "mistake+skip"]),
    labels=st.none() | st.integers(0, 99),
    steps=st.none() | st.integers(1, 99),
    labels_from=st.none() | st.just(Path("a b/labels.zip")),
    seed=st.integers(0, 9),
    mode=st.sampled_from(["async", "sync"]),
    out=st.none() | st.just(Path("runs/x")),
    settings=st.dictionaries(NAMES, VALUES),
    env_kwargs=st.dictionaries(NAMES, VALUES),
)


@given(REQUESTS)
def test_the_words_of_a_request_ask_for_the_same(request_):
    assert parsed(request_.words()) == request_


def test_a_request_of_defaults_is_its_task():
    assert Request("hopper").words() == ["hopper"]
    assert parsed(["hopper"]) == Request("hopper")


def test_a_cell_is_a_request_of_a_run_that_a_suite_names():
    cell = Cell("hopper", mode="sync", labels=30, steps=10_000, variant="ours", settings={"reward.members": 2})
    assert parsed(cell.arguments(Path("out"))[1:]) == Request(
        "hopper", mode="sync", labels=30, steps=10_000, settings={"reward.members": 2}, out=Path("out") / cell.name
    )
    assert cell.config == resolve("hopper", mode="sync", labels=30, steps=10_000, settings={"reward.members": 2})
    baseline = Cell("hopper", teacher="none", labels=0, steps=10_000)
    assert baseline.config == resolve("hopper", teacher="none", steps=10_000)


def test_settings_are_laid_over_the_other_arguments():
    config = resolve(Request("hopper", labels=30, seed=3, settings={"seed": 4, "queries.schedule_constant": None}))
    assert (config.queries.labels, config.seed, config.queries.schedule_constant) == (30, 4, None)


def test_a_budget_is_what_can_be_raised():
    config = resolve("hopper", labels=30)
    assert Budget().chosen == {}
    raised = replace(config, Budget(labels=40).chosen)
    assert (raised.queries.labels, raised.steps) == (40, config.steps)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--algo", "pppo"], "unknown algo 'pppo'; did you mean ppo"),
        (["--recipe", "papers"], "unknown recipe 'papers'; did you mean paper?"),
        (["--ablation", "no-ensembles"], "unknown ablation 'no-ensembles'; did you mean no-ensemble"),
        (["--teacher", "orakle"], "unknown teacher 'orakle'; did you mean oracle?"),
        (["--teacher", "oracle+mistakes"], "unknown teacher 'mistakes'; did you mean mistake?"),
        (["--set", "reward.network=mpl"], "'mpl'; did you mean mlp?"),
        (["--set", "reward.membres=3"], "there is no setting 'reward.membres'; did you mean reward.members?"),
        (["--set", "agent.image_network=natur"], "natur"),
        (["--set", "members"], "--set members: write KEY=VALUE"),
        (["--env-kwargs", "level"], "--env-kwargs level: write NAME=VALUE"),
        (["--mode", "synch"], "--mode cannot be synch: it is one of async, sync"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest(words, said, tmp_path):
    result = prefrl("train", "hopper", "--out", tmp_path / "run", *words)
    assert result.code == 2
    assert said in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "value"), [("mode", "both"), ("device", "tpu"), ("seed", -1), ("algo", "ddpg")])
def test_python_checks_what_a_type_checker_would(name, value):
    with pytest.raises(UsageError, match=name):
        resolve("hopper", **{name: value})
