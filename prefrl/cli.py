"""The command line. Every heavy import happens inside the command that needs it, so that `--help` answers at once."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from prefrl_benchmarks.cli import bench
from tyro.conf import Positional, arg

from prefrl.arguments import PROGRAM, refused_in_one_line
from prefrl.errors import PrefrlError, UsageError, explain, is_disk_full

if TYPE_CHECKING:
    from prefrl.processes import Beside

app = tyro.extras.SubcommandApp()
labels_app = tyro.extras.SubcommandApp()
app.command(bench, name="bench", help="Run suites of experiments and report them; measure speed.")
app.command(labels_app, name="labels", help="How good a run's labels are; to keep them, and to end with them.")
reward_app = tyro.extras.SubcommandApp()
app.command(reward_app, name="reward", help="Work with a run's reward model.")

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")]


@app.command
def tasks() -> None:
    """List the tasks, each with its recipe."""
    from prefrl.overview import task_lines

    print("\n".join(task_lines()))


@app.command
def train(
    task: Positional[str],
    /,
    *,
    teacher: str = "oracle",
    algo: str = "ppo",
    labels: int | None = None,
    labels_from: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    mode: Literal["async", "sync"] = "async",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path | None = None,
    ablation: str | None = None,
    recipe: str = "default",
    settings: Settings = (),
    track: bool = False,
    wandb_project_name: str = "prefrl",
) -> int:
    """Train an agent from comparisons of its clips.

    Args:
        task: A task's name (see `prefrl tasks`), or any Gymnasium id.
        teacher: Who compares: oracle, human (with `prefrl label`), mistake and others of B-Pref's, or none to train on
            the true reward.
        algo: ppo, a2c or trpo.
        labels: Comparisons in all (default 700, or as many as --labels-from holds).
        labels_from: A file of labels to start from, made by `prefrl labels export`.
        steps: Agent steps in all (default: the recipe's).
        seed: Of everything random.
        mode: Whether the reward learner runs beside the agent (async) or alternates with it, repeatably (sync).
        device: Where the reward model computes.
        out: The run directory (default: a new one under runs/).
        ablation: One of the paper's ablations.
        recipe: default, or paper for the paper's own scale.
        settings: Single settings of the recipe, e.g. reward.members=5.
        track: Whether to log to Weights & Biases too.
        wandb_project_name: The project there.
    """
    if track and importlib.util.find_spec("wandb") is None:
        raise UsageError("--track needs Weights & Biases: pip install wandb")

    from prefrl.reward.beside import start_learner

    learner = start_learner() if mode == "async" and teacher != "none" else None

    def create() -> Path:
        from prefrl.api import create_run

        run = create_run(
            task,
            teacher=teacher,
            algo=algo,
            labels=labels,
            labels_from=labels_from,
            steps=steps,
            seed=seed,
            mode=mode,
            device=device,
            out=out,
            ablation=ablation,
            recipe=recipe,
            settings=_parse_settings(settings),
        )
        if track:
            _track(wandb_project_name, run)
        if teacher == "human":
            print(f"{run.root}: compare its clips with: prefrl label {run.root}", file=sys.stderr)
        return run.root

    try:
        return _train(create, learner=learner)
    finally:
        if learner:
            learner.discard()


@app.command
def resume(run: Positional[Path], /, *, labels: int | None = None, steps: int | None = None) -> int:
    """Go on with a run where it stopped.

    Args:
        run: The run directory.
        labels: A higher label budget.
        steps: More steps in all.
    """
    return _train(lambda: run, labels=labels, steps=steps)


@app.command
def status(run: Positional[Path], /, *, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Tell what a run is doing, and what it waits for.

    Args:
        run: The run directory.
        as_json: Print it as JSON.
    """
    from prefrl.overview import run_status, status_lines

    now = run_status(run)
    print(json.dumps(now, indent=2) if as_json else "\n".join(status_lines(now)))


@app.command
def label(
    run: Positional[Path], /, *, labeller: str | None = None, theme: Literal["auto", "light", "dark"] = "auto"
) -> int:
    """Compare clips in a window, for a run whose teacher is `human`; close it and come back whenever you like.

    Args:
        run: The run directory.
        labeller: Your name, as it is stored with your answers; default: your user name.
        theme: Colours of the window: the desktop's (auto), light or dark; key D changes them.
    """
    import getpass

    from clip_viewer.app import label as open_viewer

    return open_viewer(run, labeller or getpass.getuser(), theme)


@app.command
def play(run: Positional[Path], /, *, video: Path | None = None, episodes: int = 5, seed: int = 1000) -> None:
    """Evaluate a run's policy on the true reward, and record it.

    Args:
        run: The run directory.
        video: Where to write a video (mp4) of the first 1,000 steps.
        episodes: Episodes to play.
        seed: Of the first episode.
    """
    from prefrl.playing import play as play_run

    played = play_run(run, episodes=episodes, video=video, seed=seed)
    mean = sum(played.returns) / len(played.returns)
    print(f"true return {mean:.1f} over {len(played.returns)} episodes: {' '.join(f'{r:.1f}' for r in played.returns)}")
    if video:
        print(f"{video}: {played.frames} frames")


@app.command
def doctor() -> int:
    """Tell what this machine lacks, and the command that mends it."""
    from prefrl.doctor import examine

    findings = examine()
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'LACK'}  {finding.subject}: {finding.detail}")
        if finding.remedy:
            print(f"      mend with: {finding.remedy}")
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1


@labels_app.command
def report(run: Positional[Path], /, *, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Tell how good the labels are: agreement, response times, ties.

    Args:
        run: The run directory.
        as_json: Print it as JSON.
    """
    from prefrl.quality import report as report_labels
    from prefrl.quality import report_lines

    found = report_labels(run)
    print(json.dumps(found, indent=2) if as_json else "\n".join(report_lines(found)))


@labels_app.command
def finish(run: Positional[Path], /) -> None:
    """Ask no more: the run goes on to its end with the labels there are.

    Args:
        run: The run directory; `prefrl resume RUN --labels N` makes it ask again.
    """
    from prefrl.api import finish_asking

    print(f"{run} finishes with its {finish_asking(run)} labels; `prefrl resume {run} --labels N` makes it ask again")


@labels_app.command(name="export")
def export_labels(run: Positional[Path], file: Positional[Path], /, *, without_damaged: bool = False) -> None:
    """Write a run's labels and their clips to a file, with which other runs can start.

    Args:
        run: The run directory; it may be at work.
        file: The file to write, a zip.
        without_damaged: Whether to leave labels out of which a clip is missing or damaged.
    """
    from prefrl.transfer import archive_lines
    from prefrl.transfer import export_labels as export

    print("\n".join(archive_lines(export(run, file, without_damaged=without_damaged))))


@labels_app.command(name="import")
def import_labels(file: Positional[Path], /, *, into: Path | None = None) -> None:
    """Check a file of labels and tell what is in it; add them to a run.

    Args:
        file: The file.
        into: A run directory to add the labels to; no process may be at work on it.
    """
    from prefrl.admission import read_archive
    from prefrl.transfer import archive_lines
    from prefrl.transfer import import_labels as add

    if into is None:
        print("\n".join(archive_lines(read_archive(file))))
    else:
        print(f"{into}: {add(file, into)} labels added")


@reward_app.command
def fit(
    run: Positional[Path],
    /,
    *,
    holdout: float = 0.2,
    seed: int = 0,
    comparisons: int | None = None,
    out: Path | None = None,
) -> None:
    """Fit a new reward model to a run's labels, and tell how well it predicts labels that it has not seen.

    Args:
        run: The run directory; it may be at work.
        holdout: The share of the labels that it does not see.
        seed: Of the choice of these, and of the fit.
        comparisons: How many comparisons to fit (default: as many as the run did, at most 40,000).
        out: A new file for the weights (default: reward_model/fitted.safetensors in the run).
    """
    from prefrl.refit import refit

    print("\n".join(refit(run, holdout=holdout, seed=seed, comparisons=comparisons, out=out).lines()))


def main() -> None:
    """Run the command line; exit status 0 done, 2 unusable arguments, 1 anything else."""
    warnings.filterwarnings("ignore", module="stable_baselines3|gymnasium")
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        with refused_in_one_line(app, arguments):
            done = app.cli(args=arguments, prog=PROGRAM, description="Train agents from human preferences.")
        return int(done or 0)
    except PrefrlError as error:
        print(f"prefrl: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("prefrl: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read this has heard enough
        return 1
    except Exception as error:
        if not is_disk_full(error) and not isinstance(error, OSError):
            raise
        print(f"prefrl: {explain(error)}", file=sys.stderr)
        return 1


def _train(
    find: Callable[[], Path], *, labels: int | None = None, steps: int | None = None, learner: Beside | None = None
) -> int:
    """Train or resume the run that `find` finds or makes, with progress on the screen."""
    from prefrl.api import resume as resume_run
    from prefrl.callback import Control
    from prefrl.display import TrainingDisplay
    from prefrl.training import stop_on_signals

    control = Control(learner=learner)
    # From before there is a run: an interrupt that is raised while libraries start up may be swallowed by one of them.
    with stop_on_signals(control):
        root = find()
        with TrainingDisplay() as display:
            control.report, control.warn = display.report, display.warn
            try:
                done = resume_run(root, labels=labels, steps=steps, control=control)
            except UsageError:
                raise
            except (PrefrlError, OSError) as error:
                raise PrefrlError(f"{explain(error)}; the run can be resumed: prefrl resume {root}") from error
    if done.summary is None:
        print(f"prefrl: stopped; `prefrl resume {root}` goes on", file=sys.stderr)
        return 1
    from prefrl.overview import summary_lines

    print("\n".join(summary_lines(root, done.summary)))
    return 0


def _parse_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write KEY=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def _track(project: str, run: Any) -> None:
    import wandb

    name, config = run.root.name, run.config.to_json()
    wandb.init(project=project, name=name, config=config, dir=str(run.root), sync_tensorboard=True)
