"""`POST /predict`: texts to verdicts on the worker's engine, without Kafka, for who needs an answer now.

predictor   START HERE: a bounded queue of texts, and the thread that judges them for its share of the time
server      HTTP: /predict and /openapi.json
openapi     the document of both, from the types
answers     a text's verdict without a record; `hamgate predict` prints the same
"""
