"""The console: a window on the stream, a box to try a message, the history, campaigns, lists, and dead letters.

Reading map, from the command inwards:

    serving     `hamgate console`: the parts together, and the server
    lists       pages and changes of lists and senders; campaigns: their pages
    pages       the other HTML pages; api: JSON for their scripts, and the live events
    proxies     users whom a proxy has logged in
    access      users, sessions, roles, tokens against forged requests, the rate limit of log-in
    guard       what every request must hold to before anything reads it: size, host, security headers
    reading     the threads that read verdicts and dead letters, and texts, read_committed, in no group
    window      what it has read, bounded; search: what is asked of it
    database    where that is kept: SQLite, or by postgres PostgreSQL, with one set of statements
    texts       opt-in: texts of the input, sealed; shown by role, noted, erased on demand
    following   the threads that follow lists, campaigns, senders, decisions and the shadow's reports
    context     lists, campaigns, senders and the registry, as they are set
    live        counts of the last minutes, and the newest verdicts
    judging     the model, in turns, behind a bounded queue
    feedback    the page Feedback: reviewing the queue of decisions (reviewing), Label Studio's files (labelling)
    model       the page Model: bundles on this disk (shelf), figures and plots (evaluation), the shadow (shadowing)
    redriving   dead letters back to the input, by `worker.broker.replay`
    changes     the audit log
    visible     text and bytes of strangers, made harmless to look at

It imports `worker`, never the reverse but for the command. It writes to the brokers on a redrive, a change of lists and
an analyst's word alone. No text, number or password is in a URL or a log, and none in the database but sealed; dead
letters' bytes are read from the brokers when they are looked at.
"""
