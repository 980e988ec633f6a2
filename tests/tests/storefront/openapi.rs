//! Tests the API document against a running agent. Everything that it describes exists, and nothing
//! else does.

use crate::common::{Shared, Shop, Stage, judged};
use anyhow::{Context as _, Result, ensure};
use bridge_contract::Contract;
use bridge_contract::shapes::{allowed, breaks};
use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::domain::order::FieldError;
use bridge_protocol::domain::payment_body::{PayRequest, RefundRequest};
use bridge_tests::testkit::http::Client;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

static BRIDGE: Shared = Shared::new(&["told"], |_| Ok(()));

#[test]
fn every_path_of_the_document_exists_with_its_methods() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let contract = Contract::of(site.storefront).await?;
        let operations = contract.operations();
        let mut client = Client::new(site.storefront);
        for (_, path) in &operations {
            let target = path
                .replace("{brand}", "told")
                .replace("{product}", "MUG")
                .replace("{order}", "01980000-0000-7000-8000-000000000000")
                .replace("{payment}", "01980000-0000-7000-8000-000000000000");
            for method in
                [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
            {
                let request = Request::builder().method(&method).uri(&target).header("host", "bridge");
                let answer = client.send(request.body(Full::new(Bytes::new()))?).await?;
                let is_told = operations.contains(&(method.to_string(), path.clone()));
                ensure!(answer.status.as_u16() < 500, "{method} {target}: {}", answer.status);
                ensure!(
                    is_told != (answer.status == 405),
                    "{method} {target} is answered {}, in the document: {is_told}",
                    answer.status
                );
                ensure!(
                    answer.status != 405 || answer.header("allow").is_some(),
                    "{method} {target}: no Allow"
                );
                judged(site.storefront, method, &target, answer).await?;
            }
        }
        Ok(())
    })
}

/// Number of bodies of each kind that are generated from the document.
const BODIES: usize = 150;

/// A body's shape, its parser, and the rules that the shape cannot express.
struct Body {
    shape: &'static str,
    parse: fn(&[u8], usize) -> Result<(), Vec<FieldError>>,
    mend: fn(&mut Value),
}

const READ: [Body; 3] = [
    Body {
        shape: "Order",
        parse: |body, lines_max| OrderRequest::parse(body, lines_max).map(drop),
        mend: add_up,
    },
    Body { shape: "Pay", parse: |body, _| PayRequest::parse(body).map(drop), mend: |_| () },
    Body { shape: "RefundOf", parse: |body, _| RefundRequest::parse(body).map(drop), mend: |_| () },
];

/// Gives an order one currency, distinct SKUs, and the right total.
fn add_up(order: &mut Value) {
    let (mut sum, mut seen) = (0, Vec::new());
    for line in order["lines"].as_array_mut().into_iter().flatten() {
        if seen.contains(&line["sku"]) {
            line["sku"] = json!(format!("SKU-{}", seen.len()));
        }
        seen.push(line["sku"].clone());
        line["unit_price"]["currency"] = json!("KRW");
        let price = |line: &Value| {
            let amount = line["unit_price"]["amount"].as_i64().unwrap_or_default();
            amount.saturating_mul(line["quantity"].as_i64().unwrap_or_default())
        };
        // The sum must be a valid amount as well.
        if price(line) > 100_000_000_000 {
            line["unit_price"]["amount"] = json!(1);
        }
        sum += price(line);
    }
    if order["shipping_fee"].is_object() {
        order["shipping_fee"] = json!({"amount": 3_000, "currency": "KRW"});
        sum += 3_000;
    }
    order["total"] = json!({"amount": sum, "currency": "KRW"});
}

#[test]
fn a_body_is_accepted_or_refused_exactly_as_the_document_says() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let contract = Contract::of(site.storefront).await?;
        for Body { shape: name, parse, mend } in READ {
            let mut shape = contract.shapes().named(name)?;
            let lines_max = shape["properties"]["lines"]["maxItems"].as_u64();
            let lines_max = usize::try_from(lines_max.unwrap_or(1))?;
            if name == "Order" {
                // Another test has two thousand lines, which would only take time here.
                shape["properties"]["lines"]["maxItems"] = json!(lines_max.min(20));
            }
            let lines_max = lines_max.min(20);
            for seed in 0..BODIES {
                let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
                let mut body = allowed(&shape, &mut rng).with_context(|| format!("{name}, seed {seed}"))?;
                mend(&mut body);
                let refused = parse(body.to_string().as_bytes(), lines_max).err().unwrap_or_default();
                ensure!(refused.is_empty(), "{name}, seed {seed}: {refused:?} of {body}");
                for broken in breaks(&shape, &body, &mut rng)? {
                    let refused = parse(broken.value.to_string().as_bytes(), lines_max).err();
                    let refused = refused.unwrap_or_default();
                    let is_named = refused.iter().any(|mistake| mistake.pointer == broken.pointer);
                    ensure!(
                        is_named,
                        "{name}, seed {seed}: {} at {:?} is answered {refused:?}: {}",
                        broken.what,
                        broken.pointer,
                        broken.value
                    );
                }
            }
        }
        Ok(())
    })
}

#[test]
fn an_order_at_the_limits_of_the_document_is_placed() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "told");
        let mut order = shop.json();
        order["delivery"]["address"] = json!(vec!["가".repeat(500); 6]);
        order["delivery"]["note"] = json!("");
        order["customer"]["reference"] = json!("6912345678901234564");
        order["customer"]["phone"] = json!("4915123456787");
        let answer = shop.place("at-the-limits", order.to_string()).await?;
        ensure!(answer.status == 201, "{}", answer.json());
        order["delivery"]["address"][5] = json!("가".repeat(501));
        let answer = shop.place("beyond", order.to_string()).await?;
        let problem = shop.problem(&answer, 422, "invalid-order")?;
        ensure!(problem["errors"][0]["pointer"] == "/delivery/address/5", "{problem}");
        Ok(())
    })
}

#[test]
fn an_order_s_answers_are_as_the_document_tells() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        // The shop itself checks each answer against the document.
        let mut shop = Shop::open(site, "told");
        let order = shop.order(&[(0, 1)]);
        let placed = shop.place(&order.key, order.body.clone()).await?;
        ensure!(placed.status == 201);
        let location = placed.header("location").unwrap_or_default().to_owned();
        ensure!(shop.get(&location).await?.status == 200);
        let id = crate::common::order_at(&placed)?;
        ensure!(shop.cancel(&id, "cancels").await?.status == 200);
        ensure!(shop.place_new(&[(2, 5)]).await?.status == 409);
        ensure!(shop.place("nothing", "{}").await?.status == 422);
        ensure!(shop.get("/v1/told/orders/nonsense").await?.status == 404);
        ensure!(shop.get("/v1/other/categories").await?.status == 404);
        ensure!(shop.get("/v1/told/products?limit=0").await?.status == 400);
        ensure!(shop.get("/nowhere").await?.status == 404);
        Ok(())
    })
}
