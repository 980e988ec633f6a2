//! A metric for each value of a label, where the values are an enum. The set is bounded, starts
//! with zeros, and is indexed.
//!
//! prometheus-client's own `Family` makes its members at their first use, behind a lock. Here each
//! use costs one atomic operation, and a rate over a counter sees its first increment.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A closed set of label values: an enum made by `labels!`, or a pair of them.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// Number of values.
    const COUNT: usize;

    /// Returns the value at `index`, which must be less than `COUNT`.
    fn nth(index: usize) -> Self;

    /// Returns the index of this value.
    fn index(self) -> usize;

    /// Returns name and value of each label, as a scrape shows them.
    fn pairs(self) -> Vec<(&'static str, &'static str)>;
}

impl<A: Label, B: Label> Label for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn nth(index: usize) -> Self {
        (A::nth(index / B::COUNT), B::nth(index % B::COUNT))
    }

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        [self.0.pairs(), self.1.pairs()].concat()
    }
}

/// Defines an enum whose variants are the values of one label.
#[macro_export]
macro_rules! labels {
    ($(#[$about:meta])* $name:ident as $label:literal { $($(#[$what:meta])* $variant:ident = $value:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$what])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the value as a scrape shows it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }
        }

        impl $crate::telemetry::Label for $name {
            const COUNT: usize = Self::ALL.len();

            fn nth(index: usize) -> Self {
                Self::ALL[index]
            }

            fn index(self) -> usize {
                self as usize
            }

            fn pairs(self) -> Vec<(&'static str, &'static str)> {
                vec![($label, self.as_str())]
            }
        }
    };
}

/// One `M` for each value of `L`. Clones share them.
#[derive(Debug)]
pub struct Labelled<L, M> {
    members: Arc<[M]>,
    labels: PhantomData<L>,
}

impl<L: Label, M> Labelled<L, M> {
    /// Returns the member of `label`.
    pub fn of(&self, label: L) -> &M {
        &self.members[label.index()]
    }
}

impl<L: Label, M: Default> Default for Labelled<L, M> {
    fn default() -> Self {
        Self { members: (0..L::COUNT).map(|_| M::default()).collect(), labels: PhantomData }
    }
}

impl<L, M> Clone for Labelled<L, M> {
    fn clone(&self) -> Self {
        Self { members: Arc::clone(&self.members), labels: PhantomData }
    }
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for Labelled<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (index, member) in self.members.iter().enumerate() {
            member.encode(encoder.encode_family(&L::nth(index).pairs())?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
