"""Asking base and tuned the same thing in a terminal, side by side.

``pair`` holds the one set of weights and steps both models, ``session`` is the conversation and
what is kept of it, ``show`` the terminal.
"""
