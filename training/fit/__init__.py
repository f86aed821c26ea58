"""From a recipe and a split to a trained adapter."""
