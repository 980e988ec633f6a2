//! The real invoices: a year of a gift shop's trade, turned into orders and cancellations that Bridge can take.
//!
//! `read` loads the files, `classify` decides what becomes of each invoice, `plan` makes the [`Plan`](crate::testkit::plan::Plan).
//! Each of the 25,900 invoices ends in exactly one class, and each line left out is counted with its reason.
//!
//! **Prices.** The shop sold one code at many prices; Bridge checks the price of each line, so a price tier is a SKU of
//! its own: a code at its catalogue price keeps its name (`85123A`), any other price is written behind it in pence
//! (`85123A@230`).
//!
//! **Orders.** Lines with a positive price and quantity; the same SKU twice is summed.
//!
//! **Cancellations** (number begins with C) cancel the latest order before them, of the same customer and not yet
//! cancelled, that has exactly their lines. A return of a part of an order has no counterpart here and is left out.

mod classify;
mod plan;
mod read;

pub use classify::{Book, Class, LineReason, Reason};
pub use plan::plan;
pub use read::{Days, Invoice, InvoiceLine, ReadError, Retail, read};
