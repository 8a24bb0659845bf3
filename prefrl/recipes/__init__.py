"""Recipes: the settings a run starts from, as data. A recipe is a chain of tables, each laid over the one before.

The `default` recipe is for the steps a person asks for on two cores; `paper` has the paper's absolute constants, for
days on larger machines.
"""

from prefrl.recipes.ablations import ABLATIONS
from prefrl.recipes.resolve import resolve, task_settings
from prefrl.recipes.tables import ALGOS, IMAGES, RECIPES, TASKS

__all__ = ["ABLATIONS", "ALGOS", "IMAGES", "RECIPES", "TASKS", "resolve", "task_settings"]
