"""hamgate's recipe: how a bundle is made, and how it is judged.

Read in this order:

    commands   START HERE: what `python -m training <command>` does, one function each; __main__: the parser
    data/      messages to an honest split: sources, split, clusters (near-duplicates), disguises, card (what was
               dropped and why), hub (the commit of a base)
    fit/       a recipe and a split to an adapter: train (a flat page: load, build, fit, save), recipe, model, pretrain
               (a small base of our own), epochs, batches, packing, passes (gradients that fit the memory), checkpoint,
               runs, published (a bundle run by transformers), screen
    bundle/    an adapter to a bundle: export, calibrate (probabilities and threshold), adapters (made elsewhere),
               shipping (refuses a worse bundle)
    judge/     what a model is worth: judging (the commands), evaluate (one split), judged, baselines, metrics,
               findings, compare (paired tests), sweep, report
    log        what a run cost; hardware: what it was made on; errors: misjudged messages, for this machine only
"""
