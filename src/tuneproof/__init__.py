"""Fine-tune a language model, and prove that it got better.

``import tuneproof`` is light: no machine-learning library is loaded until a stage needs it.
"""

__version__ = "0.1.0"
