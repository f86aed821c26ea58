"""hamgate's worker: SMS events in, one verdict each out, exactly once.

Read in this order:

    pipeline     START HERE: three stages, each one thread, and the life of a batch
    messages     what travels: Record, Sms, Verdict, DeadLetter; bytes in, bytes out
    batching     when to stop waiting for company
    text         the normaliser: what a spammer hides, made plain
    pieces       words to token ids, each cut once
    tokenizing   texts to token ids: without disguise, cut to the bundle's bound
    tokenizer_process  the same in processes of their own, which leaves the interpreter to the pipeline
    apart        what it takes to have a process of one's own
    classifier   texts to scores, by way of a bundle and an engine
    engine/      how the model is run on CPU and GPU
    bundle       the model folder, and why one is refused
    policy       from a score to an action
    lineup       which model judges which message: primary, canary
    changeover   another bundle while it runs; shadow: one that judges beside; drift, compare, releases
    stream       what the pipeline asks of a broker
    states       what a worker is doing, and what makes it do something else
    broker       the answer, in Kafka: the only module that imports it
    metrics      every series and its meaning; /metrics, /livez, /readyz
    simulate/    made-up traffic for any broker
    tracing      spans, if they are asked for; tracecontext: what is carried in any case
    bench        how fast this machine judges, and what to set for it
    cores        how many processors there are for it
    settings     every knob, checked at the door; pem: the files of a TLS link
"""
