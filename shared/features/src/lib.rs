//! Nothing but dependencies: the features that all packages of the workspace agree on.
//!
//! Cargo compiles a crate once for each set of features that somebody asks for, and what is built alone asks for fewer. So
//! each package depends on this one, and whatever is built after the demo finds its crates compiled. A test of the tests' own
//! (`tidy`) compares what each package is built with alone.
