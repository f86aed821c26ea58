"""The teacher, whose probabilities `data/taught` keeps for students: `python -m training taught`.

making     START HERE: every stage, from rows to data/taught
judge      an encoder with a head, fine-tuned whole; its log-odds of spam
states     the encoder's vectors before it learns, reduced to what data/taught keeps
writer     a language model, fine-tuned on the rows under headings; the unlabelled messages that it writes
loaders    where both come from
toys       the same parts at toy size, random and without a download, for `--toy` and the tests
"""
