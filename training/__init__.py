"""hamgate's recipe: how a bundle is made, and how it is judged.

commands   START HERE: what `python -m training <command>` does, one function each
recipe     everything that was chosen, in one TOML file
data       the honest split: what is read, mended, dropped, kept together
disguises  what a spammer does to a text, to train on and to judge by
batches    texts to padded batches, in an order that a seed gives
pretrain   a small base of our own, from the train rows alone
model      a Llama-family base with LoRA on top, quantised as the recipe says
train      a flat page: load, build, fit, save
calibrate  log odds to probabilities, and a threshold
export     an adapter, its tokenizer and its base to a bundle that the worker loads
metrics    scores against labels, each figure with its interval
evaluate   five seeds, every disguise, the linear baseline on the same rows
"""
