"""Scoring files that the original benchmark tools wrote: read, check, count, print.

``reading`` takes rows out of the files, ``annotations`` and ``judgments`` make typed rows of them
(AlpacaEval's and FastChat's),
``official`` says whether AlpacaEval's official length control applies, ``alpaca_eval`` and
``mt_bench`` put the result together. The formulas are in ``stats``.
"""
