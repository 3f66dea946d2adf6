"""A run's results in the forms that others take: the benchmark tools, a paper, a model hub.

``alpaca_eval`` and ``mt_bench`` make the original tools' rows and ``write`` their files; what
``tuneproof score`` makes of them are the report's own numbers. ``latex`` and ``paper`` make tables
and figures, ``model_card`` the adapter's card, and ``run`` all of it.
"""
