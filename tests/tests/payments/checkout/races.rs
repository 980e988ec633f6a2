//! `payments resolve` at the moment at which the agent asks the gateway: the gateway has the request and does not answer before the
//! operator has spoken. Money moves at most once, the ledger is as the gateway's books, and both logs tell the same.

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::sandbox::Mischief;
use serde_json::{Value, json};

use super::{Checkout, TOTAL, charged, place};
use crate::common::{configure, until};

/// A shop on PostgreSQL whose agent waits longer for the gateway than an operator takes, and asks by itself only in an hour.
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
    /// A payment of a new order in doubt, of which the gateway fails as told: the order, the payment, and where it is.
    async fn doubt(&mut self, fails: Mischief) -> Result<(String, String, String)> {
        let order = self.order().await?;
        self.sandbox.next([fails]);
        let doubt = self.pay(&order, &format!("p-{order}")).await?;
        ensure!(doubt.status == 202, "{:?}", doubt.json());
        let id = doubt.json()["payment"].as_str().context("no id")?.to_owned();
        Ok((order, id, place(&doubt)?))
    }

    /// The agent asks the gateway about an order's payment: first so many times that are answered, and once more that is not.
    async fn asks_about(&self, order: &str, answered: usize) -> Result<()> {
        self.sandbox.next(std::iter::repeat_n(Mischief::Fine, answered).chain([Mischief::Waits]));
        let hint = json!({ "data": { "orderId": order } }).to_string();
        Client::new(self.webhooks).post("/", None, None, hint.into()).await?;
        self.gateway_is_asked().await
    }

    async fn gateway_is_asked(&self) -> Result<()> {
        until("the gateway to be asked", async || Ok(self.sandbox.waiting() == 1)).await
    }

    /// Somebody is told why, if it came to nothing.
    async fn resolve(&self, payment: &str, refund: Option<&str>, state: &str) -> Result<Option<String>> {
        let refund = refund.map(|refund| ["--refund", refund]);
        let words = ["payments", "resolve", payment, "--as", state, "--reason", "TICKET_4711"];
        let words: Vec<&str> = words.into_iter().chain(refund.into_iter().flatten()).collect();
        Ok(self.site.idc_command(&words).await.err().map(|error| format!("{error:#}")))
    }

    async fn shown(&self, payment: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.site.idc_command(&["payments", "show", payment, "--json"]).await?)?)
    }

    /// The gateway answers, and the agent has written what it says. Nothing is in doubt any more.
    async fn gateway_answers(&self, payment: &str, seen: impl Fn(&Value) -> bool) -> Result<Value> {
        let counted = self.answers().await?;
        self.sandbox.let_go();
        until("the gateway's answer", async || Ok(self.answers().await? > counted)).await?;
        until("the payment to stand as is waited for", async || Ok(seen(&self.shown(payment).await?)))
            .await?;
        let listed = self.site.idc_command(&["payments", "list", "--unknown", "--json"]).await?;
        ensure!(listed.trim() == r#"{"payments":[]}"#, "{listed}");
        self.shown(payment).await
    }

    async fn answers(&self) -> Result<u64> {
        let text = self.bridge.idc.metrics().await?;
        crate::common::metric(&text, "bridge_gateway_seconds_count")
    }

    /// Gateway's books, ledger and logs tell the same.
    async fn all_agree(&mut self) -> Result<()> {
        let shown = self.site.idc_command(&["payments", "list", "--json"]).await?;
        let shown: Value = serde_json::from_str(&shown)?;
        for payment in shown["payments"].as_array().context("a list")? {
            let order = payment["order"].as_str().context("an order")?;
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

    // It was charged, and so the operator says.
    let (order, id, _) = at.doubt(Mischief::FailAfter).await?;
    at.asks_about(&order, 0).await?;
    ensure!(at.resolve(&id, None, "paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "paid").await?;
    ensure!(shown["code"] == "TICKET_4711" && charged(&at.sandbox, &order) == 1, "{shown}");

    // The operator looked too early: it was charged, and goes back.
    let (order, id, _) = at.doubt(Mischief::FailAfter).await?;
    at.asks_about(&order, 0).await?;
    ensure!(at.resolve(&id, None, "not-paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "returned").await?;
    let books = at.sandbox.charges();
    let books = books.iter().find(|charge| charge.order == order).context("no charge")?;
    ensure!(books.cancels == [TOTAL], "{shown} {books:?}");

    // The gateway has no trace of it, so the agent would have it charged once more.
    let (order, id, _) = at.doubt(Mischief::FailBefore).await?;
    at.asks_about(&order, 0).await?;
    ensure!(at.resolve(&id, None, "not-paid").await?.is_none());
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "not_paid").await?;
    ensure!(charged(&at.sandbox, &order) == 0, "{shown}");

    // It is being charged once more: no operator says that it is not paid.
    let (order, id, _) = at.doubt(Mischief::FailBefore).await?;
    at.asks_about(&order, 1).await?;
    ensure!(on_its_way(at.resolve(&id, None, "not-paid").await?));
    let shown = at.gateway_answers(&id, |shown| shown["state"] == "paid").await?;
    ensure!(charged(&at.sandbox, &order) == 1, "{shown}");

    // Nor does it move twice if one says that it is paid.
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
    // Whether the gateway has done it when it is asked for again, what the operator says, and how it ends.
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

    // What goes back by itself as well.
    at.sandbox.next([Mischief::FailBefore]);
    ensure!(at.shop.cancel(&order, "c").await?.status == 200);
    let shown = async |at: &Checkout| Ok::<_, anyhow::Error>(at.shown(&id).await?["refunds"][3].clone());
    until("the refund to be in doubt", async || Ok(shown(&at).await?["state"] == "unknown")).await?;
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
