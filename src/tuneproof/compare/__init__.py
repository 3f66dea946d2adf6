"""The same questions across runs: what one tuned model does better than another.

``reading`` reads a run, ``measures`` says what can be compared and takes its values, ``comparison``
compares; ``text`` and ``page`` show it. The formulas are those of ``stats.across``.
"""
