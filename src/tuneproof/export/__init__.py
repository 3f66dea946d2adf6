"""A run's answers and judgments as the files that the original benchmark tools write.

``alpaca_eval`` and ``mt_bench`` make the rows, ``write`` reads a run and writes the files. What
``tuneproof score`` makes of them are the report's own numbers.
"""
