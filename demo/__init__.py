"""hamgate at work on real messages: `make demo`, or `python -m demo`.

Three processes: a Kafka broker of the demo's own, one worker, and the demo itself, which sends, reads back and counts.

    __main__   START HERE: the demo from start to end, a flat page
    held_out   the messages that the model never saw, and their disguises
    stream     what is sent: those, odd events scattered among them, and the burst
    flow       sending and reading back, each with a client of its own
    show       the stream as it is played: paced, read back, counted, shown
    tally      the oracle: what was lost, doubled, out of order, misjudged; how fast
    children   broker and worker: started, watched, and ended on every way out
    screen     what a person sees while it runs
    summary    what a person sees at the end
"""
