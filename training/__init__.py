"""hamgate's recipe: how a bundle is made, and how it is judged.

commands   START HERE: what `python -m training <command>` does, one function each
recipe     everything that was chosen, in one TOML file
data       the honest split: what is read, mended, dropped, kept together
disguises  what a spammer does to a text, to train on and to judge by
batches    texts to token ids, shuffled, in batches
pretrain   a small base of our own, from the train rows alone
model      a pretrained base with LoRA on top, quantised as the recipe says
train      a flat page: load, build, fit, save
epochs     what each step of each epoch learns from
passes     a step's messages to gradients, in passes that fit the memory, replayed as CUDA graphs
packing    messages end to end, without padding, and attention over them
log        what a run cost
checkpoint what it takes to go on as if a run had never stopped
calibrate  log odds to probabilities, and a threshold
export     an adapter, its tokenizer and its base to a bundle that the worker loads
reference  a bundle judged by transformers, where no engine serves it
metrics    scores against labels, each figure with its interval
evaluate   five seeds, every disguise, the linear baseline on the same rows
"""
