#!/usr/bin/env python3
"""A storefront's server code on Bridge: browse, order, pay, with a retry that cannot order or charge twice.

Start `cargo demo --keep`, paste the `export` line that it prints, then: python3 examples/storefront.py
Python 3.9, standard library only. BRAND is `shoes` if it is not set.
"""
import http.client
import json
import os
import time
import urllib.parse
import uuid

PATIENCE = 60  # Seconds for all attempts. After them, a later job retries under the same key.


class Problem(Exception):
    """An answer that retrying does not change. Branch on `type`, which is stable."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        self.type = body.get("type", "").rsplit("/", 1)[-1]
        super().__init__(f"{status} {self.type}: {body.get('title')}")


class Unknown(Exception):
    """The outcome is not known yet. Store the key, and retry later: the same key has its effect once."""


class Bridge:
    """Calls one brand's API. Use one object a thread: it keeps its connection open."""

    def __init__(self, url, brand, token):
        self.base, self.token = f"/v1/{brand}", token
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=20)

    def get(self, path, token=False):
        """Reads `path`; every read may be retried."""
        return self._until_told("GET", path, None, self._headers(token))[1]

    def post(self, path, key, body=None):
        """Writes under an idempotency key, and returns the outcome once it is known."""
        headers = {"Idempotency-Key": key, **self._headers(True)}
        deadline = time.monotonic() + PATIENCE
        while True:
            status, answer, told = self._until_told("POST", path, body, headers, deadline)
            if status != 202:
                return answer
            self._pause(told, deadline)  # The same request under the same key asks again.

    def _headers(self, token):
        return {"Authorization": f"Bearer {self.token}"} if token else {}

    def _until_told(self, method, path, body, headers, deadline=None):
        deadline = deadline or time.monotonic() + PATIENCE
        data = None if body is None else json.dumps(body).encode()
        if data:
            headers = {**headers, "Content-Type": "application/json"}
        while True:
            try:
                self.connection.request(method, self.base + path, data, headers)
                response = self.connection.getresponse()
                answer = json.loads(response.read() or "{}")
            except (OSError, http.client.HTTPException):
                self.connection.close()  # No answer says nothing of the effect: send it again.
                self._pause({}, deadline)
                continue
            if response.status < 400:
                return response.status, answer, response.headers
            problem = Problem(response.status, answer)
            if response.status != 503 and problem.type != "in-progress":
                raise problem
            self._pause(response.headers, deadline)

    @staticmethod
    def _pause(headers, deadline):
        pause = float(headers.get("Retry-After", 1))
        if time.monotonic() + pause > deadline:
            raise Unknown
        time.sleep(pause)


def choose(bridge):
    """Returns the first variant that is in stock, with its price."""
    for item in bridge.get("/products?sort=price&limit=20")["items"]:
        product = bridge.get("/products/" + urllib.parse.quote(item["product"], safe=""))
        skus = ",".join(urllib.parse.quote(v["sku"], safe="") for v in product["variants"][:100])
        stock = {row["sku"]: row["available"] for row in bridge.get("/stock?sku=" + skus)["items"]}
        for variant in product["variants"]:
            if stock.get(variant["sku"], 0) > 0:
                return variant["sku"], variant["price"]
    raise SystemExit("nothing is in stock")


def main():
    bridge = Bridge(os.environ["BRIDGE"], os.environ.get("BRAND", "shoes"), os.environ["TOKEN"])
    sku, price = choose(bridge)
    print("chosen:", sku, price["amount"], price["currency"])

    # One key for each press of the button. Store it with the basket before the first attempt.
    order_key = str(uuid.uuid4())
    body = {
        "lines": [{"sku": sku, "quantity": 1, "unit_price": price}],
        "total": price,
        "customer": {"reference": "c-8842", "name": "A. Customer", "phone": "010-0000-0000"},
        "delivery": {"name": "A. Customer", "address": ["1 Main Street"], "country": "KR"},
    }
    order = bridge.post("/orders", order_key, body)["order"]
    print("ordered:", order)
    again = bridge.post("/orders", order_key, body)["order"]
    print("sent again under its key:", "the same order" if again == order else "ANOTHER ORDER")

    # The payment key comes from the gateway's widget in the shopper's browser.
    payment = {"amount": price, "payment_key": f"tgen_{uuid.uuid4().hex}"}
    try:
        paid = bridge.post(f"/orders/{order}/payments", str(uuid.uuid4()), payment)
        print("paid:", paid["payment"])
    except Problem as problem:
        if problem.type != "payment-declined":
            raise
        print("declined:", problem.body.get("code"))
    print("the order is", bridge.get(f"/orders/{order}", token=True)["state"])


if __name__ == "__main__":
    main()
