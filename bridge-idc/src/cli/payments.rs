//! `bridge-idc payments list|show|resolve`: shows payments, and resolves those whose outcome the
//! gateway leaves unknown.

use std::io::{self, Write as _};

use bridge_protocol::domain::{
    Money, PaymentId, PaymentState, ReasonCode, RefundId, RefundState, UnixMicros,
};
use bridge_runtime::audit_log::account;
use bridge_runtime::cli::{self, Outcome, out};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::config::IdcConfig;
use crate::orders::store::LedgerError;
use crate::payments::audit::Operator;
use crate::payments::store::{NotDone, OperatorDecision, PaymentLedger as _, ResolveResult};
use crate::payments::{Payment, Refund, operator};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the newest payments.
    List {
        /// Only payments that are, or have a refund that is, of unknown outcome; and payments whose
        /// money should be back and is not: charged after they had been given up, or refund of a
        /// cancelled order refused by the gateway.
        #[arg(long)]
        unknown: bool,
        /// Most payments to list.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Print one JSON object instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Show a payment with its refunds.
    Show {
        /// The payment's id.
        payment: String,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Resolve a payment or a refund of unknown outcome, by the gateway's console or its staff. Or
    /// record that money went back in another way, after the gateway refused an automatic refund.
    #[command(
        after_help = "Two things can be resolved. First, a payment or a refund of unknown outcome: give the outcome that the gateway's console \
                      shows. Second, a refund that the agent began by itself (the order was cancelled, or the payment was charged late) \
                      and that the gateway refused: --as paid, once the money went back in another way.\n\n\
                      For a payment, `paid` says that the gateway's console shows the charge. If its order was cancelled meanwhile, the \
                      agent then refunds it by itself. For a refund, `paid` says that the money went back. If other refunds gave a part \
                      back meanwhile, --amount gives the rest that went back.\n\n\
                      `not-paid` is refused while a request may be on its way to the gateway or under way there, and the command says \
                      until when. \
                      Look at the gateway's console after that time, and run the command again.\n\n\
                      The audit log records the operator, the reason and the payment before the ledger does.\n\n\
                      Examples:\n  bridge-idc payments resolve 0193e4a2-0000-7000-8000-000000000001 \\\n    \
                      --as not-paid --reason TICKET_4711\n  \
                      bridge-idc payments resolve 0193e4a2-0000-7000-8000-000000000001 \\\n    \
                      --refund 0193e4a2-0000-7000-8000-000000000002 --as paid --reason TICKET_4712"
    )]
    Resolve {
        /// The payment's id.
        payment: String,
        /// Id of the refund to resolve, instead of the payment; see `payments show`.
        #[arg(long)]
        refund: Option<String>,
        /// Outcome: whether money moved.
        #[arg(long = "as", value_name = "STATE")]
        resolution: Resolution,
        /// Amount that went back in another way, in minor units. Give it for a refused automatic
        /// refund if less than the refund's amount is left of the payment. It must be all that is
        /// left.
        #[arg(long, value_name = "AMOUNT", requires = "refund", value_parser = clap::value_parser!(i64).range(1..))]
        amount: Option<i64>,
        /// Reason, as a code of capital letters, digits and underscores, such as a ticket's number.
        /// The ledger and the audit log keep it.
        #[arg(long, value_name = "CODE")]
        reason: String,
        /// Print one JSON object instead of lines.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Resolution {
    /// Money moved.
    Paid,
    /// No money moved, and none will.
    NotPaid,
}

pub(super) async fn run(config: &IdcConfig, command: Command) -> Outcome {
    match command {
        Command::List { unknown, limit, json } => {
            let ledger = super::open_tables(&config.ledger).await?;
            let payments = ledger.payments(unknown, i64::from(limit)).await.map_err(not_read)?;
            if json {
                print_json(&json!({ "payments": payments.iter().map(object).collect::<Vec<_>>() }))?;
            } else {
                table(&payments)?;
            }
        }
        Command::Show { payment, json } => {
            let id: PaymentId = payment.parse().map_err(cli::usage)?;
            let ledger = super::open_tables(&config.ledger).await?;
            let found = ledger.payment(id).await.map_err(not_read)?;
            let payment = found.ok_or_else(|| cli::failed("there is no such payment"))?;
            show(&payment, json)?;
        }
        Command::Resolve { payment, refund, resolution, amount, reason, json } => {
            let id: PaymentId = payment.parse().map_err(cli::usage)?;
            let refund = refund.map(|refund| refund.parse()).transpose().map_err(cli::usage)?;
            let reason = ReasonCode::new(&reason).ok_or_else(|| {
                cli::usage("--reason must be a code of 1 to 64 capital letters, digits and underscores")
            })?;
            let ledger = super::open_tables(&config.ledger).await?;
            let found = ledger.payment(id).await?.ok_or_else(|| cli::failed("there is no such payment"))?;
            let (state, automatic) = state_of(&found, refund)?;
            let moved = resolution == Resolution::Paid;
            let went_back = automatic && moved && state == RefundState::Refused.code();
            if state != PaymentState::Unknown.code() && !went_back {
                return Err(cli::failed(format!(
                    "its state is {state}: only what is unknown can be resolved, or an automatic refund that was refused and \
                     went back in another way (--refund REFUND --as paid)"
                )));
            }
            if amount.is_some() && !went_back {
                return Err(cli::usage(
                    "--amount is for an automatic refund that was refused and went back in another way (--as paid)",
                ));
            }
            let who = account::own();
            let operator = Operator { audit: &config.audit, who, reason: &reason, refund };
            let request_lasts = config.payments.limits.request_lasts();
            let verdict = OperatorDecision { moved, amount, reason: &reason, request_lasts };
            let said = operator::resolve(&ledger, found.charge.order, id, verdict, &operator).await?;
            if let Some(error) = said.unlogged {
                let text =
                    "it is committed; the audit log has the decision (payment-resolved), and not its commit";
                let _nobody_listens = writeln!(io::stderr(), "warning: {text}: {error}");
            }
            match said.resolved {
                ResolveResult::Stands(payment) => show(&payment, json)?,
                ResolveResult::Known => {
                    return Err(cli::failed("its outcome is no longer unknown: look at it again"));
                }
                ResolveResult::NotLeft(left) => return Err(cli::failed(not_left(&found, left))),
                ResolveResult::OnItsWay(until) => return Err(cli::failed(on_its_way(refund, until))),
            }
        }
    }
    Ok(())
}

/// Returns the error of a command that only reads. That nothing was committed is no news there.
fn not_read(error: NotDone) -> LedgerError {
    match error {
        NotDone::Nothing(error) | NotDone::Perhaps(error) => error,
    }
}

/// Explains why a refund cannot be resolved as paid, with this much left of its payment.
fn not_left(payment: &Payment, left: i64) -> String {
    if left <= 0 {
        return "nothing is left of the payment: that money is back by another refund, or on its way"
            .to_owned();
    }
    let amount = in_whole_units(left, payment);
    format!(
        "{amount} is left of the payment, the rest is back by another refund or on its way: if exactly this amount went back in \
         another way, give --amount {left}"
    )
}

/// Explains why `not-paid` cannot be recorded yet, and what to do.
fn on_its_way(refund: Option<RefundId>, until: UnixMicros) -> String {
    if refund.is_none() {
        return format!(
            "a request to charge may be on its way to the gateway, or under way there, until {until}: look at the gateway's console after that, and \
             run the command again if nothing was charged. Nothing was changed"
        );
    }
    format!(
        "a request to refund may be on its way to the gateway until {until}: look at the gateway's console after that, and run \
         the command again if nothing went back. Nothing was changed"
    )
}

/// Returns the state of a payment, or of one of its refunds, and true if the refund is automatic.
fn state_of(payment: &Payment, refund: Option<RefundId>) -> Result<(&'static str, bool), cli::Failure> {
    let Some(refund) = refund else { return Ok((payment.state.code(), false)) };
    let found = payment.refund(refund).ok_or_else(|| {
        cli::failed("the payment has no such refund: `bridge-idc payments show` lists those that it has")
    })?;
    Ok((found.state.code(), found.automatic))
}

fn table(payments: &[Payment]) -> io::Result<()> {
    let mut out = out();
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
        // Refunds that an operator may have to resolve.
        let is_back = payment.left() == 0;
        let asks = |refund: &&Refund| {
            refund.state.is_open() || (refund.automatic && refund.state == RefundState::Refused && !is_back)
        };
        payment.refunds.iter().filter(asks).try_for_each(|of| refund(&mut out, payment, of))?;
    }
    Ok(())
}

fn show(payment: &Payment, json: bool) -> Outcome {
    if json {
        print_json(&object(payment))?;
        return Ok(());
    }
    let mut out = out();
    writeln!(out, "payment    {}", payment.charge.payment)?;
    writeln!(out, "order      {} of {}", payment.charge.order, payment.brand)?;
    writeln!(out, "state      {}", payment.state.code())?;
    writeln!(out, "amount     {}", payment.charge.amount)?;
    writeln!(out, "refunded   {}", in_whole_units(payment.refunded, payment))?;
    writeln!(out, "begun      {}, asked about {} times since", payment.created_at, payment.asks)?;
    if let Some(code) = &payment.code {
        writeln!(out, "code       {code}")?;
    }
    payment.refunds.iter().try_for_each(|of| refund(&mut out, payment, of))?;
    Ok(())
}

/// Formats an amount in the payment's currency for people.
fn in_whole_units(minor: i64, payment: &Payment) -> String {
    let currency = payment.charge.amount.currency();
    Money::new(minor, currency)
        .map_or_else(|| format!("{minor} in minor units of {currency}"), |amount| amount.to_string())
}

fn refund(out: &mut impl io::Write, payment: &Payment, refund: &Refund) -> io::Result<()> {
    let automatic = if refund.automatic { "automatic, " } else { "" };
    let code = refund.code.as_ref().map(|code| format!("  {code}")).unwrap_or_default();
    let (id, state) = (refund.refund, refund.state.code());
    let amount = in_whole_units(refund.amount, payment);
    writeln!(out, "refund     {id}  {amount}  {automatic}{state}{code}")
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
    writeln!(out(), "{value}")
}
