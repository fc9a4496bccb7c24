//! (see docs/plan.md)
