// Prints what Kafka's own client reads of some topics, read_committed, from the start to the end as of now:
// topic, partition, offset, key and value (in hex), a line each.
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Reader {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("max.poll.records", "5000");
        HexFormat hex = HexFormat.of();
        var bytes = new ByteArrayDeserializer();
        var out = new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false, "US-ASCII");
        var buffered = new java.io.PrintWriter(new java.io.BufferedWriter(new java.io.OutputStreamWriter(out), 1 << 16));
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int i = 1; i < arguments.length; i++)
                for (var info : consumer.partitionsFor(arguments[i]))
                    partitions.add(new TopicPartition(info.topic(), info.partition()));
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.seekToBeginning(partitions);
            long deadline = System.nanoTime() + 120_000_000_000L;
            while (partitions.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
                if (System.nanoTime() > deadline) throw new IllegalStateException("the end was not reached");
                for (var record : consumer.poll(Duration.ofMillis(200)))
                    buffered.println(record.topic() + " " + record.partition() + " " + record.offset() + " "
                        + (record.key() == null ? "-" : hex.formatHex(record.key())) + " "
                        + (record.value() == null ? "-" : hex.formatHex(record.value())));
            }
        }
        buffered.flush();
    }
}
