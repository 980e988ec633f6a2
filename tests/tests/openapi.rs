//! The API's document against a running agent: all that it tells of is there, and nothing else is.

mod common;

use anyhow::{Result, ensure};
use bridge_tests::contract::Contract;
use bridge_tests::http::Client;
use bytes::Bytes;
use common::{Shared, Shop, Stage, judged};
use http::{Method, Request};
use http_body_util::Full;

static BRIDGE: Shared = Shared::new(&["told"], |_| Ok(()));

#[test]
fn every_path_of_the_document_is_there_and_takes_the_methods_that_it_tells_of() -> Result<()> {
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

#[test]
fn an_order_s_answers_are_as_the_document_tells() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        // Each answer is held against the document by the shop itself.
        let mut shop = Shop::open(site, "told");
        let order = shop.order(&[(0, 1)]);
        let placed = shop.place(&order.key, order.body.clone()).await?;
        ensure!(placed.status == 201);
        let location = placed.header("location").unwrap_or_default().to_owned();
        ensure!(shop.get(&location).await?.status == 200);
        let id = common::order_at(&placed)?;
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
