#!/usr/bin/env node
// A storefront's server code on Bridge: browse, order, pay, with a retry that cannot order or charge twice.
//
// Start `cargo demo --keep`, paste the `export` line that it prints, then: node examples/storefront.mjs
// Node 18, no packages. BRAND is `shoes` if it is not set.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE = 60_000; // Milliseconds until an attempt is left to a later job, under the same key.
const NO_ANSWER_WITHIN = 20_000; // Milliseconds.

/** An answer that retrying does not change. Branch on `type`, which is stable. */
class Problem extends Error {
  constructor(status, body) {
    const type = String(body.type ?? "").split("/").pop();
    super(`${status} ${type}: ${body.title}`);
    Object.assign(this, { status, type, body });
  }
}

/** The outcome is not known yet. Store the key, and retry later: the same key has its effect once. */
class Unknown extends Error {}

/** Calls one brand's API. */
class Bridge {
  constructor(url, brand, token) {
    Object.assign(this, { base: `${url}/v1/${brand}`, token });
  }

  /** Reads `path`; every read may be retried. */
  async get(path, { token = false } = {}) {
    const headers = token ? this.#authorization() : {};
    return (await this.#untilTold("GET", path, headers, undefined, Date.now() + PATIENCE)).body;
  }

  /** Writes under an idempotency key, and returns the outcome once it is known. */
  async post(path, key, body) {
    const headers = { ...this.#authorization(), "Idempotency-Key": key };
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const answer = await this.#untilTold("POST", path, headers, body, deadline);
      if (answer.status !== 202) return answer.body;
      await pause(answer.retryAfter, deadline); // The same request under the same key asks again.
    }
  }

  #authorization() {
    return { Authorization: `Bearer ${this.token}` };
  }

  async #untilTold(method, path, headers, body, deadline) {
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    const request = { method, headers: { ...headers, ...json }, body: body && JSON.stringify(body) };
    for (;;) {
      const answer = await attempt(this.base + path, request);
      if (answer && answer.status < 400) return answer;
      if (answer) {
        const problem = new Problem(answer.status, answer.body);
        if (problem.status !== 503 && problem.type !== "in-progress") throw problem;
      }
      await pause(answer?.retryAfter, deadline); // No answer says nothing of the effect: send it again.
    }
  }
}

/** Sends one request. Returns nothing if there was no complete answer. */
async function attempt(url, request) {
  try {
    const response = await fetch(url, { ...request, signal: AbortSignal.timeout(NO_ANSWER_WITHIN) });
    const retryAfter = response.headers.get("Retry-After") ?? undefined;
    return { status: response.status, body: await response.json(), retryAfter };
  } catch {
    return undefined;
  }
}

async function pause(seconds = 1, deadline) {
  if (Date.now() + seconds * 1000 > deadline) throw new Unknown("ask again later, under the same key");
  await sleep(seconds * 1000);
}

/** Returns the first variant that is in stock, with its price. */
async function choose(bridge) {
  for (const item of (await bridge.get("/products?sort=price&limit=20")).items) {
    const product = await bridge.get(`/products/${encodeURIComponent(item.product)}`);
    const skus = product.variants.slice(0, 100).map(({ sku }) => encodeURIComponent(sku));
    const stock = (await bridge.get(`/stock?sku=${skus.join(",")}`)).items;
    const inStock = new Set(stock.filter(({ available }) => available > 0).map(({ sku }) => sku));
    const variant = product.variants.find(({ sku }) => inStock.has(sku));
    if (variant) return variant;
  }
  throw new Error("nothing is in stock");
}

const { BRIDGE, TOKEN, BRAND = "shoes" } = process.env;
if (!BRIDGE || !TOKEN) throw new Error("set BRIDGE and TOKEN: cargo demo --keep prints them");
const bridge = new Bridge(BRIDGE, BRAND, TOKEN);
const { sku, price } = await choose(bridge);
console.log("chosen:", sku, price.amount, price.currency);

// One key for each press of the button. Store it with the basket before the first attempt.
const orderKey = randomUUID();
const body = {
  lines: [{ sku, quantity: 1, unit_price: price }],
  total: price,
  customer: { reference: "c-8842", name: "A. Customer", phone: "010-0000-0000" },
  delivery: { name: "A. Customer", address: ["1 Main Street"], country: "KR" },
};
const { order } = await bridge.post("/orders", orderKey, body);
console.log("ordered:", order);
const again = await bridge.post("/orders", orderKey, body);
console.log("sent again under its key:", again.order === order ? "the same order" : "ANOTHER ORDER");

// The payment key comes from the gateway's widget in the shopper's browser.
const payment = { amount: price, payment_key: `tgen_${randomUUID().replaceAll("-", "")}` };
try {
  const paid = await bridge.post(`/orders/${order}/payments`, randomUUID(), payment);
  console.log("paid:", paid.payment);
} catch (problem) {
  if (problem.type !== "payment-declined") throw problem;
  console.log("declined:", problem.body.code);
}
console.log("the order is", (await bridge.get(`/orders/${order}`, { token: true })).state);
