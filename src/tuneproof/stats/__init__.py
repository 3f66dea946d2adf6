"""Statistics: from records to estimates with intervals, and from estimates to the verdict.

``estimates`` holds the formulas, ``summary`` applies them to the records of a run, ``verdict``
applies the recipe's rule. Nothing here reads a file or asks a model.
"""
