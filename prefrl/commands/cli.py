"""The command line. Every heavy import happens inside the command that needs it, so that `--help` answers at once."""

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

from prefrl.commands.arguments import PROGRAM, Trust, refused_in_one_line
from prefrl.commands.label_commands import labels_app, reward_app
from prefrl.commands.plugins import mount_plugins
from prefrl.config.request import Budget, Request
from prefrl.errors import PrefrlError, UsageError, explain
from prefrl.printable import LONGEST_LINE, command, complain, printable, say

if TYPE_CHECKING:
    from prefrl.feedback.archive import LabelArchive

app = tyro.extras.SubcommandApp()
mount_plugins(app)
app.command(labels_app, name="labels", help="How good a run's labels are; to keep them, and to end with them.")
app.command(reward_app, name="reward", help="Work with a run's reward model.")

_UNCHANGED = Budget()


@app.command
def tasks() -> None:
    """List the tasks, each with its recipe."""
    from prefrl.commands.overview import task_lines

    say(task_lines())


@app.command
def train(*, request: OmitArgPrefixes[Request], track: bool = False, wandb_project_name: str = "prefrl") -> int:
    """Train an agent from comparisons of its clips.

    Args:
        request: What the run is.
        track: Whether to log to Weights & Biases too.
        wandb_project_name: The project there.
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
        if request.teacher == "human":
            complain(f"{run.root}: compare its clips with: {command('label', run.root)}")
        return run.root

    return _train(create, first=read, beside=request.mode == "async" and request.teacher != "none")


@app.command
def resume(run: Positional[Path], /, *, budget: OmitArgPrefixes[Budget], trust: Trust = ()) -> int:
    """Go on with a run where it stopped.

    Args:
        run: The run directory.
        budget: What to raise.
        trust: A module that a run which is not your own may import to make its environment.
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
    """Tell what a run is doing, and what it waits for.

    Args:
        run: The run directory.
        as_json: Print it as JSON.
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
    """Evaluate a run's policy on the true reward, and record it.

    Args:
        run: The run directory.
        video: Where to write a video (mp4) of the first 1,000 steps.
        episodes: Episodes to play.
        seed: Of the first episode.
        trust: A module that a run which is not your own may import to make its environment.
    """
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run).admit(trust).check_checkpoints()
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
    """Write a run's newest agent as a Stable-Baselines3 model, and the normalisation of its observations beside it.

    Args:
        run: The run directory.
        file: A new zip file.
        trust: A module that a run which is not your own may import to make its environment.
    """
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run.expanduser()).admit(trust).check_checkpoints()
    from prefrl.machine.activity import show_activity

    with show_activity("exporting"):
        from prefrl.trained.exporting import export as export_run

        done = export_run(run, file, trust=trust)
    lines = [f"{done.model}: for {done.algorithm}.load"]
    if done.normalisation:
        lines.append(f"{done.normalisation}: for VecNormalize.load")
    say(lines)


@app.command
def doctor() -> int:
    """Tell what this machine lacks, and the command that mends it."""
    from prefrl.commands.doctor import examine

    findings = examine()
    for finding in findings:
        say([f"{'ok  ' if finding.ok else 'LACK'}  {finding.subject}: {finding.detail}"])
        if finding.remedy:
            say([f"      fix with: {finding.remedy}"])
    return 0 if all(finding.ok or finding.optional for finding in findings) else 1


def main() -> None:
    """Run the command line; exit status 0 done, 2 unusable arguments, 1 anything else."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end a command
    warnings.filterwarnings("ignore", module="stable_baselines3|gymnasium")
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        with refused_in_one_line(app, arguments):
            done = app.cli(args=arguments, prog=PROGRAM, description="Train agents from human preferences.")
        return int(done or 0)
    except KeyboardInterrupt:
        print("prefrl: stopped", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read this has heard enough
        return 1
    except Exception as error:
        return _say(error)


def _say(error: Exception) -> int:
    """One line for whatever went wrong, expected or not, and its exit status; `PREFRL_DEBUG=1` shows the trace too."""
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
    beside: bool = False,
    trust: Sequence[str] = (),
) -> int:
    """Train or resume the run that `find` finds or makes, with progress on the screen.

    Args:
        find: Gives the run directory.
        first: Looks at what others made, and refuses it before anything slow is imported.
        budget: What to raise of a run that is there.
        trust: Modules that the person trusts.
        beside: Whether to start the reward learner's process at once, as both it and this one import for seconds.
    """
    from prefrl.machine.activity import set_activity, show_activity, then
    from prefrl.runs.control import Control, stop_on_signals

    control = Control()
    with stop_on_signals(control):
        first()  # a refusal is all that is said, however busy the machine is
    with stop_on_signals(control), show_activity() as printer, ExitStack() as cleanup:
        if beside:
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
    """How to resume a run that stopped by an error; nothing where that cannot be done."""
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
    if isinstance(error, EnvError):  # as it is, it would fail again
        kept = "the run and its labels are" if run.config.learns_reward else "the run is"
        return f"; {kept} kept: fix the environment, then resume with: {command('resume', root)}"
    return f"; the run can be resumed: {command('resume', root)}"


def _track(project: str, run: Any) -> None:
    import wandb

    name, config = run.root.name, run.config.to_json()
    wandb.init(project=project, name=name, config=config, dir=str(run.root), sync_tensorboard=True)
