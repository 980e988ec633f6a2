//! Nothing but dependencies: the features that all packages of the workspace agree on.
//!
//! Cargo compiles a crate once for each set of features. A package that is built alone would ask
//! for fewer features and compile its dependencies again. So every package depends on this one. The
//! `tidy` test compares the features of each package that is built alone.
