"""From a text to a score, and from a score to an action.

classifier         START HERE: normalise, tokenise, run the engine, calibrate
normalise          undoes disguises; worker/lookalikes.py is its table of characters
tokenizer          a text to token ids; words: the same, with each word cached; tokenizer_process: in a subprocess
bundle             the model folder, and why one is refused
policy             a score to an action
models_in_service  which model judges which message: primary, canary
"""
