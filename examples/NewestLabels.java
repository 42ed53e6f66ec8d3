import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Keeps the newest label of each row, if the model was sure of it. Needs kafka-clients and jackson-databind. */
public final class NewestLabels {
    private record Row(String rowId, Instant createdAt) {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> environment = System.getenv();
        double least = Double.parseDouble(environment.getOrDefault("MIN_CONFIDENCE", "0.8"));
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", environment.get("KAFKA_BOOTSTRAP_SERVERS"),
                "group.id", "newest-labels",
                "auto.offset.reset", "earliest");
        Map<Row, Instant> newest = new HashMap<>();
        ObjectMapper json = new ObjectMapper();
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(environment.getOrDefault("TOPIC", "esk.labeled")));
            while (true) {
                for (ConsumerRecord<String, byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
                    JsonNode row = json.readTree(message.value());
                    JsonNode confidence = row.get("confidence");
                    if (confidence.isNull() || confidence.asDouble() < least) {
                        continue;
                    }
                    Instant labeledAt = Instant.parse(row.get("labeled_at").asText());
                    var identity = new Row(message.key(), Instant.parse(row.get("created_at").asText()));
                    if (labeledAt.isAfter(newest.getOrDefault(identity, Instant.MIN))) {
                        newest.put(identity, labeledAt);
                        System.out.println(String.join(
                                "\t",
                                message.key(),
                                row.get("label_version").asText(),
                                row.get("label").asText(),
                                confidence.asText()));
                    }
                }
            }
        }
    }
}
