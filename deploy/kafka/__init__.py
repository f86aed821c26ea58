"""Apache Kafka on this machine, for tests, the demo and a developer's own use; never for production.

    python3 -m deploy.kafka start     in the background, with hamgate's topics; says where it is and how to stop it
    python3 -m deploy.kafka stop

`java` sees to Java, Maven and the broker's jars; `node` runs one broker process; `topics` makes hamgate's topics.
"""
