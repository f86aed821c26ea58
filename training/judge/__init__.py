"""The quality of a model: judging, comparing, sweeping, reporting."""
