// The same with OpenFeature's Java SDK and its OFREP provider; logs go where slf4j-simple
// sends them, which is the standard error.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.common.collect.ImmutableList;
import com.google.common.collect.ImmutableMap;
import dev.openfeature.contrib.providers.ofrep.OfrepProvider;
import dev.openfeature.contrib.providers.ofrep.OfrepProviderOptions;
import dev.openfeature.sdk.Client;
import dev.openfeature.sdk.FlagEvaluationDetails;
import dev.openfeature.sdk.MutableContext;
import dev.openfeature.sdk.OpenFeatureAPI;
import dev.openfeature.sdk.Value;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

public class Remote {
    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        JsonNode question = json.readTree(System.in);
        ImmutableMap.Builder<String, ImmutableList<String>> headers = ImmutableMap.builder();
        for (JsonNode header : question.get("headers")) {
            headers.put(header.get(0).asText(), ImmutableList.of(header.get(1).asText()));
        }
        OfrepProviderOptions options = OfrepProviderOptions.builder()
                .baseUrl(question.get("url").asText())
                .headers(headers.build())
                .build();
        OpenFeatureAPI api = OpenFeatureAPI.getInstance();
        api.setProviderAndWait(OfrepProvider.constructProvider(options));
        Client client = api.getClient();
        List<Map<String, Object>> answers = new ArrayList<>();
        for (JsonNode asked : question.get("asked")) {
            String key = asked.get(1).asText();
            answers.add(shown(json, evaluate(json, client, asked.get(0).asText(), key, asked.get(2), context(asked.get(3)))));
        }
        System.out.println(json.writeValueAsString(answers));
        api.shutdown();
    }

    private static MutableContext context(JsonNode given) {
        MutableContext context = new MutableContext();
        given.properties().forEach(field -> {
            if (field.getKey().equals("targetingKey")) {
                context.setTargetingKey(field.getValue().asText());
            } else {
                context.add(field.getKey(), field.getValue().asText());
            }
        });
        return context;
    }

    private static FlagEvaluationDetails<?> evaluate(
            ObjectMapper json, Client client, String kind, String key, JsonNode fallback, MutableContext context) {
        switch (kind) {
            case "boolean":
                return client.getBooleanDetails(key, fallback.asBoolean(), context);
            case "string":
                return client.getStringDetails(key, fallback.asText(), context);
            case "number":
                return client.getDoubleDetails(key, fallback.asDouble(), context);
            default:
                Object value = json.convertValue(fallback, Object.class);
                return client.getObjectDetails(key, Value.objectToValue(value), context);
        }
    }

    private static Map<String, Object> shown(ObjectMapper json, FlagEvaluationDetails<?> details) {
        Map<String, Object> shown = new LinkedHashMap<>();
        Object value = details.getValue();
        shown.put("value", value instanceof Value ? ((Value) value).asStructure().asObjectMap() : value);
        shown.put("variant", details.getVariant());
        shown.put("reason", details.getReason());
        shown.put("errorCode", details.getErrorCode());
        Map<String, Object> metadata = new LinkedHashMap<>();
        metadata.put("contextId", details.getFlagMetadata().getString("contextId"));
        shown.put("flagMetadata", metadata);
        return shown;
    }
}
