"""What a model is worth: judging, comparing, sweeping, reporting."""
