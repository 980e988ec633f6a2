//! Deliberate faults of the model, which prove that the checkers of the simulation detect them.

/// A deliberate fault in payments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Broken {
    /// No fault.
    #[default]
    Nothing,
    /// Every key reads as unused.
    ForgetsRequests,
    /// No order reads as charged or as being charged.
    ForgetsCharges,
    /// A refund that was done reads as one in doubt.
    DoubtsRefunds,
    /// An automatic refund that was refused stays due.
    AsksForRefused,
    /// Payments that were given up are not looked at again.
    LooksAtNothing,
    /// The payment of a cancelled order gets no automatic refund.
    KeepsMoney,
    /// No request to refund reads as being on its way.
    ForgetsWhatIsOnItsWay,
}
