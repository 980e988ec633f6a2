//! What of the model is broken on purpose, so that a checker that finds it is shown to look.

/// What of payments is broken on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    #[default]
    Nothing,
    /// No key is known to have been used.
    ForgetsRequests,
    /// No order is known to be charged, or being charged.
    ForgetsCharges,
    /// A refund that was done reads as one in doubt.
    DoubtsRefunds,
    /// An automatic refund that was refused stays due.
    AsksForRefused,
    /// What was given up is not looked at.
    LooksAtNothing,
    /// Nobody has what is left of a cancelled order's payment given back.
    KeepsMoney,
    /// No request to give back is known to be on its way.
    ForgetsWhatIsOnItsWay,
}
