"""The paper's seven Atari games (section 3.1.2, appendix A.2), on two engines that give the same observations.

What the paper changes: the score (and BeamRider's count of enemies, Enduro's distance counter) is blacked out; the loss
of a life and the end of a game are hidden from the agent, while the emulator really starts the game anew; with a
synthetic teacher the end of a game costs a penalty, in every game but Pong. An environment is then one endless episode;
the games that are really played in it are reported in `info["episode"]`.

The rest is the usual preprocessing: 84 x 84 grey frames, the brighter of the last two of 4 emulator frames, 4 frames
stacked, 0 to 30 no-ops at a game's start, rewards clipped to [-1, 1]. The stack rolls on over the end of a game, so
that a segment's observations are all windows of one film and each frame need be kept only once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import ale_py
import cv2
import gymnasium
import numpy as np
from ale_py import roms
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # otherwise it announces each emulator in several lines

SIZE = 84
"""Rows and columns of a frame that the agent sees."""
STACK = 4
SKIP = 4
NOOPS = 30
SCREEN = (210, 160)


class Box(NamedTuple):
    """A rectangle of the 210 x 160 screen; bottom and right are not in it."""

    top: int
    bottom: int
    left: int
    right: int

    def scaled(self) -> Box:
        """The same in the agent's frame, rounded outward."""
        rows, columns = SIZE / SCREEN[0], SIZE / SCREEN[1]
        return Box(
            math.floor(self.top * rows),
            math.ceil(self.bottom * rows),
            math.floor(self.left * columns),
            math.ceil(self.right * columns),
        )


@dataclass(frozen=True)
class Game:
    """One game of the table."""

    rom: str
    """The emulator's name of it."""
    masks: tuple[Box, ...]
    """What is blacked out. Measured: each box is where the digits' pixels change when the score's memory is written."""
    penalty: float = 1.0
    """What the end of a game costs, the paper does not say how much; as much as the largest reward of a step here."""

    def __post_init__(self) -> None:
        """Reject masks that are not on the screen."""
        for box in self.masks:
            if not (0 <= box.top < box.bottom <= SCREEN[0] and 0 <= box.left < box.right <= SCREEN[1]):
                raise ValueError(f"the mask {tuple(box)} of {self.rom} is not inside the screen of {SCREEN} pixels")


GAMES = {
    "beamrider": Game("beam_rider", (Box(10, 18, 61, 107), Box(32, 40, 20, 31))),
    "breakout": Game("breakout", (Box(5, 15, 36, 80),)),
    "enduro": Game("enduro", (Box(164, 173, 56, 104), Box(179, 188, 80, 104))),
    "pong": Game("pong", (Box(1, 21, 20, 48), Box(1, 21, 100, 128)), penalty=0.0),
    "qbert": Game("qbert", (Box(6, 13, 34, 71),)),
    "seaquest": Game("seaquest", (Box(9, 17, 59, 105),)),
    "spaceinvaders": Game("space_invaders", (Box(10, 20, 4, 64),)),
}


class AtariGames(VectorEnv[Any, Any, Any]):
    """Many copies of a game on ale-py's C++ engine: fast, without snapshots or a screen to show."""

    def __init__(self, num_envs: int, game: str, *, noops: int = NOOPS, threads: int = 0) -> None:
        """Start the emulators.

        Args:
            num_envs: E.
            game: A name in `GAMES`.
            noops: The most no-ops at a game's start.
            threads: Of the engine; 0: as many as it likes.
        """
        self._game = GAMES[game]
        _check_rom(self._game.rom)
        self._engine = ale_py.AtariVectorEnv(
            self._game.rom,
            num_envs,
            num_threads=threads,
            autoreset_mode=AutoresetMode.SAME_STEP,
            stack_num=1,
            frameskip=SKIP,
            noop_max=noops,
            reward_clipping=False,
            use_fire_reset=False,
        )
        self.num_envs = num_envs
        self.single_observation_space = spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8)
        self.single_action_space = self._engine.single_action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = self._engine.action_space
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._masks = [box.scaled() for box in self._game.masks]
        self._stacks = np.zeros((num_envs, STACK, SIZE, SIZE), np.uint8)
        self._scores, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start all games anew; the stacks are full of their first frames."""
        frames, _ = self._engine.reset(seed=seed)
        self._mask(frames)
        self._stacks[:] = frames
        self._scores[:], self._lengths[:] = 0, 0
        return self._stacks.copy(), {}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Step all games; none ever seems to end."""
        frames, scored, terminated, truncated, _ = self._engine.step(np.asarray(actions))
        over = terminated | truncated
        self._mask(frames)
        self._stacks[:, :-1] = self._stacks[:, 1:]
        self._stacks[:, -1:] = frames
        self._scores += scored
        self._lengths += 1
        info: dict[str, Any] = {}
        if over.any():
            info = {"episode": {"r": self._scores.copy(), "l": self._lengths.copy()}, "_episode": over}
            self._scores[over], self._lengths[over] = 0, 0
        never = np.zeros(self.num_envs, bool)
        return self._stacks.copy(), _reward(scored, over, self._game), never, never.copy(), info

    @property
    def return_so_far(self) -> NDArray[np.float64]:
        """(E,) unclipped scores of the games that are being played."""
        return self._scores.copy()

    def _mask(self, frames: Frame) -> None:
        for box in self._masks:
            frames[..., box.top : box.bottom, box.left : box.right] = 0


class AtariGame(gymnasium.Env[Any, Any]):
    """One copy of a game in Python: its state can be saved, and its colour screen shown to a person."""

    metadata = {  # noqa: RUF012 - gymnasium's convention
        "render_modes": ["rgb_array"],
        "render_fps": 15,
        "reports_episodes": True,
    }

    def __init__(self, game: str, *, noops: int = NOOPS, render_mode: str | None = None) -> None:
        """Start the emulator.

        Args:
            game: A name in `GAMES`.
            noops: The most no-ops at a game's start.
            render_mode: As for any environment of Gymnasium.
        """
        self._game = GAMES[game]
        self._noops = noops
        self.render_mode = render_mode
        self.ale = ale_py.ALEInterface()
        self.ale.setFloat("repeat_action_probability", 0.0)
        self.ale.loadROM(_check_rom(self._game.rom))
        self._actions = self.ale.getMinimalActionSet()
        self.observation_space = spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))
        self._masks = [box.scaled() for box in self._game.masks]
        self._stack = np.zeros((STACK, SIZE, SIZE), np.uint8)
        self._score, self._length = 0.0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start the game anew; the stack is full of its first frame."""
        super().reset(seed=seed)
        self._stack[:] = self._new_game()
        return self._stack.copy(), {}

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Step the game; it never seems to end."""
        scored, screens = 0, []
        for _ in range(SKIP):
            scored += self.ale.act(self._actions[int(action)])
            screens.append(self.ale.getScreenGrayscale())
            if self.ale.game_over():
                break
        self._score += scored
        self._length += 1
        over, info = self.ale.game_over(), {}
        if over:
            info["episode"] = {"r": self._score, "l": self._length}
        frame = self._new_game() if over else self._seen(np.maximum(*screens[-2:]))
        self._stack = np.concatenate([self._stack[1:], frame[None]])
        return self._stack.copy(), self.paid(scored, over=over), False, False, info

    def paid(self, scored: int, *, over: bool) -> float:
        """What a teacher judges a step by; tasks other than the game's score override it.

        Args:
            scored: Points of the step, unclipped.
            over: Whether the game ended with the step. A new one has then begun.
        """
        return float(_reward(scored, over, self._game))

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return [action.name for action in self._actions]

    @property
    def return_so_far(self) -> float:
        """Unclipped score of the game that is being played."""
        return float(self._score)

    def render(self) -> Frame:
        """The colour screen, (210, 160, 3), scores blacked out."""
        screen = self.ale.getScreenRGB()
        for box in self._game.masks:
            screen[box.top : box.bottom, box.left : box.right] = 0
        return np.asarray(screen)

    def save_state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the random state."""
        emulator: Any = self.ale.cloneState(include_rng=True).__getstate__()  # bytes; ale-py's stubs say a tuple
        return {
            "emulator": np.frombuffer(emulator, np.uint8),
            "stack": self._stack,
            "score": self._score,
            "length": self._length,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        emulator = ale_py.ALEState.__new__(ale_py.ALEState)
        emulator.__setstate__(state["emulator"].tobytes())
        self.ale.restoreState(emulator)
        self._stack, self._score, self._length = state["stack"].copy(), state["score"], state["length"]

    def _new_game(self) -> Frame:
        self.ale.reset_game()
        for _ in range(int(self.np_random.integers(self._noops + 1))):
            self.ale.act(ale_py.Action.NOOP)
            if self.ale.game_over():
                self.ale.reset_game()
        self._score, self._length = 0.0, 0
        return self._seen(self.ale.getScreenGrayscale())

    def _seen(self, screen: Frame) -> Frame:
        """The agent's 84 x 84 frame of a grey screen, scores blacked out."""
        frame = cv2.resize(screen, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        for box in self._masks:
            frame[box.top : box.bottom, box.left : box.right] = 0
        return np.asarray(frame, np.uint8)


def _reward(scored: Any, over: Any, game: Game) -> Any:
    """What an oracle judges by: the clipped score of a step, less the penalty for a game's end."""
    return np.clip(scored, -1.0, 1.0) - game.penalty * np.asarray(over, np.float64)


def _check_rom(rom: str) -> Any:
    path = roms.get_rom_path(rom)
    if path is None or not path.exists():
        raise gymnasium.error.Error(f"the ROM of {rom} is missing: reinstall ale-py, which brings it")
    return path
