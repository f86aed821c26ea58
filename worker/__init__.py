"""hamgate's worker: SMS events in, one verdict each out, exactly once.

docs/architecture.md tells the life of a message and says where to change what. Read the code in this order:

    pipeline/    stages START HERE: read, judge, write, each one thread
                 batch (a record and a batch in flight), slices (a poll, prepared), inbox and batching (when to stop
                 waiting), ports (what is asked of a broker), verdicts (scores to what is published), accounts (what a
                 commit tells metrics, traces and the shadow), throughput (the line in the log), service (the threads),
                 progress, tracing
    messages     what travels: Record, Sms, Verdict, DeadLetter; bytes in, bytes out
    model/       a text to a score: normalise, words, tokenizer, bundle, classifier, policy, models_in_service; what a
                 text is: languages, coverage (is it outside the bundle's evaluation), notices
    engine/      how the model is run on CPU and GPU
    broker/      Kafka: source (reads), sink (publishes and commits offsets), transactions, replay, check; client/ has
                 every private name of the Kafka client
    rollout/     another model while it runs: changeover, link, shadow, compare, drift; budgets: bands and their shares
    predict/     `POST /predict`: texts to verdicts without Kafka, on the same engine
    audit/       `hamgate audit`: every input offset has one answer, in order
    feedback/    `hamgate feedback`: what subscribers and analysts report, and what is believed of it
    metrics/     every series and its meaning; /metrics, /livez, /readyz
    process/     subprocesses, signals, logs, CPU cores, what the worker is doing (states)
    simulate/    made-up traffic; bench: how fast this machine judges
    settings     every setting, checked at start; pem: the files of a TLS link
    loading      a model as the settings ask for it
    lookalikes   letters that are drawn like others: for normalise, and for the sender registry
    app          the composition root; commands: one function for each; __main__: the parser; flags: which settings each
                 command takes; version
"""
