"""From a text to a score: bundle, tokenizer, classifier, policy."""
