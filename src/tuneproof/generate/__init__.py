"""Prompts, the answers of both arms, and the likelihood of the reference responses."""
