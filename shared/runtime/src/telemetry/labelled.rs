//! A metric per label value, where the values are an enum: bounded, there from the start with zero, and found by index.
//!
//! prometheus-client's own `Family` makes its members at first use behind a lock; here each use is one atomic, and a rate
//! over a counter sees its first increment.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A closed set of label values: an enum made by `labels!`, or a pair of such.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// How many there are.
    const COUNT: usize;

    /// The value at `index`, which is less than `COUNT`.
    fn nth(index: usize) -> Self;

    /// Where this value stands.
    fn index(self) -> usize;

    /// Name and value of each label, as a scrape shows them.
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

/// Makes an enum whose variants are the values of one label.
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

            /// As a scrape shows it.
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
    /// The member of `label`.
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
