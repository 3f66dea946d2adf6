"""Model, LoRA and the training loop."""
