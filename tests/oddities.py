"""Small environments, each with one oddity found in users' environments. The agent moves along a row to a lamp.

A test writes this file's text into a folder of modules, or imports it.
"""

from __future__ import annotations

import time

import gymnasium
import numpy as np
from gymnasium import spaces

CELLS = 9
COLOURS = spaces.Box(0, 255, (48, 48, 3), np.uint8)
NUMBERS = spaces.Box(0, CELLS, (2,), np.float32)


class Lamp(gymnasium.Env):
    """A point on a row of cells, and a lamp in one of them; 20 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = NUMBERS
    action_space = spaces.Discrete(3)
    ends = 20

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def seen(self):
        return np.array([self.at, self.lamp], np.float32)

    def paid(self):
        return -float(abs(self.at - self.lamp))

    def told(self):
        return {}

    def moves(self, action):
        return int(action) - 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.lamp, self.time = CELLS // 2, int(self.np_random.integers(CELLS)), 0
        return self.seen(), self.told()

    def step(self, action):
        self.at = int(np.clip(self.at + self.moves(action), 0, CELLS - 1))
        self.time += 1
        return self.seen(), self.paid(), False, self.time >= self.ends, self.told()

    def render(self):
        frame = np.zeros((48, 48, 3), np.uint8)
        frame[10:20, self.at * 5 : self.at * 5 + 4] = 255
        frame[30:40, self.lamp * 5 : self.lamp * 5 + 4] = 120
        return frame


def variant(name, **attributes):
    """A lamp that differs in some attributes, registered under a name."""
    kind = type(name, (attributes.pop("base", Lamp),), attributes)
    gymnasium.register(f"{name}-v0", kind)
    return kind


gymnasium.register("Lamp-v0", Lamp)

# -- observations -----------------------------------------------------------------------------------------------------

PAIR = {"at": spaces.Discrete(CELLS), "lamp": spaces.Box(0, CELLS, (1,), np.float32)}


def board(self, dtype=np.uint8):
    cells = np.zeros((3, CELLS), dtype)
    cells[0, self.at], cells[1, self.lamp] = 1, 2
    return cells


variant("Board", observation_space=spaces.Box(0, 2, (3, CELLS), np.uint8), seen=board)
variant("SignedBoard", observation_space=spaces.Box(-1, 2, (3, CELLS), np.int8), seen=lambda s: board(s, np.int8))
variant(
    "SmallPicture", observation_space=spaces.Box(0, 255, (12, 12, 3), np.uint8), seen=lambda s: s.render()[::4, ::4]
)
variant("OneNumber", observation_space=spaces.Box(0, CELLS, (), np.float32), seen=lambda s: np.float32(s.at))
variant("Doubles", seen=lambda s: [float(s.at), float(s.lamp)])
variant(
    "Dictionary",
    observation_space=spaces.Dict(PAIR),
    seen=lambda s: {"lamp": np.array([s.lamp], np.float32), "at": s.at, "more": "than its space has"},
)
variant(
    "Nested",
    observation_space=spaces.Dict(inner=spaces.Dict(PAIR), flag=spaces.MultiBinary(2)),
    seen=lambda s: {"inner": {"at": s.at, "lamp": np.array([s.lamp])}, "flag": np.array([1, 0], np.int8)},
)
variant("Pair", observation_space=spaces.Tuple(tuple(PAIR.values())), seen=lambda s: (s.at, np.array([s.lamp])))
variant("Cell", observation_space=spaces.Discrete(CELLS, start=-4), seen=lambda s: s.at - 4)
variant("Cells", observation_space=spaces.MultiDiscrete([CELLS, CELLS]), seen=lambda s: np.array([s.at, s.lamp]))
variant("Flags", observation_space=spaces.MultiBinary(CELLS), seen=lambda s: np.eye(CELLS, dtype=np.int8)[s.at])
variant("DarkPicture", observation_space=spaces.Box(0, 10, COLOURS.shape, np.uint8), seen=lambda s: s.render() // 26)
variant("Grey", observation_space=spaces.Box(0, 255, (48, 48), np.uint8), seen=lambda s: s.render()[:, :, 0])
variant(
    "Fractions",
    observation_space=spaces.Box(0, 1, COLOURS.shape, np.float32),
    seen=lambda s: (s.render() / 255).astype(np.float32),
)
variant(
    "Stack", observation_space=spaces.Box(0, 255, (4, 48, 48, 3), np.uint8), seen=lambda s: np.stack([s.render()] * 4)
)
variant(
    "GreyStack", observation_space=spaces.Box(0, 255, (48, 48, 4), np.uint8), seen=lambda s: s.render()[..., [0] * 4]
)
variant(
    "PictureAndNumbers",
    observation_space=spaces.Dict(eye=COLOURS, at=PAIR["lamp"]),
    seen=lambda s: {"eye": s.render(), "at": np.array([s.at], np.float32)},
)
variant("Elsewhere", seen=lambda s: np.array([s.at, s.lamp], np.float32) + 100)
variant("WrongShape", seen=lambda s: np.zeros(3, np.float32))
variant("WrongKind", observation_space=spaces.Box(0, 2, (2,), np.uint8), seen=lambda s: np.array([0.25, 1.5]))
variant("Words", seen=lambda s: np.array(["near", "far"]))
variant("Ragged", seen=lambda s: [[1.0], [1.0, 2.0]])
variant("LacksPart", observation_space=spaces.Dict(PAIR), seen=lambda s: {"at": s.at})
variant("Outside", observation_space=spaces.Discrete(3), seen=lambda s: 7)
variant("Undefined", seen=lambda s: np.array([np.nan, 0], np.float32))

# -- actions ----------------------------------------------------------------------------------------------------------

variant("Lookup", moves=lambda s, action: {0: -1, 1: 0, 2: 1}[action])
variant("FromFive", action_space=spaces.Discrete(3, start=5), moves=lambda s, action: {5: -1, 6: 0, 7: 1}[action])
variant(
    "Several",
    action_space=spaces.MultiDiscrete([3, 2]),
    moves=lambda s, action: (action[0] - 1) * (1 + action[1]) if action.shape == (2,) else None,
)
variant(
    "SeveralFromOne",
    action_space=spaces.MultiDiscrete([[3, 2]], start=[[1, 1]]),
    moves=lambda s, action: int(action[0, 0]) - 2,
)
variant("Switches", action_space=spaces.MultiBinary(2), moves=lambda s, action: int(action[0]) - int(action[1]))
variant("SwitchTable", action_space=spaces.MultiBinary([2, 1]), moves=lambda s, a: int(a[0, 0]) - int(a[1, 0]))
variant("WholeNumbers", action_space=spaces.Box(-1, 1, (1,), np.int64), moves=lambda s, a: [-1, 0, 1][a[0] + 1])
variant("Unbounded", action_space=spaces.Box(-np.inf, np.inf, (1,), np.float32), moves=lambda s, a: round(float(a[0])))
variant("HalfBounded", action_space=spaces.Box(0, np.inf, (1,), np.float32), moves=lambda s, a: round(float(a[0])))
variant("ActionDictionary", action_space=spaces.Dict(go=spaces.Discrete(3)), moves=lambda s, a: a["go"] - 1)

# -- rewards, ends, info ----------------------------------------------------------------------------------------------

variant("RewardArray", paid=lambda s: np.array([-abs(s.at - s.lamp)], np.float32))
variant("RewardMatrix", paid=lambda s: np.array([[-abs(s.at - s.lamp)]]))
variant("RewardScalar", paid=lambda s: np.float64(-abs(s.at - s.lamp)))
variant("NoReward", paid=lambda s: None)
variant("TwoRewards", paid=lambda s: np.array([1.0, 2.0]))
variant("RewardText", paid=lambda s: "much")
variant("UndefinedReward", paid=lambda s: float("nan"))
variant("Constant", paid=lambda s: 1.0)
variant("Endless", ends=10**9)
CLASHES = {
    "episode": 7,
    "_episode": True,
    "TimeLimit.truncated": True,
    "terminal_observation": "mine",
    "final_observation": None,
    "_final_observation": [True],
    "final_info": {"episode": {"r": 1e9}},
    "is_success": "no",
    "generator": (n for n in ()),
}
variant("Clashes", told=lambda s: dict(CLASHES))
variant("EpisodeRecord", told=lambda s: {"episode": {"r": 1e9, "l": 1, "t": 0.0}})


class InfoNone(Lamp):
    """`step` gives None for `info`."""

    def step(self, action):
        return (*super().step(action)[:4], None)


class OldReset(Lamp):
    """`reset` as it was before Gymnasium."""

    def reset(self):
        return super().reset()[0]


class ResetAlone(Lamp):
    """`reset` gives no info."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldStep(Lamp):
    """`step` gives four values, as it did before Gymnasium."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class Fails(Lamp):
    """`step` has a mistake in it."""

    def moves(self, action):
        return [0][self.time]


class FailsLate(Lamp):
    """... that shows in the course of training."""

    taken = 0

    def moves(self, action):
        FailsLate.taken += 1
        if FailsLate.taken > 1800:
            raise RuntimeError("the lamp burnt out")
        return super().moves(action)


class NeedsLevel(Lamp):
    """The constructor needs an argument, and knows another."""

    def __init__(self, level, bonus=0.0, render_mode=None):
        super().__init__(render_mode)
        if not isinstance(level, int):
            raise TypeError(f"a level is a whole number, not {level!r}")
        self.ends, self.bonus = 10 * level, bonus

    def paid(self):
        return super().paid() + self.bonus


class Quits(Lamp):
    """The constructor ends the program."""

    def __init__(self, render_mode=None):
        raise SystemExit("no licence")


class NoRenderMode(Lamp):
    """The constructor takes no `render_mode`."""

    def __init__(self):
        super().__init__()


class NoSpaces(Lamp):
    """The spaces are missing."""

    action_space = None


class SaysNoModes(Lamp):
    """`metadata` names no way to render."""

    metadata = {}  # noqa: RUF012


class Slow(Lamp):
    """Twenty steps a second."""

    def step(self, action):
        time.sleep(0.05)
        return super().step(action)


for kind in (InfoNone, OldReset, ResetAlone, OldStep, Fails, FailsLate, NeedsLevel, Quits, NoRenderMode, NoSpaces):
    gymnasium.register(f"{kind.__name__}-v0", kind)
for kind in (SaysNoModes, Slow):
    gymnasium.register(f"{kind.__name__}-v0", kind)

# -- pictures for people ----------------------------------------------------------------------------------------------

variant("ShowsNone", render=lambda s: None)
variant("ShowsText", render=lambda s: "a lamp")
variant("ShowsList", render=lambda s: [np.zeros((8, 8, 3), np.uint8)] * 2)
variant("ShowsSizes", render=lambda s: np.zeros((8 + s.time, 8, 3), np.uint8))
variant("ShowsGrey", render=lambda s: Lamp.render(s)[:, :, 0])
variant("ShowsOpacity", render=lambda s: np.concatenate([Lamp.render(s), np.full((48, 48, 1), 9, np.uint8)], axis=2))
variant("ShowsFractions", render=lambda s: Lamp.render(s) / 255)
variant("ShowsTruth", render=lambda s: Lamp.render(s)[:, :, 0] > 0)
variant("ShowsChannelsFirst", render=lambda s: np.moveaxis(Lamp.render(s), 2, 0))
