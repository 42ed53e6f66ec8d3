import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.time.Instant;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Keeps the newest label of each row, if a person gave it or the model was sure of it. Needs kafka-clients and
 * jackson-databind.
 */
public final class NewestLabels {
    private record Row(String rowId, Instant createdAt) {}

    /** A person's label goes before those of models; of one moment the later message counts. */
    private record Newness(boolean byPerson, Instant labeledAt, long offset) implements Comparable<Newness> {
        @Override
        public int compareTo(Newness other) {
            return Comparator.comparing(Newness::byPerson)
                    .thenComparing(Newness::labeledAt)
                    .thenComparing(Newness::offset)
                    .compare(this, other);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> environment = System.getenv();
        double least = Double.parseDouble(environment.getOrDefault("MIN_CONFIDENCE", "0.8"));
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", environment.get("KAFKA_BOOTSTRAP_SERVERS"),
                "group.id", "newest-labels",
                "auto.offset.reset", "earliest");
        Map<Row, Newness> newest = new HashMap<>();
        Map<Row, String> byProxy = new HashMap<>(); // rows with a label of the proxy, and its version
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(environment.getOrDefault("TOPIC", "esk.labeled")));
            while (true) {
                for (ConsumerRecord<String, byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
                    JsonNode row = json.readTree(message.value());
                    JsonNode confidence = row.get("confidence");
                    boolean byPerson = row.get("label_version").asText().equals("human");
                    var identity = new Row(message.key(), Instant.parse(row.get("created_at").asText()));
                    String version = row.get("label_version").asText();
                    // The model has labelled again what the proxy had: that counts, however sure it is.
                    boolean repaired = version.equals(byProxy.get(identity));
                    if (!byPerson && !repaired && (confidence.isNull() || confidence.asDouble() < least)) {
                        continue;
                    }
                    var newness = new Newness(
                            byPerson, Instant.parse(row.get("labeled_at").asText()), message.offset());
                    Newness known = newest.get(identity);
                    if (known == null || newness.compareTo(known) > 0) {
                        newest.put(identity, newness);
                        byProxy.remove(identity);
                        if (row.path("decided_by").asText().equals("proxy")) {
                            byProxy.put(identity, version);
                        }
                        System.out.println(String.join(
                                "\t",
                                message.key(),
                                version,
                                row.get("label").asText(),
                                confidence.isNull() ? "-" : confidence.asText()));
                    }
                }
            }
        }
    }
}
