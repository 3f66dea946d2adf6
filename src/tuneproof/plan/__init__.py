"""The preflight: what a recipe will do, what it will take, and what looks wrong with it.

Counted on the recipe's own data with the model's own tokenizer, without weights, without a GPU, and
without writing anything. ``build`` puts the plan together; ``text`` shows it to people.
"""

from tuneproof.plan.build import Plan, make_plan
from tuneproof.plan.text import show_plan

__all__ = ["Plan", "make_plan", "show_plan"]
