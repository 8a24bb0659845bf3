"""People see exactly what the agent did: scenes, replays, lossless videos."""

import itertools
import multiprocessing
import os
import threading
import time
from types import SimpleNamespace

import av
import gymnasium
import numpy as np
import pytest
from helpers import same_tree, segments, take_rollout, through_file
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.env_errors import EnvError
from prefrl.experience.make_env import make_env
from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.scenes import Scenes
from prefrl.feedback.kinds.comparison import pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.initial_phases import InitialPhases
from prefrl.recipes import resolve
from prefrl.rendering import renderer
from prefrl.rendering.clip_video import read_clip_video, write_clip_video
from prefrl.rendering.renderer import RendererProcess, SegmentRenderer, _render_until, render_clip
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import DamagedFileError, load_tree, save_tree

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:gymnasium")


def noise(frames=7, height=33, width=48):
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(33, 48), (48, 33), (1, 1)])
def test_a_video_is_lossless(tmp_path, height, width):
    frames = noise(height=height, width=width)
    write_clip_video(tmp_path / "a.avi", frames, 30)
    np.testing.assert_array_equal(read_clip_video(tmp_path / "a.avi", 7), frames)


def test_the_film_of_an_older_run_is_found_and_read(tmp_path):
    path = tmp_path / "00000003.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = 33, 48, "bgr0"
        for frame in noise():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    np.testing.assert_array_equal(read_clip_video(ClipFolder(tmp_path).video(3), 7), noise())


def test_a_film_with_a_damaged_frame_is_an_error_of_ours(tmp_path):
    path = tmp_path / "a.avi"
    write_clip_video(path, noise(), 30)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="clip"):
        read_clip_video(path, 7)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.7])
def test_a_truncated_film_is_an_error_of_ours(tmp_path, part):
    path = tmp_path / "a.avi"
    write_clip_video(path, noise(), 30)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DamagedFileError, match="clip"):
        read_clip_video(path, 7)


def test_a_missing_film_is_an_error_of_ours(tmp_path):
    with pytest.raises(DamagedFileError, match="clip"):
        read_clip_video(tmp_path / "none.avi")


class Filmed(gymnasium.Wrapper):
    """Renders after each step, as a witness."""

    def __init__(self, env):
        super().__init__(env)
        self.seen = []

    def step(self, action):
        result = self.env.step(action)
        self.seen.append(self.render())
        return result


def record(env_id, steps, length, seed=0):
    """Random actions in one environment that is filmed live; its segments, and the frames of every step."""
    witness = Filmed(make_env(env_id, render_mode="rgb_array"))
    scenes = Scenes([witness], length)
    recorder = SegmentRecorder(DummyVecEnv([lambda: witness]), length, 100, scenes=scenes)
    recorder.seed(seed)
    recorder.reset()
    rng = np.random.default_rng(seed)
    space = witness.action_space
    for _ in range(steps):
        discrete = isinstance(space, gymnasium.spaces.Discrete)
        action = rng.integers(space.n) if discrete else rng.uniform(-1, 1, space.shape).astype(np.float32)
        recorder.step(np.array([action]))
    take_rollout(recorder)
    return list(recorder.pool), witness.seen


@pytest.mark.parametrize(
    ("env_id", "steps", "length"),
    [("prefrl/MovingDot-v0", 150, 15), ("prefrl/Pong-v0", 60, 25)],
)
def test_a_replay_shows_what_the_agent_did(env_id, steps, length):
    kept, seen = record(env_id, steps, length)
    assert len(kept) >= 2
    segment_renderer = SegmentRenderer(env_id)
    shown = [segment_renderer.render(segment.scene, segment.actions) for segment in kept]
    segment_renderer.close()
    for frames in shown:
        starts = [start for start in range(len(seen) - length + 1) if np.array_equal(seen[start], frames[0])]
        assert any(np.array_equal(np.stack(seen[start : start + length]), frames) for start in starts)


def test_a_replay_of_mujoco_passes_through_the_same_states():
    length = 20
    witness = make_env("prefrl/Hopper-v0")
    recorder = SegmentRecorder(DummyVecEnv([lambda: witness]), length, 100, scenes=Scenes([witness], length))
    recorder.seed(0)
    recorder.reset()
    rng = np.random.default_rng(0)
    for _ in range(3 * length):
        recorder.step(rng.uniform(-1, 1, (1, 3)).astype(np.float32))
    take_rollout(recorder)
    segment_renderer = SegmentRenderer("prefrl/Hopper-v0")
    seen = []
    for segment in recorder.pool:
        frames = segment_renderer.render(segment.scene, segment.actions)
        assert frames.shape == (length, 320, 320, 3)
        seen.append((segment_renderer._env.unwrapped._get_obs(), segment))
    for (reached, _), (_, following) in itertools.pairwise(seen):
        np.testing.assert_allclose(reached, following.observations[0], atol=1e-6)
    segment_renderer.close()


@pytest.mark.parametrize("env_id", ["Hopper-v5", "CartPole-v1"])
def test_the_last_steps_before_an_end_are_replayed_from_the_segment_before(env_id, monkeypatch, tmp_path):
    """They begin between two states that were saved; a film of theirs ends with what ended the episode."""
    monkeypatch.setattr(renderer, "render", lambda env: np.zeros((1, 1, 3), np.uint8))  # takes a while
    cart, length = env_id == "CartPole-v1", 8
    env = make_env(env_id)
    recorder = SegmentRecorder(DummyVecEnv([lambda: env]), length, 100, scenes=Scenes([env], length))
    recorder.seed(1)
    recorder.reset()
    rng, ends, steps = np.random.default_rng(0), [], 0
    for _ in range(150):
        space = env.action_space
        action = rng.integers(2) if cart else rng.uniform(-1, 1, space.shape).astype(np.float32)
        _, _, dones, infos = recorder.step(np.array([action]))
        steps += 1
        if dones[0]:
            ends.append((steps, infos[0]["terminal_observation"]))
            steps = 0
    take_rollout(recorder)
    segment_renderer = SegmentRenderer.__new__(SegmentRenderer)
    segment_renderer._env = make_env(env_id)
    last = [segment for segment in recorder.pool if "lead" in segment.scene]
    wanted = [observation for steps, observation in ends if steps > length and steps % length]
    assert len(last) == len(wanted) >= 2
    for segment, observation in zip(last, wanted, strict=True):
        save_tree(tmp_path / "scene", segment.scene)
        frames = segment_renderer.render(load_tree(tmp_path / "scene"), segment.actions)
        assert len(frames) == length
        reached = segment_renderer._env.unwrapped.state if cart else segment_renderer._env.unwrapped._get_obs()
        np.testing.assert_array_equal(np.asarray(reached, observation.dtype), observation)
    segment_renderer.close()


class Stateless(gymnasium.Env):
    """Its state cannot be saved."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.zeros(1, np.float32), 0.0, self.count % 7 == 0, False, {}

    def render(self):
        return np.full((16, 16, 3), self.count, np.uint8)


def test_what_cannot_be_replayed_is_filmed_as_it_goes(tmp_path):
    env = Stateless()
    recorder = SegmentRecorder(DummyVecEnv([lambda: env]), 3, 100, scenes=Scenes([env], 3))
    recorder.reset()
    for _ in range(14):
        recorder.step(np.array([0]))
    take_rollout(recorder)
    segment_renderer = SegmentRenderer("CartPole-v1")  # is not asked
    firsts = []
    for segment in recorder.pool:
        save_tree(tmp_path / "scene", segment.scene)
        frames = segment_renderer.render(load_tree(tmp_path / "scene"), segment.actions)
        firsts.append(frames[:, 0, 0, 0].tolist())
    segment_renderer.close()
    # Episodes of seven steps, which terminate: two segments of three, and the last three steps.
    assert firsts == [[0, 1, 2], [3, 4, 5], [4, 5, 6], [7, 8, 9], [10, 11, 12], [11, 12, 13]]


def test_an_environment_that_cannot_be_filmed_any_more_has_failed():
    env = Stateless()
    recorder = SegmentRecorder(DummyVecEnv([lambda: env]), 3, 100, scenes=Scenes([env], 3))
    recorder.reset()
    recorder.step(np.array([0]))
    env.render = lambda: None
    with pytest.raises(EnvError, match="does not return an image: it returns None"):
        recorder.step(np.array([0]))


@pytest.mark.parametrize("kind", ["replayed", "filmed"])
def test_scenes_of_last_steps_continue_from_a_checkpoint(kind, tmp_path):
    """The segment before, from which they are replayed, was cut before the checkpoint."""

    def stack():
        env = Stateless() if kind == "filmed" else make_env("CartPole-v1")
        return SegmentRecorder(DummyVecEnv([lambda: env]), 3, 100, scenes=Scenes([env], 3))

    through, other = stack(), stack()
    for recorder in (through, other):
        recorder.seed(0)
        recorder.reset()
        for _ in range(5):
            recorder.step(np.array([0]))
        take_rollout(recorder)
    other.load_state_dict(through_file(tmp_path, through.state_dict()))
    for recorder in (through, other):
        for _ in range(8):
            recorder.step(np.array([0]))
        take_rollout(recorder)
    assert same_tree(through.state_dict(), other.state_dict())
    assert len(through.pool) >= 4
    if kind == "replayed":
        assert any("lead" in segment.scene for segment in through.pool)


def test_scenes_continue_from_a_checkpoint():
    def stack():
        env = make_env("prefrl/MovingDot-v0")
        return SegmentRecorder(DummyVecEnv([lambda: env]), 15, 100, scenes=Scenes([env], 15))

    through, other = stack(), stack()
    for recorder in (through, other):
        recorder.seed(0)
        recorder.reset()
    for _ in range(20):
        through.step(np.array([1]))
    take_rollout(through)
    other.load_state_dict(through.state_dict())
    assert other.pool[0].scene is not None
    assert len(other._scenes._begun[0]) == 1  # the segment that has begun
    for _ in range(15):
        other.step(np.array([1]))
    take_rollout(other)
    assert len(other.pool) == 2


@pytest.fixture
def queue(tmp_path):
    store = LabelStore(tmp_path / "labels.sqlite", create=True)
    yield LabelQueue(store), store
    store.close()


def test_a_clip_is_announced_when_its_film_is_there(tmp_path, queue):
    queue, store = queue
    (tmp_path / "clips").mkdir()
    clips = ClipFolder(tmp_path / "clips")
    kept, _ = record("prefrl/MovingDot-v0", 60, 15)
    store.add_queries([pair_query(1, 0, kept[0], kept[1], 0)])
    for segment in kept[:2]:
        clips.save_scene(segment)
    segment_renderer = SegmentRenderer("prefrl/MovingDot-v0")
    for number in queue.to_render():
        assert queue.lease("a") == []
        render_clip(number, clips, segment_renderer, 15, queue)
    segment_renderer.close()
    (lease,) = queue.lease("a")
    assert len(read_clip_video(clips.video(lease.segments[0]), 15)) == 15


def test_a_clip_without_a_scene_is_a_clear_error(tmp_path, queue):
    queue, store = queue
    pool = segments(2)
    store.add_queries([pair_query(1, 0, pool[0], pool[1], 0)])
    (tmp_path / "clips").mkdir()
    with pytest.raises(PrefrlError, match="scene"):
        render_clip(pool[0].id, ClipFolder(tmp_path / "clips"), SegmentRenderer("CartPole-v1"), 15, queue)


def test_whatever_an_environment_raises_withdraws_the_query(tmp_path, monkeypatch):
    run = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    store = LabelStore(run.labels, create=True)
    kept, _ = record("prefrl/MovingDot-v0", 60, 15)
    store.add_queries([pair_query(1, 0, kept[0], kept[1], 0)])
    for segment in kept[:2]:
        ClipFolder(run.clips).save_scene(segment)

    def broken(*_):
        raise ZeroDivisionError("in a user's render")

    monkeypatch.setattr(SegmentRenderer, "render", broken)
    reader, writer = multiprocessing.Pipe(duplex=False)
    working = threading.Thread(target=_render_until, args=(reader, run))
    working.start()
    deadline = time.monotonic() + 20
    while not LabelQueue(store).problems() and time.monotonic() < deadline:
        time.sleep(0.05)
    writer.send(None)
    working.join(timeout=10)
    assert "user's render" in LabelQueue(store).problems()[0]
    assert store.counts()["pending"] == 0
    store.close()


def _asked_about(tmp_path, monkeypatch, shows):
    """A run with people that is asked about 24 clips, of which those are shown whose turn `shows` says."""
    run = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    store = LabelStore(run.labels, create=True)
    pool, turns = segments(24), itertools.count()
    pairs = enumerate(zip(pool[::2], pool[1::2], strict=True))
    store.add_queries([pair_query(1, rank, *pair, 0) for rank, pair in pairs])

    def film(segment, clips, segment_renderer, fps, queue):
        if not shows(next(turns)):
            raise ZeroDivisionError("in a user's render")
        queue.rendered(segment, 15)

    monkeypatch.setattr(renderer, "render_clip", film)
    return run, store


def test_a_renderer_that_can_show_nothing_any_more_gives_up(tmp_path, monkeypatch, capsys):
    run, store = _asked_about(tmp_path, monkeypatch, lambda turn: turn < 3)
    reader, _writer = multiprocessing.Pipe(duplex=False)
    with pytest.raises(renderer.NothingShownError):
        _render_until(reader, run)
    assert capsys.readouterr().err.count("cannot be shown") == 1  # the first of them is said at once
    assert len(LabelQueue(store).problems()) >= 5
    store.close()

    process = SimpleNamespace(exitcode=renderer._NOTHING_SHOWN, is_alive=lambda: False)
    renderer_process = RendererProcess.__new__(RendererProcess)
    renderer_process._run, renderer_process._worker = run, SimpleNamespace(process=process)
    with pytest.raises(EnvError, match=r"none of the last 10 clips .* ZeroDivisionError: in a user's ren"):
        renderer_process.check()


def test_a_renderer_continues_while_some_clips_are_shown(tmp_path, monkeypatch):
    run, store = _asked_about(tmp_path, monkeypatch, lambda turn: turn % 10 == 9)
    polls = itertools.count()
    _render_until(SimpleNamespace(poll=lambda *_: next(polls) > 30), run)
    assert LabelQueue(store).problems()
    store.close()


def test_a_renderer_that_gave_up_has_a_nonzero_exit_status(tmp_path, monkeypatch, capsys):
    run, store = _asked_about(tmp_path, monkeypatch, lambda turn: False)
    store.close()
    monkeypatch.setattr(os, "nice", lambda _: None)
    reader, _writer = multiprocessing.Pipe(duplex=False)
    with pytest.raises(SystemExit) as ended:
        renderer._render(reader, run.root, renderer.passport(run.config))
    assert ended.value.code == renderer._NOTHING_SHOWN
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_where_no_first_clip_could_be_shown_a_run_ends_with_the_reason():
    asker = SimpleNamespace(initial_segments=3, initial_labels=3, settle=lambda *_: None, counts={"answered": 0})
    asker.problems = ["clip 3 cannot be shown: no light", "clip 2 cannot be shown: no light"]
    parts = SimpleNamespace(agent=SimpleNamespace(steps=256), config=SimpleNamespace(teacher="human"))
    keeper = SimpleNamespace(records=None, reporter=SimpleNamespace(waiting=None), largest_checkpoint=0)
    initial = InitialPhases(parts, SimpleNamespace(asker=asker), keeper)
    with pytest.raises(UsageError, match=r"none of the first .*: clip 3 cannot be shown: no light; .* start a new run"):
        initial.ask()
    asker.problems = []
    with pytest.raises(PrefrlError, match="the teacher human could compare none"):
        initial.ask()
