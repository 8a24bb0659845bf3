"""A feedback kind as another package would add it: a rating of one clip from 1 to 5, with a loss of its own."""

import numpy as np

from prefrl.feedback.kinds import Choice, FeedbackKind


class Stars(FeedbackKind):
    """How good one clip is, on an ordered scale."""

    name, arity, values, level, likelihood = "stars", 1, (1, 2, 3, 4, 5), "ordinal", "fixed-odds"
    question, titles, rate_titles, rate_legend = "How good is it?", ("",), {}, ""
    choices = tuple(Choice(n, str(n), str(n), str(n), f"{n} of 5") for n in values)

    def parse(self, value):
        if value not in self.values or isinstance(value, bool):
            raise ValueError("stars are a number from 1 to 5")
        return int(value)

    def counts(self, value):
        return True

    def tally(self, value):
        return f"stars {value}"

    def reverse(self, value):
        return value

    def simulate(self, rewards, teacher, usual, chance, watched):
        """3 for a clip worth what is usual, one more or less for each half of that."""
        total = rewards[0].sum()
        better = np.sign(total) if usual is None else 2 * (total - usual) / abs(usual)
        return int(np.clip(3 + np.rint(better), 1, 5))

    def target(self, value):
        return float(value)

    def correct(self, rewards, targets):
        return np.where(targets == 3, np.nan, rewards.sum(axis=(1, 2)) * (targets - 3) > 0)

    def code(self, value):
        return float(value)

    def agrees(self, value, returns):
        return None

    def rates(self, values):
        return {}


STARS = Stars()
ENTRY_POINTS = """[prefrl.feedback_kinds]
stars = stars:STARS
[prefrl.losses]
fixed-odds = stars:fixed_odds
"""


def install(folder, text=ENTRY_POINTS):
    """Put a package on disk that has these entry points."""
    metadata = folder / "stars-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stars\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(text)


def fixed_odds(rewards, batch, config):
    """Log loss of ordered categories (McCullagh, 1980): the log-odds of more than 1, 2, 3 and 4 fall by two."""
    from torch.nn import functional

    odds = rewards.sum(dim=-1) + rewards.new_tensor([3.0, 1.0, -1.0, -3.0])
    above = batch.target[..., None] > rewards.new_tensor([1.0, 2.0, 3.0, 4.0])
    return functional.binary_cross_entropy_with_logits(odds, above.to(odds), reduction="none").sum(dim=-1)
