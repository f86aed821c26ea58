"""The pipeline: `stages` first."""
