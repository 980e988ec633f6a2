//! `bridge-idc payments list|show|resolve`: what was charged, and an end to what the gateway leaves in doubt.

use std::io::{self, Write as _};

use bridge_protocol::domain::{PaymentId, PaymentState, ReasonCode};
use bridge_runtime::cli::{self, Outcome};
use bridge_runtime::clock;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::config::IdcConfig;
use crate::payment::audit::Witness;
use crate::payment::{Payment, Refund};
use crate::serve;

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the newest payments.
    List {
        /// Those alone of which nobody can tell whether money moved.
        #[arg(long)]
        unknown: bool,
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// One JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show a payment with its refunds.
    Show {
        /// The payment's id.
        payment: String,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// End the doubt about a payment by what the gateway's people or its console say.
    #[command(
        after_help = "Only a payment whose state is unknown can be resolved. Say `paid` only if the gateway's console shows \
                      the charge:\na paid order that was cancelled meanwhile is then refunded by itself.\n\n\
                      Example:\n  bridge-idc payments resolve 0193e4a2-0000-7000-8000-000000000001 --as not-paid --reason TICKET_4711"
    )]
    Resolve {
        /// The payment's id.
        payment: String,
        /// Whether money moved.
        #[arg(long = "as", value_name = "STATE")]
        resolution: Resolution,
        /// Why that is known: a code of capital letters, digits and underscores, such as a ticket's number. It is kept.
        #[arg(long, value_name = "CODE")]
        reason: String,
        /// One JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Resolution {
    /// Money moved.
    Paid,
    /// None moved, and none will.
    NotPaid,
}

pub(super) async fn run(config: &IdcConfig, command: Command) -> Outcome {
    match command {
        Command::List { unknown, limit, json } => {
            let ledger = serve::open_ledger(&config.ledger).await?;
            let payments = ledger.payments(unknown, i64::from(limit)).await?;
            if json {
                print_json(&json!({ "payments": payments.iter().map(object).collect::<Vec<_>>() }))?;
            } else {
                table(&payments)?;
            }
        }
        Command::Show { payment, json } => {
            let id = parse(&payment)?;
            let found = serve::open_ledger(&config.ledger).await?.payment(id).await?;
            let payment = found.ok_or_else(|| cli::failed("there is no such payment"))?;
            show(&payment, json)?;
        }
        Command::Resolve { payment, resolution, reason, json } => {
            let id = parse(&payment)?;
            let reason = ReasonCode::new(&reason).ok_or_else(|| {
                cli::usage("--reason must be a code of 1 to 64 capital letters, digits and underscores")
            })?;
            let ledger = serve::open_ledger(&config.ledger).await?;
            let found = ledger.payment(id).await?.ok_or_else(|| cli::failed("there is no such payment"))?;
            if found.state != PaymentState::Unknown {
                let state = found.state.code();
                return Err(cli::failed(format!(
                    "its state is {state}: only what is unknown can be resolved"
                )));
            }
            let (order, paid) = (found.charge.order, resolution == Resolution::Paid);
            let resolved = ledger
                .resolve_payment(order, id, paid, &reason, clock::now(), Witness::Beside(&config.audit))
                .await?;
            let payment = resolved.ok_or_else(|| cli::failed("it is no longer unknown: look at it again"))?;
            show(&payment, json)?;
        }
    }
    Ok(())
}

fn parse(payment: &str) -> Result<PaymentId, cli::Failure> {
    payment.parse().map_err(cli::usage)
}

fn table(payments: &[Payment]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<36}  {:<36}  {:<18}  {:>18}  {:>5}  {:<27}  code",
        "payment", "order", "state", "amount", "asked", "since"
    )?;
    for payment in payments {
        writeln!(
            out,
            "{:<36}  {:<36}  {:<18}  {:>18}  {:>5}  {:<27}  {}",
            payment.charge.payment.to_string(),
            payment.charge.order.to_string(),
            payment.state.code(),
            payment.charge.amount.to_string(),
            payment.asks,
            payment.created_at.to_string(),
            payment.code.as_ref().map_or("", ReasonCode::as_str),
        )?;
    }
    Ok(())
}

fn show(payment: &Payment, json: bool) -> Outcome {
    if json {
        print_json(&object(payment))?;
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let currency = payment.charge.amount.currency();
    writeln!(out, "payment    {}", payment.charge.payment)?;
    writeln!(out, "order      {} of {}", payment.charge.order, payment.brand)?;
    writeln!(out, "state      {}", payment.state.code())?;
    writeln!(out, "amount     {}", payment.charge.amount)?;
    writeln!(out, "refunded   {} {currency}", payment.refunded)?;
    writeln!(out, "begun      {}, asked about {} times since", payment.created_at, payment.asks)?;
    if let Some(code) = &payment.code {
        writeln!(out, "code       {code}")?;
    }
    for refund in &payment.refunds {
        let by_itself = if refund.automatic { ", by itself" } else { "" };
        let (id, amount, state) = (refund.refund, refund.amount, refund.state.code());
        writeln!(out, "refund     {id}  {amount} {currency}  {state}{by_itself}")?;
    }
    Ok(())
}

fn object(payment: &Payment) -> Value {
    json!({
        "payment": payment.charge.payment.to_string(),
        "order": payment.charge.order.to_string(),
        "brand": payment.brand.as_str(),
        "state": payment.state.code(),
        "amount": payment.charge.amount.amount(),
        "currency": payment.charge.amount.currency().as_str(),
        "refunded": payment.refunded,
        "code": payment.code.as_ref().map(ReasonCode::as_str),
        "asks": payment.asks,
        "created_at": payment.created_at.to_string(),
        "refunds": payment.refunds.iter().map(refund_object).collect::<Vec<_>>(),
    })
}

fn refund_object(refund: &Refund) -> Value {
    json!({
        "refund": refund.refund.to_string(),
        "amount": refund.amount,
        "state": refund.state.code(),
        "automatic": refund.automatic,
        "code": refund.code.as_ref().map(ReasonCode::as_str),
        "created_at": refund.created_at.to_string(),
    })
}

fn print_json(value: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{value}")
}
