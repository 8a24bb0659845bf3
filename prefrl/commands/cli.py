"""The command line. Slow imports happen inside the commands, so that `--help` is fast."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from prefrl.commands.arguments import PROGRAM, Trust, gathered, refused_in_one_line
from prefrl.commands.label_commands import labels_app
from prefrl.commands.plugins import mount_plugins
from prefrl.commands.reward_commands import reward_app
from prefrl.config.request import Budget, Request
from prefrl.errors import PrefrlError, UsageError, explain
from prefrl.printable import LONGEST_LINE, command, complain, printable, say

if TYPE_CHECKING:
    from prefrl.feedback.archive import LabelArchive

app = tyro.extras.SubcommandApp()
mount_plugins(app)
app.command(labels_app, name="labels", help="Inspect, export, import or close a run's labels.")
app.command(reward_app, name="reward", help="Work with a run's reward model.")

_UNCHANGED = Budget()


@app.command
def tasks() -> None:
    """List the tasks with their recipes."""
    from prefrl.commands.overview import task_lines

    say(task_lines())


@app.command
def train(*, request: OmitArgPrefixes[Request], track: bool = False, wandb_project_name: str = "prefrl") -> int:
    """Train an agent from feedback on its clips, by default comparisons.

    Args:
        request: The run's arguments.
        track: Also log to Weights & Biases.
        wandb_project_name: The project in Weights & Biases.
    """
    if track and importlib.util.find_spec("wandb") is None:
        raise UsageError("--track needs Weights & Biases: pip install wandb")

    archive: LabelArchive | None = None

    def read() -> None:
        nonlocal archive
        if request.labels_from:
            from prefrl.feedback.archive_admission import read_archive

            archive = read_archive(request.labels_from.expanduser())

    def create() -> Path:
        from prefrl.api import create_run

        run = create_run(request, archive)
        if track:
            _track(wandb_project_name, run)
        if request.asks_people:
            complain(f"{run.root}: compare its clips with: {command('label', run.root)}")
        return run.root

    return _train(create, first=read, start_worker=request.has_learner_process)


@app.command
def resume(run: Positional[Path], /, *, budget: OmitArgPrefixes[Budget], trust: Trust = ()) -> int:
    """Resume a run where it stopped.

    Args:
        run: The run directory.
        budget: Higher budgets.
        trust: A module that a run made by someone else may import to create its environment.
    """

    def admit() -> None:
        from prefrl.runs.directory import RunDirectory

        admitted = RunDirectory.open(run.expanduser()).admit(trust)
        if not admitted.finished:
            from prefrl.commands.resuming import check

            check(admitted)

    return _train(lambda: run, first=admit, budget=budget, trust=trust)


@app.command
def status(run: Positional[Path], /, *, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Show what a run is doing, and what it is waiting for.

    Args:
        run: The run directory.
        as_json: Print JSON.
    """
    from prefrl.commands.overview import run_status, status_lines

    now = run_status(run)
    if as_json:
        print(json.dumps(now, indent=2))
    else:
        say(status_lines(now))


@app.command
def play(
    run: Positional[Path],
    /,
    *,
    video: Path | None = None,
    episodes: int = 5,
    seed: int = 1000,
    trust: Trust = (),
) -> None:
    """Evaluate a run's policy on the true reward, and optionally record a video.

    Args:
        run: The run directory.
        video: Path of a video (mp4) of the first 1,000 steps.
        episodes: Number of episodes.
        seed: Seed of the first episode.
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run).admit(trust).saved.check()
    from prefrl.machine.activity import show_activity

    with show_activity("playing"):
        from prefrl.trained.playing import play as play_run
        from prefrl.trained.playing import played_lines

        played = play_run(run, episodes=episodes, video=video, seed=seed, trust=trust)

    say(played_lines(played))
    if video:
        say([f"{video}: {played.frames} frames"])


@app.command
def export(run: Positional[Path], file: Positional[Path], /, *, trust: Trust = ()) -> None:
    """Export a run's newest agent as a Stable-Baselines3 model, with its observation normalisation.

    Args:
        run: The run directory.
        file: A new zip file.
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run.expanduser()).admit(trust).saved.check()
    from prefrl.machine.activity import show_activity

    with show_activity("exporting"):
        from prefrl.trained.exporting import export as export_run

        done = export_run(run, file, trust=trust)
    lines = [f"{done.model}: for {done.algorithm}.load"]
    if done.normalisation:
        lines.append(f"{done.normalisation}: for VecNormalize.load")
    say(lines)


@app.command
def distil(
    run: Positional[Path],
    /,
    *,
    observe: tuple[str, ...],
    out: Path,
    steps: int = 20_000,
    rounds: int = 5,
    batches: int = 2000,
    episodes: int = 10,
    seed: int = 0,
    trust: Trust = (),
) -> None:
    """Train a student that observes less to act like a run's policy, and print what is lost.

    Args:
        run: The run directory of the teacher.
        observe: What the student observes: places of numbers in the observation (from 0), or names of its parts, such
            as the keys of a Dict or MuJoCo's qpos and qvel. Separate them by commas or spaces.
        out: A new run directory for the student.
        steps: Steps on which the teacher is imitated.
        rounds: Rounds. In the first one the teacher acts, in the others the student does.
        batches: Gradient steps after each round.
        episodes: Episodes of the evaluations.
        seed: Seed of the student.
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run.expanduser()).admit(trust).saved.check()
    from prefrl.machine.activity import set_activity, show_activity

    with show_activity("distilling"):
        from prefrl.distilling import DistilSettings
        from prefrl.distilling import distil as distil_run

        settings = DistilSettings(steps, rounds, batches, episodes, seed)
        done = distil_run(run.expanduser(), observe, out.expanduser(), settings, trust=trust, tell=set_activity)
    say(done.lines())


@app.command
def doctor() -> int:
    """Check this machine, and show the commands that fix what is missing."""
    from prefrl.commands.doctor import examine

    findings = examine()
    for finding in findings:
        say([f"{'ok  ' if finding.ok else 'LACK'}  {finding.subject}: {finding.detail}"])
        if finding.remedy:
            say([f"      fix with: {finding.remedy}"])
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1


def main() -> None:
    """Run the command line. The exit status is 0 for success, 2 for invalid arguments and 1 for other errors."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # printing must not fail on a terminal without UTF-8
    warnings.filterwarnings("ignore", module="stable_baselines3|gymnasium")
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        arguments = gathered(arguments)
        with refused_in_one_line(app, arguments):
            done = app.cli(args=arguments, prog=PROGRAM, description="Train agents from human preferences.")
        return int(done or 0)
    except KeyboardInterrupt:
        print("prefrl: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader closed the pipe
        return 1
    except Exception as error:
        return _say(error)


def _say(error: Exception) -> int:
    """Print an error in one line and return its exit status; `PREFRL_DEBUG=1` also prints the traceback."""
    if debugging := os.environ.get("PREFRL_DEBUG", "0") not in {"", "0"}:
        traceback.print_exception(error)
    hint = "" if isinstance(error, PrefrlError | OSError) or debugging else " (PREFRL_DEBUG=1 shows where)"
    print(f"prefrl: {printable(explain(error), LONGEST_LINE)}{hint}", file=sys.stderr)
    return error.exit_code if isinstance(error, PrefrlError) else 1


def _train(
    find: Callable[[], Path],
    *,
    first: Callable[[], object],
    budget: Budget = _UNCHANGED,
    start_worker: bool = False,
    trust: Sequence[str] = (),
) -> int:
    """Train or resume a run, and show its progress.

    Args:
        find: Finds or creates the run directory, and returns its path.
        first: Checks untrusted files; called before slow imports.
        budget: Higher budgets for an existing run.
        start_worker: Whether to start the reward learner's process at once, because both processes import for seconds.
        trust: Modules that the user trusts.
    """
    from prefrl.machine.activity import set_activity, show_activity, then
    from prefrl.runs.control import Control, stop_on_signals

    control = Control()
    with stop_on_signals(control):
        first()  # before `show_activity`, so that an error is the only output even on a busy machine
    with stop_on_signals(control), show_activity() as printer, ExitStack() as cleanup:
        if start_worker:
            from prefrl.reward.launch import start_learner

            control.learner = start_learner()
            cleanup.callback(control.learner.discard)
        from prefrl.api import resume as resume_run
        from prefrl.commands.display import TrainingDisplay

        root = find()
        set_activity("opening the run")
        with TrainingDisplay() as display:
            control.report, control.warn = then(printer.stop, display.report), display.warn
            try:
                done = resume_run(root, labels=budget.labels, steps=budget.steps, control=control, trust=trust)
            except UsageError:
                raise
            except (PrefrlError, OSError) as error:
                raise PrefrlError(explain(error) + _how_to_go_on(root, error)) from error
    if done.summary is None:
        print(f"prefrl: stopped; resume with: {command('resume', root)}", file=sys.stderr)
        return 1
    from prefrl.commands.overview import summary_lines

    say(summary_lines(root, done.summary))
    return 0


def _how_to_go_on(root: Path, error: Exception) -> str:
    """Return a hint on how to resume a run after an error; empty if it cannot be resumed."""
    from prefrl.commands.resuming import obstacle
    from prefrl.experience.env_errors import EnvError
    from prefrl.runs.directory import RunDirectory

    if not root.is_dir():
        return f"; {printable(root)} no longer exists; if it was moved, resume it at its new path"
    try:
        hindered = obstacle(run := RunDirectory.open(root))
    except (PrefrlError, OSError):
        return ""
    if hindered:
        return ""
    if isinstance(error, EnvError):  # it would fail again without a fix
        kept = "the run and its labels are" if run.config.takes_labels else "the run is"
        return f"; {kept} kept: fix the environment, then resume with: {command('resume', root)}"
    return f"; the run can be resumed: {command('resume', root)}"


def _track(project: str, run: Any) -> None:
    import wandb

    name, config = run.root.name, run.config.to_json()
    wandb.init(project=project, name=name, config=config, dir=str(run.root), sync_tensorboard=True)
