"""hamgate's recipe: how a bundle is made, and how it is judged.

commands   START HERE: what `python -m training <command>` does, one function each
recipe     everything that was chosen, in one TOML file
sources    labelled messages from a file of any usual kind, or a hub
data       the honest split: what is mended, dropped, kept together, merged without a leak
datacard   what a run's rows came from, what was dropped and why
clusters   near-duplicates: exactly, or by MinHash where there are many
disguises  what a spammer does to a text, to train on and to judge by
batches    texts to token ids, shuffled, in batches
pretrain   a small base of our own, from the train rows alone
model      a pretrained base with LoRA on top, quantised as the recipe says
train      a flat page: load, build, fit, save
runs       what a run is of: recipe, seed, rows, its base's commit
hub        that commit
epochs     what each step of each epoch learns from
passes     a step's messages to gradients, in passes that fit the memory, replayed as CUDA graphs
packing    messages end to end, without padding, and attention over them
log        what a run cost
hardware   what it was made on, by name
checkpoint what it takes to go on as if a run had never stopped
calibrate  log odds to probabilities, and a threshold that disguised ham has a say in
export     an adapter, its tokenizer and its base to a bundle that the worker loads
adapters   one that was made elsewhere: what is wrong with it, and merging what no engine runs
shipping   a run to a bundle in force, unless it is worse than what stands there
reference  a bundle judged by transformers, where no engine serves it
judging    the commands that read data and judge
evaluate   one split's exam: test rows, the same disguised, texts of another collection
judged     a judge's answers, as a file
baselines  LinearSVC and boosted trees, sitting the same exam
metrics    scores against labels, each figure with its interval
findings   several splits' answers to figures, under the names of a results file
compare    which of two judges is better: paired tests
sweep      configurations compared on slices of train
report     a results file as pages: tables, plots, the bundle's card
errors     what was misjudged, for a person to read on this machine
screen     what a person sees
"""
