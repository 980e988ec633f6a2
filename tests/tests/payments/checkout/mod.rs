//! Tests of payments end to end: both agents as processes, the tunnel between them, and a faulty
//! gateway.

/// Ends of a doubt: the gateway's answer after a hint, or an operator's decision.
mod doubts;
/// Decisions of an operator while an agent asks the gateway.
mod races;

use std::time::Duration;

use crate::common::{PATIENCE, Shop, configure, judged, metric, order_at, postgres, site, site_on, until};
use anyhow::{Context, Result, ensure};
use bridge_protocol::domain::{Brand, IdempotencyKey};
use bridge_tests::testkit::audits::Audits;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::ports::free_address;
use bridge_tests::testkit::postgres::Postgres;
use bridge_tests::testkit::sandbox::{Mischief, Rates, SECRET_KEY, Sandbox};
use bridge_tests::testkit::site::{Bridge, Site};
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// Total of an order of one pair of shoes, in won.
const TOTAL: i64 = 222_000;

/// A bridge with a gateway that the tests control.
struct Checkout {
    site: Site,
    bridge: Bridge,
    sandbox: Sandbox,
    shop: Shop,
    client: Client,
    webhooks: std::net::SocketAddr,
    _cluster: Option<Postgres>,
    _dir: TempDir,
}

impl Checkout {
    async fn open() -> Result<Self> {
        Self::open_with(|_| Ok(())).await
    }

    async fn open_with(adjust: impl FnOnce(&Site) -> Result<()>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let site = site(dir.path(), &["shoes"]).await?;
        Self::open_site(dir, site, None, adjust).await
    }

    async fn open_on_postgres(adjust: impl FnOnce(&Site) -> Result<()>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (cluster, database) = postgres().await?;
        let site = site_on(dir.path(), database, &["shoes"]).await?;
        Self::open_site(dir, site, Some(cluster), adjust).await
    }

    async fn open_site(
        dir: TempDir,
        site: Site,
        cluster: Option<Postgres>,
        adjust: impl FnOnce(&Site) -> Result<()>,
    ) -> Result<Self> {
        let TestGateway { sandbox } = TestGateway::open(&site, Rates::default()).await?;
        let webhooks = free_address()?;
        let config = site.idc_dir().join("bridge-idc.toml");
        configure(&config, "payments.webhook_listen", webhooks.to_string())?;
        adjust(&site)?;
        let bridge = site.start().await?;
        let (shop, client) = (Shop::open(&site, "shoes"), Client::new(site.storefront));
        Ok(Self { site, bridge, sandbox, shop, client, webhooks, _cluster: cluster, _dir: dir })
    }

    async fn order(&mut self) -> Result<String> {
        let answer = self.shop.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        order_at(&answer)
    }

    async fn post(&mut self, path: &str, key: &str, body: &Value) -> Result<HttpAnswer> {
        let token = self.shop.token().to_owned();
        let answer = self.client.post(path, Some(&token), Some(key), body.to_string().into()).await?;
        judged(self.site.storefront, Method::POST, path, answer).await
    }

    async fn pay(&mut self, order: &str, key: &str) -> Result<HttpAnswer> {
        self.pay_with(order, key, &amount(TOTAL, "KRW")).await
    }

    async fn pay_with(&mut self, order: &str, key: &str, amount: &Value) -> Result<HttpAnswer> {
        let body = json!({ "amount": amount, "payment_key": format!("tgen_{order}") });
        self.post(&format!("{}/{order}/payments", self.shop.orders()), key, &body).await
    }

    /// Returns the call that pays a new order, from another client.
    async fn pay_meanwhile(&mut self) -> Result<impl Future<Output = Result<HttpAnswer>> + 'static> {
        let order = self.order().await?;
        let (mut client, token) = (Client::new(self.site.storefront), self.shop.token().to_owned());
        let path = format!("{}/{order}/payments", self.shop.orders());
        let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": format!("tgen_{order}") });
        Ok(async move { Ok(client.post(&path, Some(&token), Some(&order), body.to_string().into()).await?) })
    }

    async fn refund(&mut self, payment: &str, key: &str, minor: i64) -> Result<HttpAnswer> {
        let body = json!({ "amount": amount(minor, "KRW"), "reason": "it came back" });
        self.post(&format!("{payment}/refunds"), key, &body).await
    }

    /// Returns the outcomes in the IDC agent's log entries of one kind.
    async fn audited(&self, kind: &str) -> Result<Vec<String>> {
        let entries = self.site.idc_command(&["audit", "tail", "--json", "--kind", kind]).await?;
        let outcome = |entry: &str| -> Result<String> {
            let entry: Value = serde_json::from_str(entry)?;
            Ok(entry["entry"]["facts"]["outcome"].as_str().context("no outcome")?.to_owned())
        };
        entries.lines().map(outcome).collect()
    }

    /// Stops both agents, and checks that their logs verify and agree.
    async fn agree(&mut self) -> Result<()> {
        for agent in [&mut self.bridge.cloud, &mut self.bridge.idc] {
            ensure!(agent.terminate().await?.success(), "an agent did not end in order");
        }
        let audits = Audits::of(&self.site).await?;
        ensure!(audits.agree(), "{audits:?}");
        Ok(())
    }

    /// Reads the payment at a path until it has a state. Returns its body.
    async fn stands(&mut self, place: &str, state: &str) -> Result<Value> {
        let wait = async {
            loop {
                let answer = self.shop.get(place).await?;
                let body = answer.json();
                if answer.status == 200 && body["state"] == state {
                    return anyhow::Ok(body);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, wait).await.with_context(|| format!("{place} never became {state}"))?
    }
}

fn amount(minor: i64, currency: &str) -> Value {
    json!({ "amount": minor, "currency": currency })
}

fn place(answer: &HttpAnswer) -> Result<String> {
    Ok(answer.header("location").context("no Location")?.to_owned())
}

fn charged(sandbox: &Sandbox, order: &str) -> u32 {
    sandbox.charges().iter().filter(|charge| charge.order == order).map(|charge| charge.charged).sum()
}

#[tokio::test]
async fn a_payment_of_a_departed_caller_is_logged_before_the_agent_ends() -> Result<()> {
    let mut checkout = Checkout::open().await?;
    let order = checkout.order().await?;
    checkout.sandbox.next([Mischief::HangAfter]);
    let path = format!("{}/{order}/payments", checkout.shop.orders());
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": format!("tgen_{order}") });
    let token = checkout.shop.token().to_owned();
    let mut impatient = Client::new(checkout.site.storefront);
    tokio::select! {
        answer = impatient.post(&path, Some(&token), Some("impatient"), body.to_string().into()) => {
            anyhow::bail!("the gateway hangs, and yet: {answer:?}")
        }
        charged = until("the gateway has charged", async || Ok(checkout.sandbox.charges().len() == 1)) => charged?,
    }
    drop(impatient);
    ensure!(checkout.bridge.cloud.terminate().await?.success());
    let cloud = &checkout.site.cloud;
    for kind in ["payment-sent", "payment-answered"] {
        let config = cloud.arguments.last().context("no configuration")?;
        let tail = ["audit", "tail", "--json", "--kind", kind, "--config", config];
        let entries = bridge_tests::testkit::process::run(&cloud.program, &tail).await?;
        ensure!(entries.lines().count() == 1, "{kind}: {entries}");
    }
    Ok(())
}

#[tokio::test]
async fn an_order_is_paid_read_and_given_back_in_parts() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    let paid = at.pay(&order, "p").await?;
    ensure!(paid.status == 201, "{} {:?}", paid.status, paid.json());
    let place = place(&paid)?;
    ensure!(paid.json()["state"] == "paid" && paid.json()["amount"] == amount(TOTAL, "KRW"));
    let again = at.pay(&order, "p").await?;
    ensure!(again.status == 201 && again.header("idempotency-replayed") == Some("true"));
    ensure!(again.json() == paid.json());

    let part = at.refund(&place, "r1", 22_000).await?;
    ensure!(part.status == 201, "{} {:?}", part.status, part.json());
    ensure!(part.json()["refund"]["state"] == "done" && part.json()["state"] == "partially_refunded");
    let again = at.refund(&place, "r1", 22_000).await?;
    ensure!(again.status == 201 && again.header("idempotency-replayed") == Some("true"));
    let too_large = at.refund(&place, "r2", 200_001).await?;
    at.shop.problem(&too_large, 409, "refund-too-large")?;
    let rest = at.refund(&place, "r3", 200_000).await?;
    ensure!(rest.status == 201 && rest.json()["state"] == "refunded", "{:?}", rest.json());
    let read = at.shop.get(&place).await?.json();
    ensure!(read["refunds"].as_array().map(Vec::len) == Some(2), "{read}");
    ensure!(at.sandbox.charges()[0].cancels == [22_000, 200_000]);

    let shown = at.site.idc_command(&["payments", "list", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(shown["payments"][0]["state"] == "refunded", "{shown}");
    let text = at.bridge.idc.metrics().await?;
    ensure!(metric(&text, "bridge_payments_total{outcome=\"paid\"}")? == 1);
    ensure!(metric(&text, "bridge_refunds_total{outcome=\"done\"}")? == 2);
    for log in [&at.site.cloud.log, &at.site.idc.log] {
        let text = std::fs::read_to_string(log)?;
        ensure!(!text.contains(SECRET_KEY) && !text.contains("tgen_"), "a key is in {}", log.display());
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused_with_its_reason_and_moves_nothing() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    for (key, wrong) in [("w1", amount(TOTAL - 1, "KRW")), ("w2", amount(TOTAL, "USD"))] {
        let answer = at.pay_with(&order, key, &wrong).await?;
        at.shop.problem(&answer, 422, "wrong-amount")?;
    }
    let cancelled = at.order().await?;
    ensure!(at.shop.cancel(&cancelled, "c").await?.status == 200);
    let answer = at.pay(&cancelled, "p1").await?;
    at.shop.problem(&answer, 409, "order-not-payable")?;
    // The problem of a sold-out order contains the order's id.
    ensure!(at.shop.place_new(&[(2, 1)]).await?.status == 201);
    let sold_out = at.shop.place_new(&[(2, 1)]).await?;
    let sold_out =
        at.shop.problem(&sold_out, 409, "sold-out")?["order"].as_str().context("no order")?.to_owned();
    let answer = at.pay_with(&sold_out, "p2", &amount(8_000, "KRW")).await?;
    at.shop.problem(&answer, 409, "order-not-payable")?;
    let answer = at.pay("0193e4a2-0000-7000-8000-000000000001", "p3").await?;
    at.shop.problem(&answer, 404, "unknown-order")?;
    ensure!(at.sandbox.charges().is_empty(), "the gateway charged an order");

    let paid = at.pay(&order, "p4").await?;
    ensure!(paid.status == 201);
    let answer = at.pay(&order, "p5").await?;
    let problem = at.shop.problem(&answer, 409, "already-paid")?;
    ensure!(
        problem["payment"] == paid.json()["payment"],
        "the problem does not name the payment that paid: {problem}"
    );
    let other = at.pay_with(&order, "p4", &amount(1, "KRW")).await?;
    at.shop.problem(&other, 422, "idempotency-key-reused")?;
    let nowhere = place(&paid)?.replace(&order, &cancelled);
    let answer = at.shop.get(&nowhere).await?;
    at.shop.problem(&answer, 404, "unknown-payment")?;
    let answer = at.refund(&nowhere, "r", 1).await?;
    at.shop.problem(&answer, 404, "unknown-payment")?;

    let declined = at.order().await?;
    at.sandbox.next([Mischief::Decline]);
    for replayed in [None, Some("true")] {
        let answer = at.pay(&declined, "d").await?;
        let problem = at.shop.problem(&answer, 402, "payment-declined")?;
        ensure!(problem["code"] == "REJECT_CARD_COMPANY", "{problem}");
        ensure!(answer.header("idempotency-replayed") == replayed);
    }
    // Another card has another payment key.
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": "tgen_another" });
    let answer = at.post(&format!("{}/{declined}/payments", at.shop.orders()), "d2", &body).await?;
    ensure!(answer.status == 201, "{:?}", answer.json());
    ensure!(charged(&at.sandbox, &order) == 1 && charged(&at.sandbox, &declined) == 1);
    Ok(())
}

#[tokio::test]
async fn a_card_number_never_gets_past_the_edge() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    let path = format!("{}/{order}/payments", at.shop.orders());
    let card = at.shop.plant("4111 1111 1111 1111");
    let joined = at.shop.plant("4111111111111111");
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": joined });
    let answer = at.post(&path, "k1", &body).await?;
    let problem = at.shop.problem(&answer, 422, "invalid-payment")?;
    ensure!(problem["errors"][0]["pointer"] == "/payment_key", "{problem}");
    let paid = at.pay(&order, "k2").await?;
    let body = json!({ "amount": amount(1, "KRW"), "reason": format!("to {card}") });
    let refunds = format!("{}/refunds", place(&paid)?);
    let answer = at.post(&refunds, "k3", &body).await?;
    let problem = at.shop.problem(&answer, 422, "invalid-payment")?;
    ensure!(problem["errors"][0]["pointer"] == "/reason", "{problem}");
    let mut body = at.shop.json();
    body["delivery"]["note"] = json!(format!("카드 {card}"));
    let answer = at.shop.place("k4", body.to_string()).await?;
    let problem = at.shop.problem(&answer, 422, "invalid-order")?;
    ensure!(problem["errors"][0]["pointer"] == "/delivery/note", "{problem}");
    let needles = at.shop.needles();
    for place in [&at.site.cloud.log, &at.site.idc.log, &at.site.captured()?] {
        ensure!(needles.search_file(place)?.seen.hits == 0, "the value is in {}", place.display());
    }
    Ok(())
}

#[tokio::test]
async fn two_payments_at_once_under_two_keys_charge_once() -> Result<()> {
    let mut at = Checkout::open().await?;
    for _ in 0..5 {
        let order = at.order().await?;
        let path = format!("{}/{order}/payments", at.shop.orders());
        let body =
            json!({ "amount": amount(TOTAL, "KRW"), "payment_key": format!("tgen_{order}") }).to_string();
        let (mut one, mut two) = (Client::new(at.site.storefront), Client::new(at.site.storefront));
        let token = at.shop.token().to_owned();
        let keys = [format!("one {order}"), format!("two {order}")];
        let (a, b) = tokio::join!(
            one.post(&path, Some(&token), Some(&keys[0]), body.clone().into()),
            two.post(&path, Some(&token), Some(&keys[1]), body.into()),
        );
        let mut statuses = [a?.status.as_u16(), b?.status.as_u16()];
        statuses.sort_unstable();
        ensure!(statuses == [201, 409] && charged(&at.sandbox, &order) == 1, "{statuses:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_answers_nonsense_leaves_a_doubt_that_resolves_itself() -> Result<()> {
    let mut at = Checkout::open().await?;
    for mischief in [
        Mischief::FailAfter,
        Mischief::FailBefore,
        Mischief::Html,
        Mischief::Redirect,
        Mischief::Huge,
        Mischief::Nothing,
        Mischief::WrongAmount,
        Mischief::HangAfter,
        Mischief::HangBefore,
    ] {
        let order = at.order().await?;
        at.sandbox.next([mischief]);
        let answer = at.pay(&order, &format!("p {order}")).await?;
        ensure!(answer.status == 202, "{mischief:?}: {} {:?}", answer.status, answer.json());
        ensure!(
            answer.json()["state"] == "unknown" && answer.header("retry-after").is_some(),
            "{mischief:?}"
        );
        at.stands(&place(&answer)?, "paid").await?;
        let again = at.pay(&order, &format!("p {order}")).await?;
        ensure!(again.status == 201 && again.header("idempotency-replayed") == Some("true"), "{mischief:?}");
        ensure!(charged(&at.sandbox, &order) == 1, "{mischief:?}");
    }
    let idc = &at.bridge.idc;
    let counted = async || Ok(metric(&idc.metrics().await?, "bridge_payments_unknown")? == 0);
    until("no payment is in doubt", counted).await
}

#[tokio::test]
async fn a_gateway_that_hangs_takes_no_order_s_place() -> Result<()> {
    let mut at = Checkout::open_with(|site| {
        configure(&site.idc_dir().join("bridge-idc.toml"), "payments.window", 4)?;
        configure(&site.idc_dir().join("bridge-idc.toml"), "payments.timeout", "60s")?;
        configure(&site.cloud_dir().join("bridge-cloud.toml"), "payments.answer_within", "2m")
    })
    .await?;
    let mut waiting = tokio::task::JoinSet::new();
    at.sandbox.next([Mischief::HangAfter; 4]);
    for _ in 0..12 {
        let payment = at.pay_meanwhile().await?;
        waiting.spawn(payment);
    }
    let admin = at.bridge.idc.admin();
    until("the payments' window is full", async || {
        let text = String::from_utf8(Client::new(admin).get("/metrics", None).await?.body.to_vec())?;
        Ok(metric(&text, "bridge_queue_depth{queue=\"payments_in_flight\"}")? == 4)
    })
    .await?;
    for _ in 0..20 {
        at.order().await?;
    }
    if let Some(answer) = waiting.try_join_next() {
        anyhow::bail!("the gateway hangs, and yet: {answer:?}");
    }
    ensure!(at.sandbox.charges().len() == 4, "the gateway got more requests: {:?}", at.sandbox.charges());
    // The gateway goes away. Requests that it had, and requests that waited for their turn, are in
    // doubt, and every caller learns so.
    drop(at.sandbox);
    for answer in waiting.join_all().await {
        let answer = answer?;
        ensure!(answer.status == 202 && answer.json()["state"] == "unknown", "{:?}", answer.json());
    }
    Ok(())
}

#[tokio::test]
async fn a_payment_begun_before_a_kill_is_concluded_after_restart() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::HangAfter]);
    let (mut client, token) = (Client::new(at.site.storefront), at.shop.token().to_owned());
    let path = format!("{}/{order}/payments", at.shop.orders());
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": format!("tgen_{order}") }).to_string();
    let caller = tokio::spawn(async move { client.post(&path, Some(&token), Some("p"), body.into()).await });
    until("the gateway has charged", async || Ok(charged(&at.sandbox, &order) == 1)).await?;
    at.bridge.idc.kill9().await?;
    at.bridge.idc.restart().await?;
    // The link sends the payment again, and its attempt is known. The outcome is unknown, so the
    // caller must ask again under the same key.
    let answer = caller.await??;
    ensure!(answer.status == 202, "{} {:?}", answer.status, answer.json());
    // The hint shortens the wait for the margin of the dead agent's attempt. Without a hint the
    // payment would be known later.
    until("the payment is known", async || {
        let hint = json!({ "eventType": "PAYMENT_STATUS_CHANGED", "data": { "orderId": order } });
        let _hint = Client::new(at.webhooks).post("/", None, None, hint.to_string().into()).await;
        Ok(at.pay(&order, "p").await?.status == 201)
    })
    .await?;
    ensure!(charged(&at.sandbox, &order) == 1);
    Ok(())
}

#[tokio::test]
async fn a_gateway_answer_after_the_timeout_is_still_logged() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    at.sandbox.next([Mischief::HangAfter]);
    let doubt = at.pay(&order, "p").await?;
    ensure!(doubt.status == 202, "{} {:?}", doubt.status, doubt.json());
    at.stands(&place(&doubt)?, "paid").await?;
    let committed = at.audited("payment-committed").await?;
    ensure!(committed == ["unknown", "paid"], "{committed:?}");
    // A retry under the same key returns what was concluded.
    ensure!(at.pay(&order, "p").await?.status == 201);
    ensure!(at.shop.cancel(&order, "c").await?.status == 200);
    at.stands(&place(&doubt)?, "refunded").await?;
    let committed = at.audited("payment-committed").await?;
    ensure!(committed == ["unknown", "paid", "paid", "refunded"], "{committed:?}");
    at.agree().await
}

#[tokio::test]
async fn a_cancelled_order_s_money_goes_back_by_itself() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    let paid = at.pay(&order, "p").await?;
    ensure!(paid.status == 201);
    ensure!(at.shop.cancel(&order, "c").await?.status == 200);
    let ended = at.stands(&place(&paid)?, "refunded").await?;
    ensure!(ended["refunds"][0]["automatic"] == true, "{ended}");
    ensure!(at.sandbox.charges()[0].cancels == [TOTAL]);
    Ok(())
}

#[tokio::test]
async fn another_body_under_a_key_is_refused_while_the_first_runs() -> Result<()> {
    let mut at = Checkout::open().await?;
    let order = at.order().await?;
    let other = at.order().await?;
    at.sandbox.next([Mischief::HangAfter]);
    let (mut client, token) = (Client::new(at.site.storefront), at.shop.token().to_owned());
    let path = format!("{}/{order}/payments", at.shop.orders());
    let body = json!({ "amount": amount(TOTAL, "KRW"), "payment_key": format!("tgen_{order}") }).to_string();
    let first = tokio::spawn({
        let token = token.clone();
        async move { client.post(&path, Some(&token), Some("p"), body.into()).await }
    });
    until("the gateway has charged", async || Ok(charged(&at.sandbox, &order) == 1)).await?;
    let reused = at.pay_with(&order, "p", &amount(1, "KRW")).await?;
    at.shop.problem(&reused, 422, "idempotency-key-reused")?;
    let reused = at.pay(&other, "p").await?;
    at.shop.problem(&reused, 422, "idempotency-key-reused")?;
    let same = at.pay(&order, "p").await?;
    at.shop.problem(&same, 409, "in-progress")?;
    ensure!(first.await??.status == 202);
    at.stands(
        &format!("{}/{order}/payments/{order}?key={}", at.shop.orders(), key_digest("shoes", "p")?),
        "paid",
    )
    .await?;

    // An order under a used key that differs only in personal data.
    let idc = at.bridge.idc.pid().context("the agent has ended")?;
    rustix::process::kill_process(idc, rustix::process::Signal::STOP)?;
    let (mut client, path) = (Client::new(at.site.storefront), at.shop.orders());
    let body = at.shop.json();
    let first = tokio::spawn({
        let body = body.to_string();
        async move { client.post(&path, Some(&token), Some("o"), body.into()).await }
    });
    until("the order is under way", async || {
        Ok(metric(&at.bridge.cloud.metrics().await?, "bridge_queue_depth{queue=\"in_flight\"}")? == 1)
    })
    .await?;
    let mut elsewhere = body.clone();
    elsewhere["delivery"]["name"] = json!(at.shop.plant("Somebody Else"));
    let reused = at.shop.place("o", elsewhere.to_string()).await?;
    at.shop.problem(&reused, 422, "idempotency-key-reused")?;
    let same = at.shop.place("o", body.to_string()).await?;
    at.shop.problem(&same, 409, "in-progress")?;
    rustix::process::kill_process(idc, rustix::process::Signal::CONT)?;
    ensure!(first.await??.status == 201);
    at.agree().await
}

/// Returns the digest of a key, as the path of a status contains it.
fn key_digest(brand: &str, key: &str) -> Result<String> {
    let key = IdempotencyKey::parse(key.as_bytes())?;
    Ok(key.digest(&Brand::new(brand)?).to_hex())
}

#[tokio::test]
async fn without_a_gateway_payments_are_answered_503_and_orders_go_on() -> Result<()> {
    let mut at = Checkout::open_with(|site| {
        let config = site.idc_dir().join("bridge-idc.toml");
        let mut table: toml::Table = std::fs::read_to_string(&config)?.parse()?;
        table.remove("payments");
        Ok(std::fs::write(config, table.to_string())?)
    })
    .await?;
    let order = at.order().await?;
    let answer = at.pay(&order, "p").await?;
    at.shop.problem(&answer, 503, "data-centre-unavailable")?;
    ensure!(answer.header("retry-after").is_some());
    let answer = at.shop.get(&format!("{}/{order}/payments/{order}", at.shop.orders())).await?;
    at.shop.problem(&answer, 503, "data-centre-unavailable")?;
    Ok(())
}
