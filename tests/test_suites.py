"""Suites: the built-in ones, TOML files of users, invalid ones, and the hash of a cell."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from prefrl_benchmarks.cells import Cell, fingerprint, fingerprint_of
from prefrl_benchmarks.results import read_results
from prefrl_benchmarks.suites import find_suite, known_suites

from prefrl import recipes
from prefrl.config import migrations
from prefrl.config.migrations import Add
from prefrl.errors import UsageError
from prefrl.recipes.ablations import PAPER_ABLATIONS
from prefrl.runs.directory import RunDirectory
from prefrl.teachers import TEACHERS

NAMES = (
    "ablations",
    "atari",
    "atari-10m",
    "atari-pong",
    "bpref",
    "bpref-small",
    "mujoco",
    "mujoco-offpolicy",
    "pebble-parts",
    "queries",
    "quick",
    "smoke",
    "teachers",
)
OWN = """
tasks = ["reacher"]
seeds = [3]
steps = 1000
[variants.true]
teacher = "none"
[variants.few]
labels = 10
settings = { "reward.members" = 1 }
"""
RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
CELL = Cell("hopper", mode="sync", steps=100_000, labels=300)


def hash_of(**changes):
    return fingerprint(dataclasses.replace(CELL, **changes).config)


def refused(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        find_suite(str(path))
    message = str(caught.value)
    assert message.startswith(f"suite {path}: ") or str(path) in message
    assert "\n" not in message
    return message


def test_the_suites_of_the_package():
    assert tuple(known_suites()) == NAMES
    for name in NAMES:
        ours = find_suite(name)  # every cell resolves
        assert ours.description
        assert [variant.name for variant in ours.variants if variant.teacher == "none"] == ["true"]
        seeds = {task: len(ours.task_seeds.get(task, ours.seeds)) for task in ours.tasks}
        expected = sum(seeds[task] for variant in ours.variants for task in variant.tasks or ours.tasks)
        assert len({cell.name for cell in ours.cells()}) == expected


def test_the_paper_s_suites_have_its_tasks_and_budgets():
    budgets = {name: {v.labels for v in find_suite(name).variants if v.labels} for name in ("mujoco", "atari-10m")}
    assert budgets == {"mujoco": {1400, 700, 350}, "atari-10m": {10_000, 5600, 3300}}
    assert [len(find_suite(name).tasks) for name in ("mujoco", "atari-10m")] == [8, 7]


def test_the_games_at_the_scale_of_two_cores():
    games = find_suite("atari-10m").tasks
    cells = find_suite("atari").cells()
    assert {cell.steps for cell in cells} == {2_000_000}
    assert {cell.mode for cell in cells} == {"sync"}
    made = Counter((cell.task, cell.variant) for cell in cells)
    assert {game for game in games if made[game, "5500"] == made[game, "true"] == 3} == {"breakout", "qbert"}
    assert all(made[game, variant] for game in games for variant in ("true", "5500", "3300"))
    assert [task for task, variant in made if variant == "mistake"] == ["enduro-effort", "enduro"]
    assert {cell.labels for cell in cells if not cell.is_baseline} == {5500, 3300}
    first = cells[: 2 * (len(games) + 1)]  # a score for every task, before anything else
    assert [(a.task, a.variant, b.variant) for a, b in zip(first[::2], first[1::2], strict=True)] == [
        (task, "true", "5500") for task in find_suite("atari").tasks
    ]
    pong = find_suite("atari-pong").cells()
    assert [(cell.labels, cell.seed, cell.steps) for cell in pong] == [
        made for seed in range(3) for made in ((5500, seed, 3_000_000), (0, seed, 5_000_000))
    ]


def test_a_suite_with_seeds_and_variants_of_single_tasks(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        """
tasks = ["reacher", "hopper"]
seeds = [0]
steps = 1000
labels = 10
[task_seeds]
hopper = [2, 0]
[variants.few]
labels = 5
later = true
[variants.true]
teacher = "none"
[variants.wrong]
teacher = "mistake"
tasks = ["hopper"]
"""
    )
    assert [(cell.seed, cell.task, cell.variant) for cell in find_suite(str(path)).cells()] == [
        (0, "reacher", "true"),
        (0, "hopper", "true"),
        (0, "hopper", "wrong"),
        (0, "reacher", "few"),
        (0, "hopper", "few"),
        (2, "hopper", "true"),
        (2, "hopper", "wrong"),
        (2, "hopper", "few"),
    ]


def test_no_ablation_teacher_or_rule_is_forgotten():
    assert {v.ablation for v in find_suite("ablations").variants if v.ablation} == set(PAPER_ABLATIONS)
    left_out = {"people-like", "late", "advantage", "bpref-skip", "bpref-equal"}
    assert {v.teacher for v in find_suite("teachers").variants} == {"none", *TEACHERS} - left_out


def test_a_suite_of_one_s_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    ours = find_suite(str(path))
    assert ours.name == "mine"
    true, few = ours.cells()
    assert (true.teacher, true.seed, true.steps) == ("none", 3, 1000)
    assert (few.labels, few.config.reward.members) == (10, 1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 1000", "stepz = 1000", "there is no setting 'stepz'; did you mean steps?"),
        ("labels = 10", "lables = 10", "there is no setting 'variants.few.lables'; did you mean labels?"),
        ('["reacher"]', '["reecher"]', "unknown task 'reecher'; did you mean reacher"),
        ('teacher = "none"', 'teacher = "nobody"\nlabels = 1', "unknown teacher 'nobody'"),
        ('teacher = "none"', 'teacher = "human"\nlabels = 1', "cannot ask people"),
        ("reward.members", "reward.membres", "there is no setting 'reward.membres'"),
        ("steps = 1000", "steps = 1_000.5", "steps cannot be 1000.5"),
        ("seeds = [3]", "seeds = [true]", "seeds cannot be"),
        ("seeds = [3]", "seeds = []", "at least one of"),
        ("seeds = [3]", "seeds = [3, 3]", "two cells are the same"),
        ("seeds = [3]", "", "seeds is missing"),
        ("labels = 10", "", "variant few needs labels"),
        ("labels = 10", "labels = 1_000_000", "labels are more than"),
        ("steps = 1000", "steps = 1000\n[task_steps]\nhopper = 5\n", "unknown task under task_steps 'hopper'"),
        ("steps = 1000", "steps = 1000\n[task_seeds]\nreecher = [5]\n", "unknown task under task_seeds 'reecher'"),
        ("steps = 1000", "steps = 1000\n[task_seeds]\nreacher = []\n", "task_seeds.reacher needs at least one seed"),
        ("steps = 1000", "steps = 1000\n[task_seeds]\nreacher = 5\n", "task_seeds.reacher cannot be 5"),
        ("labels = 10", 'labels = 10\ntasks = ["reecher"]', "unknown task under variants.few.tasks 'reecher'"),
        ("labels = 10", "labels = 10\nlater = 1", "variants.few.later cannot be 1"),
        ("[variants.true]", "[variants", "is not TOML"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, old, new, said):
    assert old in OWN
    assert said in refused(tmp_path, OWN.replace(old, new))


def test_variants_are_tables(tmp_path):
    assert "variants must be tables" in refused(tmp_path, 'tasks = ["reacher"]\nseeds = [0]\nsteps = 10\nvariants = 3')


def test_a_suite_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="unknown suite 'mujocco'; did you mean mujoco"):
        find_suite("mujocco")
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        find_suite(str(tmp_path / "none.toml"))


def test_a_hash_covers_what_the_cell_computes():
    assert hash_of() == hash_of()
    for changes in ({"seed": 1}, {"labels": 301}, {"steps": 99_999}, {"ablation": "target"}, {"mode": "async"}):
        assert hash_of(**changes) != hash_of()


def test_a_change_of_a_recipe_touches_its_own_task_alone(monkeypatch):
    before, others = hash_of(), hash_of(task="cheetah")
    monkeypatch.setitem(recipes.TASKS["ppo"], "hopper", {"agent.gamma": 0.9})
    assert hash_of() != before
    assert hash_of(task="cheetah") == others


def test_reward_model_settings_do_not_change_the_hash_of_true_reward_cells():
    changed = {"settings": {"reward.members": 5}}
    assert hash_of(teacher="none", **changed) == hash_of(teacher="none")
    assert hash_of(**changed) != hash_of()
    assert hash_of(settings={"instruction": "Jump."}) == hash_of()


def test_the_hash_of_a_run_on_disk_is_its_cell_s(tmp_path):
    root = RunDirectory.create(tmp_path / "run", CELL.config).root
    assert fingerprint_of(root) == hash_of()
    text = (root / "config.json").read_text()
    # A setting that is younger than the run counts with its default.
    (root / "config.json").write_text(text.replace('"negative_slope": 0.01,', ""))
    assert fingerprint_of(root) == hash_of()
    (root / "config.json").write_text(text[: len(text) // 2])
    assert fingerprint_of(root) is None
    assert fingerprint_of(tmp_path) is None


@pytest.mark.parametrize("suite", ["mujoco", "quick"])
def test_a_setting_that_is_younger_than_published_results_leaves_their_hashes_as_they_are(suite):
    results = read_results([RESULTS / suite])
    assert len(results.finished) == len(results.cells) == {"mujoco": 96, "quick": 32}[suite]


def test_a_younger_setting_counts_where_it_differs_from_its_default(monkeypatch):
    before = hash_of()
    assert hash_of(settings={"evaluation.episodes": 10}) == before
    assert hash_of(settings={"evaluation.episodes": 3}) != before
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, Add("config", 3, "reward.members", 3)))
    without = hash_of()
    assert without != before
    assert hash_of(settings={"reward.members": 5}) not in (before, without)
    assert hash_of(teacher="none") == hash_of(teacher="none", settings={"reward.members": 5})


def test_a_variant_may_have_its_own_algorithm_and_recipe_and_a_suite_settings_for_all(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        """
        tasks = ["walker"]
        seeds = [0]
        steps = 500_000
        labels = 100
        settings = { "agent.batch_size" = 64, "reward.members" = 2 }
        [variants.true]
        teacher = "none"
        [variants.plain]
        [variants.pebble]
        algo = "sac"
        recipe = "pebble"
        settings = { "reward.members" = 4 }
        """
    )
    true, plain, pebble = find_suite(str(path)).cells()
    assert (true.algo, true.recipe, plain.algo, plain.recipe) == ("ppo", "default", "ppo", "default")
    assert (pebble.algo, pebble.recipe, pebble.config.reward.output) == ("sac", "pebble", "tanh")
    assert [cell.config.agent.batch_size for cell in (true, plain, pebble)] == [64, 64, 64]
    assert (plain.config.reward.members, pebble.config.reward.members) == (2, 4)


def test_cells_that_differ_in_the_recipe_alone_have_different_names(tmp_path):
    path = tmp_path / "own.toml"
    head = 'tasks = ["walker"]\nseeds = [0]\nsteps = 500_000\nlabels = 100\nalgo = "sac"\n'
    path.write_text(head + '[variants.surf]\nrecipe = "surf"\n[variants.rune]\nrecipe = "rune"\n')
    assert [cell.name for cell in find_suite(str(path)).cells()] == [
        "walker_sac_oracle-sync-100-surf_s0",
        "walker_sac_oracle-sync-100-rune_s0",
    ]
    path.write_text(head + 'recipe = "surf"\n[variants.a]\n')  # of the suite: names as always
    assert [cell.name for cell in find_suite(str(path)).cells()] == ["walker_sac_oracle-sync-100_s0"]


def test_settings_of_off_policy_agents_are_in_the_hash():
    changed = {"settings": {"off_policy.tau": 0.01}}
    assert hash_of(algo="sac", **changed) != hash_of(algo="sac")
    assert hash_of(settings={"exploration.steps": 5000}) != hash_of()


def test_labels_and_rules_of_imitation_are_in_the_hash():
    imitating = {"learner": "imitation", "feedback": "rating"}
    assert hash_of(**imitating) != hash_of(feedback="rating")
    assert hash_of(**imitating, labels=301) != hash_of(**imitating)
    assert hash_of(**imitating, settings={"queries.rating_steps": 5}) != hash_of(**imitating)
    assert hash_of(**imitating, settings={"imitation.rule": "bucket"}) != hash_of(**imitating)


def test_sac_on_the_paper_s_tasks():
    suite = find_suite("mujoco-offpolicy")
    assert suite.tasks == find_suite("mujoco").tasks
    assert {variant.labels for variant in suite.variants if variant.teacher != "none"} == {700, 350, 150}
    assert {cell.algo for cell in suite.cells()} == {"sac"}
    assert {(cell.task, cell.steps) for cell in suite.cells() if cell.steps != 500_000} == {
        (task, 150_000) for task in ("reacher", "double-pendulum", "pendulum")
    }
    assert suite.seeds == (0, 1, 2)


def test_each_part_of_pebble_is_left_out_alone():
    suite = find_suite("pebble-parts")
    cells = {cell.variant: cell.config.to_json() for cell in suite.cells() if cell.seed == 0}
    whole = cells.pop("pebble")

    def changes(config, base, path=""):
        for name, value in base.items():
            if isinstance(value, dict):
                yield from changes(config[name], value, f"{path}{name}.")
            elif config[name] != value:
                yield f"{path}{name}", config[name]

    assert {name: dict(changes(config, whole)) for name, config in cells.items() if name != "true"} == {
        "no-exploration": {"exploration.steps": 0},
        "no-relabelling": {"off_policy.relabel": "never"},
        "no-fresh-critic": {"off_policy.fresh_critic": False},
        "uniform-queries": {"queries.selection": "random"},
        "bootstrap": {"reward.bootstrap": True},
        "no-tanh": {"reward.output": "identity", "reward.normalise_over": "memory"},
        "relabelled-batches": {"off_policy.relabel": "batch"},
    }
    assert (whole["queries"]["labels"], whole["queries"]["selection"], whole["agent"]["net_arch"]) == (
        100,
        "variance",
        (256, 256),
    )


@pytest.mark.parametrize("name", ["bpref", "bpref-small", "pebble-parts"])
def test_suites_of_b_pref(name):
    suite = find_suite(name)
    assert {cell.algo for cell in suite.cells()} == {"sac"}
    for task in suite.tasks:
        assert any(cell.is_baseline for cell in suite.cells() if cell.task == task)
