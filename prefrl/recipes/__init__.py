"""Recipes: the initial settings of a run, as data. A recipe is a chain of tables; each overrides those before it.

The `default` recipe scales with the number of steps and suits two cores. The `paper` recipe has the paper's absolute
constants, which take days on larger machines.
"""

from prefrl.recipes.ablations import ABLATIONS
from prefrl.recipes.resolve import resolve, task_settings
from prefrl.recipes.tables import ALGOS, IMAGES, RECIPES, TASKS

__all__ = ["ABLATIONS", "ALGOS", "IMAGES", "RECIPES", "TASKS", "resolve", "task_settings"]
