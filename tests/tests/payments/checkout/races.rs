//! Tests of `payments resolve` while the agent asks the gateway. The gateway has the request, and
//! answers only after the operator's decision. Money must move at most once. The ledger must equal
//! the gateway's books, and both logs must agree.

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::sandbox::Mischief;
use serde_json::{Value, json};

use super::{Checkout, TOTAL, charged, place};
use crate::common::{configure, until};

/// Opens a shop on PostgreSQL. Its agent waits for the gateway longer than a decision takes, and
/// asks by itself only after an hour.
async fn patient_shop() -> Result<Checkout> {
    Checkout::open_on_postgres(|site| {
        let config = site.idc_dir().join("bridge-idc.toml");
        configure(&config, "payments.timeout", "60s")?;
        configure(&config, "payments.retry_first", "1h")?;
        configure(&config, "payments.retry_max", "2h")
    })
    .await
}

impl Checkout {
    /// Makes a payment in doubt of a new order, by a fault of the gateway. Returns the ids of order
    /// and payment, and the payment's path.
    async fn doubt(&mut self, fails: Mischief) -> Result<(String, String, String)> {
        let order = self.order().await?;
        self.sandbox.next([fails]);
        let doubt = self.pay(&order, &format!("p-{order}")).await?;
        ensure!(doubt.status == 202, "{:?}", doubt.json());
        let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
        Ok((order, id, place(&doubt)?))
    }

    /// Makes the agent ask the gateway about an order's payment. The gateway answers the first
    /// `answered` requests, and holds the next one.
    async fn asks_about(&self, order: &str, answered: usize) -> Result<()> {
        self.sandbox.next(std::iter::repeat_n(Mischief::Fine, answered).chain([Mischief::Waits]));
        let hint = json!({ "data": { "orderId": order } }).to_string();
        Client::new(self.webhooks).post("/", None, None, hint.into()).await?;
        self.gateway_is_asked().await
    }

    async fn gateway_is_asked(&self) -> Result<()> {
        until("the gateway has a request", async || Ok(self.sandbox.waiting() == 1)).await
    }

    /// Runs `payments resolve`. Returns its message if it failed.
    async fn resolve(&self, payment: &str, refund: Option<&str>, state: &str) -> Result<Option<String>> {
        let refund = refund.map(|refund| ["--refund", refund]);
        let words = ["payments", "resolve", payment, "--as", state, "--reason", "TICKET_4711"];
        let words: Vec<&str> = words.into_iter().chain(refund.into_iter().flatten()).collect();
        Ok(self.site.idc_command(&words).await.err().map(|error| format!("{error:#}")))
    }

    async fn shown(&self, payment: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.site.idc_command(&["payments", "show", payment, "--json"]).await?)?)
    }

    /// Lets the gateway answer, and waits until the agent has written the answer. Nothing may be in
    /// doubt afterwards.
    async fn gateway_answers(&self, payment: &str, seen: impl Fn(&Value) -> bool) -> Result<Value> {
        let counted = self.answers().await?;
        self.sandbox.let_go();
        until("the agent has the gateway's answer", async || Ok(self.answers().await? > counted)).await?;
        until("the payment has the expected state", async || Ok(seen(&self.shown(payment).await?))).await?;
        let listed = self.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
        ensure!(listed.trim() == r#"{"payments":[]}"#, "{listed}");
        self.shown(payment).await
    }

    async fn answers(&self) -> Result<u64> {
        let text = self.bridge.idc.metrics().await?;
        crate::common::metric(&text, "bridge_gateway_seconds_count")
    }

    /// Checks that gateway, ledger and logs agree.
    async fn all_agree(&mut self) -> Result<()> {
        let shown = self.site.idc_command(&["payments", "list", "--json"]).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        for payment in shown["payments"].as_array().context("no list")? {
            let order = payment["order"].as_str().context("no order")?;
            let books = self.sandbox.charges();
            let books = books.iter().find(|charge| charge.order == order && charge.charged > 0);
            let state = payment["state"].as_str().unwrap_or_default();
            let back = books.map_or(0, |charge| charge.cancels.iter().sum::<i64>());
            ensure!(books.is_some() == !matches!(state, "not_paid" | "declined"), "{payment} {books:?}");
            ensure!(books.is_none_or(|charge| charge.charged == 1), "{payment} {books:?}");
            ensure!(payment["refunded"] == back, "{payment} {books:?}");
        }
        self.agree().await?;
        let compared = self.site.idc_command(&["audit", "compare", "--json"]).await?;
        let compared: Value = serde_json::from_str(&compared)?;
        ensure!(compared["findings"] == json!([]), "{compared}");
        Ok(())
    }
}

#[tokio::test]
async fn a_payment_is_resolved_while_the_gateway_is_asked_about_it() -> Result<()> {
    let mut at = patient_shop().await?;
    let on_its_way = |told: Option<String>| told.is_some_and(|told| told.contains("may be on its way"));

    // The gateway charged the order, and the operator says so.
    let (order, id, _) = at.doubt(Mischief::FailAfter).await?;
    at.asks_about(&order, 0).await?;
    ensure!(at.resolve(&id, None, "paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "paid").await?;
    ensure!(shown["code"] == "TICKET_4711" && charged(&at.sandbox, &order) == 1, "{shown}");

    // The operator decided too early. The gateway charged the order, so the money goes back.
    let (order, id, _) = at.doubt(Mischief::FailAfter).await?;
    at.asks_about(&order, 0).await?;
    at.no_charge_is_on_its_way().await?;
    ensure!(at.resolve(&id, None, "not-paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "returned").await?;
    let books = at.sandbox.charges();
    let books = books.iter().find(|charge| charge.order == order).context("no charge")?;
    ensure!(books.cancels == [TOTAL], "{shown} {books:?}");

    // The gateway has no trace of the payment, so the agent would request the charge again.
    let (order, id, _) = at.doubt(Mischief::FailBefore).await?;
    at.asks_about(&order, 0).await?;
    at.no_charge_is_on_its_way().await?;
    ensure!(at.resolve(&id, None, "not-paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "not_paid").await?;
    ensure!(charged(&at.sandbox, &order) == 0, "{shown}");

    // The agent is requesting the charge again, so an operator cannot call the payment not paid.
    let (order, id, _) = at.doubt(Mischief::FailBefore).await?;
    at.asks_about(&order, 1).await?;
    ensure!(on_its_way(at.resolve(&id, None, "not-paid").await?));
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "paid").await?;
    ensure!(charged(&at.sandbox, &order) == 1, "{shown}");

    // An operator may call the payment paid meanwhile. The money still moves once.
    let (order, id, _) = at.doubt(Mischief::FailBefore).await?;
    at.asks_about(&order, 1).await?;
    ensure!(at.resolve(&id, None, "paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "paid").await?;
    ensure!(charged(&at.sandbox, &order) == 1, "{shown}");
    at.all_agree().await
}

#[tokio::test]
async fn a_refund_is_resolved_while_the_gateway_is_asked_for_it() -> Result<()> {
    let mut at = patient_shop().await?;
    let mut dba = Dba::connect(at.site.database()).await?;
    let due = "UPDATE refunds SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL";
    let order = at.order().await?;
    let paid = place(&at.pay(&order, "p").await?)?;
    let id = paid.split('?').next().and_then(|path| path.rsplit('/').next()).context("no id")?.to_owned();
    let part = TOTAL / 4;
    // Each case: the gateway's fault at the first request, and the operator's decision.
    for (nth, (fails, says)) in
        [(Mischief::FailBefore, "paid"), (Mischief::FailAfter, "paid"), (Mischief::FailBefore, "not-paid")]
            .into_iter()
            .enumerate()
    {
        at.sandbox.next([fails]);
        let doubt = at.refund(&paid, &format!("r{nth}"), part).await?;
        ensure!(doubt.status == 202, "{:?}", doubt.json());
        let refund = doubt.json()["refund"]["refund"].as_str().context("no refund")?.to_owned();
        at.sandbox.next([Mischief::Waits]);
        dba.execute(due).await?;
        at.gateway_is_asked().await?;
        let told = at.resolve(&id, Some(&refund), says).await?;
        if says == "paid" {
            ensure!(told.is_none(), "{told:?}");
        } else {
            ensure!(told.is_some_and(|told| told.contains("may be on its way to the gateway until")));
        }
        let another = at.refund(&paid, &format!("whole{nth}"), TOTAL).await?;
        at.shop.problem(&another, 409, "refund-too-large")?;
        let is_done = |shown: &Value| shown["refunds"][nth]["state"] == "done";
        let shown = at.gateway_answers(&id, is_done).await?;
        let parts = vec![part; nth + 1];
        ensure!(at.sandbox.charges()[0].cancels == parts, "{shown} {:?}", at.sandbox.charges());
    }

    // An automatic refund cannot be called refused either while its request is on its way.
    at.sandbox.next([Mischief::FailBefore]);
    ensure!(at.shop.cancel(&order, "c").await?.status == 200);
    let shown = async |at: &Checkout| Ok::<_, anyhow::Error>(at.shown(&id).await?["refunds"][3].clone());
    until("the refund is in doubt", async || Ok(shown(&at).await?["state"] == "unknown")).await?;
    let refund = shown(&at).await?["refund"].as_str().context("no refund")?.to_owned();
    at.sandbox.next([Mischief::Waits]);
    dba.execute(due).await?;
    at.gateway_is_asked().await?;
    let told = at.resolve(&id, Some(&refund), "not-paid").await?;
    ensure!(told.is_some_and(|told| told.contains("may be on its way to the gateway until")));
    ensure!(at.resolve(&id, Some(&refund), "paid").await?.is_none());
    at.gateway_answers(&id, |shown| shown["state"] == "refunded").await?;
    ensure!(at.sandbox.charges()[0].cancels == [part, part, part, TOTAL - 3 * part]);
    at.all_agree().await
}
