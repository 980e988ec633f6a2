// A storefront's server code on Bridge: browse, order, pay, with a retry that cannot order or charge twice.
//
// Start `cargo demo --keep`, paste the `export` line that it prints, then: java examples/Storefront.java
// JDK 17, no framework. BRAND is `shoes` if it is not set. A shop has a JSON library; to need the JDK alone,
// this example reads fields with patterns.
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.UUID;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Storefront {
    /** Time limit of all attempts. After it, a later job retries under the same key. */
    static final Duration PATIENCE = Duration.ofSeconds(60);

    /** An answer that retrying does not change. Branch on `type`, which is stable. */
    static class Problem extends Exception {
        final String type, body;

        Problem(int status, String body) {
            super(status + " " + body);
            this.body = body;
            this.type = field(body, "type").replace("/problems/", "");
        }
    }

    /** The outcome is not known yet. Store the key, and retry later: the same key has its effect once. */
    static class UnknownOutcome extends Exception {}

    /** Calls one brand's API. */
    record Bridge(HttpClient client, String base, String token) {
        /** Reads `path`; every read may be retried. */
        String get(String path) throws Exception {
            return untilTold(request(path).GET().build(), Instant.now().plus(PATIENCE)).body();
        }

        /** Writes under an idempotency key, and returns the outcome once it is known. */
        String post(String path, String key, String body) throws Exception {
            HttpRequest request = request(path).header("Idempotency-Key", key)
                .header("Content-Type", "application/json").POST(BodyPublishers.ofString(body)).build();
            Instant deadline = Instant.now().plus(PATIENCE);
            while (true) {
                HttpResponse<String> answer = untilTold(request, deadline);
                if (answer.statusCode() != 202) {
                    return answer.body();
                }
                pause(answer, deadline); // The same request under the same key asks again.
            }
        }

        private HttpRequest.Builder request(String path) {
            return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(20))
                .header("Authorization", "Bearer " + token);
        }

        private HttpResponse<String> untilTold(HttpRequest request, Instant deadline) throws Exception {
            while (true) {
                HttpResponse<String> answer = null;
                try {
                    answer = client.send(request, BodyHandlers.ofString(StandardCharsets.UTF_8));
                } catch (IOException noAnswer) { // It says nothing of the effect: the request is sent again.
                }
                if (answer != null && answer.statusCode() < 400) {
                    return answer;
                }
                Problem problem = answer == null ? null : new Problem(answer.statusCode(), answer.body());
                if (problem != null && answer.statusCode() != 503 && !problem.type.equals("in-progress")) {
                    throw problem;
                }
                pause(answer, deadline);
            }
        }

        private static void pause(HttpResponse<?> answer, Instant deadline) throws Exception {
            long seconds = answer == null ? 1 : answer.headers().firstValueAsLong("Retry-After").orElse(1);
            if (Instant.now().plusSeconds(seconds).isAfter(deadline)) {
                throw new UnknownOutcome();
            }
            Thread.sleep(seconds * 1000);
        }
    }

    /** Returns the first text with this name, or an empty text. */
    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    /** Returns the SKU and the price of the first variant that is in stock. */
    static String[] choose(Bridge bridge) throws Exception {
        Pattern variant = Pattern.compile("\"sku\":\"([^\"]*)\".*?\"price\":(\\{[^}]*\\})");
        Matcher item = Pattern.compile("\"product\":\"([^\"]*)\"").matcher(bridge.get("/products?sort=price&limit=20"));
        while (item.find()) {
            Matcher next = variant.matcher(bridge.get("/products/" + encoded(item.group(1))));
            while (next.find()) {
                String stock = bridge.get("/stock?sku=" + encoded(next.group(1)));
                if (Pattern.compile("\"available\":[1-9]").matcher(stock).find()) {
                    return new String[] {next.group(1), next.group(2)};
                }
            }
        }
        throw new IllegalStateException("nothing is in stock");
    }

    public static void main(String[] arguments) throws Exception {
        String base = System.getenv("BRIDGE") + "/v1/" + System.getenv().getOrDefault("BRAND", "shoes");
        Bridge bridge = new Bridge(HttpClient.newHttpClient(), base, System.getenv("TOKEN"));
        String[] chosen = choose(bridge);
        String sku = chosen[0], price = chosen[1];
        System.out.println("chosen: " + sku + " " + price);

        // One key for each press of the button. Store it with the basket before the first attempt.
        String orderKey = UUID.randomUUID().toString();
        String body = """
            {"lines": [{"sku": "%s", "quantity": 1, "unit_price": %s}], "total": %s,
             "customer": {"reference": "c-8842", "name": "A. Customer", "phone": "010-0000-0000"},
             "delivery": {"name": "A. Customer", "address": ["1 Main Street"], "country": "KR"}}
            """.formatted(sku, price, price);
        String order = field(bridge.post("/orders", orderKey, body), "order");
        System.out.println("ordered: " + order);
        String again = field(bridge.post("/orders", orderKey, body), "order");
        System.out.println("sent again under its key: " + (again.equals(order) ? "the same order" : "ANOTHER ORDER"));

        // The payment key comes from the gateway's widget in the shopper's browser.
        String payment = "{\"amount\": %s, \"payment_key\": \"tgen_%s\"}".formatted(price, UUID.randomUUID());
        try {
            String paid = bridge.post("/orders/" + order + "/payments", UUID.randomUUID().toString(), payment);
            System.out.println("paid: " + field(paid, "payment"));
        } catch (Problem problem) {
            if (!problem.type.equals("payment-declined")) {
                throw problem;
            }
            System.out.println("declined: " + field(problem.body, "code"));
        }
        System.out.println("the order is " + field(bridge.get("/orders/" + order), "state"));
    }
}
