"""What children of ``test_kill_often`` need, imported once in the process that forks them."""

from __future__ import annotations

import openai
import peft
import torch
import transformers

import tuneproof.generate.stage
import tuneproof.generate.transformers_backend
import tuneproof.judge.openai_client
import tuneproof.judge.stage
import tuneproof.stages
import tuneproof.train.stage

__all__ = ["openai", "peft", "torch", "transformers", "tuneproof"]
